//! From bytes to [`Headers`]: link layer, tags, and the fast path.
//!
//! The worker calls [`parse_into`] once per frame at reception, and once for what is in a tunnel, so
//! the shapes that nearly all traffic has are read at fixed places ([`super::common`]). All else
//! takes the walk over the layers below and in [`super::network`] and [`super::transport`].
//!
//! Invariants: no byte outside of `frame` is read, no input panics, and the fast path says of a
//! frame exactly what the walk says (a property test holds the two against each other).
//! A header that is cut short yields the fields that are there; only headers whose fixed part is
//! whole become layers, and only whole headers move `payload_offset`.

use super::common;
use super::network::{self, ETHER_IPV4, ETHER_IPV6};
use super::{Headers, Layer, LayerKind, Link};

pub(super) const ETHERNET_BYTES: usize = 14;
pub(super) const TAG_BYTES: usize = 4;
pub(super) const ETHER_ARP: u16 = 0x0806;
/// Below this an "EtherType" is the length of an 802.3 frame.
const ETHER_TYPE_FIRST: u16 = 0x0600;

/// Parses the headers of one frame. What lies beyond its first 65,535 bytes is not looked at.
#[inline]
pub fn parse(frame: &[u8], link: Link) -> Headers {
    let mut headers = Headers::default();
    parse_into(frame, link, &mut headers);
    headers
}

/// As [`parse`], into headers that are there already; cheaper where they are kept in an array,
/// because the fast paths write each field once, in place.
#[inline(always)]
pub fn parse_into(frame: &[u8], link: Link, headers: &mut Headers) {
    let parsed = link == Link::Ethernet
        && match common::ether_type_of_whole(frame) {
            Some(ETHER_IPV4) => common::plain_ipv4(frame, headers),
            Some(other) => plain_other(frame, other, headers),
            None => false,
        };
    if !parsed {
        parse_other(frame, link, headers);
    }
}

/// All but the most common shapes.
#[inline(never)]
fn parse_other(frame: &[u8], link: Link, headers: &mut Headers) {
    if !common::other(frame, link, headers) {
        *headers = walk(frame, link);
    }
}

/// Ethernet, without a tag, with IPv6 or with what we do not read: LLC, or an EtherType of others;
/// false, and nothing is written, for anything else.
#[inline(always)]
fn plain_other(frame: &[u8], ether_type: u16, headers: &mut Headers) -> bool {
    let ether_type = match ether_type {
        0..ETHER_TYPE_FIRST => 0,
        ETHER_IPV6 => return common::plain_ipv6(frame, headers),
        ETHER_IPV4 | ETHER_ARP => return false,
        tag if is_tag(tag) => return false,
        other => other,
    };
    // What lies beyond is cut off by the walk.
    let Ok(length) = u16::try_from(frame.len()) else {
        return false;
    };
    let ethernet = Layer::new(LayerKind::Ethernet, 0);
    *headers = Headers {
        layers: [ethernet, Layer(0), Layer(0), Layer(0)],
        ether_type,
        payload_offset: ETHERNET_BYTES as u16,
        payload_length: length - ETHERNET_BYTES as u16,
        ..Headers::default()
    };
    true
}

/// The general way, layer after layer.
#[inline(never)]
pub(super) fn walk(frame: &[u8], link: Link) -> Headers {
    let frame = &frame[..frame.len().min(usize::from(u16::MAX))];
    let mut walk = Walk {
        headers: Headers {
            link,
            ..Headers::default()
        },
        layers: 0,
        end: frame.len(),
    };
    match link {
        Link::Ethernet => ethernet(&mut walk, frame),
        Link::Ipv4 => {
            walk.headers.ether_type = ETHER_IPV4;
            network::ipv4(&mut walk, frame, 0);
        }
        Link::Ipv6 => {
            walk.headers.ether_type = ETHER_IPV6;
            network::ipv6(&mut walk, frame, 0);
        }
    }
    let length = walk
        .end
        .saturating_sub(usize::from(walk.headers.payload_offset));
    walk.headers.payload_length = length as u16;
    walk.headers
}

/// The state of one walk: what was found, how many layers, and where the packet ends.
pub(super) struct Walk {
    pub(super) headers: Headers,
    layers: usize,
    /// One past the last byte that belongs to the innermost length field, at most the frame's end.
    pub(super) end: usize,
}

impl Walk {
    /// Notes a layer whose fixed header is whole.
    pub(super) fn layer(&mut self, kind: LayerKind, offset: usize) {
        match self.headers.layers.get_mut(self.layers) {
            Some(layer) if offset <= usize::from(Layer::MAX_OFFSET) => {
                *layer = Layer::new(kind, offset as u16);
                self.layers += 1;
            }
            _ => {
                self.headers.more = true;
                // Layers are the *first* ones: after a gap nothing more is recorded.
                self.layers = self.headers.layers.len();
            }
        }
    }

    /// Notes that a whole header ends here. Offsets are below 65,536: `walk` cut the frame.
    pub(super) fn payload(&mut self, offset: usize) {
        self.headers.payload_offset = offset as u16;
    }
}

fn ethernet(walk: &mut Walk, frame: &[u8]) {
    let Some(header) = frame.first_chunk::<ETHERNET_BYTES>() else {
        return;
    };
    walk.layer(LayerKind::Ethernet, 0);
    let mut offset = ETHERNET_BYTES;
    let mut ether_type = u16::from_be_bytes([header[12], header[13]]);
    while is_tag(ether_type)
        && let Some(tag) = at::<TAG_BYTES>(frame, offset)
    {
        walk.layer(LayerKind::Vlan, offset);
        if walk.headers.vlan < 0 {
            walk.headers.vlan = (u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff) as i16;
        }
        ether_type = u16::from_be_bytes([tag[2], tag[3]]);
        offset += TAG_BYTES;
    }
    walk.payload(offset);
    if ether_type < ETHER_TYPE_FIRST {
        return;
    }
    walk.headers.ether_type = ether_type;
    match ether_type {
        ETHER_IPV4 => network::ipv4(walk, frame, offset),
        ETHER_IPV6 => network::ipv6(walk, frame, offset),
        ETHER_ARP => arp(walk, frame, offset),
        _ => {}
    }
}

pub(super) const fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, 0x8100 | 0x88a8 | 0x9100)
}

fn arp(walk: &mut Walk, frame: &[u8], offset: usize) {
    let Some(header) = at::<8>(frame, offset) else {
        return;
    };
    let end = offset + 8 + 2 * (usize::from(header[4]) + usize::from(header[5]));
    if end <= frame.len() {
        walk.layer(LayerKind::Arp, offset);
        walk.payload(end);
    }
}

/// `N` bytes from `offset` on, if the frame has them.
#[inline(always)]
pub(super) fn at<const N: usize>(frame: &[u8], offset: usize) -> Option<&[u8; N]> {
    frame.get(offset..offset + N)?.first_chunk::<N>()
}
