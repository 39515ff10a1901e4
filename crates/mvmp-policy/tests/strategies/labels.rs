//! What may follow the last MPLS label: bytes that could be Ethernet, IPv4 and IPv6 at once.

use mvmp_wire::packet::Link;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// First bytes of IP, of a control word and of MAC addresses.
const FIRST: [u8; 9] = [0x00, 0x02, 0x44, 0x45, 0x46, 0x4f, 0x60, 0x6f, 0x52];
/// Where IPv6 has its next header, Ethernet has its source.
const SOURCES: [u8; 8] = [0, 2, 4, 6, 17, 58, 60, 103];
const TYPES: [u16; 7] = [0x0800, 0x86dd, 0x0806, 0x8847, 0x8848, 0x8864, 0x88cc];
/// Bytes that what is announced may begin with.
const BODIES: [&[u8]; 9] = [
    &[
        0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ],
    &[
        0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0x66, 0xc3, 10, 0, 0, 1, 10, 0, 0, 2,
    ],
    &[
        0x44, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0x67, 0xc3, 10, 0, 0, 1, 10, 0, 0, 2,
    ],
    &[0x60, 0, 0, 0, 0, 8, 17, 64],
    &[0x60, 0, 0, 0, 0, 8, 0, 64],
    &[0, 1, 0x20, 64, 0, 1, 0x21, 64, 0x45],
    &[0, 0, 0x31, 64, 0x45],
    &[0, 1, 8, 0, 6, 4, 0, 1],
    &[0x11, 0, 0, 7, 0, 60, 0, 0x21, 0x45],
];

/// A frame with one label, and behind it each of the bytes by which it is told what follows.
pub fn labelled() -> impl Strategy<Value = (Vec<u8>, Link)> {
    let tag = (select(vec![0x8100u16, 0x88a8]), any::<u16>());
    let announced = (vec(tag, 0..4), select(TYPES.to_vec()));
    let length = prop_oneof![Just(None), (-6..6i32).prop_map(Some)];
    (
        (
            select(FIRST.to_vec()),
            any::<u8>(),
            select(SOURCES.to_vec()),
        ),
        announced,
        (select(BODIES.to_vec()), vec(any::<u8>(), 20..70)),
        (any::<bool>(), length, any::<bool>()),
    )
        .prop_map(
            |((first, second, source), (tags, ether_type), (body, rest), how)| {
                let (has_control_word, length, is_sound) = how;
                let mut packet = vec![first, second, 0, 0, 0, 0, source, 64, 64, 17, 0, 0];
                for (tpid, tag) in tags {
                    packet.extend(tpid.to_be_bytes());
                    packet.extend(tag.to_be_bytes());
                }
                packet.extend(ether_type.to_be_bytes());
                packet.extend(body);
                packet.extend(rest);
                if let Some(error) = length {
                    let bytes = packet.len() as i32 + error;
                    packet[2..4].copy_from_slice(&(bytes as u16).to_be_bytes());
                    packet[4..6].copy_from_slice(&((bytes - 40) as u16).to_be_bytes());
                }
                if is_sound {
                    sum(&mut packet, usize::from(first & 15) * 4);
                }
                let control_word: &[u8] = if has_control_word { &[2, 0, 0, 9] } else { &[] };
                let outer = [
                    2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0x47, 0, 2, 0xa1, 64,
                ];
                ([&outer[..], control_word, &packet].concat(), Link::Ethernet)
            },
        )
}

/// Makes the checksum of an IPv4 header right (RFC 1071).
fn sum(packet: &mut [u8], bytes: usize) {
    let header = &packet[..bytes.min(packet.len())];
    let sum: u32 = header
        .chunks_exact(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    let folded = (folded >> 16) + (folded & 0xffff);
    packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}
