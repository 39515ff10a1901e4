//! Packet memory: one sealed memfd with a pktmbuf pool in it.
//!
//! Called by the platform's control code (creation), its workers (taking and giving back) and by
//! ports (reception). NFs get the memfd and map it for reading; nobody can map it for writing any more.
//!
//! ```text
//!   memfd  ┌──────────────┬────────┬────────────────────────────────────────────────┐
//!          │ rte_mempool, │ ring   │ header│mbuf│headroom 128│ data │ header│mbuf│ …  │
//!          │ lcore caches │        │                                                │
//!          └──────────────┴────────┴────────────────────────────────────────────────┘
//!   granule of a buffer = (buf_addr − base) >> 11, distinct because a stride is longer than 2 KiB
//! ```
//!
//! Invariants: mapped and touched, then sealed `SHRINK|GROW|FUTURE_WRITE|SEAL`, then handed out; the
//! stride is an odd number of cache lines; the memory goes back to the kernel only when every
//! buffer is home, else it is leaked with an error in the log (a driver may still write there).

use std::ffi::{CString, c_void};
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys::{rte_mbuf, rte_mempool};

use super::eal::Eal;
use super::error::PoolError;
use super::memory::SealedMemory;
use super::mempool::{SendPointer, add_heap, alloc_bulk, create_mempool, remove_heap, unique_name};
use super::probe::HUGE_PAGE_BYTES;

/// A descriptor names a buffer by its 2 KiB granule.
pub const GRANULE_SHIFT: u32 = 11;
const GRANULE_BYTES: usize = 1 << GRANULE_SHIFT;

/// Mempool header and the caches of 128 lcores (1 MiB), the heap's own words, alignment.
const OVERHEAD_BYTES: usize = 6 << 20;

/// Where one buffer is.
#[derive(Debug, Clone, Copy)]
pub struct PoolBuffer {
    /// Names the buffer in descriptors; no other buffer of the pool has it.
    pub granule: u32,
    /// Where `buf_addr` (the start of the headroom) is within the granule.
    pub buf_offset: u16,
    /// Its mbuf.
    pub mbuf: *mut rte_mbuf,
}

/// Packet memory. Clones share it; ports keep a clone.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    eal: &'static Eal,
    mempool: NonNull<rte_mempool>,
    heap: CString,
    /// `None` once it was leaked or given back.
    memory: Option<SealedMemory>,
    buffers: Vec<PoolBuffer>,
    data_room_bytes: u16,
}

// SAFETY: the mempool is multi-producer and multi-consumer (each lcore its own cache); the pointers
// in `buffers` are places, read and written under the rules of the unsafe functions that use them.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Pool {
    /// Creates a pool of `buffers` buffers, each with a data room of `data_room_bytes` of which
    /// the first 128 are headroom.
    ///
    /// # Errors
    /// Sizes that cannot be, no memory, a kernel without `F_SEAL_FUTURE_WRITE`, or what DPDK said.
    pub fn create(
        eal: &'static Eal,
        name: &str,
        buffers: u32,
        data_room_bytes: u16,
    ) -> Result<Pool, PoolError> {
        check_size(buffers, data_room_bytes)?;
        let bytes = memory_bytes(buffers, data_room_bytes);
        let memory = SealedMemory::create(name, bytes)?;
        let (name, heap) = (name.to_owned(), unique_name());
        eal.run(move || {
            let socket = add_heap(&name, &heap, &memory, eal)?;
            match create_mempool(&name, &heap, buffers, data_room_bytes, socket, eal) {
                Ok(mempool) => Ok(Pool {
                    inner: Arc::new(Inner {
                        buffers: list_buffers(mempool, &memory),
                        name,
                        eal,
                        mempool,
                        heap,
                        memory: Some(memory),
                        data_room_bytes,
                    }),
                }),
                Err(error) => {
                    remove_heap(&heap, &memory);
                    Err(error)
                }
            }
        })
    }

    fn memory(&self) -> &SealedMemory {
        self.inner.memory.as_ref().expect("only drop takes it")
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The sealed memfd, to be handed to NFs: they can map it for reading only.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.memory().fd.as_fd()
    }

    /// Where it is mapped here, for writing.
    pub fn base(&self) -> *mut u8 {
        self.memory().base.as_ptr()
    }

    /// Its length.
    pub fn len_bytes(&self) -> usize {
        self.memory().bytes
    }

    /// The size of its pages.
    pub fn page_bytes(&self) -> usize {
        self.memory().page_bytes
    }

    /// One past the highest granule: the size of a table that is indexed by granule.
    pub fn granules(&self) -> u32 {
        u32::try_from(self.len_bytes() >> GRANULE_SHIFT).expect("checked at creation")
    }

    /// How many buffers it has.
    pub fn buffers(&self) -> u32 {
        u32::try_from(self.inner.buffers.len()).expect("created from a u32")
    }

    /// Bytes of a data room, headroom (128) included.
    pub fn data_room_bytes(&self) -> u16 {
        self.inner.data_room_bytes
    }

    /// Free buffers, those in lcores' caches included. Exact when nobody takes or gives back.
    pub fn available(&self) -> u32 {
        // SAFETY: the mempool lives as long as `inner`.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.inner.mempool.as_ptr()) }
    }

    /// All buffers, in the order of their granules.
    pub fn mbufs(&self) -> &[PoolBuffer] {
        &self.inner.buffers
    }

    /// The granule of an mbuf's buffer.
    ///
    /// # Safety
    /// `mbuf` is a live mbuf whose bytes are in this pool.
    #[inline]
    pub unsafe fn granule_of(&self, mbuf: *const rte_mbuf) -> u32 {
        // SAFETY: the caller's promise.
        let address = unsafe { (*mbuf).buf_addr } as usize;
        ((address - self.base() as usize) >> GRANULE_SHIFT) as u32
    }

    /// Fills the slice with reset mbufs (refcnt 1, headroom 128, length 0), or takes none and says false.
    #[inline]
    pub fn alloc_bulk(&self, mbufs: &mut [*mut rte_mbuf]) -> bool {
        alloc_bulk(self.inner.mempool, mbufs)
    }

    /// Gives back buffers without looking at them: the fast way.
    ///
    /// # Safety
    /// The caller alone holds them; they are of this pool and as allocated: direct, refcnt 1, one
    /// segment, `next` null.
    #[inline]
    pub unsafe fn put_bulk(&self, mbufs: &mut [*mut rte_mbuf]) {
        let (pool, n) = (self.inner.mempool.as_ptr(), mbufs.len() as u32);
        // SAFETY: the caller's promise; the mempool lives as long as `inner`.
        unsafe { dpdk_sys::dpdk_sys_mempool_put_bulk(pool, mbufs.as_mut_ptr(), n) };
    }

    /// Gives the calling lcore's cache back to the pool. A worker does so before it unregisters.
    pub fn flush_cache(&self) {
        // SAFETY: the mempool lives as long as `inner`; an unregistered thread has no cache.
        unsafe { dpdk_sys::dpdk_sys_mempool_cache_flush(self.inner.mempool.as_ptr()) };
    }

    /// What its mbufs say that they are from.
    pub fn mempool(&self) -> *mut rte_mempool {
        self.inner.mempool.as_ptr()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let (eal, name) = (self.eal, self.name.as_str());
        let Some(memory) = self.memory.take() else {
            return;
        };
        let (mempool, heap) = (SendPointer(self.mempool), &self.heap);
        eal.run(move || {
            let mempool = mempool;
            // SAFETY: nobody else has the mempool any more; it is freed only if every object is home.
            let missing = unsafe { dpdk_sys::rte_mempool_in_use_count(mempool.0.as_ptr()) };
            if missing != 0 {
                tracing::error!(
                    pool = name,
                    missing,
                    "buffers are missing; the pool's memory is kept until the process ends"
                );
                return std::mem::forget(memory);
            }
            // SAFETY: as above.
            unsafe { dpdk_sys::rte_mempool_free(mempool.0.as_ptr()) };
            if !remove_heap(heap, &memory) {
                tracing::error!(
                    pool = name,
                    "DPDK keeps the pool's memory until the process ends"
                );
                std::mem::forget(memory);
            }
        });
    }
}

/// Frees mbufs of any pool, along their chains; an indirect one gives its reference back.
///
/// # Safety
/// The caller holds them and does not use them again.
#[inline]
pub unsafe fn free_bulk(mbufs: &mut [*mut rte_mbuf]) {
    // SAFETY: the caller's promise.
    unsafe { dpdk_sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr(), mbufs.len() as u32) };
}

fn check_size(buffers: u32, data_room_bytes: u16) -> Result<(), PoolError> {
    let why = if buffers == 0 {
        "there must be at least one"
    } else if usize::from(data_room_bytes) < GRANULE_BYTES {
        "a data room has at least 2048 bytes"
    } else if usize::from(data_room_bytes) + GRANULE_BYTES > usize::from(u16::MAX) {
        "a data room has at most 63487 bytes"
    } else if memory_bytes(buffers, data_room_bytes) >> GRANULE_SHIFT > 1 << 26 {
        "a pool has at most 2^26 granules of 2 KiB"
    } else {
        return Ok(());
    };
    Err(PoolError::Size {
        buffers,
        data_room_bytes: data_room_bytes.into(),
        why,
    })
}

/// No object crosses a page of 2 MiB, as DPDK lays them out.
fn memory_bytes(buffers: u32, data_room_bytes: u16) -> usize {
    const LINE: usize = 64;
    let object =
        usize::from(data_room_bytes).next_multiple_of(LINE) + size_of::<rte_mbuf>() + 2 * LINE;
    let pages = (buffers as usize).div_ceil(HUGE_PAGE_BYTES / object);
    let ring = (buffers as usize + 1).next_power_of_two() * size_of::<*mut c_void>();
    (pages * HUGE_PAGE_BYTES + ring + OVERHEAD_BYTES).next_multiple_of(HUGE_PAGE_BYTES)
}

fn list_buffers(mempool: NonNull<rte_mempool>, memory: &SealedMemory) -> Vec<PoolBuffer> {
    unsafe extern "C" fn note(_: *mut rte_mempool, mbufs: *mut c_void, mbuf: *mut c_void, _: u32) {
        // SAFETY: `mbufs` is the vector passed below, which nobody else refers to meanwhile.
        unsafe { (*mbufs.cast::<Vec<*mut rte_mbuf>>()).push(mbuf.cast()) };
    }
    let mut mbufs: Vec<*mut rte_mbuf> = Vec::new();
    // SAFETY: the callback's argument is what it expects and outlives the call.
    unsafe {
        dpdk_sys::rte_mempool_obj_iter(mempool.as_ptr(), Some(note), (&raw mut mbufs).cast())
    };
    let place = |mbuf: *mut rte_mbuf| {
        // SAFETY: an object of the pool, initialised as an mbuf by its creation.
        let offset = unsafe { (*mbuf).buf_addr } as usize - memory.base.as_ptr() as usize;
        PoolBuffer {
            granule: (offset >> GRANULE_SHIFT) as u32,
            buf_offset: (offset % GRANULE_BYTES) as u16,
            mbuf,
        }
    };
    let mut buffers: Vec<PoolBuffer> = mbufs.into_iter().map(place).collect();
    buffers.sort_by_key(|buffer| buffer.granule);
    buffers
}
