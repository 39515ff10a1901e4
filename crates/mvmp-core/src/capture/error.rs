//! What can be wrong with a capture file. Every message names the file, the place and the way out.

use std::io;
use std::path::PathBuf;

use super::link_type;

/// A capture file that cannot be read or written as asked.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: "open", "read", "write", …
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Neither pcap nor pcapng.
    #[error("{} is not a pcap or pcapng file: {reason}", path.display())]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// What it is instead, as far as that can be told.
        reason: String,
    },
    /// Frames of a kind that cannot be parsed.
    #[error(
        "{} holds frames of link type {number} ({}); only Ethernet (1) and raw IP (101, 12, 14, 228, 229) can be played",
        path.display(),
        link_type::name(*number)
    )]
    LinkType {
        /// The file.
        path: PathBuf,
        /// The link type's number as registered at tcpdump.org.
        number: u32,
    },
    /// The file ends in the middle of a record. What came before it was delivered.
    #[error(
        "{} is cut short: the record at byte {offset} is not whole (what precedes it was read)",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where the record begins that is not whole.
        offset: u64,
    },
    /// The file contradicts itself; nothing after this place can be read.
    #[error("{} is damaged at byte {offset}: {reason} (what precedes it was read)", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where the record begins that cannot be.
        offset: u64,
        /// What about it cannot be.
        reason: String,
    },
    /// A pcap file has one link type for all its frames.
    #[error(
        "{} is a pcap file for {first} frames and cannot hold a frame of {other}; name the output .pcapng",
        path.display()
    )]
    MixedLinks {
        /// The file.
        path: PathBuf,
        /// The link type of its first frame.
        first: &'static str,
        /// That of the frame refused.
        other: &'static str,
    },
}
