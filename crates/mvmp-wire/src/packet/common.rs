//! The common shapes, read at fixed places: TCP or UDP, whole and unfragmented, in IPv4 without
//! options or IPv6 without extension headers, bare or in Ethernet with at most one tag.
//!
//! Each shape is one function of how many bytes are before the IP header, so every offset is known
//! to the compiler, and TCP and UDP take the same instructions: traffic mixes them as it likes. A
//! shape says of a frame exactly what the walk of [`super::parse`] says, or nothing, and writes
//! nothing then; a property test holds the two against each other.

use super::network::{ETHER_IPV4, ETHER_IPV6, FRAGMENT_BITS};
use super::parse::{ETHERNET_BYTES, TAG_BYTES, at, is_tag};
use super::transport::{FLAG_BITS, TCP, UDP};
use super::{Headers, Layer, LayerKind, Link, hash};

/// Bytes before the IP header: none, Ethernet, Ethernet and a tag.
const BARE: usize = 0;
const PLAIN: usize = ETHERNET_BYTES;
const TAGGED: usize = ETHERNET_BYTES + TAG_BYTES;

const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const TCP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;

/// The EtherType of a frame in which the shortest of all, UDP in IPv4, would be whole.
#[inline(always)]
pub(super) fn ether_type_of_whole(frame: &[u8]) -> Option<u16> {
    let head = frame.first_chunk::<{ PLAIN + IPV4_BYTES + UDP_BYTES }>()?;
    Some(u16::from_be_bytes([head[PLAIN - 2], head[PLAIN - 1]]))
}

/// The most common one of all: IPv4 in Ethernet, without a tag; that is what the EtherType says.
#[inline(always)]
pub(super) fn plain_ipv4(frame: &[u8], headers: &mut Headers) -> bool {
    ipv4::<PLAIN>(frame, headers)
}

/// IPv6 in Ethernet, without a tag; that is what the EtherType says.
#[inline(never)]
pub(super) fn plain_ipv6(frame: &[u8], headers: &mut Headers) -> bool {
    ipv6::<PLAIN>(frame, headers)
}

/// IPv4 or IPv6 in Ethernet, without a tag.
#[inline(always)]
pub(super) fn plain(frame: &[u8], headers: &mut Headers) -> bool {
    match ether_type_of_whole(frame) {
        Some(ETHER_IPV4) => plain_ipv4(frame, headers),
        Some(ETHER_IPV6) => plain_ipv6(frame, headers),
        _ => false,
    }
}

/// Any other.
#[inline(always)]
pub(super) fn other(frame: &[u8], link: Link, headers: &mut Headers) -> bool {
    match link {
        Link::Ipv4 => ipv4::<BARE>(frame, headers),
        Link::Ipv6 => ipv6::<BARE>(frame, headers),
        Link::Ethernet => match ether_type(frame, PLAIN) {
            ETHER_IPV6 => plain_ipv6(frame, headers),
            tag if is_tag(tag) => match ether_type(frame, TAGGED) {
                ETHER_IPV4 => ipv4::<TAGGED>(frame, headers),
                ETHER_IPV6 => ipv6::<TAGGED>(frame, headers),
                _ => false,
            },
            _ => false,
        },
    }
}

/// The EtherType of what begins at `l3`; 0, which is none, if there is nothing.
#[inline(always)]
fn ether_type(frame: &[u8], l3: usize) -> u16 {
    at::<2>(frame, l3 - 2).map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

#[inline(always)]
fn ipv4<const L3: usize>(frame: &[u8], headers: &mut Headers) -> bool {
    let Some(head) = at::<{ IPV4_BYTES + UDP_BYTES }>(frame, L3) else {
        return false;
    };
    let number = |i: usize| u16::from_be_bytes([head[i], head[i + 1]]);
    let address = |i: usize| u32::from_be_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    let fragment = number(6) & FRAGMENT_BITS;
    if head[0] != 0x45 || fragment != 0 {
        return false;
    }
    let protocol = head[9];
    let total = usize::from(number(2));
    let Some(upper) = Upper::read(frame, L3 + IPV4_BYTES, L3 + total, protocol) else {
        return false;
    };
    let (src, dst) = (address(12), address(16));
    let ports = (number(IPV4_BYTES), number(IPV4_BYTES + 2));
    *headers = Headers {
        ether_type: ETHER_IPV4,
        ip_version: 4,
        src,
        dst,
        ..upper.headers::<L3>(frame, LayerKind::Ipv4, protocol, ports)
    };
    headers.flow_hash = hash::ipv4(src, dst, protocol, Some(ports));
    true
}

#[inline(always)]
fn ipv6<const L3: usize>(frame: &[u8], headers: &mut Headers) -> bool {
    let Some(head) = at::<{ IPV6_BYTES + UDP_BYTES }>(frame, L3) else {
        return false;
    };
    let number = |i: usize| u16::from_be_bytes([head[i], head[i + 1]]);
    let (protocol, length) = (head[6], usize::from(number(4)));
    if head[0] >> 4 != 6 {
        return false;
    }
    // The length 0 of a jumbogram leaves no room for a header here, and all to the walk.
    let l4 = L3 + IPV6_BYTES;
    let Some(upper) = Upper::read(frame, l4, l4 + length, protocol) else {
        return false;
    };
    let ports = (number(IPV6_BYTES), number(IPV6_BYTES + 2));
    *headers = Headers {
        ether_type: ETHER_IPV6,
        ip_version: 6,
        src: 0,
        dst: 0,
        flow_hash: hash::ipv6(&head[8..24], &head[24..40], protocol, Some(ports)),
        ..upper.headers::<L3>(frame, LayerKind::Ipv6, protocol, ports)
    };
    true
}

/// A whole TCP or UDP header, and the payload behind it.
struct Upper {
    kind: LayerKind,
    l4: usize,
    payload_offset: usize,
    payload_length: usize,
    tcp_flags: u16,
}

impl Upper {
    /// Reads it at `l4`, of a packet that says that it ends at `end`.
    #[inline(always)]
    fn read(frame: &[u8], l4: usize, end: usize, protocol: u8) -> Option<Self> {
        // What lies beyond is cut off by the walk.
        if frame.len() > usize::from(u16::MAX) {
            return None;
        }
        let end = end.min(frame.len());
        let (kind, bytes, tcp_flags) = match protocol {
            UDP => (LayerKind::Udp, UDP_BYTES, 0),
            TCP => {
                let word = u16::from_be_bytes(*at::<2>(frame, l4 + 12)?);
                let bytes = usize::from(word >> 12) * 4;
                if bytes < TCP_BYTES {
                    return None;
                }
                (LayerKind::Tcp, bytes, word & FLAG_BITS)
            }
            _ => return None,
        };
        let payload_offset = l4 + bytes;
        Some(Self {
            kind,
            l4,
            payload_offset,
            payload_length: end.checked_sub(payload_offset)?,
            tcp_flags,
        })
    }

    /// All that does not depend on the version of IP.
    #[inline(always)]
    fn headers<const L3: usize>(
        &self,
        frame: &[u8],
        ip: LayerKind,
        protocol: u8,
        (src_port, dst_port): (u16, u16),
    ) -> Headers {
        let ethernet = Layer::new(LayerKind::Ethernet, 0);
        let tag = Layer::new(LayerKind::Vlan, ETHERNET_BYTES as u16);
        let ip_layer = Layer::new(ip, L3 as u16);
        let l4_layer = Layer::new(self.kind, self.l4 as u16);
        let none = Layer(0);
        Headers {
            layers: match L3 {
                BARE => [ip_layer, l4_layer, none, none],
                PLAIN => [ethernet, ip_layer, l4_layer, none],
                _ => [ethernet, tag, ip_layer, l4_layer],
            },
            link: match (L3, ip) {
                (BARE, LayerKind::Ipv4) => Link::Ipv4,
                (BARE, _) => Link::Ipv6,
                _ => Link::Ethernet,
            },
            vlan: match L3 {
                TAGGED => at::<2>(frame, ETHERNET_BYTES)
                    .map_or(-1, |tci| (u16::from_be_bytes(*tci) & 0x0fff) as i16),
                _ => -1,
            },
            l3_offset: L3 as u16,
            l4_offset: self.l4 as u16,
            payload_offset: self.payload_offset as u16,
            payload_length: self.payload_length as u16,
            tcp_flags: self.tcp_flags,
            protocol: i16::from(protocol),
            src_port: i32::from(src_port),
            dst_port: i32::from(dst_port),
            ..Headers::default()
        }
    }
}
