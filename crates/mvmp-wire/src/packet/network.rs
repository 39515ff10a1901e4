//! IPv4 and IPv6, on the general way of [`super::parse`].
//!
//! What the length field says counts, clipped to the frame; a length that cannot be (shorter
//! than its own header, or the 0 of segmentation offload and jumbograms) is taken as "to the end
//! of the frame". IPv6 extension headers (RFC 8200 §4, AH of RFC 4302) belong to the IPv6 layer;
//! at most [`EXTENSIONS_MAX`] are followed.

use super::parse::{Walk, at};
use super::{LayerKind, hash, transport};

pub(super) const ETHER_IPV4: u16 = 0x0800;
pub(super) const ETHER_IPV6: u16 = 0x86dd;
/// "More fragments" and the fragment offset of IPv4; any of them set means a fragment.
pub(super) const FRAGMENT_BITS: u16 = 0x3fff;
/// A hostile chain ends here: what follows is reported as an unknown protocol.
const EXTENSIONS_MAX: usize = 16;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

pub(super) fn ipv4(walk: &mut Walk, frame: &[u8], offset: usize) {
    let Some(header) = at::<20>(frame, offset) else {
        return;
    };
    let bytes = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || bytes < 20 {
        return;
    }
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_BITS;
    let protocol = header[9];
    let src = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    let dst = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
    walk.layer(LayerKind::Ipv4, offset);
    let found = &mut walk.headers;
    found.l3_offset = offset as u16;
    found.ip_version = 4;
    found.protocol = i16::from(protocol);
    found.src = src;
    found.dst = dst;
    found.fragment = fragment != 0;
    if total >= bytes {
        walk.end = walk.end.min(offset + total);
    }
    if offset + bytes <= walk.end {
        walk.payload(offset + bytes);
        if fragment & 0x1fff == 0 {
            transport::parse(walk, frame, offset + bytes, protocol);
        }
    }
    let ports = hashed_ports(walk);
    walk.headers.flow_hash = hash::ipv4(src, dst, protocol, ports);
}

pub(super) fn ipv6(walk: &mut Walk, frame: &[u8], offset: usize) {
    let Some(header) = at::<40>(frame, offset) else {
        return;
    };
    if header[0] >> 4 != 6 {
        return;
    }
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    walk.layer(LayerKind::Ipv6, offset);
    walk.headers.l3_offset = offset as u16;
    walk.headers.ip_version = 6;
    if length > 0 {
        walk.end = walk.end.min(offset + 40 + length);
    }
    let upper = extensions(&frame[..walk.end], header[6], offset + 40);
    walk.headers.protocol = i16::from(upper.protocol);
    walk.headers.fragment = upper.fragment;
    walk.payload(upper.at);
    if upper.first {
        transport::parse(walk, frame, upper.at, upper.protocol);
    }
    let ports = hashed_ports(walk);
    walk.headers.flow_hash = hash::ipv6(&header[8..24], &header[24..40], upper.protocol, ports);
}

/// What the extension headers lead to.
pub(super) struct Upper {
    pub(super) protocol: u8,
    /// Where it begins.
    pub(super) at: usize,
    /// Whether it is the beginning of a datagram: false for later fragments.
    pub(super) first: bool,
    /// A fragment, the first included.
    pub(super) fragment: bool,
}

/// Follows the extension headers from `at` to the upper protocol, within the packet. A header
/// that is cut short ends the walk as if it were the upper protocol.
#[inline(always)]
pub(super) fn extensions(packet: &[u8], protocol: u8, at: usize) -> Upper {
    let mut upper = Upper {
        protocol,
        at,
        first: true,
        fragment: false,
    };
    if is_extension(protocol) {
        follow(packet, &mut upper);
    }
    upper
}

const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | DESTINATION | AUTHENTICATION | FRAGMENT
    )
}

fn follow(packet: &[u8], upper: &mut Upper) {
    for _ in 0..EXTENSIONS_MAX {
        let Some(header) = at::<8>(packet, upper.at) else {
            break;
        };
        let bytes = match upper.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(header[1]) + 1) * 8,
            AUTHENTICATION => (usize::from(header[1]) + 2) * 4,
            FRAGMENT => 8,
            _ => break,
        };
        if upper.at + bytes > packet.len() {
            break;
        }
        if upper.protocol == FRAGMENT {
            let word = u16::from_be_bytes([header[2], header[3]]);
            // Offset and M; the reserved bits between mean nothing, and neither set is "atomic" (RFC 6946).
            upper.fragment |= word & 0xfff9 != 0;
            upper.first = word & 0xfff8 == 0;
        }
        upper.protocol = header[0];
        upper.at += bytes;
        if !upper.first {
            break;
        }
    }
}

/// Ports for the flow hash: none for a fragment, so that all fragments of a datagram hash alike.
fn hashed_ports(walk: &Walk) -> Option<(u16, u16)> {
    let found = &walk.headers;
    let readable = !found.fragment && found.src_port >= 0;
    readable.then_some((found.src_port as u16, found.dst_port as u16))
}
