//! Tests of the capture rooms, by room.

use std::path::Path;

use mvmp_wire::packet::Link;
use proptest::prelude::*;

use super::*;

mod formats;
mod hostile;
mod oracles;
mod pacing;
mod port;
#[path = "../../../../mvmp-testkit/src/skip.rs"]
mod skip;

use skip::skip;

/// What comes out of a file, and goes into one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    bytes: Vec<u8>,
    timestamp_ns: i64,
    wire_length: u32,
    link: Link,
}

impl Written {
    /// A frame whose bytes and time tell its number.
    fn numbered(number: u32) -> Self {
        let bytes = [&number.to_be_bytes()[..], &[0x45; 56]].concat();
        Self {
            bytes,
            timestamp_ns: i64::from(number) * 1_000_003,
            wire_length: 64,
            link: Link::Ethernet,
        }
    }
}

fn frames(links: impl Strategy<Value = Link> + Clone) -> impl Strategy<Value = Vec<Written>> {
    let frame = (
        proptest::collection::vec(any::<u8>(), 0..300),
        0i64..4_294_967_295_999_999_999,
        0u32..5000,
        links,
    )
        .prop_map(|(mut bytes, timestamp_ns, more, link)| {
            // A raw IP frame shows its version; without a byte it counts as IPv4.
            if link != Link::Ethernet {
                bytes.insert(0, (link as u8) << 4);
            }
            let wire_length = bytes.len() as u32 + more;
            Written {
                bytes,
                timestamp_ns,
                wire_length,
                link,
            }
        });
    proptest::collection::vec(frame, 0..40)
}

fn write_all(path: &Path, frames: &[Written]) {
    let mut writer = CaptureWriter::create(path).expect("a new file in a folder of ours");
    for frame in frames {
        let (head, tail) = frame.bytes.split_at(frame.bytes.len() / 3);
        writer
            .write_scattered(
                head,
                tail,
                frame.timestamp_ns,
                frame.wire_length,
                frame.link,
            )
            .expect("room on the disk");
    }
    writer.finish().expect("room on the disk");
}

/// All frames of a file, and how it ended.
fn read_all(path: &Path, limit: u32) -> Result<(Vec<Written>, Option<CaptureError>), CaptureError> {
    let mut reader = CaptureReader::open(path, limit)?;
    let mut frames = Vec::new();
    loop {
        let mut bytes = Vec::new();
        match reader.read_into(&mut bytes) {
            Ok(Some(meta)) => {
                frames.push(Written {
                    bytes,
                    timestamp_ns: meta.timestamp_ns,
                    wire_length: meta.wire_length,
                    link: meta.link,
                });
            }
            Ok(None) => return Ok((frames, None)),
            Err(error) => return Ok((frames, Some(error))),
        }
    }
}

fn read_whole(path: &Path) -> Vec<Written> {
    let (frames, end) = read_all(path, FRAME_BYTES_MAX).expect("a capture");
    assert!(end.is_none(), "{end:?}");
    frames
}
