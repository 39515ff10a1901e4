//! What DPDK's own calls cost a worker: the floor below everything else it does per packet.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mvmp_core::dpdk::{Eal, EthOptions, EthPort, Mbuf, Pool, WorkerLcore};

const BURST: usize = 32;

fn bursts(criterion: &mut Criterion) {
    let eal = Eal::get().expect("DPDK starts");
    let pool = Pool::create(eal, "bench", 16384, 2176).expect("memory for a pool");
    let lcore = WorkerLcore::register().expect("an lcore");
    let port = EthPort::attach(
        eal,
        "net_null0,size=64,copy=0",
        EthOptions::default(),
        &pool,
    )
    .expect("a null port");
    let mut mbufs = [std::ptr::null_mut::<Mbuf>(); BURST];
    let mut group = criterion.benchmark_group("burst of 32");
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("rx, tx", |bencher| {
        // SAFETY: this thread alone uses the port; what is received is sent.
        bencher.iter(|| unsafe {
            let received = port.rx_burst(0, &mut mbufs);
            port.tx_burst(0, &mut mbufs[..received])
        });
    });
    group.bench_function("rx, put back", |bencher| {
        // SAFETY: as above; a null port hands over mbufs as they were allocated.
        bencher.iter(|| unsafe {
            let received = port.rx_burst(0, &mut mbufs);
            pool.put_bulk(&mut mbufs[..received]);
        });
    });
    group.finish();
    drop(port);
    pool.flush_cache();
    drop(lcore);
}

criterion_group!(benches, bursts);
criterion_main!(benches);
