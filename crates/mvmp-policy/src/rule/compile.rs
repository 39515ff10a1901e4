//! From an expression to the form that workers evaluate.
//!
//! Constants are folded, ports in one `or` become one sorted set, cheap tests move to the front.
//! None of it changes what matches: tests have no side effects.

use std::net::IpAddr;

use super::ast::{Comparison, Direction, Expr, Family, Net, Primitive, Protocol, mask4, mask6};
use super::matcher::{Matcher, Node};
use super::test::Test;

pub(super) fn compile(expr: &Expr) -> Matcher {
    Matcher::new(node(expr))
}

fn node(expr: &Expr) -> Node {
    match expr {
        Expr::All => Node::All,
        Expr::None => Node::None,
        Expr::Is(primitive) => self::primitive(primitive),
        Expr::Not(inner) => not(node(inner)),
        Expr::And(parts) => and(parts.iter().map(node)),
        Expr::Or(parts) => or(merge_ports(parts.iter().map(node))),
        Expr::Outer(inner) => match node(inner) {
            constant @ (Node::All | Node::None) => constant,
            inner => Node::Outer(Box::new(inner)),
        },
    }
}

fn not(inner: Node) -> Node {
    match inner {
        Node::All => Node::None,
        Node::None => Node::All,
        Node::Not(twice) => *twice,
        other => Node::Not(Box::new(other)),
    }
}

fn and(parts: impl IntoIterator<Item = Node>) -> Node {
    let mut kept = Vec::new();
    for part in parts {
        match part {
            Node::None => return Node::None,
            Node::All => {}
            Node::And(inner) => kept.extend(inner),
            other => kept.push(other),
        }
    }
    list(kept, Node::And, Node::All)
}

pub(super) fn or(parts: impl IntoIterator<Item = Node>) -> Node {
    let mut kept = Vec::new();
    for part in parts {
        match part {
            Node::All => return Node::All,
            Node::None => {}
            Node::Or(inner) => kept.extend(inner),
            other => kept.push(other),
        }
    }
    list(kept, Node::Or, Node::None)
}

fn list(mut kept: Vec<Node>, join: fn(Box<[Node]>) -> Node, empty: Node) -> Node {
    match kept.len() {
        0 => empty,
        1 => kept.remove(0),
        _ => {
            kept.sort_by_cached_key(cost);
            join(kept.into_boxed_slice())
        }
    }
}

pub(super) fn cost(node: &Node) -> u32 {
    match node {
        Node::All | Node::None => 0,
        Node::Test(test) => test.cost(),
        Node::Not(inner) | Node::Outer(inner) => cost(inner),
        Node::And(parts) | Node::Or(parts) => parts.iter().map(cost).fold(0, u32::saturating_add),
    }
}

/// `port 80 or 443 or 8080` is one look-up in a sorted set instead of three passes.
fn merge_ports(parts: impl Iterator<Item = Node>) -> Vec<Node> {
    let mut kept = Vec::new();
    let mut sets: Vec<(i16, Direction, Vec<i32>)> = Vec::new();
    for part in parts {
        match part {
            // Distributes over "or" for one side and for either, not for both.
            Node::Test(Test::Port {
                protocol,
                direction,
                low,
                high,
            }) if low == high && direction != Direction::Both => {
                match sets
                    .iter_mut()
                    .find(|set| (set.0, set.1) == (protocol, direction))
                {
                    Some(set) => set.2.push(low),
                    None => sets.push((protocol, direction, vec![low])),
                }
            }
            other => kept.push(other),
        }
    }
    kept.extend(
        sets.into_iter()
            .map(|(protocol, direction, ports)| Node::Test(port_set(protocol, direction, ports))),
    );
    kept
}

fn port_set(protocol: i16, direction: Direction, mut ports: Vec<i32>) -> Test {
    ports.sort_unstable();
    ports.dedup();
    match *ports {
        [port] => Test::Port {
            protocol,
            direction,
            low: port,
            high: port,
        },
        _ => Test::Ports {
            protocol,
            direction,
            ports: ports.into(),
        },
    }
}

fn primitive(primitive: &Primitive) -> Node {
    match *primitive {
        Primitive::Protocol(protocol) => Node::Test(self::protocol(protocol)),
        Primitive::IpProto { family, number } => Node::Test(Test::Protocol {
            version: match family {
                Some(Family::Ip) => 4,
                Some(Family::Ip6) => 6,
                _ => 0,
            },
            number: i16::from(number),
        }),
        Primitive::EtherProto(ether_type) => Node::Test(Test::EtherType(ether_type)),
        Primitive::EtherHost { direction, mac } => Node::Test(Test::Mac { direction, mac }),
        Primitive::Layer { word, ids } => Node::Test(Test::Layer { word, ids }),
        Primitive::Host {
            family,
            direction,
            address,
        } => addresses(family, direction, address, address),
        Primitive::HostRange {
            family,
            direction,
            low,
            high,
        } => addresses(family, direction, low, high),
        Primitive::Net {
            family,
            direction,
            net,
        } => addresses(family, direction, net.address, last_of(net)),
        Primitive::Port {
            transport,
            direction,
            low,
            high,
        } => Node::Test(Test::Port {
            protocol: transport.map_or(-1, |transport| i16::from(transport.number())),
            direction,
            low: i32::from(low),
            high: i32::from(high),
        }),
        Primitive::TcpFlags { set, clear } => Node::Test(Test::TcpFlags { set, clear }),
        Primitive::Icmp { six, types, codes } => Node::Test(Test::Icmp {
            version: if six { 6 } else { 4 },
            types,
            codes: codes.unwrap_or((0, u8::MAX)),
        }),
        Primitive::Fragment => Node::Test(Test::Fragment),
        Primitive::Length(comparison, bytes) => length(comparison, bytes),
    }
}

fn length(comparison: Comparison, bytes: u32) -> Node {
    let between = |low, high| Node::Test(Test::Length { low, high });
    match comparison {
        Comparison::Equal => between(bytes, bytes),
        Comparison::Unequal => not(between(bytes, bytes)),
        Comparison::AtMost => between(0, bytes),
        Comparison::AtLeast => between(bytes, u32::MAX),
        Comparison::Less => bytes
            .checked_sub(1)
            .map_or(Node::None, |most| between(0, most)),
        Comparison::Greater => bytes
            .checked_add(1)
            .map_or(Node::None, |least| between(least, u32::MAX)),
    }
}

/// The last address of a network.
fn last_of(net: Net) -> IpAddr {
    match net.address {
        IpAddr::V4(first) => (u32::from(first) | !mask4(net.prefix)).to_be_bytes().into(),
        IpAddr::V6(first) => (u128::from(first) | !mask6(net.prefix))
            .to_be_bytes()
            .into(),
    }
}

fn protocol(protocol: Protocol) -> Test {
    match protocol {
        Protocol::Ip => Test::EtherType(0x0800),
        Protocol::Ip6 => Test::EtherType(0x86dd),
        Protocol::Arp => Test::EtherType(0x0806),
        Protocol::Tcp => Test::Protocol {
            version: 0,
            number: 6,
        },
        Protocol::Udp => Test::Protocol {
            version: 0,
            number: 17,
        },
        Protocol::Sctp => Test::Protocol {
            version: 0,
            number: 132,
        },
        Protocol::Icmp => Test::Protocol {
            version: 4,
            number: 1,
        },
        Protocol::Icmp6 => Test::Protocol {
            version: 6,
            number: 58,
        },
    }
}

/// Addresses of one IP version from `low` to `high`. Without a family, IPv4's are looked for in
/// IPv4 and in ARP, as tcpdump does.
fn addresses(family: Option<Family>, direction: Direction, low: IpAddr, high: IpAddr) -> Node {
    match (low, high) {
        (IpAddr::V4(low), IpAddr::V4(high)) => {
            let (low, high) = (u32::from(low), u32::from(high));
            let ip = Node::Test(Test::Ip4 {
                direction,
                low,
                high,
            });
            let arp = Node::Test(Test::Arp {
                direction,
                low,
                high,
            });
            match family {
                Some(Family::Ip) => ip,
                Some(Family::Arp) => arp,
                Some(Family::Ip6) => Node::None,
                None => or([ip, arp]),
            }
        }
        (IpAddr::V6(low), IpAddr::V6(high)) => match family {
            Some(Family::Ip | Family::Arp) => Node::None,
            _ => Node::Test(Test::Ip6 {
                direction,
                low: u128::from(low),
                high: u128::from(high),
            }),
        },
        // The parser makes no such range, and no address is in it.
        _ => Node::None,
    }
}
