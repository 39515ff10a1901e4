//! One compiled question, asked of one packet or of a column of them.
//!
//! Everything is answered from [`Headers`] but what they do not hold: IPv6 and MAC addresses,
//! ARP's addresses and ICMP types, which are read from the frame, and headers anywhere in the
//! stack ([`super::layers`]).

use std::sync::Arc;

use mvmp_wire::packet::{Headers, Link, NONE_OFFSET};

use super::ast::{Direction, LayerWord};
use super::layers::{self, Ids};
use super::packets::{Needs, Packets};
use super::pcap::Filter;

/// A question with its constants prepared.
#[derive(Clone, Debug)]
pub(super) enum Test {
    EtherType(u16),
    /// IP protocol; `version` 0 means both.
    Protocol {
        version: u8,
        number: i16,
    },
    /// Ports; `protocol` −1 means any that has ports.
    Port {
        protocol: i16,
        direction: Direction,
        low: i32,
        high: i32,
    },
    /// Many single ports at once, sorted.
    Ports {
        protocol: i16,
        direction: Direction,
        ports: Box<[i32]>,
    },
    Ip4 {
        direction: Direction,
        low: u32,
        high: u32,
    },
    Ip6 {
        direction: Direction,
        low: u128,
        high: u128,
    },
    Arp {
        direction: Direction,
        low: u32,
        high: u32,
    },
    Layer {
        word: LayerWord,
        ids: Ids,
    },
    Mac {
        direction: Direction,
        mac: [u8; 6],
    },
    TcpFlags {
        set: u16,
        clear: u16,
    },
    /// Of ICMP (`version` 4) or ICMPv6 (6).
    Icmp {
        version: u8,
        types: (u8, u8),
        codes: (u8, u8),
    },
    Fragment,
    /// Bytes on the wire.
    Length {
        low: u32,
        high: u32,
    },
    /// A libpcap filter, of the frame as received.
    Pcap(Arc<Filter>),
}

impl Test {
    /// Rough cost, by which the parts of `and` and `or` are ordered: the cheap ones first.
    pub(super) fn cost(&self) -> u32 {
        match self {
            Self::EtherType(_)
            | Self::Protocol { .. }
            | Self::Fragment
            | Self::Length { .. }
            | Self::TcpFlags { .. } => 1,
            Self::Ip4 { .. } | Self::Port { .. } => 2,
            Self::Ports { .. } => 4,
            Self::Mac { .. } | Self::Icmp { .. } => 8,
            Self::Ip6 { .. } | Self::Layer { .. } | Self::Arp { .. } => 10,
            Self::Pcap(_) => 20,
        }
    }

    pub(super) fn needs(&self) -> Needs {
        Needs {
            stack: matches!(self, Self::Layer { .. }),
            outer: matches!(self, Self::Pcap(_)),
            wire_length: matches!(self, Self::Length { .. } | Self::Pcap(_)),
        }
    }

    /// The packets of `live` for which the answer is yes.
    pub(super) fn select(&self, live: u64, packets: &Packets<'_>) -> u64 {
        let (headers, frames) = (packets.headers, packets.frames);
        match *self {
            Self::EtherType(wanted) => each(live, headers, |_, h| h.ether_type == wanted),
            Self::Protocol { version: 0, number } => {
                each(live, headers, |_, h| h.protocol == number)
            }
            Self::Protocol { version, number } => each(live, headers, |_, h| {
                (h.protocol == number) & (h.ip_version == version)
            }),
            Self::Port {
                protocol,
                direction,
                low,
                high,
            } => {
                let inside = move |port: i32| (port >= low) & (port <= high);
                select_ports(live, headers, protocol, direction, inside)
            }
            Self::Ports {
                protocol,
                direction,
                ref ports,
            } => {
                let inside = |port: i32| ports.binary_search(&port).is_ok();
                select_ports(live, headers, protocol, direction, inside)
            }
            Self::Ip4 {
                direction,
                low,
                high,
            } => sided(direction, live, headers, |_, h, side| {
                let address = side.of(h.src, h.dst);
                (h.ip_version == 4) & (address.wrapping_sub(low) <= high - low)
            }),
            Self::Ip6 {
                direction,
                low,
                high,
            } => sided(direction, live, headers, |i, h, side| {
                let address = address6(h, frames[i], side);
                address.is_some_and(|address| (low..=high).contains(&address))
            }),
            Self::Arp {
                direction,
                low,
                high,
            } => {
                // Few packets are ARP: only those are looked at twice.
                let arp = each(live, headers, |_, h| h.ether_type == ETHER_ARP);
                sided(direction, arp, headers, |i, h, side| {
                    let address = arp_address(h.link, frames[i], side);
                    address.is_some_and(|address| (low..=high).contains(&address))
                })
            }
            Self::Layer { word, ids } => {
                each(live, headers, |i, _| layers::has(packets, i, word, ids))
            }
            Self::Mac { direction, mac } => sided(direction, live, headers, |i, h, side| {
                mac_of(h, frames[i], side) == Some(mac)
            }),
            Self::TcpFlags { set, clear } => each(live, headers, |_, h| {
                let whole = (h.protocol == 6) & (h.l4_offset != NONE_OFFSET);
                whole & (h.tcp_flags & (set | clear) == set)
            }),
            Self::Icmp {
                version,
                types,
                codes,
            } => each(live, headers, |i, h| {
                let inside = |(low, high), value: u8| (low..=high).contains(&value);
                icmp(h, frames[i], version)
                    .is_some_and(|[kind, code]| inside(types, kind) && inside(codes, code))
            }),
            Self::Fragment => each(live, headers, |_, h| h.fragment),
            Self::Length { low, high } => each(live, headers, |i, _| {
                (low..=high).contains(&packets.wire_length(i))
            }),
            Self::Pcap(ref filter) => each(live, headers, |i, _| {
                let frame = packets.outer_frames[i];
                filter.matches(frame, packets.outer_link(i), packets.wire_length(i))
            }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Src,
    Dst,
}

impl Side {
    #[inline(always)]
    fn of<T>(self, src: T, dst: T) -> T {
        match self {
            Self::Src => src,
            Self::Dst => dst,
        }
    }
}

/// Asks one column a question: a branch-free pass where all packets are in question, else only those.
#[inline(always)]
fn each(live: u64, headers: &[Headers], question: impl Fn(usize, &Headers) -> bool) -> u64 {
    let mut yes = 0;
    if live.count_ones() as usize == headers.len() {
        for (i, header) in headers.iter().enumerate().take(64) {
            yes |= u64::from(question(i, header)) << i;
        }
        return yes;
    }
    let mut left = live;
    while left != 0 {
        let i = left.trailing_zeros() as usize;
        left &= left - 1;
        yes |= u64::from(question(i, &headers[i])) << i;
    }
    yes
}

/// Asks for the side or the sides that `direction` names, in one pass.
#[inline(always)]
fn sided(
    direction: Direction,
    live: u64,
    headers: &[Headers],
    ask: impl Fn(usize, &Headers, Side) -> bool,
) -> u64 {
    match direction {
        Direction::Src => each(live, headers, |i, h| ask(i, h, Side::Src)),
        Direction::Dst => each(live, headers, |i, h| ask(i, h, Side::Dst)),
        Direction::Either => each(live, headers, |i, h| {
            ask(i, h, Side::Src) | ask(i, h, Side::Dst)
        }),
        Direction::Both => each(live, headers, |i, h| {
            ask(i, h, Side::Src) & ask(i, h, Side::Dst)
        }),
    }
}

#[inline(always)]
fn select_ports(
    live: u64,
    headers: &[Headers],
    protocol: i16,
    direction: Direction,
    inside: impl Fn(i32) -> bool,
) -> u64 {
    sided(direction, live, headers, |_, h, side| {
        ((protocol < 0) | (h.protocol == protocol)) & inside(side.of(h.src_port, h.dst_port))
    })
}

pub(super) fn address6(headers: &Headers, frame: &[u8], side: Side) -> Option<u128> {
    let bytes = match side {
        Side::Src => headers.src6(frame),
        Side::Dst => headers.dst6(frame),
    };
    bytes.map(u128::from_be_bytes)
}

pub(super) fn mac_of(headers: &Headers, frame: &[u8], side: Side) -> Option<[u8; 6]> {
    if headers.link != Link::Ethernet {
        return None;
    }
    let header = frame.first_chunk::<ETHERNET_BYTES>()?;
    let bytes = match side {
        Side::Src => &header[6..12],
        Side::Dst => &header[0..6],
    };
    bytes.try_into().ok()
}

const ETHERNET_BYTES: usize = 14;
pub(super) const ETHER_ARP: u16 = 0x0806;

/// Where the header behind the VLAN tags of an Ethernet frame begins.
fn behind_tags(frame: &[u8]) -> usize {
    let mut offset = ETHERNET_BYTES;
    // The whole tag has to be there, as in `mvmp_wire::packet::parse`.
    while let Some(bytes) = frame.get(offset - 2..offset + 4)
        && matches!(
            [bytes[0], bytes[1]],
            [0x81, 0x00] | [0x88, 0xa8] | [0x91, 0x00]
        )
    {
        offset += 4;
    }
    offset
}

/// Type and code of an ICMP header that is whole.
fn icmp(headers: &Headers, frame: &[u8], version: u8) -> Option<[u8; 2]> {
    let protocol = if version == 4 { 1 } else { 58 };
    if headers.ip_version != version
        || headers.protocol != protocol
        || headers.l4_offset == NONE_OFFSET
    {
        return None;
    }
    frame
        .get(usize::from(headers.l4_offset)..)?
        .first_chunk::<2>()
        .copied()
}

/// The sender's or target's address in an ARP packet for IPv4 over Ethernet, all of it there.
pub(super) fn arp_address(link: Link, frame: &[u8], side: Side) -> Option<u32> {
    if link != Link::Ethernet {
        return None;
    }
    let packet = frame.get(behind_tags(frame)..)?.first_chunk::<28>()?;
    if packet[2..6] != [0x08, 0x00, 6, 4] {
        return None;
    }
    let at = if side == Side::Src { 14 } else { 24 };
    packet[at..at + 4].try_into().ok().map(u32::from_be_bytes)
}
