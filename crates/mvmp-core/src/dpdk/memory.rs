//! A memfd that is mapped here for writing and that nobody else can ever map so.
//!
//! Called by `pool`. Invariants: mapped and every page touched by us (the first toucher pays in
//! its memory cgroup) before the seals; sealed before the descriptor can be seen by anyone.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use super::error::PoolError;
use super::probe::{HUGE_PAGE_BYTES, huge_pages_fit};

/// The memory; unmapped when dropped.
pub(super) struct SealedMemory {
    pub fd: OwnedFd,
    /// Aligned to 2 MiB, whatever the pages are.
    pub base: NonNull<u8>,
    /// A multiple of 2 MiB.
    pub bytes: usize,
    pub page_bytes: usize,
}

// SAFETY: owns its mapping; what is stored there is the business of the pool's rules.
unsafe impl Send for SealedMemory {}

type Step = (&'static str, Errno);

impl SealedMemory {
    /// On huge pages where they are to be had and it fits, else on plain ones.
    pub fn create(name: &str, bytes: usize) -> Result<SealedMemory, PoolError> {
        if huge_pages_fit(bytes)
            && let Ok(memory) = create(
                name,
                bytes,
                MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
                HUGE_PAGE_BYTES,
            )
        {
            return Ok(memory);
        }
        create(name, bytes, MemfdFlags::empty(), rustix::param::page_size()).map_err(
            |(step, error)| PoolError::Memory {
                name: name.to_owned(),
                bytes,
                step,
                error,
            },
        )
    }

    /// The I/O addresses of its pages of 2 MiB; empty where they are of no use (plain pages).
    pub fn iova_table(&self) -> Vec<dpdk_sys::rte_iova_t> {
        if self.page_bytes != HUGE_PAGE_BYTES {
            return Vec::new();
        }
        let pages = (0..self.bytes).step_by(HUGE_PAGE_BYTES);
        let address = |offset| self.base.as_ptr().wrapping_add(offset).cast_const().cast();
        // SAFETY: EAL is initialised; the pages are mapped and touched.
        unsafe {
            if dpdk_sys::rte_eal_iova_mode() == dpdk_sys::RTE_IOVA_VA {
                return pages.map(|offset| address(offset) as u64).collect();
            }
            pages
                .map(|offset| dpdk_sys::rte_mem_virt2iova(address(offset)))
                .collect()
        }
    }
}

impl Drop for SealedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and whole; its last user is gone.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

fn create(
    name: &str,
    bytes: usize,
    flags: MemfdFlags,
    page_bytes: usize,
) -> Result<SealedMemory, Step> {
    let name =
        CString::new(format!("mvmp pool {}", name.replace('\0', ""))).expect("NULs are taken out");
    let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create(&name, flags).map_err(|error| ("memfd_create", error))?;
    ftruncate(&fd, bytes as u64).map_err(|error| ("ftruncate", error))?;
    let base = map_aligned(&fd, bytes).map_err(|error| ("mmap", error))?;
    let memory = SealedMemory {
        fd,
        base,
        bytes,
        page_bytes,
    };
    // A store into a page that cannot be had would be a SIGBUS; this is an error instead.
    // SAFETY: populating our own mapping changes no byte of it.
    unsafe { madvise(base.as_ptr().cast(), bytes, Advice::LinuxPopulateWrite) }
        .map_err(|error| ("touching every page", error))?;
    // A forked child gets no writable mapping of packet memory.
    // SAFETY: as above.
    unsafe { madvise(base.as_ptr().cast(), bytes, Advice::LinuxDontFork) }
        .map_err(|error| ("MADV_DONTFORK", error))?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
    fcntl_add_seals(&memory.fd, seals)
        .map_err(|error| ("sealing (Linux 5.14 or later is needed)", error))?;
    Ok(memory)
}

/// Reserves more than is needed, and maps at the first multiple of 2 MiB in it.
fn map_aligned(fd: &OwnedFd, bytes: usize) -> rustix::io::Result<NonNull<u8>> {
    let reserved = bytes + HUGE_PAGE_BYTES;
    // SAFETY: a fresh reservation at an address that the kernel chooses; only parts of it are mapped
    // over or given back.
    unsafe {
        let start = mmap_anonymous(
            std::ptr::null_mut(),
            reserved,
            ProtFlags::empty(),
            MapFlags::PRIVATE,
        )?;
        let skipped = start.align_offset(HUGE_PAGE_BYTES);
        let base = start.byte_add(skipped);
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        if let Err(error) = mmap(
            base,
            bytes,
            protection,
            MapFlags::SHARED | MapFlags::FIXED,
            fd,
            0,
        ) {
            munmap(start, reserved)?;
            return Err(error);
        }
        if skipped > 0 {
            munmap(start, skipped)?;
        }
        if reserved > skipped + bytes {
            munmap(base.byte_add(bytes), reserved - skipped - bytes)?;
        }
        Ok(NonNull::new(base.cast()).expect("mmap does not return null"))
    }
}
