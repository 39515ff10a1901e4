//! The words for tunnels, flags, types, lengths and lists by example, and libpcap's dialect.

use mvmp_policy::rule::Needs;
use mvmp_policy::{Rule, RuleError};
use mvmp_wire::packet::{LayerSet, Link, parse};

#[track_caller]
fn reads(text: &str, meaning: &str) {
    let rule = Rule::parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    assert_eq!(rule.to_string(), meaning, "{text}");
}

#[track_caller]
fn refuses(text: &str, column: u32, message: &str, hint: Option<&str>) {
    let error: RuleError = match Rule::parse(text) {
        Ok(rule) => panic!("{text} was read as {rule}"),
        Err(error) => error,
    };
    assert_eq!((error.line, error.column), (1, column), "{error}");
    assert_eq!(error.message, message);
    assert_eq!(error.hint.as_deref(), hint);
}

#[test]
fn headers_of_the_stack_are_asked_with_and_without_their_ids() {
    reads("vxlan vni 42 or 43", "vxlan 42 or vxlan 43");
    reads("vxlan {1, 2-9}", "vxlan 1 or vxlan 2-9");
    reads("gre key 0xff and gre", "gre 255 and gre");
    reads("gre key 0xffffffff", "gre 4294967295");
    reads("gtp teid 0-4294967295", "gtp 0-4294967295");
    reads("gtp teid 7 or pppoe session 8", "gtp 7 or pppoe 8");
    reads(
        "mpls label 16-31 and nvgre vsid 1",
        "mpls 16-31 and nvgre 1",
    );
    reads("not ipip and erspan session 1", "not ipip and erspan 1");
    reads("geneve vni not (1 or 2)", "not (geneve 1 or geneve 2)");
    reads("port vxlan or 80", "port 4789 or port 80");
    refuses(
        "vxlan vin 42",
        7,
        "`vin` is not a VXLAN network id",
        Some("did you mean `vni`?"),
    );
    refuses(
        "vxlan 16777216",
        7,
        "16777216 is not a VXLAN network id: it goes from 0 to 16777215",
        None,
    );
    for large in ["4294967296", "0x1ffffffff"] {
        refuses(
            &format!("gre key {large}"),
            9,
            &format!("{large} is not a GRE key: it goes from 0 to 4294967295"),
            None,
        );
    }
    refuses(
        "mpls tcp",
        6,
        "`tcp` is not an MPLS label",
        Some("write `mpls`, `mpls 42`, or `mpls and …`"),
    );
    refuses(
        "ipip 4",
        6,
        "`4` cannot stand behind `ipip`",
        Some("write `ipip` alone, or `ipip and …`"),
    );
    refuses(
        "vlan 9-4",
        6,
        "the range 9-4 is empty",
        Some("did you mean `4-9`?"),
    );
}

#[test]
fn lists_are_alternatives() {
    reads("tcp port { 80, https }", "tcp port 80 or tcp port 443");
    reads(
        "src host {10.0.0.1,10.0.0.2} and tcp",
        "(src host 10.0.0.1 or src host 10.0.0.2) and tcp",
    );
    reads(
        "net { 10.0.0.0/8, 192.168 }",
        "net 10.0.0.0/8 or net 192.168.0.0/16",
    );
    reads("not port { 22 }", "not port 22");
    refuses(
        "port { 80 443 }",
        11,
        "expected `,` or `}` after `80`, found `443`",
        None,
    );
    refuses("port { 80", 6, "this `{` is never closed", None);
    refuses("port { }", 8, "expected a port after `{`, found `}`", None);
    refuses(
        "port 80, 443",
        8,
        "expected `and`, `or` or the end after `80`, found `,`",
        Some("alternatives in a list stand in braces: `port { 80, 443 }`"),
    );
}

#[test]
fn addresses_may_be_ranges() {
    reads("host 10.0.0.1-10.0.0.9", "host 10.0.0.1-10.0.0.9");
    reads(
        "dst 2001:db8::1-2001:db8::9",
        "dst host 2001:db8::1-2001:db8::9",
    );
    reads("host 10.0.0.1-10.0.0.1", "host 10.0.0.1");
    refuses(
        "host 10.0.0.9-10.0.0.1",
        6,
        "the range 10.0.0.9-10.0.0.1 is empty",
        Some("did you mean `10.0.0.1-10.0.0.9`?"),
    );
    refuses(
        "host 10.0.0.9-::1",
        6,
        "`10.0.0.9-::1` begins with one IP version and ends with the other",
        None,
    );
}

#[test]
fn flags_types_and_lengths_have_a_grammar_of_their_own() {
    reads("tcp flags syn,!ack", "tcp flags syn,!ack");
    reads("tcp flags !ack , fin", "tcp flags fin,!ack");
    reads("icmp type echo-request", "icmp type 8");
    reads(
        "icmp type {3, 11} code 0-1",
        "icmp type 3 code 0-1 or icmp type 11 code 0-1",
    );
    reads(
        "icmp6 type neighbour-solicitation or 136",
        "icmp6 type 135 or icmp6 type 136",
    );
    reads(
        "length > 1000 and len != 1514",
        "length > 1000 and length != 1514",
    );
    reads("less 64 or greater 1500", "length <= 64 or length >= 1500");
    reads(
        "frag or igmp or broadcast",
        "frag or proto 2 or ether dst host ff:ff:ff:ff:ff:ff",
    );
    reads(
        "outer(host 10.0.0.1 or 10.0.0.2) and vxlan",
        "outer(host 10.0.0.1 or host 10.0.0.2) and vxlan",
    );
    refuses(
        "tcp flags sny",
        11,
        "expected a TCP flag after `flags`, found `sny`",
        Some("did you mean `syn`?"),
    );
    refuses("tcp flags syn,!syn", 16, "`syn` twice", None);
    refuses(
        "tcp flag syn",
        5,
        "`flag` cannot stand behind `tcp`",
        Some("did you mean `flags`?"),
    );
    refuses(
        "icmp code 3",
        6,
        "a code without a type",
        Some("a code belongs to a type: `icmp type 3 code 1`"),
    );
    refuses(
        "icmp type 256",
        11,
        "256 is not an ICMP type: it goes from 0 to 255",
        None,
    );
    refuses(
        "length 1000",
        8,
        "expected a comparison after `length`, found `1000`",
        Some("write `length > 1000`, with `<`, `<=`, `=`, `!=`, `>=` or `>`"),
    );
    refuses(
        "outer host 10.0.0.1",
        7,
        "expected `(` after `outer`, found `host`",
        Some("write `outer(host 192.0.2.1)`: the outermost network header as received"),
    );
    refuses(
        "inbound",
        1,
        "this dialect has no `inbound`",
        Some("say it beside the rule: `direction = \"in\"`"),
    );
    refuses(
        "tcp[13] & 2 != 0",
        4,
        "`[`: this dialect does not compare bytes of the packet",
        Some(
            "there are `tcp flags syn`, `icmp type 8`, `length > 100`; or write a libpcap filter: `pcap: …`",
        ),
    );
}

/// Ethernet, IPv4 10.0.0.1 > 10.0.0.2, `upper`.
fn frame(protocol: u8, upper: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    frame.extend((20 + upper.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(upper);
    frame
}

fn vxlan(inner: &[u8]) -> Vec<u8> {
    let mut udp = vec![0xc0, 0, 0x12, 0xb5];
    udp.extend((16 + inner.len() as u16).to_be_bytes());
    udp.extend([0, 0, 8, 0, 0, 0, 0, 0, 42, 0]);
    udp.extend(inner);
    frame(17, &udp)
}

#[track_caller]
fn matches(text: &str, frame: &[u8]) -> bool {
    let rule = Rule::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let found = rule.compile().matches(&parse(frame, Link::Ethernet), frame);
    assert_eq!(
        found,
        rule.naive_matches(frame, Link::Ethernet, LayerSet::default()),
        "{text}"
    );
    found
}

#[test]
fn a_header_is_found_within_a_tunnel_and_addresses_are_not() {
    let inner = frame(
        6,
        &[
            0, 80, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12, 0, 0, 0, 0, 0, 0,
        ],
    );
    let mut tagged = inner.clone();
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    let whole = vxlan(&tagged);
    assert!(matches("vxlan 42 and vlan 7", &whole));
    assert!(matches("udp dst port vxlan and not tcp", &whole));
    assert!(!matches("vxlan 43 or gre or ipip", &whole));
    let rule = Rule::parse("tcp port 80 and outer(udp) and vxlan").expect("a rule");
    assert!(rule.naive_matches(&whole, Link::Ethernet, LayerSet::VXLAN));
    assert!(!rule.naive_matches(&whole, Link::Ethernet, LayerSet::default()));
    assert_eq!(
        rule.compile().needs(),
        Needs {
            stack: true,
            outer: true,
            wire_length: false
        }
    );
}

#[test]
fn an_id_of_32_ones_is_one_and_no_id_is_none() {
    let inner = frame(17, &[0; 8]).split_off(14);
    let gre = |header: &[u8]| frame(47, &[header, &inner].concat());
    let without = gre(&[0, 0, 8, 0]);
    let ones = gre(&[0x20, 0, 8, 0, 0xff, 0xff, 0xff, 0xff]);
    let mut teid = vec![0x30, 255, 0, inner.len() as u8, 0xff, 0xff, 0xff, 0xff];
    teid.extend(&inner);
    let mut udp = vec![0, 99, 8, 0x68, 0, 8 + teid.len() as u8, 0, 0];
    udp.extend(&teid);
    let gtp = frame(17, &udp);
    for (rule, of_none, of_ones, of_gtp) in [
        ("gre", true, true, false),
        ("gre key 0-4294967295", false, true, false),
        ("gre key 4294967295", false, true, false),
        ("gre key 0-4294967294", false, false, false),
        ("gre key 0", false, false, false),
        ("gtp", false, false, true),
        ("gtp teid 0-4294967295", false, false, true),
        ("gtp teid 0xffffffff", false, false, true),
        ("gtp teid 0-4294967294", false, false, false),
    ] {
        for (frame, expected) in [(&without, of_none), (&ones, of_ones), (&gtp, of_gtp)] {
            assert_eq!(matches(rule, frame), expected, "{rule}");
        }
    }
}

#[test]
fn flags_and_types_are_asked_of_whole_headers() {
    let syn = frame(
        6,
        &[
            0, 80, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x02, 0, 0, 0, 0, 0, 0,
        ],
    );
    assert!(matches("tcp flags syn,!ack", &syn));
    assert!(!matches("tcp flags ack", &syn));
    let cut = &syn[..50];
    assert!(matches("tcp", cut) && !matches("tcp flags !ack", cut));
    let ping = frame(1, &[8, 0, 0, 0, 0, 1, 0, 1]);
    assert!(matches("icmp type echo-request code 0", &ping));
    assert!(!matches("icmp type 8 code 1-9 or icmp6 type 8", &ping));
    assert!(!matches("icmp type 8", &ping[..40]));
    assert!(matches(
        "length = 42 and less 42 and greater 42 and not length > 42",
        &ping
    ));
}

#[test]
fn the_dialect_of_libpcap_is_libpcap() {
    let syn = frame(
        6,
        &[
            0, 80, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x02, 0, 0, 0, 0, 0, 0,
        ],
    );
    let rule = match Rule::parse("pcap: tcp[13] & 2 != 0 and len = 54") {
        Ok(rule) => rule,
        Err(error) if error.message.contains("not to be had") => {
            assert!(error.message.contains("libpcap0.8"), "{error}");
            eprintln!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(rule.expr(), None);
    assert!(matches("pcap: tcp[13] & 2 != 0 and len = 54", &syn));
    assert!(
        rule.naive_matches(&syn[14..], Link::Ipv4, LayerSet::default())
            .eq(&false)
    );
    assert!(Rule::parse("pcap:ip").is_ok_and(|rule| rule.naive_matches(
        &syn[14..],
        Link::Ipv4,
        LayerSet::default()
    )));
    assert!(Rule::parse("pcap:").is_ok_and(|rule| rule.naive_matches(
        &[],
        Link::Ethernet,
        LayerSet::default()
    )));
    let error = Rule::parse("pcap: tcp and ether host 300").expect_err("no MAC address");
    assert_eq!(error.line, 1);
    assert!(error.message.starts_with("libpcap: "), "{error}");
    let notes = Rule::parse("pcap: tcp port 80")
        .expect("a filter")
        .explain()
        .notes;
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("misses VLAN-tagged")),
        "{notes:?}"
    );
}

#[test]
fn an_explanation_says_what_it_costs() {
    let indexed = |text: &str| Rule::parse(text).expect("a rule").explain().indexed;
    assert!(indexed(
        "host 10.0.0.1 or tcp port 80 and not frag or vxlan 42"
    ));
    assert!(indexed("portrange 1000-2000 or host 10.0.0.1"));
    assert!(!indexed("tcp flags syn or host 10.0.0.1"));
    let text = Rule::parse("tcp port 80")
        .expect("a rule")
        .explain()
        .to_string();
    assert!(text.contains("\ncost: indexed"), "{text}");
}
