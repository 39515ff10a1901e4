//! What classification costs: bursts of 64 packets against 1, 8 and 64 rules.
//!
//! Headers are parsed once before, as the worker does; the numbers are packets per second, each
//! packet matched against all the rules.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mvmp_policy::{Matcher, Rule};
use mvmp_wire::packet::{Headers, Link, parse};

/// TCP and UDP over IPv4 and IPv6, every fourth one tagged, ports and addresses spread.
fn frame(i: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, i];
    if i.is_multiple_of(4) {
        frame.extend([0x81, 0x00, 0, i]);
    }
    let protocol = if i.is_multiple_of(2) { 6 } else { 17 };
    if i.is_multiple_of(8) {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, protocol, 64]);
        frame.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, i]);
        frame.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, i]);
    } else {
        frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, i, 1, 192, 0, 2, i]);
    }
    frame.extend([
        0x9c,
        i,
        0,
        60 + i,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0x50,
        2,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    frame
}

fn matcher(text: &str) -> Matcher {
    Rule::parse(text)
        .expect("the rules of this file are sound")
        .compile()
}

/// Rules as people write them, each with its own numbers.
fn rules(count: usize) -> Vec<Matcher> {
    let text = |i: usize| match i % 4 {
        0 => format!("tcp port {} or {}", 80 + i, 443 + i),
        1 => format!("net 10.0.{i}.0/24 and udp"),
        2 => format!("vlan {i} or ip6 host 2001:db8::{i:x}"),
        _ => format!(
            "ip and not (dst host 192.0.2.{i} or portrange 60-{})",
            70 + i
        ),
    };
    (0..count).map(|i| matcher(&text(i))).collect()
}

fn classify(criterion: &mut Criterion) {
    let frames: Vec<Vec<u8>> = (0..64).map(frame).collect();
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let headers: Vec<Headers> = frames
        .iter()
        .map(|frame| parse(frame, Link::Ethernet))
        .collect();
    let mut group = criterion.benchmark_group("classify");
    group.throughput(Throughput::Elements(64));
    for count in [1, 8, 64] {
        let rules = rules(count);
        group.bench_function(BenchmarkId::new("rules", count), |bencher| {
            bencher.iter(|| {
                rules.iter().fold(0, |all, rule| {
                    all ^ rule.match_burst(black_box(&headers), black_box(&frames))
                })
            });
        });
    }
    for text in [
        "all",
        "tcp",
        "tcp port 80",
        "host 10.0.7.1",
        "vlan 8",
        "ip6 net 2001:db8::/64",
    ] {
        let rule = matcher(text);
        group.bench_function(BenchmarkId::new("one", text), |bencher| {
            bencher.iter(|| rule.match_burst(black_box(&headers), black_box(&frames)));
        });
    }
    group.finish();
}

criterion_group!(benches, classify);
criterion_main!(benches);
