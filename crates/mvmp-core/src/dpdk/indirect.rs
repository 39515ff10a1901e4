//! Mbufs that speak of another mbuf's bytes: how a buffer is sent that somebody else still reads.
//!
//! Called by workers. Invariant: a clone holds a reference to its buffer until the driver has sent
//! it, so the buffer goes home with the last of them.

use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys::{rte_mbuf, rte_mempool};

use super::eal::Eal;
use super::error::PoolError;
use super::mempool::{SendPointer, alloc_bulk, create_mempool, unique_name};

/// Mbufs without bytes of their own, in EAL's memory: they speak of another mbuf's bytes.
#[derive(Clone)]
pub struct IndirectPool {
    inner: Arc<IndirectInner>,
}

struct IndirectInner {
    name: String,
    eal: &'static Eal,
    mempool: NonNull<rte_mempool>,
}

// SAFETY: as for `Inner`.
unsafe impl Send for IndirectInner {}
// SAFETY: as for `Inner`.
unsafe impl Sync for IndirectInner {}

impl IndirectPool {
    /// Creates a pool of `mbufs` mbufs.
    ///
    /// # Errors
    /// What DPDK said.
    pub fn create(eal: &'static Eal, name: &str, mbufs: u32) -> Result<IndirectPool, PoolError> {
        let (name, dpdk_name) = (name.to_owned(), unique_name());
        eal.run(move || {
            let mempool =
                create_mempool(&name, &dpdk_name, mbufs, 0, dpdk_sys::SOCKET_ID_ANY, eal)?;
            Ok(IndirectPool {
                inner: Arc::new(IndirectInner { name, eal, mempool }),
            })
        })
    }

    /// Fills `clones` with mbufs that speak of the bytes of `direct` (offset and lengths are
    /// copied), and adds a reference to each of those. False: not enough, nothing done.
    ///
    /// # Safety
    /// `direct` are live mbufs of one segment each that the caller holds, as many as `clones`.
    pub unsafe fn clone_bulk(
        &self,
        direct: &mut [*mut rte_mbuf],
        clones: &mut [*mut rte_mbuf],
    ) -> bool {
        assert_eq!(direct.len(), clones.len(), "a clone for each");
        if !alloc_bulk(self.inner.mempool, clones) {
            return false;
        }
        let n = clones.len() as u32;
        // SAFETY: the clones are fresh, the rest is the caller's promise.
        unsafe {
            dpdk_sys::dpdk_sys_pktmbuf_attach_bulk(clones.as_mut_ptr(), direct.as_mut_ptr(), n)
        };
        true
    }

    /// Free ones.
    pub fn available(&self) -> u32 {
        // SAFETY: the mempool lives as long as `inner`.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.inner.mempool.as_ptr()) }
    }

    /// Gives the calling lcore's cache back to the pool.
    pub fn flush_cache(&self) {
        // SAFETY: as in `Pool::flush_cache`.
        unsafe { dpdk_sys::dpdk_sys_mempool_cache_flush(self.inner.mempool.as_ptr()) };
    }
}

impl Drop for IndirectInner {
    fn drop(&mut self) {
        let (mempool, name) = (SendPointer(self.mempool), self.name.as_str());
        self.eal.run(move || {
            let mempool = mempool;
            // SAFETY: nobody else has it any more; it is freed only if every mbuf is home.
            unsafe {
                match dpdk_sys::rte_mempool_in_use_count(mempool.0.as_ptr()) {
                    0 => dpdk_sys::rte_mempool_free(mempool.0.as_ptr()),
                    missing => tracing::error!(
                        pool = name,
                        missing,
                        "data-less mbufs are missing; their pool is kept"
                    ),
                }
            }
        });
    }
}
