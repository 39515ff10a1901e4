//! The straight ways of most frames: a usual level alone, or one in VXLAN in UDP over IPv4. They
//! are read and noted as [`super::level`] does it, but with no loop and no choice, so that the
//! compiler knows every place. A property test holds them against the walk header by header.
//!
//! Each says whether the frame was one of its own; if not, what the stack says counts for nothing.

use super::super::common;
use super::super::stack::{Stack, Stop, View};
use super::super::tunnel_ports::TunnelPorts;
use super::super::usual::{IPV4_UDP, Usual};
use super::super::{Headers, LayerKind, Link};
use super::udp::{UDP_BYTES, VXLAN_BYTES, VXLAN_I};

/// Where the headers around begin, and what is within.
const UDP: usize = 34;
const VXLAN: usize = UDP + UDP_BYTES;
const WITHIN: usize = VXLAN + VXLAN_BYTES;

/// A usual level that carries no tunnel.
#[inline(always)]
pub(super) fn alone(
    frame: &[u8],
    outer: &Headers,
    usual: &Usual,
    stack: &mut Stack,
    inner: &mut Headers,
) -> bool {
    let payload = usize::from(outer.payload_offset);
    if outer.fragment || frame.len() > usize::from(u16::MAX) || payload > frame.len() {
        return false;
    }
    let end = frame.len().min(payload + usize::from(outer.payload_length));
    stack.begin(Link::Ethernet, frame.len());
    let noted = stack.push_usual(usual, 0, (frame.len(), end));
    stack.note_hash(outer.flow_hash);
    stack.finish(Stop::Whole);
    *inner = *outer;
    noted
}

/// UDP over IPv4 to a port of VXLAN, and in it a usual level that carries no tunnel.
#[inline(always)]
pub(super) fn in_vxlan(
    frame: &[u8],
    outer: &Headers,
    ports: &TunnelPorts,
    stack: &mut Stack,
    inner: &mut Headers,
) -> bool {
    let Some(head) = frame.first_chunk::<WITHIN>() else {
        return false;
    };
    let udp_length = usize::from(u16::from_be_bytes([head[UDP + 4], head[UDP + 5]]));
    let ip_end = frame.len().min(VXLAN + usize::from(outer.payload_length));
    let end = ip_end.min(UDP + udp_length);
    let Some(within) = frame.get(WITHIN..end) else {
        return false;
    };
    let odd = outer.fragment || frame.len() > usize::from(u16::MAX);
    if odd || head[VXLAN] & VXLAN_I == 0 || !common::plain(within, inner) {
        return false;
    }
    let Some(usual) = Usual::of(inner) else {
        return false;
    };
    if usual.tunnel(inner, ports) != Some(None) {
        return false;
    }
    let [.., v0, v1, v2, reserved] = *head;
    let vni = u32::from_be_bytes([v0, v1, v2, reserved]) >> 8;
    let payload = usize::from(inner.payload_offset) + usize::from(inner.payload_length);
    stack.begin(Link::Ethernet, frame.len());
    let mut noted = stack.push_usual(&IPV4_UDP, 0, (frame.len(), ip_end))
        && stack.push(LayerKind::Vxlan, VXLAN, Some(vni), end);
    stack.begin_level();
    noted &= stack.push_usual(usual, WITHIN, (end, WITHIN + payload));
    stack.note_hash(inner.flow_hash);
    stack.finish(Stop::Whole);
    stack.set_level(View {
        start: WITHIN as u16,
        end: end as u16,
        link: Link::Ethernet,
    });
    noted
}
