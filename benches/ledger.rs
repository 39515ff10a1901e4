//! The ledger alone: open n shares on each of 32 buffers, then check and close them all.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mvmp_core::ledger::{Closed, Ledger};

const BURST: u32 = 32;
const GRANULES: u32 = 32_768;

fn ledger(c: &mut Criterion) {
    let mut group = c.benchmark_group("ledger");
    group.throughput(Throughput::Elements(BURST.into()));
    for shares in [1_u8, 2, 4] {
        let mut ledger = Ledger::new(GRANULES, GRANULES);
        (0..shares).for_each(|slot| ledger.open_slot(slot).unwrap());
        let mut first = 0;
        group.bench_with_input(
            BenchmarkId::new("deliver, check, close", shares),
            &shares,
            |b, &shares| {
                let mut tokens = [[0; BURST as usize]; 4];
                let all = u64::MAX >> (64 - BURST);
                b.iter(|| {
                    for (slot, tokens) in (0..shares).zip(&mut tokens) {
                        let mut column = ledger.column(slot);
                        assert_eq!(column.open_all(all, |at| first + at as u32), 0);
                        for (granule, token) in (first..).zip(tokens) {
                            *token = column.token(granule);
                        }
                    }
                    let mut home = 0;
                    for (slot, tokens) in (0..shares).zip(&tokens) {
                        for (granule, &token) in (first..).zip(tokens) {
                            home += u32::from(ledger.close(slot, granule, token) == Closed::Last);
                        }
                    }
                    assert_eq!(home, BURST);
                    first = (first + BURST) % (GRANULES - BURST);
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, ledger);
criterion_main!(benches);
