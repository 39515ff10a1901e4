//! One level of a frame at a time. The headers of the last one are kept, because they are what
//! most policies ask for.

use super::super::parse::parse_into;
use super::super::stack::Stack;
use super::super::transport::UDP;
use super::super::tunnel_ports::TunnelPorts;
use super::super::usual::Usual;
use super::super::{Headers, Layer, Link, NONE_OFFSET};
use super::{Next, Place, WHOLE, udp};

/// Begins a level at a start behind something that can be jumped over: parses it into `inner`. False
/// if its first header cannot be noted; `inner` then remains that of the `level` before.
#[inline(always)]
pub(super) fn enter(
    frame: &[u8],
    link: Link,
    place: Place,
    stack: &mut Stack,
    inner: &mut Headers,
    level: &mut usize,
) -> bool {
    if !stack.has_room() {
        return false;
    }
    let Some(part) = frame.get(place.next.at()..place.end) else {
        return false;
    };
    parse_into(part, link, inner);
    if inner.layers[0] == Layer::default() {
        let before = stack.part(*level);
        parse_into(before.of(frame), before.link, inner);
        return false;
    }
    *level = stack.begin_level();
    true
}

/// Notes all layers of a level that has these headers, and what a tunnel over UDP puts around the
/// next one. `None`, and nothing is noted, unless it is a flow: IP that is no fragment.
#[inline(always)]
pub(super) fn flow(
    frame: &[u8],
    headers: &Headers,
    ports: &TunnelPorts,
    stack: &mut Stack,
    place: Place,
) -> Option<Place> {
    let at = place.next.at();
    let payload = at + usize::from(headers.payload_offset);
    if headers.fragment || payload > place.end {
        return None;
    }
    let end = place.end.min(payload + usize::from(headers.payload_length));
    let (packet, ends) = (frame.get(..end)?, (place.end, end));
    let Some(usual) = Usual::of(headers) else {
        return unusual(packet, headers, ports, stack, place);
    };
    if !stack.push_usual(usual, at, ends) {
        return None;
    }
    stack.note_hash(headers.flow_hash);
    Some(match usual.udp {
        Some(l4) => datagram(packet, headers.dst_port as u16, at + l4, ports, stack),
        None => Place::new(WHOLE, end),
    })
}

/// The same for a flow of any other shape. The packet is the frame up to where the IP packet ends.
#[inline(never)]
fn unusual(
    packet: &[u8],
    headers: &Headers,
    ports: &TunnelPorts,
    stack: &mut Stack,
    place: Place,
) -> Option<Place> {
    let at = place.next.at();
    // Whether the IP header is whole. Without IP, `l3_offset` is the largest there is.
    let whole = headers.l3_offset < headers.payload_offset && !headers.more;
    if !whole || !stack.push_unusual(packet, headers, at, place.end) {
        return None;
    }
    stack.note_hash(headers.flow_hash);
    let protocol = headers.protocol as u8;
    Some(if headers.l4_offset == NONE_OFFSET {
        let next = Next::upper(protocol, at + usize::from(headers.payload_offset));
        Place::new(next, packet.len())
    } else if protocol == UDP {
        let l4 = at + usize::from(headers.l4_offset);
        datagram(packet, headers.dst_port as u16, l4, ports, stack)
    } else {
        Place::new(WHOLE, packet.len())
    })
}

/// What a UDP datagram to this port carries.
#[inline(always)]
fn datagram(
    packet: &[u8],
    destination: u16,
    offset: usize,
    ports: &TunnelPorts,
    stack: &mut Stack,
) -> Place {
    match ports.tunnel(destination) {
        Some(tunnel) => udp::carried(packet, tunnel, offset, stack),
        None => Place::new(WHOLE, packet.len()),
    }
}
