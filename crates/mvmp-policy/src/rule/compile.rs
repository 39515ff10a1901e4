//! From an expression to the form that workers evaluate.
//!
//! Constants are folded, ports in one `or` become one sorted set, cheap tests move to the front.
//! None of it changes what matches: tests have no side effects.

use std::net::IpAddr;

use super::ast::{Direction, Expr, Family, Net, Primitive, Protocol, mask4, mask6};
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

fn or(parts: impl IntoIterator<Item = Node>) -> Node {
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

fn cost(node: &Node) -> u32 {
    match node {
        Node::All | Node::None => 0,
        Node::Test(test) => test.cost(),
        Node::Not(inner) => cost(inner),
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
        Primitive::Vlan(None) => Node::Test(Test::Vlan),
        Primitive::Vlan(Some(id)) => Node::Test(Test::VlanId(id)),
        Primitive::Host {
            family,
            direction,
            address,
        } => {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            net(family, direction, Net { address, prefix })
        }
        Primitive::Net {
            family,
            direction,
            net,
        } => self::net(family, direction, net),
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

/// Without a family, an IPv4 address is looked for in IPv4 and in ARP, as tcpdump does.
fn net(family: Option<Family>, direction: Direction, net: Net) -> Node {
    match net.address {
        IpAddr::V4(address) => {
            let (net, mask) = (u32::from(address), mask4(net.prefix));
            let ip = Node::Test(Test::Ip4 {
                direction,
                net,
                mask,
            });
            let arp = Node::Test(Test::Arp {
                direction,
                net,
                mask,
            });
            match family {
                Some(Family::Ip) => ip,
                Some(Family::Arp) => arp,
                Some(Family::Ip6) => Node::None,
                None => or([ip, arp]),
            }
        }
        IpAddr::V6(address) => match family {
            Some(Family::Ip | Family::Arp) => Node::None,
            _ => Node::Test(Test::Ip6 {
                direction,
                net: u128::from(address),
                mask: mask6(net.prefix),
            }),
        },
    }
}
