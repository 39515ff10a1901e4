//! What classification costs: bursts of 64 packets against one rule, against 1 to 4,000 rules spread
//! over 16 cells, and bursts of 16 and of 64 against the 8 cells of a port among 64 policies.
//!
//! Headers are parsed once before, as the worker does. The numbers are packets per second; each
//! row of the groups `cells` and `policies` also prints nanoseconds per packet. Their packets are
//! 4,096 different ones, so that neither branches nor tables are learnt by heart.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use mvmp_policy::{Classifier, Matcher, Packets, Rule};
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
fn rule(i: usize) -> String {
    let (high, low) = (i / 250, i % 250);
    match i % 6 {
        0 => format!("tcp dst port {} or {}", 1_024 + i, 10_000 + i),
        1 => format!("net 10.{high}.{low}.0/24 and udp"),
        2 => format!("ip6 host 2001:db8::{i:x}"),
        3 => format!("host 192.0.{high}.{low}"),
        4 => format!("src host 172.16.{high}.{low} and dst port 443"),
        _ => format!("dst net 198.{high}.{low}.0/24 and tcp port 80 and not frag"),
    }
}

fn classifier(texts: &[String]) -> Classifier {
    let rules: Vec<Rule> = texts
        .iter()
        .map(|text| Rule::parse(text).expect("the rules of this file are sound"))
        .collect();
    Classifier::new(&rules.iter().collect::<Vec<_>>())
}

/// `count` rules over 16 cells: each cell has the `or` of its share.
fn cells(count: usize) -> Classifier {
    let mut texts = vec![Vec::new(); 16.min(count)];
    for i in 0..count {
        texts[i % 16].push(format!("({})", rule(i)));
    }
    let texts: Vec<String> = texts.iter().map(|parts| parts.join(" or ")).collect();
    classifier(&texts)
}

/// `count` ranges of ports over 16 cells.
fn ranges(count: usize) -> Classifier {
    let cell = |cell: usize| {
        let range = |i: usize| {
            let low = 1_024 + i * 7_919 % 64_000;
            format!("udp dst portrange {low}-{}", low + 100)
        };
        let rules: Vec<String> = (cell..count).step_by(16).map(range).collect();
        rules.join(" or ")
    };
    classifier(&(0..16.min(count)).map(cell).collect::<Vec<_>>())
}

/// The 8 cells of a port among 64 policies: two share its traffic, the others are narrow.
fn policies(port: usize) -> Classifier {
    let cell = |device: usize| match device {
        0 => format!(
            "tcp and src net 0.0.0.0/1 and not dst port {}",
            7_000 + port
        ),
        1 => format!(
            "udp and src net 0.0.0.0/1 and not dst port {}",
            7_000 + port
        ),
        _ => rule(device + port * 6),
    };
    classifier(&(0..8).map(cell).collect::<Vec<_>>())
}

/// Packets of many flows; about every other one is wanted by some cell of a thousand rules.
fn varied() -> Vec<Vec<u8>> {
    let mut state = 7u64;
    let mut draw = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let mut frames = Vec::new();
    for i in 0..4_096u32 {
        let mut frame = self::frame(i as u8);
        let ip = if i.is_multiple_of(4) { 18 } else { 14 };
        if !i.is_multiple_of(8) {
            let first = [10, 172, 192, 198, 8, 52][draw(6) as usize];
            frame[ip + 12..ip + 16].copy_from_slice(&[
                first,
                draw(20) as u8,
                draw(250) as u8,
                draw(256) as u8,
            ]);
            let first = [10, 203, 192, 198, 1, 93][draw(6) as usize];
            frame[ip + 16..ip + 20].copy_from_slice(&[
                first,
                draw(4) as u8,
                draw(250) as u8,
                draw(256) as u8,
            ]);
        }
        let ports = frame.len() - 20;
        let port = [443, 80, 53, 1_024 + draw(20_000) as u16][draw(4) as usize];
        frame[ports..ports + 2].copy_from_slice(&(32_768 + draw(28_000) as u16).to_be_bytes());
        frame[ports + 2..ports + 4].copy_from_slice(&port.to_be_bytes());
        frames.push(frame);
    }
    frames
}

/// Bursts of `size` packets of many flows, each asked of the next of the classifiers.
fn bursts(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    size: usize,
    classifiers: &[Classifier],
) {
    let frames = varied();
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let headers: Vec<Headers> = frames
        .iter()
        .map(|frame| parse(frame, Link::Ethernet))
        .collect();
    let mut wanted = [0; 64];
    let mut burst = |number: usize| {
        let at = number * size % frames.len();
        let range = at..at + size;
        let packets = Packets::plain(&headers[range.clone()], &frames[range]);
        let classifier = &classifiers[number % classifiers.len()];
        classifier.classify(black_box(&packets), &mut wanted);
        wanted.iter().fold(0, |any, cell| any | cell).count_ones() as usize
    };
    let all = frames.len() / size;
    let hits: usize = (0..all).map(&mut burst).sum();
    let rounds = 200;
    let start = std::time::Instant::now();
    for number in 0..rounds * all {
        black_box(burst(number));
    }
    let per_packet = start.elapsed().as_nanos() as f64 / (rounds * frames.len()) as f64;
    println!(
        "{name}: {per_packet:.1} ns per packet; {hits} of {} packets wanted",
        frames.len()
    );
    group.throughput(Throughput::Elements(size as u64));
    let mut number = 0;
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            number += 1;
            burst(number)
        });
    });
}

fn over_cells(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cells");
    for count in [1, 10, 100, 1_000, 4_000] {
        bursts(&mut group, &format!("rules/{count}"), 64, &[cells(count)]);
    }
    for count in [10, 1_000] {
        let name = format!("ranges of ports/{count}");
        bursts(&mut group, &name, 64, &[ranges(count)]);
    }
    group.finish();
    let mut group = criterion.benchmark_group("policies");
    let ports: Vec<Classifier> = (0..8).map(policies).collect();
    for size in [16, 64] {
        bursts(&mut group, &format!("burst/{size}"), size, &ports);
    }
    group.finish();
}

fn one_rule(criterion: &mut Criterion) {
    let frames: Vec<Vec<u8>> = (0..64).map(frame).collect();
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let headers: Vec<Headers> = frames
        .iter()
        .map(|frame| parse(frame, Link::Ethernet))
        .collect();
    let mut group = criterion.benchmark_group("classify");
    group.throughput(Throughput::Elements(64));
    for text in [
        "all",
        "tcp",
        "tcp port 80",
        "host 10.0.7.1",
        "tcp flags syn,!ack",
        "ip6 net 2001:db8::/64",
    ] {
        let rule = matcher(text);
        group.bench_function(BenchmarkId::new("one", text), |bencher| {
            bencher.iter(|| rule.match_burst(black_box(&headers), black_box(&frames)));
        });
    }
    group.finish();
}

criterion_group!(benches, one_rule, over_cells);
criterion_main!(benches);
