//! A rule in plain words, with notes on what surprises people.
//!
//! `mvmp policy explain` and `Policy.explain()` print it.

use std::fmt::{Display, Formatter, Write};

use super::ast::{Direction, Expr, Family, LayerWord, Primitive, Protocol, Transport};
use super::matcher::{Matcher, Node};
use super::names;
use super::print::span;
use super::{Body, Rule, classifier, compile};

/// What a rule says, and what it costs. `Display` prints it, without a newline at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The rule as it was understood.
    pub canonical: String,
    /// The rule in plain words; each line is indented by two blanks for each level.
    pub tree: Vec<String>,
    /// Whether it is found by one look-up, however many rules there are.
    pub indexed: bool,
    /// What it costs per packet, in words.
    pub cost: String,
    /// What may surprise.
    pub notes: Vec<String>,
}

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.canonical)?;
        for line in &self.tree {
            write!(f, "\n{line}")?;
        }
        write!(f, "\ncost: {}", self.cost)?;
        for note in &self.notes {
            write!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}

pub(super) fn explain(rule: &Rule) -> Explanation {
    let matcher = rule.compile();
    let mut text = String::new();
    let (notes, indexed, cost) = match &rule.body {
        Body::Match(expr) => {
            tree(expr, 1, &mut text);
            let indexed = classifier::is_indexed(matcher.root());
            (
                notes(expr, &matcher),
                indexed,
                cost_in_words(matcher.root(), indexed),
            )
        }
        Body::Pcap(filter) => {
            text.push_str("  a libpcap filter, asked of the frame as received\n");
            let most = filter.instructions();
            let cost = format!(
                "not indexed: a program of {most} instructions for each packet, 10 to 100 ns"
            );
            (pcap_notes(rule.text()), false, cost)
        }
    };
    Explanation {
        canonical: rule.to_string(),
        tree: text.lines().map(String::from).collect(),
        indexed,
        cost,
        notes: notes.into_iter().map(String::from).collect(),
    }
}

fn cost_in_words(root: &Node, indexed: bool) -> String {
    match (root, compile::cost(root), indexed) {
        (Node::All | Node::None, _, _) => "nothing".into(),
        (_, _, true) => "indexed: found by one look-up, the same among a thousand rules; alone a few ns per packet".into(),
        (_, 0..=4, _) => "not indexed: asked of each packet, about 1 ns".into(),
        (_, 5..=40, _) => "not indexed: asked of each packet, 1 to 10 ns".into(),
        _ => "not indexed: asked of each packet, more than 10 ns".into(),
    }
}

/// libpcap reads one header stack at fixed offsets, which `vlan`, `mpls`, … shift for all words behind them.
fn pcap_notes(text: &str) -> Vec<&'static str> {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let has = |some: &[&str]| words.iter().any(|word| some.contains(word));
    let mut notes = vec!["asked of the frame as received, whatever `decap` and `strip` jump over"];
    let asks_ip = has(&[
        "ip",
        "ip6",
        "tcp",
        "udp",
        "icmp",
        "icmp6",
        "sctp",
        "host",
        "net",
        "port",
        "portrange",
        "src",
        "dst",
        "arp",
    ]);
    if asks_ip && !has(&["vlan", "mpls", "pppoes", "geneve"]) {
        notes.push("misses VLAN-tagged frames: libpcap looks for the EtherType behind the MAC addresses alone; without `pcap:` tags are skipped");
    }
    if has(&["vlan", "mpls", "pppoes", "geneve"]) {
        notes.push("`vlan`, `mpls`, `pppoes` and `geneve` shift the offsets of all words behind them, within `or` too: their order matters");
    }
    if has(&["port", "portrange"]) {
        notes.push(FRAGMENTS);
    }
    if has(&["or"]) && has(&["and"]) {
        notes.push("libpcap reads `and` and `or` from left to right with equal rank");
    }
    if has(&["protochain"]) {
        notes.push("`protochain` loops over the headers of each packet: slow");
    }
    notes
}

const FRAGMENTS: &str = "later fragments of an IP packet have no ports: no `port` matches them";

fn tree(expr: &Expr, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let (heading, parts): (String, &[Expr]) = match expr {
        Expr::All => ("every packet".into(), &[]),
        Expr::None => ("no packet".into(), &[]),
        Expr::Is(primitive) => (in_words(primitive), &[]),
        Expr::Not(inner) => ("not:".into(), std::slice::from_ref(inner)),
        Expr::And(parts) => ("all of:".into(), parts),
        Expr::Or(parts) => ("at least one of:".into(), parts),
        Expr::Outer(inner) => (
            "of the frame as received:".into(),
            std::slice::from_ref(inner),
        ),
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
        Primitive::Layer { word, ids } => layer_in_words(*word, ids.as_ref()),
        Primitive::HostRange {
            family,
            direction,
            low,
            high,
        } => {
            let usual = if low.is_ipv4() { "IPv4 or ARP" } else { "IPv6" };
            format!(
                "{} {} address from {low} to {high}",
                side(*direction),
                family_in_words(*family, usual)
            )
        }
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
        Primitive::TcpFlags { .. } => {
            let flags = last_word(primitive).replace('!', "not ").replace(',', ", ");
            format!("TCP with the flags {flags}")
        }
        Primitive::Icmp { six, types, codes } => {
            let name = if *six { "ICMPv6" } else { "ICMP" };
            let codes = codes.map_or(String::new(), |codes| format!(", code {}", span(&codes)));
            format!("{name} of type {}{codes}", span(types))
        }
        Primitive::Fragment => "a fragment of an IP packet, the first included".into(),
        Primitive::Length(comparison, bytes) => {
            format!("length on the wire {} {bytes} bytes", comparison.sign())
        }
    }
}

fn layer_in_words(word: LayerWord, ids: Option<&(u32, u32)>) -> String {
    let name = match word {
        LayerWord::Vlan => "a VLAN tag",
        LayerWord::Mpls => "an MPLS label",
        LayerWord::Pppoe => "a PPPoE session",
        LayerWord::Gre => "GRE",
        LayerWord::Nvgre => "NVGRE",
        LayerWord::Erspan => "ERSPAN",
        LayerWord::Vxlan => "VXLAN",
        LayerWord::Geneve => "GENEVE",
        LayerWord::Ipip => "IP in IP",
        LayerWord::Gtp => "GTP-U",
    };
    let id = match (ids, names::ids_of(word)) {
        (Some(ids), Some((id_word, _))) => format!(" with {id_word} {}", span(ids)),
        _ => String::new(),
    };
    format!("{name}{id}, anywhere in the stack")
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
        notes.push(FRAGMENTS);
    }
    if any(expr, &|part| {
        matches!(part, Expr::Is(Primitive::Layer { .. }))
    }) {
        notes.push("a header is looked for anywhere in the frame as received, in tunnels too, whatever is jumped over");
    }
    if any(expr, &|part| {
        matches!(part, Expr::Is(Primitive::Length(..)))
    }) {
        notes.push("the length is the one on the wire, as received, whatever is jumped over");
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
            Expr::Not(inner) | Expr::Outer(inner) => any(inner, wanted),
            Expr::And(parts) | Expr::Or(parts) => parts.iter().any(|part| any(part, wanted)),
            _ => false,
        }
}
