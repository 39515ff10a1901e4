//! Tunnels over UDP, known by the destination port: VXLAN (RFC 7348), GENEVE (RFC 8926) and
//! GTP-U (TS 29.281).

use super::super::parse::at;
use super::super::stack::Stack;
use super::super::tunnel_ports::UdpTunnel;
use super::super::{LayerKind, Link};
use super::{Header, Next, Place, TRUNCATED, WHOLE, Walker};

pub(super) const UDP_BYTES: usize = 8;
pub(super) const VXLAN_BYTES: usize = 8;
/// VXLAN: the VNI is valid.
pub(super) const VXLAN_I: u8 = 0x08;
const GENEVE_BYTES: usize = 8;
const GTPU_BYTES: usize = 8;
/// Version 1, GTP and not GTP'.
const GTPU_VERSION: u8 = 0x30;
const GTPU_G_PDU: u8 = 255;
/// Any of: extension header, sequence number, N-PDU number.
const GTPU_OPTIONAL: u8 = 0x07;
const GTPU_EXTENSION: u8 = 0x04;
/// A hostile chain of extension headers ends here.
const GTPU_EXTENSIONS_MAX: usize = 16;

impl Walker<'_> {
    /// What is behind a UDP header that is noted already.
    pub(super) fn udp(&mut self, destination: u16, offset: usize) -> Next {
        let Some(tunnel) = self.ports.tunnel(destination) else {
            return WHOLE;
        };
        let place = carried(&self.frame[..self.end], tunnel, offset, self.stack);
        self.end = place.end;
        place.next
    }
}

/// Notes the tunnel's header in the UDP datagram at `offset` of a packet; goes on behind it.
#[inline(always)]
pub(super) fn carried(packet: &[u8], tunnel: UdpTunnel, offset: usize, stack: &mut Stack) -> Place {
    let Some(length) = at::<2>(packet, offset + 4) else {
        return Place::new(TRUNCATED, packet.len());
    };
    let end = match usize::from(u16::from_be_bytes(*length)) {
        // Jumbograms, and segmentation offload.
        0 => packet.len(),
        length if length < UDP_BYTES => return Place::new(TRUNCATED, packet.len()),
        length => packet.len().min(offset + length),
    };
    let (packet, offset) = (&packet[..end], offset + UDP_BYTES);
    match tunnel {
        UdpTunnel::Vxlan => Place::new(vxlan(packet, offset, stack), end),
        UdpTunnel::Geneve => Place::new(geneve(packet, offset, stack), end),
        UdpTunnel::Gtpu => gtpu(packet, offset, stack),
    }
}

#[inline(always)]
fn vxlan(packet: &[u8], offset: usize, stack: &mut Stack) -> Next {
    let Some(header) = at::<VXLAN_BYTES>(packet, offset) else {
        return TRUNCATED;
    };
    if header[0] & VXLAN_I == 0 {
        return WHOLE;
    }
    let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    let next = Next::start(Link::Ethernet, offset + VXLAN_BYTES);
    next.behind(stack.push(LayerKind::Vxlan, offset, Some(vni), packet.len()))
}

#[inline(always)]
fn geneve(packet: &[u8], offset: usize, stack: &mut Stack) -> Next {
    let Some(header) = at::<GENEVE_BYTES>(packet, offset) else {
        return TRUNCATED;
    };
    if header[0] >> 6 != 0 {
        return WHOLE;
    }
    let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    let behind = offset + GENEVE_BYTES + usize::from(header[0] & 0x3f) * 4;
    if behind > packet.len() {
        return TRUNCATED;
    }
    let next = match u16::from_be_bytes([header[2], header[3]]) {
        super::link::ETHER_BRIDGED => Next::start(Link::Ethernet, behind),
        proto => Next::new(Header::EtherType, proto, behind),
    };
    next.behind(stack.push(LayerKind::Geneve, offset, Some(vni), packet.len()))
}

#[inline(always)]
fn gtpu(packet: &[u8], offset: usize, stack: &mut Stack) -> Place {
    let Some(header) = at::<GTPU_BYTES>(packet, offset) else {
        return Place::new(TRUNCATED, packet.len());
    };
    let [flags, kind, l0, l1, t0, t1, t2, t3] = *header;
    if flags & 0xf0 != GTPU_VERSION || kind != GTPU_G_PDU {
        return Place::new(WHOLE, packet.len());
    }
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let end = packet.len().min(offset + GTPU_BYTES + length);
    let packet = &packet[..end];
    let Some(behind) = gtpu_payload(packet, flags, offset + GTPU_BYTES) else {
        return Place::new(TRUNCATED, end);
    };
    let next = Next::ip_by_nibble(packet, behind);
    let teid = u32::from_be_bytes([t0, t1, t2, t3]);
    let noted = stack.push(LayerKind::Gtpu, offset, Some(teid), end);
    Place::new(next.behind(noted), end)
}

/// Where the user's packet begins, behind the optional fields and extension headers.
#[inline(always)]
fn gtpu_payload(packet: &[u8], flags: u8, optional_at: usize) -> Option<usize> {
    if flags & GTPU_OPTIONAL == 0 {
        return Some(optional_at);
    }
    let optional = at::<4>(packet, optional_at)?;
    let mut behind = optional_at + 4;
    let mut extension = optional[3];
    if flags & GTPU_EXTENSION == 0 {
        return Some(behind);
    }
    for _ in 0..GTPU_EXTENSIONS_MAX {
        if extension == 0 {
            return Some(behind);
        }
        let bytes = usize::from(at::<1>(packet, behind)?[0]) * 4;
        if bytes == 0 {
            return None;
        }
        behind += bytes;
        extension = at::<1>(packet, behind - 1)?[0];
    }
    None
}
