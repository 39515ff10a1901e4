//! The platform: DPDK ports, pools, workers, and the control side that NFs talk to.
//!
//! [`Platform`] is what `mvmp up` and Python's `mvmp.Platform` run. Its rooms:
//!
//! * [`dpdk`]: the only one that calls DPDK;
//! * [`capture`]: capture files as ports;
//! * [`ledger`]: who holds which buffer;
//! * `worker`: the threads that move packets;
//! * `control`: sockets, sessions, rights, the life of handles and streams;
//! * [`rehearsal`]: what policies would do with a capture, without any of the above;
//! * [`counters`]: the books.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod dpdk;

mod broken;
pub mod capture;
mod control;
pub mod counters;
mod layers;
pub mod ledger;
mod platform;
pub mod rehearsal;
mod worker;

pub use platform::{Options, Platform, StartError};
