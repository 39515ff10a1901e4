//! What parsing costs a packet: bursts of 32 frames of 64 bytes, as a port hands them over.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use mvmp_wire::packet::{
    Headers, LayerSet, Link, Stack, TunnelPorts, parse, parse_into, walk_on, walk_stack,
};

const BURST: u64 = 32;

/// 32 flows of this shape; every frame has at least 60 bytes (64 on the cable).
fn burst(write: impl Fn(u8) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..BURST as u8)
        .map(|flow| {
            let mut frame = write(flow);
            frame.resize(frame.len().max(60), 0);
            frame
        })
        .collect()
}

fn udp4(flow: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, flow], [10, 0, 1, 2], 64)
        .udp(1024 + u16::from(flow), 53)
        .write(&mut frame, &[0; 18])
        .expect("writes to memory");
    frame
}

fn tcp4(flow: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, flow], [10, 0, 1, 2], 64)
        .tcp(1024 + u16::from(flow), 80, 1, 512)
        .write(&mut frame, &[])
        .expect("writes to memory");
    frame
}

fn tagged_udp4(flow: u8) -> Vec<u8> {
    let mut frame = udp4(flow);
    frame.splice(12..12, [0x81, 0, 0, 42]);
    frame
}

fn tcp6(flow: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6([flow; 16], [7; 16], 64)
        .tcp(1024 + u16::from(flow), 80, 1, 512)
        .write(&mut frame, &[])
        .expect("writes to memory");
    frame
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(BURST));
    let mixed = |flow: u8| {
        if flow.is_multiple_of(2) {
            udp4(flow)
        } else {
            tcp4(flow)
        }
    };
    let shapes: [(&str, Vec<Vec<u8>>); 5] = [
        ("udp4", burst(udp4)),
        ("tcp4", burst(tcp4)),
        ("udp4 and tcp4", burst(mixed)),
        ("vlan udp4", burst(tagged_udp4)),
        ("tcp6", burst(tcp6)),
    ];
    for (name, frames) in &shapes {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                for frame in frames {
                    black_box(parse(black_box(frame), Link::Ethernet));
                }
            });
        });
    }
    // As a worker does it: the headers of a burst side by side.
    let mut headers = [Headers::default(); BURST as usize];
    for (name, frames) in &shapes {
        group.bench_function(format!("{name}, into an array"), |bencher| {
            bencher.iter(|| {
                for (frame, headers) in black_box(frames).iter().zip(&mut headers) {
                    parse_into(frame, Link::Ethernet, headers);
                }
                black_box(&mut headers);
            });
        });
    }
    group.finish();
}

/// A user's frame within the outer headers of a tunnel: `behind` follows the outer IPv4 header.
fn tunnelled(inner: Vec<u8>, protocol: u8, behind: &[u8]) -> Vec<u8> {
    let length = (20 + behind.len() + inner.len()) as u16;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend(length.to_be_bytes());
    frame.extend([
        0, 0, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 7,
    ]);
    frame.extend(behind);
    frame.extend(inner);
    frame
}

fn vxlan(flow: u8) -> Vec<u8> {
    let inner = udp4(flow);
    let [high, low] = (16 + inner.len() as u16).to_be_bytes();
    let behind = [
        0xc0, flow, 0x12, 0xb5, high, low, 0, 0, 8, 0, 0, 0, 0, 0, 42, 0,
    ];
    tunnelled(inner, 17, &behind)
}

fn gre(flow: u8) -> Vec<u8> {
    tunnelled(udp4(flow).split_off(14), 47, &[0, 0, 8, 0])
}

fn qinq(flow: u8) -> Vec<u8> {
    let mut frame = udp4(flow);
    frame.splice(12..12, [0x88, 0xa8, 0, 7, 0x81, 0, 0, 42]);
    frame
}

fn vlan_vxlan(flow: u8) -> Vec<u8> {
    let mut frame = vxlan(flow);
    frame.splice(12..12, [0x81, 0, 0, 42]);
    frame
}

fn shapes() -> [(&'static str, Vec<Vec<u8>>); 7] {
    [
        ("udp4", burst(udp4)),
        ("tcp4", burst(tcp4)),
        ("tcp6", burst(tcp6)),
        ("qinq", burst(qinq)),
        ("vxlan", burst(vxlan)),
        ("vlan vxlan", burst(vlan_vxlan)),
        ("gre", burst(gre)),
    ]
}

fn walking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("walk_stack");
    group.throughput(Throughput::Elements(BURST));
    let ports = TunnelPorts::default();
    let mut stacks = [Stack::default(); BURST as usize];
    for (name, frames) in &shapes() {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                for (frame, stack) in black_box(frames).iter().zip(&mut stacks) {
                    walk_stack(frame, Link::Ethernet, &ports, stack);
                }
                black_box(&mut stacks);
            });
        });
        group.bench_function(format!("{name}, view of all"), |bencher| {
            bencher.iter(|| {
                for stack in black_box(&stacks) {
                    black_box(stack.view(LayerSet::AUTO));
                }
            });
        });
    }
    group.finish();
}

/// As a worker does it, for a policy that jumps over VXLAN and GRE: outer headers, stack, what is
/// delivered, and the headers of that.
fn jumping(criterion: &mut Criterion) {
    const BURST: usize = self::BURST as usize;
    let mut group = criterion.benchmark_group("outer headers, walk, view, inner headers");
    group.throughput(Throughput::Elements(BURST as u64));
    let ports = TunnelPorts::default();
    let jump = LayerSet::VXLAN.union(LayerSet::GRE);
    let mut headers = [Headers::default(); BURST];
    let (mut stacks, mut inner) = ([Stack::default(); BURST], [Headers::default(); BURST]);
    let mut views = [Stack::default().level(); BURST];
    for (name, frames) in &shapes() {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                for (frame, headers) in black_box(frames).iter().zip(&mut headers) {
                    parse_into(frame, Link::Ethernet, headers);
                }
                for (at, frame) in black_box(frames).iter().enumerate() {
                    let (stack, inner) = (&mut stacks[at], &mut inner[at]);
                    walk_on(frame, &headers[at], &ports, stack, inner);
                }
                for (at, frame) in black_box(frames).iter().enumerate() {
                    let view = stacks[at].view(jump);
                    views[at] = view;
                    if !stacks[at].shows_level(jump) {
                        parse_into(view.of(frame), view.link, &mut inner[at]);
                    }
                }
                black_box((&mut inner, &mut views));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parsing, walking, jumping);
criterion_main!(benches);
