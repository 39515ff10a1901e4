//! TCP, UDP, ICMP, ICMPv6 and SCTP, on the general way of [`super::parse`].
//!
//! Ports are read where their four bytes are there, even if the rest of the header is not.

use super::LayerKind;
use super::parse::{Walk, at};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP: u8 = 1;
pub(super) const ICMP6: u8 = 58;
pub(super) const SCTP: u8 = 132;
/// FIN to CWR, and NS beside them.
pub(super) const FLAG_BITS: u16 = 0x01ff;

/// Parses the transport header that begins at `offset`, within the packet's end.
pub(super) fn parse(walk: &mut Walk, frame: &[u8], offset: usize, protocol: u8) {
    let packet = &frame[..walk.end];
    if matches!(protocol, TCP | UDP | SCTP)
        && let Some(ports) = at::<4>(packet, offset)
    {
        walk.headers.src_port = i32::from(u16::from_be_bytes([ports[0], ports[1]]));
        walk.headers.dst_port = i32::from(u16::from_be_bytes([ports[2], ports[3]]));
    }
    match protocol {
        TCP => tcp(walk, packet, offset),
        UDP => fixed(walk, LayerKind::Udp, offset, 8),
        ICMP => fixed(walk, LayerKind::Icmp, offset, 8),
        ICMP6 => fixed(walk, LayerKind::Icmp6, offset, 8),
        SCTP => fixed(walk, LayerKind::Sctp, offset, 12),
        _ => {}
    }
}

fn tcp(walk: &mut Walk, packet: &[u8], offset: usize) {
    let Some(word) = at::<2>(packet, offset + 12) else {
        return;
    };
    let word = u16::from_be_bytes(*word);
    walk.headers.tcp_flags = word & FLAG_BITS;
    if offset + 20 > walk.end {
        return;
    }
    walk.layer(LayerKind::Tcp, offset);
    walk.headers.l4_offset = offset as u16;
    let bytes = usize::from(word >> 12) * 4;
    if bytes >= 20 && offset + bytes <= walk.end {
        walk.payload(offset + bytes);
    }
}

fn fixed(walk: &mut Walk, kind: LayerKind, offset: usize, bytes: usize) {
    if offset + bytes <= walk.end {
        walk.layer(kind, offset);
        walk.headers.l4_offset = offset as u16;
        walk.payload(offset + bytes);
    }
}
