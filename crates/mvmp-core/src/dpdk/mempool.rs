//! DPDK's memory pools and the heap beneath a pool of ours: the C calls behind `pool` and `indirect`.
//!
//! Called on the EAL thread, but for [`alloc_bulk`]. Invariant: mempools are multi-producer and
//! multi-consumer with a cache for each lcore, so taking and giving back is safe on any thread (a
//! closing port gives its buffers back on the EAL thread while the worker goes on).

use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk_sys::{rte_mbuf, rte_mempool};

use super::eal::{Eal, error_text};
use super::error::PoolError;
use super::memory::SealedMemory;
use super::probe::HUGE_PAGE_BYTES;

/// Objects that an lcore keeps without touching the shared ring.
const CACHE_MBUFS: u32 = 512;

/// A mempool on its way to the EAL thread.
pub(super) struct SendPointer(pub NonNull<rte_mempool>);
// SAFETY: moved to the EAL thread, where the pool's life ends.
unsafe impl Send for SendPointer {}

pub(super) fn alloc_bulk(mempool: NonNull<rte_mempool>, mbufs: &mut [*mut rte_mbuf]) -> bool {
    // SAFETY: the slice has as many places as we say; the mempool lives as long as its owner.
    unsafe {
        dpdk_sys::dpdk_sys_pktmbuf_alloc_bulk(
            mempool.as_ptr(),
            mbufs.as_mut_ptr(),
            mbufs.len() as u32,
        ) == 0
    }
}

/// DPDK's names are short and must not meet again in this process.
pub(super) fn unique_name() -> CString {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // ORDERING: a counter that orders nothing.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    CString::new(format!("mvmp_{number}")).expect("no NUL in it")
}

fn refused(name: &str, step: &'static str, eal: &Eal) -> PoolError {
    // SAFETY: reads this thread's error word.
    let errno = unsafe { dpdk_sys::dpdk_sys_errno() };
    PoolError::Dpdk {
        name: name.to_owned(),
        step,
        error: error_text(errno),
        log: eal.take_log(),
    }
}

/// Makes the memory a heap of DPDK's and returns the socket id that means it.
pub(super) fn add_heap(
    name: &str,
    heap: &CString,
    memory: &SealedMemory,
    eal: &Eal,
) -> Result<i32, PoolError> {
    let mut iovas = memory.iova_table();
    let table = if iovas.is_empty() {
        ptr::null_mut()
    } else {
        iovas.as_mut_ptr()
    };
    let pages = u32::try_from(memory.bytes / HUGE_PAGE_BYTES).expect("checked at creation");
    // SAFETY: the memory is mapped, 2 MiB aligned, and outlives the heap (`Inner::drop`); the table
    // has an entry for each page. Plain pages are passed off as huge ones: true enough for drivers
    // without DMA, and else a page of 4 KiB would hold one object each.
    unsafe {
        if dpdk_sys::rte_malloc_heap_create(heap.as_ptr()) != 0 {
            return Err(refused(name, "no heap", eal));
        }
        let base = memory.base.as_ptr().cast();
        if dpdk_sys::rte_malloc_heap_memory_add(
            heap.as_ptr(),
            base,
            memory.bytes,
            table,
            pages,
            HUGE_PAGE_BYTES,
        ) != 0
        {
            let error = refused(name, "the memory was not added", eal);
            dpdk_sys::rte_malloc_heap_destroy(heap.as_ptr());
            return Err(error);
        }
        Ok(dpdk_sys::rte_malloc_heap_get_socket(heap.as_ptr()))
    }
}

pub(super) fn remove_heap(heap: &CString, memory: &SealedMemory) -> bool {
    // SAFETY: the heap is ours; DPDK refuses while something lives in it.
    unsafe {
        dpdk_sys::rte_malloc_heap_memory_remove(
            heap.as_ptr(),
            memory.base.as_ptr().cast(),
            memory.bytes,
        ) == 0
            && dpdk_sys::rte_malloc_heap_destroy(heap.as_ptr()) == 0
    }
}

/// A cache is never so large that the others starve.
fn cache_mbufs(mbufs: u32) -> u32 {
    CACHE_MBUFS.min(mbufs / 8)
}

pub(super) fn create_mempool(
    name: &str,
    dpdk_name: &CString,
    mbufs: u32,
    data_room_bytes: u16,
    socket: i32,
    eal: &Eal,
) -> Result<NonNull<rte_mempool>, PoolError> {
    let cache = cache_mbufs(mbufs);
    // SAFETY: the name is copied by DPDK.
    let mempool = unsafe {
        dpdk_sys::rte_pktmbuf_pool_create(
            dpdk_name.as_ptr(),
            mbufs,
            cache,
            0,
            data_room_bytes,
            socket,
        )
    };
    NonNull::new(mempool).ok_or_else(|| refused(name, "no mempool", eal))
}
