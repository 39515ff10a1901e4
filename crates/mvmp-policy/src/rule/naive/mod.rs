//! The oracle: what a rule means, as plainly as it can be said.
//!
//! The tests hold the compiled matcher to it. It reads the frame anew for each question, shares
//! no code with `mvmp_wire::packet` or the compiled form, and is slow.

mod layers;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mvmp_wire::packet::{LayerSet, Link};

use self::layers::What;
use super::ast::{Comparison, Direction, Expr, Family, LayerWord, Primitive, Protocol, Transport};

/// Whether `expr` holds for a frame of which the layers `jump` are jumped over.
pub(super) fn matches(expr: &Expr, frame: &[u8], link: Link, jump: LayerSet) -> bool {
    let (delivered, delivered_link) = layers::delivered(frame, link, jump);
    let received = Received { frame, link };
    holds(expr, delivered, delivered_link, &received)
}

/// The whole frame and what it begins with.
struct Received<'a> {
    frame: &'a [u8],
    link: Link,
}

fn holds(expr: &Expr, frame: &[u8], link: Link, received: &Received<'_>) -> bool {
    let part = |part: &Expr| holds(part, frame, link, received);
    match expr {
        Expr::All => true,
        Expr::None => false,
        Expr::Is(primitive) => asks(primitive, frame, link, received),
        Expr::Not(inner) => !part(inner),
        Expr::And(parts) => parts.iter().all(part),
        Expr::Or(parts) => parts.iter().any(part),
        Expr::Outer(inner) => holds(inner, received.frame, received.link, received),
    }
}

fn asks(primitive: &Primitive, frame: &[u8], link: Link, received: &Received<'_>) -> bool {
    let stack = Stack::of(frame, link);
    match *primitive {
        Primitive::Protocol(protocol) => stack.is(protocol),
        Primitive::IpProto { family, number } => {
            let right_version = match family {
                Some(Family::Ip) => stack.ip_version() == Some(4),
                Some(Family::Ip6) => stack.ip_version() == Some(6),
                _ => true,
            };
            right_version && stack.upper().is_some_and(|upper| upper.protocol == number)
        }
        Primitive::EtherProto(ether_type) => stack.ether_type == Some(ether_type),
        Primitive::EtherHost { direction, mac } => {
            let macs = (link == Link::Ethernet && frame.len() >= 14)
                .then(|| (&frame[6..12], &frame[0..6]));
            sides(direction, macs, |address| *address == mac)
        }
        Primitive::Layer { word, ids } => has_layer(received, word, ids),
        Primitive::Host {
            family,
            direction,
            address,
        } => sides(direction, stack.addresses(family), |found| {
            *found == address
        }),
        Primitive::HostRange {
            family,
            direction,
            low,
            high,
        } => sides(direction, stack.addresses(family), |found| {
            found.is_ipv4() == low.is_ipv4() && *found >= low && *found <= high
        }),
        Primitive::Net {
            family,
            direction,
            net,
        } => sides(direction, stack.addresses(family), |found| {
            within(*found, net.address, net.prefix)
        }),
        Primitive::Port {
            transport,
            direction,
            low,
            high,
        } => sides(direction, stack.ports(transport), |port| {
            (low..=high).contains(port)
        }),
        Primitive::TcpFlags { set, clear } => stack.tcp_flags().is_some_and(|flags| {
            (0..16).all(|bit| {
                let is = |word: u16| word >> bit & 1 == 1;
                (!is(set) || is(flags)) && (!is(clear) || !is(flags))
            })
        }),
        Primitive::Icmp { six, types, codes } => stack.icmp(six).is_some_and(|(kind, code)| {
            let right_code = codes.is_none_or(|(low, high)| code >= low && code <= high);
            kind >= types.0 && kind <= types.1 && right_code
        }),
        Primitive::Fragment => stack.upper().is_some_and(|upper| upper.fragment),
        Primitive::Length(comparison, bytes) => {
            let (length, bytes) = (received.frame.len(), bytes as usize);
            match comparison {
                Comparison::Less => length < bytes,
                Comparison::AtMost => length <= bytes,
                Comparison::Equal => length == bytes,
                Comparison::Unequal => length != bytes,
                Comparison::AtLeast => length >= bytes,
                Comparison::Greater => length > bytes,
            }
        }
    }
}

fn has_layer(received: &Received<'_>, word: LayerWord, ids: Option<(u32, u32)>) -> bool {
    let right_id = |id: Option<u32>| match ids {
        None => true,
        Some((low, high)) => id.is_some_and(|id| id >= low && id <= high),
    };
    layers::layers(received.frame, received.link)
        .iter()
        .any(|layer| match (layer.what, word) {
            (What::Word(LayerWord::Nvgre), LayerWord::Gre) => {
                right_id(layers::gre_key(received.frame, layer))
            }
            (What::Word(found), _) => found == word && right_id(layer.id),
            _ => false,
        })
}

fn sides<T>(direction: Direction, pair: Option<(T, T)>, asked: impl Fn(&T) -> bool) -> bool {
    let Some((src, dst)) = pair else {
        return false;
    };
    match direction {
        Direction::Either => asked(&src) || asked(&dst),
        Direction::Src => asked(&src),
        Direction::Dst => asked(&dst),
        Direction::Both => asked(&src) && asked(&dst),
    }
}

/// Compares the first `prefix` bits, one by one.
fn within(address: IpAddr, net: IpAddr, prefix: u8) -> bool {
    let bits = |address: IpAddr| -> Vec<bool> {
        let bytes = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        bytes
            .iter()
            .flat_map(|byte| (0..8).map(move |i| byte >> (7 - i) & 1 == 1))
            .collect()
    };
    let (address, net) = (bits(address), bits(net));
    address.len() == net.len() && (0..usize::from(prefix)).all(|i| address[i] == net[i])
}

/// A frame, taken apart as far as tags and EtherType.
struct Stack<'a> {
    ether_type: Option<u16>,
    network: &'a [u8],
}

struct Upper<'a> {
    protocol: u8,
    /// What follows the IP header; `None` in a later fragment.
    payload: Option<&'a [u8]>,
    fragment: bool,
    /// Where the packet ends, from its first byte.
    end: usize,
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from(bytes[at]) << 8 | u16::from(bytes[at + 1])
}

impl<'a> Stack<'a> {
    fn of(frame: &'a [u8], link: Link) -> Self {
        let frame = &frame[..frame.len().min(65_535)];
        let bare = |ether_type| Self {
            ether_type,
            network: frame,
        };
        match link {
            Link::Ipv4 => bare(Some(0x0800)),
            Link::Ipv6 => bare(Some(0x86dd)),
            Link::Ethernet if frame.len() < 14 => bare(None),
            Link::Ethernet => {
                let mut at = 12;
                while [0x8100, 0x88a8, 0x9100].contains(&word(frame, at)) && frame.len() >= at + 6 {
                    at += 4;
                }
                let ether_type = Some(word(frame, at)).filter(|number| *number >= 0x0600);
                Self {
                    ether_type,
                    network: &frame[at + 2..],
                }
            }
        }
    }

    fn is(&self, protocol: Protocol) -> bool {
        let over_ip = |number| self.upper().is_some_and(|upper| upper.protocol == number);
        match protocol {
            Protocol::Ip => self.ether_type == Some(0x0800),
            Protocol::Ip6 => self.ether_type == Some(0x86dd),
            Protocol::Arp => self.ether_type == Some(0x0806),
            Protocol::Tcp => over_ip(6),
            Protocol::Udp => over_ip(17),
            Protocol::Sctp => over_ip(132),
            Protocol::Icmp => over_ip(1) && self.ip_version() == Some(4),
            Protocol::Icmp6 => over_ip(58) && self.ip_version() == Some(6),
        }
    }

    /// The version of a whole IP header.
    fn ip_version(&self) -> Option<u8> {
        let ip = self.network;
        match self.ether_type? {
            0x0800 if ip.len() >= 20 && ip[0] >> 4 == 4 && ip[0] & 15 >= 5 => Some(4),
            0x86dd if ip.len() >= 40 && ip[0] >> 4 == 6 => Some(6),
            _ => None,
        }
    }

    fn addresses(&self, family: Option<Family>) -> Option<(IpAddr, IpAddr)> {
        let v4 = |at: usize| {
            let b = &self.network[at..at + 4];
            IpAddr::V4(Ipv4Addr::new(b[0], b[1], b[2], b[3]))
        };
        let v6 = |at: usize| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&self.network[at..at + 16]);
            IpAddr::V6(Ipv6Addr::from(bytes))
        };
        match self.ip_version() {
            Some(4) if matches!(family, None | Some(Family::Ip)) => Some((v4(12), v4(16))),
            Some(6) if matches!(family, None | Some(Family::Ip6)) => Some((v6(8), v6(24))),
            None if self.is_whole_arp() && matches!(family, None | Some(Family::Arp)) => {
                Some((v4(14), v4(24)))
            }
            _ => None,
        }
    }

    /// ARP for IPv4 over Ethernet.
    fn is_whole_arp(&self) -> bool {
        let arp = self.network;
        self.ether_type == Some(0x0806)
            && arp.len() >= 28
            && word(arp, 2) == 0x0800
            && (arp[4], arp[5]) == (6, 4)
    }

    fn ports(&self, transport: Option<Transport>) -> Option<(u16, u16)> {
        let upper = self.upper()?;
        let wanted = match transport {
            Some(Transport::Tcp) => upper.protocol == 6,
            Some(Transport::Udp) => upper.protocol == 17,
            Some(Transport::Sctp) => upper.protocol == 132,
            None => [6, 17, 132].contains(&upper.protocol),
        };
        let payload = upper.payload?;
        (wanted && payload.len() >= 4).then(|| (word(payload, 0), word(payload, 2)))
    }

    /// Of a TCP header that is whole.
    fn tcp_flags(&self) -> Option<u16> {
        let upper = self.upper().filter(|upper| upper.protocol == 6)?;
        let header = upper.payload?.get(..20)?;
        Some(word(header, 12) % 512)
    }

    /// Type and code of an ICMP header that is whole.
    fn icmp(&self, six: bool) -> Option<(u8, u8)> {
        let version = if six { 6 } else { 4 };
        let upper = self
            .upper()
            .filter(|_| self.ip_version() == Some(version))?;
        let right = upper.protocol == if six { 58 } else { 1 };
        let header = upper.payload?.get(..8).filter(|_| right)?;
        Some((header[0], header[1]))
    }

    fn upper(&self) -> Option<Upper<'a>> {
        match self.ip_version()? {
            4 => Some(upper4(self.network)),
            _ => Some(upper6(self.network)),
        }
    }
}

fn upper4(ip: &[u8]) -> Upper<'_> {
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(word(ip, 2));
    // A length that cannot be is not believed.
    let end = if total < header {
        ip.len()
    } else {
        total.min(ip.len())
    };
    let (more, offset) = (word(ip, 6) & 0x2000 != 0, word(ip, 6) & 0x1fff);
    let payload = if offset != 0 {
        None
    } else {
        ip[..end].get(header..)
    };
    Upper {
        protocol: ip[9],
        payload,
        fragment: more || offset != 0,
        end,
    }
}

fn upper6(ip: &[u8]) -> Upper<'_> {
    let length = usize::from(word(ip, 4));
    let end = if length == 0 {
        ip.len()
    } else {
        (40 + length).min(ip.len())
    };
    let (mut protocol, mut rest) = (ip[6], &ip[40..end]);
    let (mut fragment, mut later) = (false, false);
    for _ in 0..16 {
        if !matches!(protocol, 0 | 43 | 44 | 51 | 60) || rest.len() < 8 || later {
            break;
        }
        let bytes = match protocol {
            44 => 8,
            51 => 8 + 4 * usize::from(rest[1]),
            _ => 8 + 8 * usize::from(rest[1]),
        };
        if bytes > rest.len() {
            break;
        }
        if protocol == 44 {
            later = word(rest, 2) >> 3 != 0;
            // A fragment that is the whole is none (RFC 6946).
            fragment |= later || rest[3] & 1 == 1;
        }
        (protocol, rest) = (rest[0], &rest[bytes..]);
    }
    Upper {
        protocol,
        payload: (!later).then_some(rest),
        fragment,
        end,
    }
}
