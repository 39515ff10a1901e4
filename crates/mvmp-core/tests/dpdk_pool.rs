//! Packet memory: its layout, its seals, its life.

use std::collections::HashSet;

use mvmp_core::dpdk::{Eal, Pool, PoolError};
use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

#[test]
fn every_buffer_lies_in_the_memory_and_has_a_granule_of_its_own() {
    let eal = Eal::get().unwrap();
    for (buffers, room) in [
        (1, 2048),
        (64, 2176),
        (1023, 2176),
        (16384, 2176),
        (5000, 3000),
        (700, 9856),
        (65535, 2048),
        (40, 63487),
    ] {
        let pool = Pool::create(eal, "layout", buffers, room).unwrap();
        assert_eq!((pool.buffers(), pool.available()), (buffers, buffers));
        let granules: HashSet<u32> = pool.mbufs().iter().map(|buffer| buffer.granule).collect();
        assert_eq!(granules.len(), buffers as usize, "{buffers} of {room}");
        for buffer in pool.mbufs() {
            let start = ((buffer.granule as usize) << 11) + usize::from(buffer.buf_offset);
            assert!(start + usize::from(room) <= pool.len_bytes());
            assert!(buffer.granule < pool.granules());
            // SAFETY: a live mbuf of the pool.
            unsafe {
                assert_eq!((*buffer.mbuf).buf_addr.cast::<u8>(), pool.base().add(start));
                assert_eq!(pool.granule_of(buffer.mbuf), buffer.granule);
            }
        }
    }
}

#[test]
fn neighbours_are_an_odd_number_of_cache_lines_apart() {
    let pool = Pool::create(Eal::get().unwrap(), "stride", 512, 2176).unwrap();
    let starts: Vec<usize> = pool
        .mbufs()
        .iter()
        .map(|buffer| ((buffer.granule as usize) << 11) + usize::from(buffer.buf_offset))
        .collect();
    let stride = starts[1] - starts[0];
    assert_eq!((stride % 64, stride / 64 % 2), (0, 1), "{stride}");
}

#[test]
fn the_descriptor_maps_for_reading_and_never_for_writing() {
    let pool = Pool::create(Eal::get().unwrap(), "seals", 256, 2176).unwrap();
    let seals = rustix::fs::fcntl_get_seals(pool.fd()).unwrap();
    assert_eq!(
        seals,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL
    );
    let map = |protection| {
        // SAFETY: a mapping of its own, unmapped below.
        unsafe {
            mmap(
                std::ptr::null_mut(),
                pool.len_bytes(),
                protection,
                MapFlags::SHARED,
                pool.fd(),
                0,
            )
        }
    };
    assert_eq!(
        map(ProtFlags::READ | ProtFlags::WRITE),
        Err(rustix::io::Errno::PERM)
    );
    let buffer = pool.mbufs()[7];
    let at = ((buffer.granule as usize) << 11) + usize::from(buffer.buf_offset);
    let view = map(ProtFlags::READ).unwrap();
    // SAFETY: both places are inside their mappings; the buffer is free, nobody else looks at it.
    unsafe {
        pool.base().add(at).write_volatile(0xa5);
        assert_eq!(view.cast::<u8>().add(at).read_volatile(), 0xa5);
        munmap(view, pool.len_bytes()).unwrap();
    }
}

#[test]
fn a_pool_can_be_made_and_unmade_many_times() {
    let eal = Eal::get().unwrap();
    for _ in 0..40 {
        drop(Pool::create(eal, "again", 1024, 2176).unwrap());
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let eal = Eal::get().unwrap();
    for (buffers, room) in [(0, 2176), (100, 2047), (100, 65535), (u32::MAX, 2176)] {
        assert!(matches!(
            Pool::create(eal, "size", buffers, room),
            Err(PoolError::Size { .. })
        ));
    }
}

#[test]
fn a_pool_with_a_missing_buffer_is_kept_mapped() {
    let pool = Pool::create(Eal::get().unwrap(), "missing", 64, 2176).unwrap();
    let mut held = [std::ptr::null_mut(); 1];
    assert!(pool.alloc_bulk(&mut held));
    drop(pool);
    // SAFETY: the pool's memory is kept because this mbuf is missing.
    assert_eq!(unsafe { (*held[0]).refcnt }, 1);
}
