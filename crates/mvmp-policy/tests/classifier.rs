//! Many rules at once, by example: more than the random ones of `rule_properties`.

use mvmp_policy::{Classifier, Packets, Rule};
use mvmp_wire::packet::{Headers, Link, parse};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Ethernet, IPv4 and ports; of TCP what `parse` needs to find them.
fn frame(protocol: u8, src: [u8; 4], dst: [u8; 4], ports: [u16; 2], fragment: bool) -> Vec<u8> {
    let mut frame = vec![0; 64];
    frame[12..14].copy_from_slice(&[8, 0]);
    (frame[14], frame[17], frame[23]) = (0x45, 50, protocol);
    // More fragments: this is the first of them, and has ports.
    frame[20] = u8::from(fragment) << 5;
    frame[26..30].copy_from_slice(&src);
    frame[30..34].copy_from_slice(&dst);
    frame[34..36].copy_from_slice(&ports[0].to_be_bytes());
    frame[36..38].copy_from_slice(&ports[1].to_be_bytes());
    frame[46] = 0x50;
    frame
}

fn rule(text: &str) -> Rule {
    Rule::parse(text).expect("the rules of this file are sound")
}

fn classifier(rules: &[Rule]) -> Classifier {
    Classifier::new(&rules.iter().collect::<Vec<_>>())
}

/// Asks each burst of 64 of each rule, alone and all together, and counts the answers that are yes.
fn agreed(rules: &[Rule], frames: &[Vec<u8>], asked: u64) -> u32 {
    let classifier = classifier(rules);
    let matchers: Vec<_> = rules.iter().map(Rule::compile).collect();
    let mut yes = 0;
    for frames in frames.chunks(64) {
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let headers: Vec<Headers> = frames
            .iter()
            .map(|frame| parse(frame, Link::Ethernet))
            .collect();
        let mut wanted = [u64::MAX; 64];
        classifier.classify_for(&Packets::plain(&headers, &frames), asked, &mut wanted);
        for (cell, matcher) in matchers.iter().enumerate() {
            let alone = matcher.match_burst(&headers, &frames) * (asked >> cell & 1);
            assert_eq!(wanted[cell], alone, "cell {cell}: {:.200}", rules[cell]);
            yes += alone.count_ones();
        }
        assert!(wanted[rules.len()..].iter().all(|packets| *packets == 0));
    }
    yes
}

/// Rules that differ in their numbers, and in what they leave to be asked.
fn numbered(i: usize) -> String {
    let (high, low) = (i / 250, i % 250);
    match i % 7 {
        0 => format!("tcp dst port {} or {}", 1_024 + i, 10_000 + i),
        1 => format!("net 10.{high}.{low}.0/24 and udp"),
        2 => format!("host 192.0.{high}.{low}"),
        3 => format!("src host 172.16.{high}.{low} and dst port 443"),
        4 => format!("dst net 198.{high}.{low}.0/24 and tcp port 80 and not frag"),
        5 => format!("net {{ 10.{high}.{low}.0/25, 11.{high}.{low}.0/25 }} and not dst port 80"),
        _ => format!("ip host 192.1.{high}.{low} and not portrange 1-1000 and not udp"),
    }
}

/// `count` rules dealt out to 16 cells.
fn dealt(count: usize) -> Vec<Rule> {
    let cell = |cell: usize| {
        let rules: Vec<_> = (cell..count).step_by(16).map(numbered).collect();
        rule(&format!("({})", rules.join(") or (")))
    };
    (0..16.min(count)).map(cell).collect()
}

/// Packets between addresses and ports of which many are in one of `count` rules.
fn packets(count: usize, packets: usize) -> Vec<Vec<u8>> {
    let mut state = 7u64;
    let mut below = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % bound
    };
    let packet = |_| {
        let mut address = |first: &[[u8; 2]]| {
            let ([a, b], i) = (first[below(first.len())], below(count));
            let (high, low) = ((i / 250) as u8, (i % 250) as u8);
            match a {
                10 | 11 | 198 => [a, high, low, below(256) as u8],
                _ => [a, b, high, low],
            }
        };
        let src = address(&[[10, 0], [11, 0], [192, 0], [172, 16], [192, 1], [100, 64]]);
        let dst = address(&[[10, 0], [192, 0], [198, 0], [192, 1], [203, 0]]);
        let protocol = [TCP, UDP][below(2)];
        let port = [443, 80, 53, 1_024 + below(count) as u16][below(4)];
        let ports = [32_768 + below(1_000) as u16, port];
        frame(protocol, src, dst, ports, below(8) == 0)
    };
    (0..packets).map(packet).collect()
}

#[test]
fn few_rules_and_thousands_say_what_each_says_alone() {
    for count in [1, 3, 6, 10, 100, 1_000, 4_000] {
        let yes = agreed(&dealt(count), &packets(count, 640), u64::MAX);
        assert!(yes > 10, "of {count} rules hardly any was put to the test");
    }
}

/// Ranges of ports, overlapping, of one protocol and of all, alone and beside others.
fn ranged(i: usize) -> String {
    let low = i * 7_919 % 65_000;
    let high = low + 100 + i % 400;
    match i % 6 {
        0 => format!("tcp dst portrange {low}-{high}"),
        1 => format!("src portrange {low}-{high}"),
        2 => format!("udp and portrange {low}-{high}"),
        3 => format!("dst portrange {high}-65535 and udp"),
        4 => format!("src and dst portrange {low}-{high}"),
        _ => format!("udp and tcp dst portrange {low}-{high} or sctp portrange {low}-{high}"),
    }
}

#[test]
fn ranges_of_ports_alone_are_found_by_one_load() {
    for text in [
        "tcp dst portrange 1000-2000",
        "portrange 0-65535",
        "udp and src portrange 10000-20000 or dst port 5",
    ] {
        assert!(rule(text).explain().indexed, "{text}");
    }
    assert!(!rule("src and dst portrange 1-9").explain().indexed);
    for count in [3, 9, 40, 1_000] {
        let cell = |cell: usize| {
            let rules: Vec<_> = (cell..count).step_by(50).map(ranged).collect();
            rule(&rules.join(" or "))
        };
        let rules: Vec<Rule> = (0..50.min(count)).map(cell).collect();
        let port = |i: usize| (i * 4_241 % 65_536) as u16;
        let frames: Vec<_> = (0..640)
            .map(|i| {
                let protocol = [TCP, UDP, 132, 47][i % 4];
                let ports = match i % 5 {
                    0 => [0, u16::MAX],
                    _ => [port(i), port(i / 3)],
                };
                frame(protocol, [1; 4], [2; 4], ports, i % 3 == 0)
            })
            .collect();
        let every = agreed(&rules, &frames, u64::MAX);
        assert!(every > 0, "of {count} rules none was put to the test");
        assert!(agreed(&rules, &frames, 1) <= every);
    }
}

#[test]
fn cells_that_are_not_asked_for_want_nothing_and_the_others_what_they_want() {
    let mut rules = dealt(200);
    rules.push(rule("all"));
    rules.push(rule("udp"));
    let packets = packets(200, 256);
    let every = agreed(&rules, &packets, u64::MAX);
    for asked in [0, 1, 0b1100, 1 << 16, 1 << 17, 0xff00, !1] {
        assert!(agreed(&rules, &packets, asked) < every);
    }
}

#[test]
fn masks_of_many_lengths_are_more_than_one_group_of_shapes() {
    let lengths = 17..=32u8;
    let cells = [0, 8, 16];
    // Nets of different lengths have nothing in common: each packet has one that it is in.
    let rules = cells.map(|cell| {
        let nets = lengths.clone().map(|length| {
            let address = u32::from_be_bytes([10, length, cell, 1]) & u32::MAX << (32 - length);
            let net = std::net::Ipv4Addr::from(address);
            format!("src net {net}/{length} or dst net {net}/{length} and tcp")
        });
        rule(&nets.collect::<Vec<_>>().join(" or "))
    });
    let frames: Vec<_> = lengths
        .flat_map(|length| cells.map(|cell| [10, length, cell, 1]))
        .flat_map(|near| {
            [
                frame(UDP, near, [1; 4], [1, 2], false),
                frame(TCP, [1; 4], near, [1, 2], false),
                frame(UDP, [1; 4], near, [1, 2], false),
            ]
        })
        .collect();
    assert!(agreed(&rules, &frames, u64::MAX) as usize >= frames.len() * 2 / 3);
}

#[test]
fn more_questions_than_are_put_off_at_once_are_all_asked() {
    let rules: Vec<Rule> = (0..40)
        .map(|i| {
            rule(&format!(
                "dst host 10.0.0.{i} and not src portrange 1-{}",
                i + 1
            ))
        })
        .collect();
    let frames: Vec<_> = (0..=255u16)
        .map(|i| {
            frame(
                UDP,
                [1; 4],
                [10, 0, 0, (i * 7 % 40) as u8],
                [i % 50, 9],
                false,
            )
        })
        .collect();
    let yes = agreed(&rules, &frames, u64::MAX);
    assert!(yes > 20 && yes < 256, "{yes}");
}

#[test]
fn a_large_set_is_looked_up_though_more_is_asked_for() {
    let list = |first: usize, count: usize| {
        let all: Vec<String> = (first..first + count).map(|i| i.to_string()).collect();
        all.join(", ")
    };
    for text in [
        format!("udp port {{ {} }}", list(1_000, 1_500)),
        format!("dst port {{ {} }} and not frag", list(1_000, 1_500)),
        format!("port {{ {} }} and tcp flags syn", list(1_000, 1_500)),
    ] {
        assert!(rule(&text).explain().indexed, "{text:.50}");
    }
    let rules = [0, 700, 1_400].map(|first| {
        let ports = list(1_024 + first, 900);
        rule(&format!(
            "port {{ {ports} }} and net 10.0.0.0/8 and not frag"
        ))
    });
    assert!(agreed(&rules, &packets(4_000, 640), u64::MAX) > 10);
}
