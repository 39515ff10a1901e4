//! The ring alone: fill, publish, look, peek, retire; one thread, bursts of 32.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mvmp_wire::Descriptor;
use mvmp_wire::ring::{Consumer, Producer};
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64};

const SLOTS: u32 = 2048;
const BURST: u32 = 32;

fn ring(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(BURST.into()));
    let slots: Vec<AtomicU64> = (0..SLOTS * 2).map(|_| AtomicU64::new(0)).collect();
    let (head, tail) = (AtomicU32::new(0), AtomicU32::new(0));
    let (mut producer, mut consumer) = (Producer::new(SLOTS), Consumer::new(SLOTS));
    group.bench_function("burst of 32 through", |b| {
        b.iter(|| {
            let room = producer.room(&head, BURST).unwrap();
            for granule in 0..BURST.min(room) {
                producer.fill(
                    &slots,
                    Descriptor {
                        token: 7,
                        granule,
                        ..Descriptor::default()
                    },
                );
            }
            producer.publish(&tail);
            let waiting = consumer.available(&tail).unwrap();
            for ahead in 0..waiting {
                black_box(consumer.peek(&slots, ahead));
            }
            consumer.advance(waiting);
            consumer.retire(&head);
        });
    });
    group.finish();
}

criterion_group!(benches, ring);
criterion_main!(benches);
