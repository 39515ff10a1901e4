//! The sending end of a capture port: the worker's side, and the thread that writes.
//!
//! The worker fills one chunk and hands it over when it is full or when it says so; the thread
//! writes it and gives it back. Whenever it has nothing to write it flushes, so that "everything
//! is in the file" becomes true by itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use mvmp_wire::packet::Link;
use rtrb::{Consumer, Producer, RingBuffer};

use super::CaptureError;
use super::chunk::{CHUNK_BYTES, CHUNK_FRAMES, Chunk, FrameMeta};
use super::thread::{Fault, nap, spawn};
use super::writer::{CaptureFormat, CaptureWriter};

/// [`CaptureSink::end_round`] hands over this many frames at once,
const FRAMES_WORTH_WAKING: usize = 128;
/// or any number after so many rounds.
const ROUNDS_TO_WAIT: u32 = 16;

/// How a capture is to be written.
#[derive(Clone, Copy, Debug)]
pub struct SinkOptions {
    /// The longest frame that [`CaptureSink::room_frames`] reckons with.
    pub frame_bytes_max: u32,
    /// How many chunks may wait for the disk.
    pub chunks: usize,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            frame_bytes_max: 9600,
            chunks: 16,
        }
    }
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// All chunks wait for the disk.
    Full,
    /// It is a pcap file, and its first frame was of another link type.
    LinkType,
}

/// What both sides see.
#[derive(Debug, Default)]
struct Shared {
    /// The port is in service: what the file held may go.
    begun: AtomicBool,
    /// The worker pushes no more.
    stop: AtomicBool,
    /// Frames that are done with: in the operating system's hands, or lost.
    settled: AtomicU64,
    /// Frames that were accepted but not written, because of an error.
    lost: AtomicU64,
    fault: Fault,
}

/// The worker's side of a capture that is being written. Nothing here blocks but dropping, which
/// waits until all is written.
#[derive(Debug)]
pub struct CaptureSink {
    full: Producer<Chunk>,
    empty: Consumer<Chunk>,
    current: Option<Chunk>,
    accepted: u64,
    format: CaptureFormat,
    /// What the first frame was.
    first: Option<Link>,
    /// Rounds that the current chunk has waited for.
    rounds: u32,
    frames_per_chunk: usize,
    frame_bytes_max: usize,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl CaptureSink {
    /// Opens or creates the file; its extension says the format, `-` is standard output. What it held stays until
    /// [`Self::begin`] or the first frame.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: impl AsRef<Path>, options: SinkOptions) -> Result<Self, CaptureError> {
        let path = path.as_ref();
        let writer = CaptureWriter::create(path)?;
        let count = options.chunks.max(2);
        let (full, full_out) = RingBuffer::new(count);
        let (mut empty_in, empty) = RingBuffer::new(count);
        for _ in 0..count {
            // Room for `count` was just made.
            let _ = empty_in.push(Chunk::with_room_for(options.frame_bytes_max as usize));
        }
        let shared = Arc::new(Shared::default());
        let mut behind = WriteBehind {
            writer: Some(writer),
            full: full_out,
            empty: empty_in,
            shared: Arc::clone(&shared),
            written: 0,
        };
        let thread = spawn("capture-write", path, move || behind.run())?;
        let frame_bytes_max = (options.frame_bytes_max as usize).max(1);
        let frames_per_chunk = frames_that_fit(CHUNK_FRAMES, CHUNK_BYTES, frame_bytes_max);
        let current = None;
        Ok(Self {
            full,
            empty,
            current,
            accepted: 0,
            format: CaptureFormat::of(path),
            first: None,
            rounds: 0,
            frames_per_chunk,
            frame_bytes_max,
            shared,
            thread: Some(thread),
        })
    }

    /// The port is in service: the file begins anew.
    pub fn begin(&self) {
        // ORDERING: a flag that says nothing of other memory.
        self.shared.begun.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// How many more frames of up to `frame_bytes_max` are certainly accepted now.
    pub fn room_frames(&self) -> usize {
        let current = self.current.as_ref().map_or(0, |chunk| {
            let bytes = CHUNK_BYTES.saturating_sub(chunk.byte_count());
            frames_that_fit(CHUNK_FRAMES - chunk.len(), bytes, self.frame_bytes_max)
        });
        current + self.empty.slots() * self.frames_per_chunk
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// It is not taken, and why.
    #[inline]
    pub fn push(
        &mut self,
        bytes: &[u8],
        timestamp_ns: i64,
        wire_length: u32,
        link: Link,
    ) -> Result<(), NotTaken> {
        self.push_scattered(bytes, &[], timestamp_ns, wire_length, link)
    }

    /// Takes a frame that lies in two pieces.
    ///
    /// # Errors
    /// It is not taken, and why.
    #[inline]
    pub fn push_scattered(
        &mut self,
        head: &[u8],
        tail: &[u8],
        timestamp_ns: i64,
        wire_length: u32,
        link: Link,
    ) -> Result<(), NotTaken> {
        let first = self.first.unwrap_or(link);
        if !self.format.holds_both(first, link) {
            return Err(NotTaken::LinkType);
        }
        if self.current.as_ref().is_some_and(|chunk| !chunk.has_room()) {
            self.flush_chunk();
        }
        if self.current.is_none() {
            self.current = self.empty.pop().ok();
        }
        let Some(chunk) = &mut self.current else {
            return Err(NotTaken::Full);
        };
        chunk.push(
            head,
            tail,
            FrameMeta {
                wire_length,
                timestamp_ns,
                link,
                ..FrameMeta::default()
            },
        );
        self.first = Some(first);
        self.accepted += 1;
        Ok(())
    }

    /// Hands over what has been pushed, however little, at once.
    #[inline]
    pub fn flush_chunk(&mut self) {
        if self.current.as_ref().is_some_and(|chunk| !chunk.is_empty())
            && let Some(chunk) = self.current.take()
        {
            // Never full: as many chunks exist as the ring has slots.
            let _ = self.full.push(chunk);
            self.rounds = 0;
            self.wake();
        }
    }

    /// For the end of every round of a worker: as [`Self::flush_chunk`], but only once the chunk is
    /// worth a wake-up or has waited for some rounds. Handing over each burst would cost a system
    /// call here and one there.
    #[inline]
    pub fn end_round(&mut self) {
        let frames = self.current.as_ref().map_or(0, Chunk::len);
        if frames == 0 {
            return;
        }
        self.rounds += 1;
        if frames >= FRAMES_WORTH_WAKING || self.rounds >= ROUNDS_TO_WAIT {
            self.flush_chunk();
        }
    }

    /// How many frames have been accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many of them are not yet in the operating system's hands.
    pub fn pending(&self) -> u64 {
        // ORDERING: pairs with the store in `WriteBehind::settle`.
        self.accepted - self.shared.settled.load(Ordering::Acquire)
    }

    /// All that was accepted has been written and flushed (or is lost to an error).
    pub fn drained(&self) -> bool {
        self.pending() == 0
    }

    /// How many frames were accepted, but could not be written.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Where it is said if the file cannot be written. From then on all frames are lost, and counted.
    pub fn fault(&self) -> &Fault {
        &self.shared.fault
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for CaptureSink {
    fn drop(&mut self) {
        self.flush_chunk();
        // ORDERING: pairs with the load in `WriteBehind::run`: the last chunk is in the ring before.
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic over there has been printed; here there is nothing left to do about it.
            let _ = thread.join();
        }
    }
}

/// A chunk takes frames while it has fewer than its number and is below its size, so the last
/// one may overshoot.
fn frames_that_fit(frames: usize, bytes: usize, frame_bytes_max: usize) -> usize {
    frames.min(bytes.div_ceil(frame_bytes_max))
}

/// The thread's side.
struct WriteBehind {
    /// `None` once it has failed: what comes after is lost.
    writer: Option<CaptureWriter>,
    full: Consumer<Chunk>,
    empty: Producer<Chunk>,
    shared: Arc<Shared>,
    written: u64,
}

impl WriteBehind {
    fn run(&mut self) {
        loop {
            // ORDERING: pairs with the store in `CaptureSink::stop`; read before the look at the ring.
            let stopping = self.shared.stop.load(Ordering::Acquire);
            if let Ok(mut chunk) = self.full.pop() {
                self.write(&chunk);
                chunk.clear();
                // Never full: as many chunks exist as the ring has slots.
                let _ = self.empty.push(chunk);
                continue;
            }
            self.settle();
            if stopping {
                break;
            }
            nap();
        }
        if let Some(writer) = self.writer.take()
            && self.has_begun()
            && let Err(error) = writer.finish()
        {
            self.shared.fault.put(error);
        }
    }

    fn write(&mut self, chunk: &Chunk) {
        for frame in chunk.iter() {
            self.written += 1;
            let Some(writer) = &mut self.writer else {
                self.lose(1);
                continue;
            };
            let meta = frame.meta;
            if let Err(error) =
                writer.write(frame.bytes, meta.timestamp_ns, meta.wire_length, meta.link)
            {
                self.fail(error);
                self.lose(1);
            }
        }
    }

    fn has_begun(&self) -> bool {
        self.written > 0 || self.shared.begun.load(Ordering::Relaxed)
    }

    /// Flushes, then says so.
    fn settle(&mut self) {
        let has_begun = self.has_begun();
        if let Some(writer) = &mut self.writer
            && has_begun
            && let Err(error) = writer.flush()
        {
            self.fail(error);
        }
        // ORDERING: pairs with the load in `CaptureSink::pending`: settled means flushed before.
        self.shared.settled.store(self.written, Ordering::Release);
    }

    /// What had not reached the file before is lost, too.
    fn fail(&mut self, error: CaptureError) {
        if let Some(writer) = self.writer.take() {
            self.lose(writer.abandon());
        }
        self.shared.fault.put(error);
    }

    fn lose(&self, frames: u64) {
        self.shared.lost.fetch_add(frames, Ordering::Relaxed);
    }
}
