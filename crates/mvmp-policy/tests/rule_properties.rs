//! What holds for every rule and every packet.

mod strategies;

use mvmp_policy::Rule;
use mvmp_wire::packet::{Link, parse};
use proptest::collection::vec;
use proptest::prelude::*;

use strategies::{expr, packet, primitive};

/// The expression's text, read as a rule.
fn rule(expr: &impl ToString) -> Rule {
    Rule::parse(&expr.to_string()).expect("what is printed can be read")
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
        "{",
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
    ) {
        let rule = rule(&expr);
        let matcher = rule.compile();
        let headers: Vec<_> = packets.iter().map(|(frame, link)| parse(frame, *link)).collect();
        let frames: Vec<_> = packets.iter().map(|(frame, _)| frame.as_slice()).collect();
        let mask = matcher.match_burst(&headers, &frames);
        for (i, (frame, link)) in packets.iter().enumerate() {
            let naive = rule.naive_matches(frame, *link);
            prop_assert_eq!(mask >> i & 1 == 1, naive, "{} on {:02x?}, {:?}", rule, frame, link);
            prop_assert_eq!(matcher.matches(&headers[i], frame), naive, "{}", rule);
        }
        prop_assert_eq!(mask.checked_shr(packets.len() as u32).unwrap_or(0), 0, "no packet, no bit");
        prop_assert!(!matcher.is_all() || mask.count_ones() as usize == packets.len());
        prop_assert!(!matcher.is_none() || mask == 0);
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
            prop_assert_eq!(found, rule.naive_matches(frame, *link), "{} on {:02x?}", rule, frame);
        }
    }

    #[test]
    fn a_printed_rule_reads_back_as_itself(expr in expr()) {
        let rule = rule(&expr);
        prop_assert_eq!(rule.expr(), &expr);
        prop_assert_eq!(self::rule(&rule), rule);
    }

    #[test]
    fn a_rule_that_is_read_prints_and_reads_back(text in words()) {
        if let Ok(rule) = Rule::parse(&text) {
            prop_assert_eq!(&self::rule(&rule), &rule, "{}", text);
            prop_assert!(!rule.explain().is_empty());
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
            let _ = rule.naive_matches(&frame, link);
        }
    }
}
