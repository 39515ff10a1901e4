//! The classic format (`draft-ietf-opsawg-pcap`): one header, then frames with 16 bytes before each.

use super::chunk::FrameMeta;
use super::input::{Endian, Input, quads};
use super::link_type::LinkType;
use super::{CaptureError, FRAME_BYTES_MAX};

pub(super) const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
pub(super) const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;

/// What the file header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pcap {
    endian: Endian,
    /// Nanoseconds per unit of the fraction of a second.
    unit_ns: u32,
    link_type: LinkType,
    /// Before version 2.4 some writers had the two lengths the other way round.
    lengths_may_be_swapped: bool,
}

impl Pcap {
    /// Byte order and resolution, if these four bytes begin a pcap file.
    pub(super) fn recognise(magic: [u8; 4]) -> Option<(Endian, u32)> {
        [Endian::Little, Endian::Big]
            .into_iter()
            .find_map(|endian| match endian.u32(magic) {
                MAGIC_MICROSECONDS => Some((endian, 1000)),
                MAGIC_NANOSECONDS => Some((endian, 1)),
                _ => None,
            })
    }

    /// Reads the rest of the file header, after the magic number.
    pub(super) fn open(
        input: &mut Input,
        endian: Endian,
        unit_ns: u32,
    ) -> Result<Self, CaptureError> {
        let [version, _, _, _, network] = quads::<20, 5>(input.array()?);
        let major = endian.u16([version[0], version[1]]);
        let minor = endian.u16([version[2], version[3]]);
        if major != 2 {
            return Err(input.malformed(format!(
                "version {major}.{minor} of pcap is not known, only 2.x"
            )));
        }
        // The upper six bits say whether frames carry their check sequence; that we do not strip.
        let number = endian.u32(network) & 0x03ff_ffff;
        let link_type = LinkType::from_number(number);
        if let LinkType::Unknown(number) = link_type {
            return Err(input.unsupported(number));
        }
        Ok(Self {
            endian,
            unit_ns,
            link_type,
            lengths_may_be_swapped: minor < 4,
        })
    }

    /// The next frame, its bytes appended to `to` unless they are more than `limit`.
    #[inline]
    pub(super) fn next(
        self,
        input: &mut Input,
        limit: u32,
        to: &mut Vec<u8>,
    ) -> Result<Option<FrameMeta>, CaptureError> {
        let Some(header) = input.begin::<16>()? else {
            return Ok(None);
        };
        let [seconds, fraction, mut captured, mut wire] =
            self.endian.words(&quads::<16, 4>(header));
        if self.lengths_may_be_swapped && captured > wire {
            std::mem::swap(&mut captured, &mut wire);
        }
        if captured > FRAME_BYTES_MAX {
            return Err(input.malformed(format!(
                "a frame of {captured} bytes is more than there can be"
            )));
        }
        let start = to.len();
        if captured > limit {
            input.skip(captured)?
        } else {
            input.append(captured, to)?
        }
        let timestamp_ns =
            i64::from(seconds) * 1_000_000_000 + i64::from(fraction) * i64::from(self.unit_ns);
        let link = self.link_type.link(&to[start..]);
        Ok(Some(FrameMeta {
            captured_length: captured,
            wire_length: wire,
            timestamp_ns,
            link: link.unwrap_or_default(),
            unsupported: link.is_none(),
            ..FrameMeta::default()
        }))
    }
}
