//! The NF's side of the platform, for NFs in Rust and for the Python module. No DPDK.
//!
//! ```text
//! Nf ──▶ Session (one connection: regions, return rings, control thread)
//!  └──▶ Handle ──▶ Opening (one incarnation of a handle: lanes, pipes, state)
//!          └──▶ Burst (packets lent to the NF; what is held at its drop is released)
//! ```
//!
//! Invariants:
//! * Memory that the platform shares is mapped read-only, but for this NF's own up and private regions.
//! * A frame is visible through a [`Burst`] only while this NF holds a share on it.
//! * Releasing never fails and never blocks; receiving makes no system call and allocates nothing.
//! * In a forked child every object is inert: calls say [`NfError::Closed`], drops do nothing.
//! * Unsafe code lives in two rooms: `frame` (views of frames) and `born` (the mark that a fork wipes).

#![deny(unsafe_code)]

mod born;
mod burst;
mod control;
mod error;
mod frame;
mod handle;
mod lent;
mod nf;
mod opening;
mod path;
mod private;
mod readable;
mod returns;
mod rx;
mod session;
mod spin;
mod transmit;
mod wait;
mod way_up;

pub use burst::{Burst, View, Which};
pub use error::NfError;
pub use handle::{Handle, OpenOptions};
pub use mvmp_wire::message::PortFacts;
pub use mvmp_wire::packet::{Headers, LayerKind, LayerSet, Link, Stack, StackLayer, Stop, parse};
pub use mvmp_wire::{Descriptor, Record};
pub use nf::{ConnectOptions, Nf};
pub use readable::Readable;
pub use wait::Wait;

/// Asked every 100 ms by calls that wait; true makes them stop with [`NfError::Interrupted`] or [`Wait::Interrupted`].
pub type Interrupted<'a> = &'a dyn Fn() -> bool;

/// For calls that nothing interrupts.
pub fn never() -> bool {
    false
}
