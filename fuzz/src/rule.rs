//! Any text is a rule that can be compiled and explained, or an error; a rule's own text is that rule,
//! and among other rules it says what it says alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mvmp_policy::{Classifier, Packets, Rule};
use mvmp_wire::packet::{Headers, Link, Stack, TunnelPorts, parse, walk_stack};

/// So many others that there is an index.
const OTHERS: [&str; 4] = [
    "tcp port 80 or 443",
    "host 10.0.0.1 or net 192.168.0.0/16",
    "ip6 host ::1 and not udp",
    "ether src 02:00:00:00:00:01 or vlan 7",
];

/// Zeros but for a few bytes: where those are, and what.
fn frame(bytes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut frame = vec![0; 80];
    for (at, bytes) in bytes {
        frame[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    frame
}

fn frames() -> [Vec<u8>; 6] {
    let ports: &[u8] = &[0, 80, 1, 187];
    let v4: &[u8] = &[8, 0, 0x45, 0, 0, 60];
    let addresses: &[u8] = &[10, 0, 0, 1, 192, 168, 0, 1];
    [
        frame(&[
            (12, v4),
            (23, &[6]),
            (26, addresses),
            (34, ports),
            (46, &[0x50, 2]),
        ]),
        frame(&[
            (12, v4),
            (20, &[0x20]),
            (23, &[17]),
            (26, addresses),
            (34, ports),
        ]),
        frame(&[
            (12, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6]),
            (37, &[1]),
            (53, &[1]),
            (54, ports),
            (66, &[0x50]),
        ]),
        frame(&[
            (12, &[8, 6, 0, 1, 8, 0, 6, 4]),
            (28, &[10, 0, 0, 1]),
            (38, &[10, 0, 0, 2]),
        ]),
        frame(&[
            (6, &[2, 0, 0, 0, 0, 1]),
            (12, &[0x81, 0, 0, 7, 8, 0, 0x45, 0, 0, 60]),
            (27, &[1]),
        ]),
        frame(&[]),
    ]
}

fn among_others(rule: &Rule) {
    let others = OTHERS.map(|text| Rule::parse(text).expect("they are sound"));
    let rules: Vec<&Rule> = others.iter().chain([rule]).collect();
    let frames = frames();
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let headers: Vec<Headers> = frames
        .iter()
        .map(|frame| parse(frame, Link::Ethernet))
        .collect();
    let mut stacks = vec![Stack::default(); frames.len()];
    for (stack, frame) in stacks.iter_mut().zip(&frames) {
        walk_stack(frame, Link::Ethernet, &TunnelPorts::default(), stack);
    }
    let packets = Packets {
        stacks: &stacks,
        ..Packets::plain(&headers, &frames)
    };
    let mut wanted = [0; 64];
    Classifier::new(&rules).classify(&packets, &mut wanted);
    let alone = rule.compile().match_burst(&headers, &frames);
    assert_eq!(wanted[OTHERS.len()], alone);
}

fuzz_target!(|text: &str| {
    // That dialect is libpcap's to read.
    if text.trim_start().starts_with("pcap") {
        return;
    }
    if let Ok(rule) = Rule::parse(text) {
        let again = Rule::parse(rule.text()).expect("its own text");
        assert_eq!(rule.expr(), again.expr());
        rule.compile();
        rule.explain();
        among_others(&rule);
    }
});
