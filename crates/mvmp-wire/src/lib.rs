//! What crosses a process boundary or a cable.
//!
//! Both sides of the platform share this crate and nothing else: the platform (`mvmp-core`) and
//! the NF's library (`mvmp-nf`). It holds the shapes — [`Descriptor`], [`Record`], the layout of
//! the shared [`region`]s, the control [`message`]s, packet [`packet::Headers`] — and the
//! mechanisms that both sides must agree on to the letter: the [`ring`] cursors, the [`wake`] of
//! who sleeps beside one, and sealed [`memory`]. `docs/protocol.md` draws all of it.
//!
//! Invariants:
//! * Geometry (sizes, counts, masks) is chosen by the platform, sent by message and never read
//!   back from shared memory.
//! * Every shared word is an atomic for which any bit pattern is legal; it is read once into a
//!   private copy, which is checked and used.
//! * Unsafe code lives in [`memory`] alone.

#![deny(unsafe_code)]

#[cfg(not(loom))]
pub mod channel;
pub mod descriptor;
#[cfg(not(loom))]
pub mod long;
#[cfg(not(loom))]
pub mod memory;
pub mod message;
pub mod packet;
pub mod record;
#[cfg(not(loom))]
pub mod region;
pub mod ring;
mod sync;
pub mod wake;

pub use descriptor::{Descriptor, Op};
#[cfg(not(loom))]
pub use memory::{Mapping, MemoryError, Sealed};
pub use record::Record;

/// Version of everything in this crate: a platform and an NF library that differ here do not talk.
pub const PROTOCOL_VERSION: u32 = 1;

/// A buffer's index is the number of the 2 KiB granule in which its data room begins.
pub const GRANULE_BYTES: usize = 2048;

/// The pool number that means "the sender's own private region".
pub const PRIVATE_POOL: u8 = 63;

/// Handles that one NF instance can have open at a time.
pub const MAX_HANDLES: usize = 64;
