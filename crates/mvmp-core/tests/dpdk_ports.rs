//! One suite over ports that need nothing of the machine: null and ring devices.

use mvmp_core::dpdk::{
    Eal, EthOptions, EthPort, IndirectPool, Mbuf, Pool, PortError, WorkerLcore, free_bulk,
};

const NONE: *mut Mbuf = std::ptr::null_mut();

fn pool(name: &str, buffers: u32) -> Pool {
    Pool::create(Eal::get().unwrap(), name, buffers, 2176).unwrap()
}

fn attach(devargs: &str, pool: &Pool) -> Result<EthPort, PortError> {
    EthPort::attach(Eal::get().unwrap(), devargs, EthOptions::default(), pool)
}

/// A device name that no other test of this process has.
fn device(driver: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(100);
    format!("net_{driver}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn a_null_port_receives_and_sends_and_every_buffer_comes_home() {
    let pool = pool("conformance", 4096);
    let _lcore = WorkerLcore::register().unwrap();
    for round in 0..3 {
        let name = device("null");
        let port = attach(&format!("{name},size=64,copy=0"), &pool).unwrap();
        assert_eq!(
            (port.driver_name(), port.name()),
            ("net_null", name.as_str())
        );
        let mut burst = [NONE; 32];
        for _ in 0..1000 {
            // SAFETY: this thread is the only one that uses the port.
            let received = unsafe { port.rx_burst(0, &mut burst) };
            assert_eq!(received, 32);
            for &mbuf in &burst {
                // SAFETY: received, so live and ours.
                unsafe {
                    assert_eq!(
                        ((*mbuf).data_len, (*mbuf).pkt_len, (*mbuf).refcnt),
                        (64, 64, 1)
                    );
                    assert_eq!((*mbuf).pool, pool.mempool());
                }
            }
            // SAFETY: as above.
            let sent = unsafe { port.tx_burst(0, &mut burst) };
            assert_eq!(sent, 32);
        }
        assert_eq!(port.stats().ipackets, 32_000, "round {round}");
        drop(port);
        assert_eq!(pool.available(), 4096);
    }
}

#[test]
fn what_a_ring_port_sends_it_receives_byte_for_byte() {
    let pool = pool("ring", 4096);
    let _lcore = WorkerLcore::register().unwrap();
    let port = attach(&device("ring"), &pool).unwrap();
    let mut out = [NONE; 8];
    assert!(pool.alloc_bulk(&mut out));
    for (number, &mbuf) in out.iter().enumerate() {
        // SAFETY: fresh from the pool, ours alone; 60 bytes fit in its data room.
        unsafe {
            let bytes = (*mbuf).buf_addr.cast::<u8>().add((*mbuf).data_off.into());
            std::slice::from_raw_parts_mut(bytes, 60).fill(number as u8);
            ((*mbuf).data_len, (*mbuf).pkt_len) = (60, 60);
        }
    }
    // SAFETY: this thread is the only one that uses the port; the mbufs are ours.
    assert_eq!(unsafe { port.tx_burst(0, &mut out) }, 8);
    let mut back = [NONE; 32];
    // SAFETY: as above.
    assert_eq!(unsafe { port.rx_burst(0, &mut back) }, 8);
    for (number, &mbuf) in back[..8].iter().enumerate() {
        // SAFETY: received, so live and ours.
        let bytes = unsafe {
            let bytes = (*mbuf).buf_addr.cast::<u8>().add((*mbuf).data_off.into());
            std::slice::from_raw_parts(bytes, (*mbuf).data_len.into())
        };
        assert_eq!(bytes, [number as u8; 60]);
    }
    // SAFETY: ours, not used again.
    unsafe { pool.put_bulk(&mut back[..8]) };
    drop(port);
    assert_eq!(pool.available(), 4096);
}

#[test]
fn a_name_that_is_taken_is_refused_and_said_so() {
    let pool = pool("taken", 1024);
    let name = device("null");
    let _first = attach(&name, &pool).unwrap();
    let Err(error) = attach(&format!("{name},size=128"), &pool) else {
        panic!("attached twice")
    };
    assert!(
        matches!(&error, PortError::NameTaken { name: taken, .. } if *taken == name),
        "{error}"
    );
}

#[test]
fn wrong_devargs_are_refused_with_what_dpdk_said() {
    let pool = pool("wrong", 1024);
    for devargs in [
        "net_nonesuch0",
        "net_af_packet77,iface=nosuchinterface",
        "net_null78,size=x",
        "",
        "net_null79\0",
    ] {
        let Err(error) = attach(devargs, &pool) else {
            panic!("{devargs} was attached")
        };
        println!("{error}");
        assert!(error.to_string().contains(devargs), "{error}");
    }
    assert_eq!(pool.available(), 1024);
}

#[test]
fn frames_that_do_not_fit_a_data_room_are_refused_with_the_numbers() {
    let pool = pool("room", 1024);
    let options = EthOptions {
        max_frame_bytes: 2049,
        ..EthOptions::default()
    };
    let outcome = EthPort::attach(Eal::get().unwrap(), &device("null"), options, &pool);
    assert!(matches!(
        outcome,
        Err(PortError::DataRoom {
            needed: 2177,
            have: 2176,
            ..
        })
    ));
}

#[test]
fn every_driver_for_kernel_interfaces_and_other_processes_is_linked_in() {
    let pool = pool("drivers", 1024);
    // An interface that is not there, a path that cannot be: the driver itself has to say so.
    let devargs = [
        "net_af_packet200,iface=nosuchinterface",
        "net_af_xdp200,iface=nosuchinterface",
        "net_tap200,iface=much_too_long_for_an_interface",
        "net_memif200,role=nosuchrole",
        "net_vhost200",
        "net_virtio_user200,path=/nosuchpath/socket",
    ];
    for devargs in devargs {
        let Err(error) = attach(devargs, &pool) else {
            panic!("{devargs} was attached")
        };
        println!("{error}");
        let unknown = "failed to parse device";
        assert!(!error.to_string().contains(unknown), "{error}");
    }
    assert_eq!(pool.available(), 1024);
}

#[test]
fn more_queues_than_the_driver_has_are_refused() {
    let pool = pool("queues", 1024);
    let options = EthOptions {
        tx_queues: 5000,
        ..EthOptions::default()
    };
    let outcome = EthPort::attach(Eal::get().unwrap(), &device("null"), options, &pool);
    assert!(matches!(
        outcome,
        Err(PortError::Queues {
            direction: "tx",
            wanted: 5000,
            ..
        })
    ));
}

#[test]
fn an_indirect_mbuf_speaks_of_the_same_bytes_and_keeps_them_from_the_pool() {
    let eal = Eal::get().unwrap();
    let pool = pool("direct", 1024);
    let indirect = IndirectPool::create(eal, "indirect", 512).unwrap();
    let (mut direct, mut clones) = ([NONE; 4], [NONE; 4]);
    assert!(pool.alloc_bulk(&mut direct));
    // SAFETY: fresh mbufs of ours; freed once each below.
    unsafe {
        (*direct[0]).data_len = 99;
        assert!(indirect.clone_bulk(&mut direct, &mut clones));
        assert_eq!(
            ((*clones[0]).buf_addr, (*clones[0]).data_len),
            ((*direct[0]).buf_addr, 99)
        );
        assert_eq!((*direct[0]).refcnt, 2);
        free_bulk(&mut direct);
        assert_eq!(pool.available(), 1020);
        free_bulk(&mut clones);
    }
    assert_eq!((pool.available(), indirect.available()), (1024, 512));
}

#[test]
fn threads_may_come_and_go_as_workers() {
    let pool = pool("workers", 2048);
    for _ in 0..150 {
        let _no_signals = mvmp_core::dpdk::BlockedSignals::all();
        let pool = pool.clone();
        let worker = std::thread::spawn(move || {
            let lcore = WorkerLcore::register().unwrap();
            let mut mbufs = [NONE; 64];
            assert!(pool.alloc_bulk(&mut mbufs));
            // SAFETY: fresh, ours, not used again.
            unsafe { pool.put_bulk(&mut mbufs) };
            pool.flush_cache();
            lcore.id()
        });
        assert!(worker.join().unwrap() > 0);
    }
    assert_eq!(pool.available(), 2048);
}
