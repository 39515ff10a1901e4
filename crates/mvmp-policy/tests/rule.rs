//! The policy language by example: what is read, what is refused and in which words.

use mvmp_policy::{Rule, RuleError};
use mvmp_wire::packet::{LayerSet, Link, parse};

fn canonical(text: &str) -> String {
    match Rule::parse(text) {
        Ok(rule) => rule.to_string(),
        Err(error) => panic!("{text}\n{error}"),
    }
}

fn error(text: &str) -> RuleError {
    match Rule::parse(text) {
        Ok(rule) => panic!("{text} was read as {rule}"),
        Err(error) => error,
    }
}

/// Column, message and hint.
#[track_caller]
fn refuses(text: &str, column: u32, message: &str, hint: Option<&str>) {
    let error = error(text);
    assert_eq!((error.line, error.column), (1, column), "{error}");
    assert_eq!(error.message, message);
    assert_eq!(error.hint.as_deref(), hint);
}

#[test]
fn rules_are_read_as_tcpdump_reads_them() {
    for (text, meaning) in [
        ("all", "all"),
        ("  match: tcp ", "tcp"),
        ("match:none", "none"),
        ("tcp port http", "tcp port 80"),
        ("tcp src portrange 8000-8080", "tcp src portrange 8000-8080"),
        ("port 80 or 443", "port 80 or port 443"),
        (
            "tcp dst port 80 or 443 or udp",
            "tcp dst port 80 or tcp dst port 443 or udp",
        ),
        (
            "port (80 or 443) and host 10.0.0.1",
            "(port 80 or port 443) and host 10.0.0.1",
        ),
        ("port not (80 or 443)", "not (port 80 or port 443)"),
        (
            "host 10.0.0.1 and not 10.0.0.2",
            "host 10.0.0.1 and not host 10.0.0.2",
        ),
        ("src 10.0.0.1", "src host 10.0.0.1"),
        (
            "src or dst net 10/8".replace("10/8", "10.0.0.0/8").as_str(),
            "net 10.0.0.0/8",
        ),
        ("src and dst port 53", "src and dst port 53"),
        ("dst 10.0.0.0/8", "dst net 10.0.0.0/8"),
        ("net 10", "net 10.0.0.0/8"),
        ("net 192.168", "net 192.168.0.0/16"),
        ("net 10.0.0.0 mask 255.0.0.0", "net 10.0.0.0/8"),
        ("ip6 net 2001:db8::/32", "ip6 net 2001:db8::/32"),
        ("arp host 10.0.0.1", "arp host 10.0.0.1"),
        ("ether src 0:1:2:3:4:5", "ether src host 00:01:02:03:04:05"),
        ("ether proto lldp", "ether proto 0x88cc"),
        ("ether proto \\arp", "ether proto 0x0806"),
        ("ip proto \\tcp or 17", "ip proto 6 or ip proto 17"),
        ("proto gre", "proto 47"),
        ("vlan", "vlan"),
        ("vlan 42 or 43", "vlan 42 or vlan 43"),
        ("vlan and tcp", "vlan and tcp"),
        ("! tcp && ( udp || icmp )", "not tcp and (udp or icmp)"),
        ("not not tcp", "not not tcp"),
        ("tcp or udp and port 53", "tcp or udp and port 53"),
        ("(tcp or udp) and port 53", "(tcp or udp) and port 53"),
        (
            "a".replace('a', "tcp\n and\tport 80").as_str(),
            "tcp and port 80",
        ),
        (
            "portrange ftp-data-ssh"
                .replace("ftp-data-ssh", "20-22")
                .as_str(),
            "portrange 20-22",
        ),
    ] {
        assert_eq!(canonical(text), meaning, "{text}");
    }
}

#[test]
fn and_binds_tighter_than_or() {
    assert_eq!(
        Rule::parse("tcp or udp and port 53"),
        Rule::parse("tcp or (udp and port 53)")
    );
    assert_ne!(
        Rule::parse("tcp or udp and port 53"),
        Rule::parse("(tcp or udp) and port 53")
    );
}

#[test]
fn mistyped_words_are_suggested() {
    refuses(
        "tpc port 80",
        1,
        "`tpc` is an unknown word",
        Some("did you mean `tcp`?"),
    );
    refuses(
        "TCP",
        1,
        "`TCP` is an unknown word",
        Some("did you mean `tcp`?"),
    );
    refuses(
        "tcp prot 80",
        5,
        "`prot` cannot stand behind `tcp`",
        Some("did you mean `port`?"),
    );
    refuses(
        "port htttp",
        6,
        "`htttp` is not a known port",
        Some("did you mean `http`?"),
    );
    refuses(
        "ether proto vlan",
        13,
        "`vlan` is not a known EtherType",
        Some("write `vlan`"),
    );
    refuses(
        "ether proto tcp",
        13,
        "`tcp` is not a known EtherType",
        Some("write `tcp`"),
    );
    refuses(
        "proto less 9",
        7,
        "`less` is not a known IP protocol",
        Some("write it as a number"),
    );
    refuses(
        "tcp port 80 nad udp",
        13,
        "expected `and`, `or` or the end after `80`, found `nad`",
        Some("did you mean `and`?"),
    );
    refuses(
        "port 80 or tpc",
        12,
        "`tpc` is not a known port",
        Some("did you mean `tcp`?"),
    );
}

#[test]
fn missing_words_are_suggested() {
    refuses(
        "tcp 80",
        5,
        "`80` cannot stand behind `tcp`",
        Some("did you mean `tcp port 80`?"),
    );
    refuses(
        "udp dns",
        5,
        "`dns` cannot stand behind `udp`",
        Some("did you mean `udp port dns`?"),
    );
    refuses(
        "tcp 80-90",
        5,
        "`80-90` cannot stand behind `tcp`",
        Some("did you mean `tcp portrange 80-90`?"),
    );
    refuses(
        "ip 10.0.0.1",
        4,
        "`10.0.0.1` cannot stand behind `ip`",
        Some("did you mean `ip host 10.0.0.1`?"),
    );
    refuses(
        "tcp 10.0.0.0/8",
        5,
        "`10.0.0.0/8` cannot stand behind `tcp`",
        Some("did you mean `tcp and net 10.0.0.0/8`?"),
    );
    refuses(
        "80",
        1,
        "`80` is a number alone",
        Some("did you mean `port 80`?"),
    );
    refuses(
        "10.0.0.0/8",
        1,
        "`10.0.0.0/8` is a network alone",
        Some("did you mean `net 10.0.0.0/8`?"),
    );
    refuses(
        "2:0:0:0:0:1",
        1,
        "`2:0:0:0:0:1` is a MAC address alone",
        Some("did you mean `ether host 2:0:0:0:0:1`?"),
    );
    refuses(
        "https",
        1,
        "`https` is an unknown word",
        Some("did you mean `port https`?"),
    );
    refuses(
        "host 10.0.0.1 port 80",
        15,
        "expected `and`, `or` or the end after `10.0.0.1`, found `port`",
        Some("write `and` or `or` between two conditions"),
    );
}

#[test]
fn networks_that_are_none_are_told_what_they_would_be() {
    refuses(
        "net 192.168.0.0/8",
        5,
        "192.168.0.0/8 is not a network: bits are set behind the prefix",
        Some("the network is 192.0.0.0/8; the one address is `host 192.168.0.0`"),
    );
    refuses(
        "net 10.0.0.0",
        5,
        "`net 10.0.0.0` does not say how long the prefix is",
        Some("write `net 10.0.0.0/24`, or `host 10.0.0.0` for the one address"),
    );
    refuses(
        "net 10.0.0.0/33",
        5,
        "`/33` is not a prefix length: it goes from 0 to 32",
        None,
    );
    refuses(
        "net 10.0.0.0/255.0.0.0",
        5,
        "`/255.0.0.0` is a mask, not a prefix length",
        Some("write `net 10.0.0.0/8`"),
    );
    refuses(
        "net 10.0.0.0 mask 255.0.255.0",
        5,
        "255.0.255.0 is not a mask: its ones have gaps",
        None,
    );
    refuses(
        "host 10.0.0.0/8",
        6,
        "`10.0.0.0/8` is not an IP address",
        Some("a network is `net 10.0.0.0/8`"),
    );
}

#[test]
fn values_out_of_range_are_refused() {
    refuses(
        "port 65536",
        6,
        "65536 is not a port: it goes from 0 to 65535",
        None,
    );
    refuses(
        "vlan 4096",
        6,
        "4096 is not a VLAN id: it goes from 0 to 4095",
        None,
    );
    refuses(
        "proto 256",
        7,
        "256 is not a IP protocol: it goes from 0 to 255"
            .replace("a IP", "an IP")
            .as_str(),
        None,
    );
    refuses(
        "portrange 90-80",
        11,
        "the range 90-80 is empty",
        Some("did you mean `80-90`?"),
    );
    refuses(
        "port 80-90",
        6,
        "`80-90` is not a known port",
        Some("several in a row are `portrange 80-90`"),
    );
    refuses(
        "ether proto 0800",
        13,
        "800 (0x0320) is not an EtherType: they begin at 0x0600",
        Some("did you mean `0x0800`?"),
    );
    refuses(
        "ether proto 0x8100",
        13,
        "0x8100 is a VLAN tag, and `ether proto` asks behind all tags",
        Some("write `vlan`"),
    );
    refuses(
        "host example.org",
        6,
        "`example.org` is not an IP address",
        Some("write it in numbers: names are not resolved"),
    );
    refuses(
        "ether host 10.0.0.1",
        12,
        "`10.0.0.1` is not a MAC address",
        Some("an IP address is `host 10.0.0.1`"),
    );
}

#[test]
fn qualifiers_that_cannot_match_are_refused() {
    refuses(
        "ip host ::1",
        9,
        "::1 is an IPv6 address, which `ip` cannot have",
        Some("write `ip6`, or leave `ip` away"),
    );
    refuses(
        "tcp host 10.0.0.1",
        1,
        "`tcp` does not qualify an address",
        Some("write `tcp and host …`"),
    );
    refuses(
        "ip port 80",
        1,
        "`ip` does not qualify a port",
        Some("write `ip and port …`"),
    );
    refuses(
        "src proto 6",
        1,
        "a protocol has no source and destination",
        None,
    );
    refuses("src or src host 10.0.0.1", 8, "`src` twice", None);
}

#[test]
fn unfinished_rules_say_what_is_missing() {
    refuses(
        "",
        1,
        "the rule is empty",
        Some("write `all` to receive everything, `none` for nothing"),
    );
    refuses(
        "tcp and",
        8,
        "expected a condition after `and`, found the end of the rule",
        None,
    );
    refuses("(tcp", 1, "this `(` is never closed", None);
    refuses("tcp)", 4, "`)` without a `(` before it", None);
    refuses(
        "host",
        5,
        "expected an address after `host`, found the end of the rule",
        None,
    );
    refuses(
        "port and tcp",
        6,
        "expected a port after `port`, found `and`",
        None,
    );
    refuses(
        "host tcp",
        6,
        "expected an address after `host`, found `tcp`",
        None,
    );
    refuses("tcp & udp", 5, "a single `&`", Some("write `and` or `&&`"));
}

#[test]
fn an_error_shows_the_line_with_a_caret() {
    let error = error("tcp or\n  udp prt 53");
    assert_eq!(
        error.to_string(),
        "2:7: `prt` cannot stand behind `udp`\n    udp prt 53\n        ^\n  hint: did you mean `port`?"
    );
}

#[test]
fn nesting_and_length_are_bounded() {
    let deep = |n: usize| format!("{}tcp{}", "(".repeat(n), ")".repeat(n));
    assert!(Rule::parse(&deep(64)).is_ok());
    assert_eq!(
        error(&deep(65)).message,
        "`(` and `not` are nested more than 64 deep"
    );
    assert!(Rule::parse(&deep(30_000)).is_err());
    assert!(Rule::parse(&"not ".repeat(10_000)).is_err());
    let long = vec!["port 1"; 5_000].join(" or ");
    assert!(Rule::parse(&long).is_ok());
    assert!(
        error(&long.repeat(2))
            .message
            .starts_with("the rule is longer")
    );
}

/// Ethernet, optional tag, IPv4, then `upper`.
fn frame(vlan: Option<u16>, protocol: u8, fragment: u16, upper: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    if let Some(id) = vlan {
        frame.extend([0x81, 0x00]);
        frame.extend(id.to_be_bytes());
    }
    frame.extend([0x08, 0x00, 0x45, 0, 0, 20 + upper.len() as u8, 0, 0]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, protocol, 0, 0, 10, 0, 0, 1, 192, 0, 2, 7]);
    frame.extend(upper);
    frame
}

#[track_caller]
fn matches(text: &str, frame: &[u8]) -> bool {
    let rule = Rule::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let compiled = rule.compile().matches(&parse(frame, Link::Ethernet), frame);
    assert_eq!(
        compiled,
        rule.naive_matches(frame, Link::Ethernet, LayerSet::default()),
        "{text}"
    );
    compiled
}

const HTTP: [u8; 20] = [
    0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
];

#[test]
fn tags_are_skipped() {
    let tagged = frame(Some(42), 6, 0, &HTTP);
    for text in [
        "tcp port 80",
        "vlan",
        "vlan 42",
        "ip",
        "ether proto ip",
        "src net 10.0.0.0/8",
        "dst host 192.0.2.7",
    ] {
        assert!(matches(text, &tagged), "{text}");
    }
    for text in [
        "vlan 43",
        "udp port 80",
        "src port 80",
        "dst net 10.0.0.0/8",
        "ip6",
        "arp",
    ] {
        assert!(!matches(text, &tagged), "{text}");
    }
}

#[test]
fn the_inner_of_two_tags_is_found() {
    let mut inner = frame(Some(42), 6, 0, &HTTP);
    inner.splice(12..12, [0x88, 0xa8, 0, 7]);
    assert!(matches("vlan 42", &inner) && matches("vlan 7", &inner) && !matches("vlan 8", &inner));
}

#[test]
fn a_later_fragment_has_a_protocol_but_no_ports() {
    let first = frame(None, 6, 0x2000, &HTTP);
    let later = frame(None, 6, 7, &HTTP);
    assert!(matches("tcp port 80", &first) && matches("tcp", &later));
    assert!(!matches("port 80", &later) && matches("tcp and not port 80", &later));
}

#[test]
fn hosts_are_found_in_arp_unless_ip_is_asked_for() {
    let mut arp = vec![0xff; 6];
    arp.extend([
        2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1,
    ]);
    arp.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    for text in [
        "host 10.0.0.1",
        "src host 10.0.0.1",
        "dst 10.0.0.2",
        "arp net 10.0.0.0/8",
        "arp",
        "ether dst ff:ff:ff:ff:ff:ff",
    ] {
        assert!(matches(text, &arp), "{text}");
    }
    assert!(!matches("ip host 10.0.0.1", &arp) && !matches("dst host 10.0.0.1", &arp));
}

#[test]
fn ports_are_those_of_tcp_udp_and_sctp() {
    for protocol in [6, 17, 132] {
        assert!(matches("port 80", &frame(None, protocol, 0, &HTTP)));
    }
    assert!(!matches("port 80", &frame(None, 1, 0, &HTTP)));
}

#[test]
fn constants_are_folded() {
    let compiled = |text: &str| Rule::parse(text).map(|rule| rule.compile());
    assert!(compiled("all").is_ok_and(|m| m.is_all()));
    assert!(compiled("tcp or all").is_ok_and(|m| m.is_all()));
    assert!(compiled("not (tcp and none)").is_ok_and(|m| m.is_all()));
    assert!(compiled("tcp and none").is_ok_and(|m| m.is_none()));
    assert!(compiled("tcp").is_ok_and(|m| !m.is_all() && !m.is_none()));
}

#[test]
fn an_explanation_is_in_plain_words() {
    let rule = Rule::parse("tcp port 80 or vlan 42 and not arp").unwrap();
    assert_eq!(
        rule.explain().to_string(),
        "tcp port 80 or vlan 42 and not arp\n\
         \x20 at least one of:\n\
         \x20   source or destination TCP port 80\n\
         \x20   all of:\n\
         \x20     a VLAN tag with id 42, anywhere in the stack\n\
         \x20     not:\n\
         \x20       ARP packets\n\
         cost: indexed: found by one look-up, the same among a thousand rules; alone a few ns per packet\n\
         note: later fragments of an IP packet have no ports: no `port` matches them\n\
         note: a header is looked for anywhere in the frame as received, in tunnels too, whatever is jumped over\n\
         note: `and` binds tighter than `or` here; tcpdump reads both from left to right: use parentheses to be sure"
    );
}

#[test]
fn both_sides_are_asked_for_the_same_alternative() {
    let mixed = [&[0, 53, 0, 80][..], &HTTP[4..]].concat();
    let same = [&[0, 80, 0, 80][..], &HTTP[4..]].concat();
    let text = "src and dst port 53 or 80";
    assert!(
        !matches(text, &frame(None, 17, 0, &mixed)) && matches(text, &frame(None, 17, 0, &same))
    );
}

#[test]
fn a_tag_that_is_cut_short_is_no_tag() {
    let mut cut = frame(Some(42), 6, 0, &HTTP);
    cut.splice(12..12, [0x81, 0x00, 0, 7]);
    cut.truncate(21);
    assert!(matches("vlan 7", &cut) && !matches("vlan 42", &cut));
}

#[test]
fn an_address_that_looks_like_a_tag_is_no_tag() {
    let mut bare = frame(None, 6, 0, &HTTP).split_off(14);
    bare[12..16].copy_from_slice(&[0x81, 0x00, 0, 42]);
    let rule = Rule::parse("vlan 42").unwrap();
    assert!(!rule.compile().matches(&parse(&bare, Link::Ipv4), &bare));
    assert!(!rule.naive_matches(&bare, Link::Ipv4, LayerSet::default()));
    let rule = Rule::parse("src host 129.0.0.42 and tcp port 80").unwrap();
    assert!(rule.compile().matches(&parse(&bare, Link::Ipv4), &bare));
}
