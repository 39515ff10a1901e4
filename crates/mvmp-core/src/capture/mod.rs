//! Capture files: read, written, and turned into the two ends of a capture port.
//!
//! [`CaptureReader`] and [`CaptureWriter`] know the formats (pcap, pcapng) and nothing of
//! threads. [`CaptureSource`] and [`CaptureSink`] each own a thread that does the file work behind
//! a pair of SPSC rings of recycled [`Chunk`]s, so that the worker never waits for a disk:
//!
//! ```text
//!            full chunks                               full chunks
//!   reader ──────────────▶ worker            worker ──────────────▶ writer
//!   thread ◀────────────── (source)          (sink) ◀────────────── thread
//!            empty chunks                              empty chunks
//! ```
//!
//! Invariants:
//! * The worker's side never blocks, and allocates nothing once the chunks have grown to their size.
//! * A file is never trusted: a length that cannot be is an error with its byte offset, never an
//!   allocation of that size; what is whole before the error is delivered.
//! * All chunks exist from the start. Each is in exactly one place: a ring, the worker, the thread.
//!
//! The formats are read here and not by a crate: of those looked at, one refuses frames whose wire
//! length exceeds the snap length, one knows no old packet block and reads big-endian time offsets
//! wrongly, and none gets past an overlong frame without holding it in memory.

mod chunk;
mod error;
mod input;
mod link_type;
mod pacer;
mod pcap;
mod pcapng;
mod reader;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod thread;
mod writer;

pub use chunk::{CHUNK_BYTES, CHUNK_FRAMES, Chunk, Frame, FrameMeta};
pub use error::CaptureError;
pub use pacer::Pacer;
pub use reader::{CaptureReader, FRAME_BYTES_MAX};
pub use sink::{CaptureSink, NotTaken, SinkOptions};
pub use source::{CaptureSource, SourceOptions};
pub use thread::Fault;
pub use writer::{CaptureFormat, CaptureWriter};
