//! A rule in plain words, with notes on what surprises people.
//!
//! `mvmp policy explain` and `Policy.explain()` print it.

use std::fmt::Write;

use super::ast::{Direction, Expr, Family, Primitive, Protocol, Transport};
use super::matcher::Matcher;

/// The whole explanation, several lines without a newline at the end.
pub(super) fn explain(expr: &Expr, matcher: &Matcher) -> String {
    let mut text = format!("{expr}\n");
    tree(expr, 1, &mut text);
    for note in notes(expr, matcher) {
        let _ = writeln!(text, "note: {note}");
    }
    text.truncate(text.trim_end().len());
    text
}

fn tree(expr: &Expr, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let (heading, parts): (String, &[Expr]) = match expr {
        Expr::All => ("every packet".into(), &[]),
        Expr::None => ("no packet".into(), &[]),
        Expr::Is(primitive) => (in_words(primitive), &[]),
        Expr::Not(inner) => ("not:".into(), std::slice::from_ref(inner)),
        Expr::And(parts) => ("all of:".into(), parts),
        Expr::Or(parts) => ("at least one of:".into(), parts),
    };
    let _ = writeln!(text, "{indent}{heading}");
    for part in parts {
        tree(part, depth + 1, text);
    }
}

fn in_words(primitive: &Primitive) -> String {
    match primitive {
        Primitive::Protocol(protocol) => format!("{} packets", protocol_in_words(*protocol)),
        Primitive::IpProto { family, number } => {
            format!(
                "{} packets of protocol {number}",
                family_in_words(*family, "IPv4 or IPv6")
            )
        }
        Primitive::EtherProto(ether_type) => format!("EtherType {ether_type:#06x} behind all tags"),
        Primitive::EtherHost { direction, .. } => {
            format!("{} MAC address {}", side(*direction), last_word(primitive))
        }
        Primitive::Vlan(None) => "a VLAN tag, anywhere in the stack".into(),
        Primitive::Vlan(Some(id)) => format!("a VLAN tag with id {id}, anywhere in the stack"),
        Primitive::Host {
            family,
            direction,
            address,
        } => {
            let usual = if address.is_ipv4() {
                "IPv4 or ARP"
            } else {
                "IPv6"
            };
            format!(
                "{} {} address {address}",
                side(*direction),
                family_in_words(*family, usual)
            )
        }
        Primitive::Net {
            family,
            direction,
            net,
        } => {
            let usual = if net.address.is_ipv4() {
                "IPv4 or ARP"
            } else {
                "IPv6"
            };
            format!(
                "{} {} address in {net}",
                side(*direction),
                family_in_words(*family, usual)
            )
        }
        Primitive::Port {
            transport,
            direction,
            low,
            high,
        } => {
            let transport = match transport {
                None => "TCP, UDP or SCTP",
                Some(Transport::Tcp) => "TCP",
                Some(Transport::Udp) => "UDP",
                Some(Transport::Sctp) => "SCTP",
            };
            let ports = if low == high {
                low.to_string()
            } else {
                format!("from {low} to {high}")
            };
            format!("{} {transport} port {ports}", side(*direction))
        }
    }
}

fn last_word(primitive: &Primitive) -> String {
    let text = primitive.to_string();
    text.rsplit(' ').next().unwrap_or_default().into()
}

fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Either => "source or destination",
        Direction::Src => "source",
        Direction::Dst => "destination",
        Direction::Both => "source and destination",
    }
}

fn family_in_words(family: Option<Family>, usual: &'static str) -> &'static str {
    match family {
        None => usual,
        Some(Family::Ip) => "IPv4",
        Some(Family::Ip6) => "IPv6",
        Some(Family::Arp) => "ARP",
    }
}

fn protocol_in_words(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Ip => "IPv4",
        Protocol::Ip6 => "IPv6",
        Protocol::Arp => "ARP",
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Icmp => "ICMP",
        Protocol::Icmp6 => "ICMPv6",
        Protocol::Sctp => "SCTP",
    }
}

fn notes(expr: &Expr, matcher: &Matcher) -> Vec<&'static str> {
    let mut notes = Vec::new();
    if any(expr, &|part| {
        matches!(part, Expr::Is(Primitive::Port { .. }))
    }) {
        notes.push("later fragments of an IP packet have no ports: no `port` matches them");
    }
    if any(expr, &mixes_and_with_or) {
        notes.push("`and` binds tighter than `or` here; tcpdump reads both from left to right: use parentheses to be sure");
    }
    let constant = matches!(expr, Expr::All | Expr::None);
    if !constant && matcher.is_none() {
        notes.push("no packet can match this");
    }
    if !constant && matcher.is_all() {
        notes.push("every packet matches this");
    }
    notes
}

fn mixes_and_with_or(expr: &Expr) -> bool {
    matches!(expr, Expr::Or(parts) if parts.iter().any(|part| matches!(part, Expr::And(_))))
}

fn any(expr: &Expr, wanted: &dyn Fn(&Expr) -> bool) -> bool {
    wanted(expr)
        || match expr {
            Expr::Not(inner) => any(inner, wanted),
            Expr::And(parts) | Expr::Or(parts) => parts.iter().any(|part| any(part, wanted)),
            _ => false,
        }
}
