//! What holds for every rule and every packet.

mod strategies;

use mvmp_policy::{Classifier, Packets, Rule};
use mvmp_wire::packet::{Headers, LayerSet, Link, Stack, TunnelPorts, View, parse, walk_stack};
use proptest::collection::vec;
use proptest::prelude::*;

use strategies::{expr, jump, labelled, packet, primitive};

/// The expression's text, read as a rule.
fn rule(expr: &impl ToString) -> Rule {
    Rule::parse(&expr.to_string()).expect("what is printed can be read")
}

/// Packets with all that a worker finds out about them.
struct Burst<'a> {
    received: Vec<&'a [u8]>,
    outer: Vec<Headers>,
    stacks: Vec<Stack>,
    delivered: Vec<&'a [u8]>,
    headers: Vec<Headers>,
}

impl<'a> Burst<'a> {
    fn new(packets: &'a [(Vec<u8>, Link)], jump: LayerSet) -> Self {
        let ports = TunnelPorts::default();
        let stack = |(frame, link): &(Vec<u8>, Link)| {
            let mut stack = Stack::default();
            walk_stack(frame, *link, &ports, &mut stack);
            stack
        };
        let stacks: Vec<Stack> = packets.iter().map(stack).collect();
        let views: Vec<View> = stacks.iter().map(|stack| stack.view(jump)).collect();
        let seen = views.iter().zip(packets);
        let delivered: Vec<&[u8]> = seen.map(|(view, (frame, _))| view.of(frame)).collect();
        Self {
            received: packets.iter().map(|(frame, _)| frame.as_slice()).collect(),
            outer: packets
                .iter()
                .map(|(frame, link)| parse(frame, *link))
                .collect(),
            headers: views
                .iter()
                .zip(&delivered)
                .map(|(view, frame)| parse(frame, view.link))
                .collect(),
            stacks,
            delivered,
        }
    }

    fn of<T>(&self, ask: impl FnOnce(Packets<'_>) -> T) -> T {
        ask(Packets {
            headers: &self.headers,
            frames: &self.delivered,
            outer: &self.outer,
            outer_frames: &self.received,
            stacks: &self.stacks,
            wire_lengths: &[],
        })
    }
}

fn words() -> impl Strategy<Value = String> {
    let word = proptest::sample::select(vec![
        "all",
        "none",
        "ip",
        "ip6",
        "arp",
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
        "vlan",
        "ether",
        "proto",
        "and",
        "or",
        "not",
        "(",
        ")",
        "&&",
        "||",
        "!",
        "80",
        "443",
        "http",
        "10.0.0.1",
        "10.0.0.0/8",
        "2001:db8::/32",
        "mask",
        "255.0.0.0",
        "80-90",
        "2:0:0:0:0:1",
        "vxlan",
        "vni",
        "gre",
        "outer(",
        "outer",
        "{",
        "}",
        ",",
        "flags",
        "syn",
        "icmp",
        "type",
        "code",
        "length",
        ">",
        "!=",
        "frag",
        "10.0.0.1-10.0.0.9",
        "pcap:",
        "match:",
        "\\tcp",
        "é",
    ]);
    vec(word, 0..12).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_compiled_matcher_says_what_the_naive_one_says(
        expr in expr(),
        packets in vec(packet(), 1..=64),
        jump in jump(),
    ) {
        let rule = rule(&expr);
        let matcher = rule.compile();
        let burst = Burst::new(&packets, jump);
        let mask = burst.of(|packets| matcher.match_packets(&packets));
        for (i, (frame, link)) in packets.iter().enumerate() {
            let naive = rule.naive_matches(frame, *link, jump);
            prop_assert_eq!(mask >> i & 1 == 1, naive, "{} on {:02x?}, {:?} without {:?}", rule, frame, link, jump);
        }
        prop_assert_eq!(mask.checked_shr(packets.len() as u32).unwrap_or(0), 0, "no packet, no bit");
        prop_assert!(!matcher.is_all() || mask.count_ones() as usize == packets.len());
        prop_assert!(!matcher.is_none() || mask == 0);
    }

    #[test]
    fn what_follows_the_last_label_is_what_the_naive_matcher_takes_it_for(packets in vec(labelled(), 64)) {
        // Delivered as received; as IP; as Ethernet that carries IP.
        for text in ["ether dst 2:0:0:0:0:1", "ip", "ip6", "net 10.0.0.0/24", "ip6 proto 17", "arp", "vlan"] {
            let rule = Rule::parse(text).expect("a rule");
            let mask = Burst::new(&packets, LayerSet::MPLS).of(|packets| rule.compile().match_packets(&packets));
            for (i, (frame, link)) in packets.iter().enumerate() {
                let naive = rule.naive_matches(frame, *link, LayerSet::MPLS);
                prop_assert_eq!(mask >> i & 1 == 1, naive, "{} on {:02x?}", text, frame);
            }
        }
    }

    #[test]
    fn each_primitive_alone_says_what_the_naive_matcher_says(
        primitive in primitive(),
        packets in vec(packet(), 64),
    ) {
        let rule = rule(&primitive);
        let matcher = rule.compile();
        for (frame, link) in &packets {
            let found = matcher.matches(&parse(frame, *link), frame);
            let naive = rule.naive_matches(frame, *link, LayerSet::default());
            prop_assert_eq!(found, naive, "{} on {:02x?}", rule, frame);
        }
    }

    #[test]
    fn a_classifier_says_what_each_of_its_rules_says(
        exprs in vec(expr(), 1..=12),
        repeat in 1..4usize,
        packets in vec(packet(), 1..=64),
        jump in jump(),
    ) {
        // More than one cell has the same rule, and one cell has several.
        let mut rules: Vec<_> = (0..repeat).flat_map(|_| exprs.iter().map(rule)).collect();
        let together: Vec<_> = exprs.iter().map(|expr| format!("({expr})")).collect();
        rules.push(rule(&together.join(" or ")));
        let classifier = Classifier::new(&rules.iter().collect::<Vec<_>>());
        let burst = Burst::new(&packets, jump);
        let mut cells = [u64::MAX; 64];
        burst.of(|packets| classifier.classify(&packets, &mut cells));
        for (cell, rule) in rules.iter().enumerate() {
            let mask = burst.of(|packets| rule.compile().match_packets(&packets));
            for (i, packet) in packets.iter().enumerate() {
                let wanted = cells[cell] >> i & 1;
                prop_assert_eq!(wanted, mask >> i & 1, "{} on {:02x?}", rule, packet);
            }
            prop_assert_eq!(cells[cell], mask, "no packet, no bit");
        }
        let beyond = cells[rules.len()..].iter().fold(0, |all, bits| all | bits);
        prop_assert_eq!(beyond, 0, "no cell, no bit");
    }

    #[test]
    fn a_thousand_alternatives_are_found_as_one_by_one(
        primitives in vec((primitive(), primitive(), 0..3u8), 48..200),
        packets in vec(packet(), 1..=64),
        jump in jump(),
    ) {
        let cells = 16;
        let mut texts = vec![String::from("none"); cells];
        for (i, (one, other, how)) in primitives.iter().enumerate() {
            let more = match how {
                0 => format!(" or {one}"),
                1 => format!(" or {one} and {other}"),
                _ => format!(" or {one} and not {other}"),
            };
            texts[i % cells].push_str(&more);
        }
        let rules: Vec<_> = texts.iter().map(rule).collect();
        let classifier = Classifier::new(&rules.iter().collect::<Vec<_>>());
        let burst = Burst::new(&packets, jump);
        let mut found = [0; 64];
        burst.of(|packets| classifier.classify(&packets, &mut found));
        for (cell, rule) in rules.iter().enumerate() {
            let mask = burst.of(|packets| rule.compile().match_packets(&packets));
            for (i, packet) in packets.iter().enumerate() {
                prop_assert_eq!(found[cell] >> i & 1, mask >> i & 1, "{} on {:02x?}", rule, packet);
            }
        }
    }

    #[test]
    fn a_printed_rule_reads_back_as_itself(expr in expr()) {
        let rule = rule(&expr);
        prop_assert_eq!(rule.expr(), Some(&expr));
        prop_assert_eq!(self::rule(&rule), rule);
    }

    #[test]
    fn a_rule_that_is_read_prints_and_reads_back(text in words()) {
        if let Ok(rule) = Rule::parse(&text) {
            prop_assert_eq!(&self::rule(&rule), &rule, "{}", text);
            prop_assert!(!rule.explain().tree.is_empty());
        }
    }

    #[test]
    fn no_text_panics_and_every_error_points_into_it(text in "\\PC{0,40}|[ -~\\n]{0,60}") {
        if let Err(error) = Rule::parse(&text) {
            let lines = text.matches('\n').count() as u32 + 1;
            prop_assert!((1..=lines).contains(&error.line), "{:?}", error);
            prop_assert!(error.column >= 1);
            prop_assert!(error.to_string().contains('^'));
        }
    }

    #[test]
    fn no_sequence_of_words_panics(text in words()) {
        if let Err(error) = Rule::parse(&text) {
            prop_assert!(error.column as usize <= text.chars().count() + 1, "{error}");
        }
    }

    #[test]
    fn no_bytes_make_a_matcher_panic(expr in expr(), frame in vec(any::<u8>(), 0..100), other in vec(any::<u8>(), 0..100)) {
        let rule = rule(&expr);
        for link in [Link::Ethernet, Link::Ipv4, Link::Ipv6] {
            // Headers of another frame are a bug, but must not bring the worker down.
            let _ = rule.compile().matches(&parse(&frame, link), &other);
            let _ = rule.naive_matches(&frame, link, LayerSet::default());
        }
    }
}

#[test]
fn erspan_without_a_header_of_its_own_is_there_if_a_frame_is() {
    let rule = Rule::parse("erspan").expect("a word");
    for (carried, is_there) in [(0, false), (13, false), (14, true)] {
        let mut frame = vec![0; 24 + carried];
        frame[..4].copy_from_slice(&[0x45, 0, 0, 24 + carried as u8]);
        frame[9] = 47;
        frame[22..24].copy_from_slice(&[0x88, 0xbe]);
        let found = rule.compile().matches(&parse(&frame, Link::Ipv4), &frame);
        let naive = rule.naive_matches(&frame, Link::Ipv4, LayerSet::default());
        assert_eq!((found, naive), (is_there, is_there), "{carried} bytes");
    }
}
