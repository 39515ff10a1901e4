//! Which datagram a fragment belongs to, and which flow the first fragment says that is.
//!
//! [`Headers::flow_hash`] of a fragment leaves the ports out, so that all fragments of a datagram
//! hash alike. Who balances flows wants more: the hash that the datagram would have whole.

use super::parse::at;
use super::{Headers, NONE_OFFSET, hash};

/// One fragment of an IP datagram (RFC 791, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentOf {
    /// The same number for all fragments of a datagram: mixed from addresses, protocol and
    /// identification; never 0.
    pub datagram: u64,
    /// The hash of the whole flow, ports included, if this is the first fragment and has ports.
    pub flow_hash: Option<u32>,
}

impl FragmentOf {
    /// Reads it from the frame that `headers` were parsed from; `None` if that is no fragment.
    pub fn read(headers: &Headers, frame: &[u8]) -> Option<Self> {
        if !headers.fragment || headers.l3_offset == NONE_OFFSET {
            return None;
        }
        let l3 = usize::from(headers.l3_offset);
        let protocol = headers.protocol.max(0) as u8;
        let ports = (headers.src_port >= 0 && headers.dst_port >= 0)
            .then_some((headers.src_port as u16, headers.dst_port as u16));
        let (ends, id, flow_hash) = if headers.ip_version == 4 {
            let id = u16::from_be_bytes(*at::<2>(frame, l3 + 4)?);
            let ends = u64::from(headers.src) << 32 | u64::from(headers.dst);
            let hash = hash::ipv4(headers.src, headers.dst, protocol, ports);
            (ends, u32::from(id), hash)
        } else {
            let (src, dst) = (headers.src6(frame)?, headers.dst6(frame)?);
            let ends = src
                .chunks_exact(8)
                .chain(dst.chunks_exact(8))
                .fold(0u64, |mixed, half| {
                    let half = half
                        .iter()
                        .fold(0, |word, byte| word << 8 | u64::from(*byte));
                    (mixed.rotate_left(17) ^ half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                });
            (
                ends,
                id6(frame, l3)?,
                hash::ipv6(&src, &dst, protocol, ports),
            )
        };
        let mixed =
            (ends ^ u64::from(id) << 8 ^ u64::from(protocol)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Some(Self {
            datagram: (mixed ^ mixed >> 29).max(1),
            flow_hash: ports.map(|_| flow_hash),
        })
    }
}

/// The identification in the fragment header of an IPv6 packet.
fn id6(frame: &[u8], l3: usize) -> Option<u32> {
    let mut next = at::<1>(frame, l3 + 6)?[0];
    let mut offset = l3 + 40;
    for _ in 0..16 {
        let header = at::<8>(frame, offset)?;
        let bytes = match next {
            44 => {
                return Some(u32::from_be_bytes([
                    header[4], header[5], header[6], header[7],
                ]));
            }
            0 | 43 | 60 => (usize::from(header[1]) + 1) * 8,
            51 => (usize::from(header[1]) + 2) * 4,
            _ => return None,
        };
        next = header[0];
        offset += bytes;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Link, parse};

    fn udp4(id: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let total = (20 + payload.len()) as u16;
        let mut packet = vec![0x45, 0];
        packet.extend(total.to_be_bytes());
        packet.extend(id.to_be_bytes());
        packet.extend(flags.to_be_bytes());
        packet.extend([64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7]);
        packet.extend(payload);
        packet
    }

    #[test]
    fn the_first_fragment_tells_the_flow_of_the_whole() {
        let ports = [0x12, 0x34, 0, 53, 0, 100, 0, 0];
        let whole = udp4(1, 0, &[&ports[..], &[7; 92]].concat());
        let first = udp4(9, 0x2000, &[&ports[..], &[7; 40]].concat());
        let later = udp4(9, 6, &[8; 20]);
        let other = udp4(10, 6, &[8; 20]);
        let read = |packet: &[u8]| FragmentOf::read(&parse(packet, Link::Ipv4), packet);
        assert_eq!(read(&whole), None);
        let (first, later, other) = (read(&first), read(&later), read(&other));
        let flow = parse(&whole, Link::Ipv4).flow_hash;
        assert_eq!(first.and_then(|first| first.flow_hash), Some(flow));
        assert_eq!(later.and_then(|later| later.flow_hash), None);
        assert_eq!(first.map(|f| f.datagram), later.map(|f| f.datagram));
        assert_ne!(later.map(|f| f.datagram), other.map(|f| f.datagram));
    }

    #[test]
    fn ipv6_fragments_are_told_apart_by_their_header() {
        let packet = |id: u32, offset: u16| {
            let mut packet = vec![0x60, 0, 0, 0, 0, 24, 44, 64];
            packet.extend([1; 16]);
            packet.extend([2; 16]);
            packet.extend([17, 0]);
            packet.extend(offset.to_be_bytes());
            packet.extend(id.to_be_bytes());
            packet.extend([0x12, 0x34, 0, 53, 0, 100, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
            packet
        };
        let read = |packet: Vec<u8>| FragmentOf::read(&parse(&packet, Link::Ipv6), &packet);
        let first = read(packet(5, 1)).expect("a first fragment");
        let later = read(packet(5, 0x10)).expect("a later fragment");
        let other = read(packet(6, 0x10)).expect("of another datagram");
        assert_eq!(first.datagram, later.datagram);
        assert_ne!(first.datagram, other.datagram);
        assert!(first.flow_hash.is_some() && later.flow_hash.is_none());
    }
}
