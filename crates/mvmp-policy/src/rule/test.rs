//! One compiled question, asked of one packet or of a column of them.
//!
//! Everything is answered from [`Headers`] but what they do not hold: IPv6 and MAC addresses,
//! inner VLAN tags and ARP's addresses, which are read from the frame.

use mvmp_wire::packet::{Headers, Link};

use super::ast::Direction;

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
        net: u32,
        mask: u32,
    },
    Ip6 {
        direction: Direction,
        net: u128,
        mask: u128,
    },
    Arp {
        direction: Direction,
        net: u32,
        mask: u32,
    },
    Vlan,
    VlanId(u16),
    Mac {
        direction: Direction,
        mac: [u8; 6],
    },
}

impl Test {
    /// Rough cost, by which the parts of `and` and `or` are ordered: the cheap ones first.
    pub(super) fn cost(&self) -> u32 {
        match self {
            Self::EtherType(_) | Self::Protocol { .. } | Self::Vlan => 1,
            Self::Ip4 { .. } | Self::Port { .. } => 2,
            Self::Ports { .. } => 4,
            Self::Mac { .. } => 8,
            Self::Ip6 { .. } | Self::VlanId(_) | Self::Arp { .. } => 10,
        }
    }

    /// The answer for one packet.
    pub(super) fn holds(&self, headers: &Headers, frame: &[u8]) -> bool {
        // One packet is a burst of one: so the two can never disagree.
        self.select(1, std::slice::from_ref(headers), &[frame]) == 1
    }

    /// The packets of `live` for which the answer is yes.
    pub(super) fn select(&self, live: u64, headers: &[Headers], frames: &[&[u8]]) -> u64 {
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
                net,
                mask,
            } => sided(direction, live, headers, |_, h, side| {
                let address = side.of(h.src, h.dst);
                (h.ip_version == 4) & (address & mask == net)
            }),
            Self::Ip6 {
                direction,
                net,
                mask,
            } => sided(direction, live, headers, |i, h, side| {
                let address = address6(h, frames[i], side);
                address.is_some_and(|address| address & mask == net)
            }),
            Self::Arp {
                direction,
                net,
                mask,
            } => {
                // Few packets are ARP: only those are looked at twice.
                let arp = each(live, headers, |_, h| h.ether_type == ETHER_ARP);
                sided(direction, arp, headers, |i, h, side| {
                    let address = arp_address(h.link, frames[i], side);
                    address.is_some_and(|address| address & mask == net)
                })
            }
            Self::Vlan => each(live, headers, |_, h| h.vlan >= 0),
            Self::VlanId(id) => each(live, headers, |i, h| h.vlan >= 0 && has_tag(frames[i], id)),
            Self::Mac { direction, mac } => sided(direction, live, headers, |i, h, side| {
                h.link == Link::Ethernet && mac_address(frames[i], side) == Some(mac)
            }),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
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

fn address6(headers: &Headers, frame: &[u8], side: Side) -> Option<u128> {
    let bytes = match side {
        Side::Src => headers.src6(frame),
        Side::Dst => headers.dst6(frame),
    };
    bytes.map(u128::from_be_bytes)
}

fn mac_address(frame: &[u8], side: Side) -> Option<[u8; 6]> {
    let header = frame.first_chunk::<ETHERNET_BYTES>()?;
    let bytes = match side {
        Side::Src => &header[6..12],
        Side::Dst => &header[0..6],
    };
    bytes.try_into().ok()
}

const ETHERNET_BYTES: usize = 14;
const ETHER_ARP: u16 = 0x0806;

/// The VLAN tags of an Ethernet frame, as TCIs, and where the header behind them begins.
fn tags(frame: &[u8]) -> Tags<'_> {
    Tags {
        frame,
        offset: ETHERNET_BYTES,
    }
}

struct Tags<'a> {
    frame: &'a [u8],
    offset: usize,
}

impl Iterator for Tags<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let word = |at: usize| -> Option<u16> {
            let bytes = self.frame.get(at..at + 2)?;
            Some(u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        let tpid = word(self.offset - 2)?;
        // The whole tag has to be there, as in `mvmp_wire::packet::parse`.
        word(self.offset + 2)?;
        if !matches!(tpid, 0x8100 | 0x88a8 | 0x9100) {
            return None;
        }
        let tci = word(self.offset)?;
        self.offset += 4;
        Some(tci)
    }
}

fn has_tag(frame: &[u8], id: u16) -> bool {
    tags(frame).any(|tci| tci & 0x0fff == id)
}

/// The sender's or target's address in an ARP packet for IPv4 over Ethernet, all of it there.
fn arp_address(link: Link, frame: &[u8], side: Side) -> Option<u32> {
    if link != Link::Ethernet {
        return None;
    }
    let mut tags = tags(frame);
    while tags.next().is_some() {}
    let packet = frame.get(tags.offset..)?.first_chunk::<28>()?;
    if packet[2..6] != [0x08, 0x00, 6, 4] {
        return None;
    }
    let at = if side == Side::Src { 14 } else { 24 };
    packet[at..at + 4].try_into().ok().map(u32::from_be_bytes)
}
