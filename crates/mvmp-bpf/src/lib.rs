//! libpcap's filter language: compiled by the machine's own libpcap, run by us.
//!
//! ```text
//! "tcp port 80" ──libpcap (found at run time)──▶ instructions ──checked──▶ Program, run per packet
//! ```
//!
//! `mvmp-policy` calls it for rules that begin with `pcap:`. Invariants:
//!
//! * Unsafe code is in [`libpcap`] alone: finding the library and calling it.
//! * A [`Program`] was checked: each load of scratch memory, each jump and each end is in bounds.
//!   Jumps go forward, so it ends after at most as many steps as it has instructions; but for the
//!   loops of `protochain`, whose rounds are counted, and are fewer than the packet has bytes.
//! * Running one allocates nothing and cannot fail: a load beyond the packet means no match, as in
//!   libpcap.

#![deny(unsafe_code)]

mod interpreter;
mod libpcap;
mod program;

pub use libpcap::library_version;
pub use program::{Instruction, Program};

/// Link type of Ethernet frames.
pub const LINK_ETHERNET: i32 = 1;
/// Link type of packets that begin with their IPv4 or IPv6 header.
pub const LINK_RAW: i32 = 12;
/// The snap length that tcpdump takes, in bytes: no frame is longer.
pub const SNAP_BYTES: i32 = 262_144;

/// Why there is no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// libpcap is not on this machine, or is not one that can be used.
    #[error(
        "libpcap is not to be had on this machine ({0}): install the package `libpcap0.8` (Debian, Ubuntu) or `libpcap` (Fedora, Alpine)"
    )]
    NoLibrary(String),
    /// libpcap refuses the expression, in its own words.
    #[error("libpcap: {0}")]
    Expression(String),
    /// libpcap made a program that cannot be run here.
    #[error("the compiled filter cannot be run: {0}")]
    Program(String),
}
