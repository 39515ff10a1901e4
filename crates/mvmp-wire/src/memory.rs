//! Shared memory: memfds, their seals, and mappings of them. The one unsafe room of this crate.
//!
//! The order of creation, touching, handing out and sealing is what makes a region read-only or
//! unpunchable (`docs/safety.md`); this file offers the steps, `region` and the platform take
//! them in order.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::sync::{AtomicU32, AtomicU64};

/// Why shared memory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A system call said no.
    #[error("{step}: {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: rustix::io::Errno,
    },
    /// The memory behind a file descriptor is not what was announced.
    #[error("the region has {found} bytes, {announced} were announced")]
    Size {
        /// Bytes announced by message.
        announced: usize,
        /// Bytes that the file has.
        found: u64,
    },
}

fn failed(step: &'static str) -> impl FnOnce(rustix::io::Errno) -> MemoryError {
    move |source| MemoryError::System { step, source }
}

/// Who may still store into a memfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// Its size is fixed; whoever holds it may map and store.
    Size,
    /// Its size is fixed, mappings that exist may go on storing, nobody gets a new writable one.
    ForGood,
}

/// Creates an unsealed memfd of `len` bytes on ordinary pages.
///
/// # Errors
/// The system call that failed.
pub fn create(name: &str, len: usize) -> Result<OwnedFd, MemoryError> {
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(failed("memfd_create"))?;
    rustix::fs::ftruncate(&fd, len as u64).map_err(failed("ftruncate of a memfd"))?;
    Ok(fd)
}

/// Adds seals. They can never be taken back.
///
/// # Errors
/// The system call that failed, on kernels before 5.1 for want of `F_SEAL_FUTURE_WRITE`.
pub fn seal(fd: impl AsFd, sealed: Sealed) -> Result<(), MemoryError> {
    let size = SealFlags::SHRINK | SealFlags::GROW;
    let seals = match sealed {
        Sealed::Size => size,
        Sealed::ForGood => size | SealFlags::FUTURE_WRITE | SealFlags::SEAL,
    };
    rustix::fs::fcntl_add_seals(fd, seals).map_err(failed("F_ADD_SEALS"))
}

/// Finds out whether this kernel seals as the platform needs it: a second writable mapping of a
/// sealed memfd must be refused.
///
/// # Errors
/// What is missing, in words for the operator.
pub fn probe_seals() -> Result<(), String> {
    let attempt = || -> Result<bool, MemoryError> {
        let fd = create("mvmp-probe", 4096)?;
        let _kept = Mapping::of(&fd, 4096, Access::ReadWrite)?;
        seal(&fd, Sealed::ForGood)?;
        Ok(Mapping::of(&fd, 4096, Access::ReadWrite).is_err()
            && Mapping::of(&fd, 4096, Access::ReadOnly).is_ok())
    };
    match attempt() {
        Ok(true) => Ok(()),
        Ok(false) => Err("this kernel accepts F_SEAL_FUTURE_WRITE but does not enforce it".into()),
        Err(error) => Err(format!(
            "this kernel cannot seal memory against later writers (Linux 5.14 is needed): {error}"
        )),
    }
}

/// How a mapping may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Loads only.
    ReadOnly,
    /// Loads and stores.
    ReadWrite,
}

/// A shared mapping of a whole memfd; unmapped when dropped. Never inherited by a forked child.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    access: Access,
    owner: rustix::process::Pid,
}

// SAFETY: the mapping is plain memory without an owner thread; all access goes through atomics,
// raw copies, or the unsafe `bytes`, whose callers answer for races.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `fd` from its start.
    ///
    /// # Errors
    /// [`MemoryError::Size`] when the file is shorter (touching it would be a SIGBUS), else the system call that failed.
    pub fn of(fd: impl AsFd, len: usize, access: Access) -> Result<Self, MemoryError> {
        let found = rustix::fs::fstat(&fd)
            .map_err(failed("fstat of a region"))?
            .st_size as u64;
        if len == 0 || found < len as u64 {
            return Err(MemoryError::Size {
                announced: len,
                found,
            });
        }
        let prot = match access {
            Access::ReadOnly => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs no other memory.
        let base =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, fd, 0) }
                .map_err(failed("mmap of a region"))?;
        // SAFETY: the range was mapped a line above. A child must not see it (DESIGN: inert after fork).
        unsafe { rustix::mm::madvise(base, len, Advice::LinuxDontFork) }
            .map_err(failed("MADV_DONTFORK"))?;
        let base = NonNull::new(base.cast()).expect("mmap never returns null on success");
        Ok(Self {
            base,
            len,
            access,
            owner: rustix::process::getpid(),
        })
    }

    /// Makes every page present, so that no later access can fail or be charged to someone else.
    ///
    /// # Errors
    /// The system call that failed (no memory, or a hole punched by the owner that cannot be filled).
    pub fn populate(&self) -> Result<(), MemoryError> {
        let (advice, step) = match self.access {
            Access::ReadOnly => (Advice::LinuxPopulateRead, "MADV_POPULATE_READ"),
            Access::ReadWrite => (Advice::LinuxPopulateWrite, "MADV_POPULATE_WRITE"),
        };
        // SAFETY: the range is ours and stays mapped; populating changes no contents.
        unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, advice) }
            .map_err(failed(step))
    }

    /// Bytes mapped.
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where it begins, for prefetching and for talking to C.
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The shared 32-bit word at `offset`.
    ///
    /// # Panics
    /// Outside of the mapping or unaligned: offsets are chosen by the platform, so that is our bug.
    #[inline(always)]
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4) && offset + 4 <= self.len,
            "a shared word lies inside its region"
        );
        // SAFETY: in bounds and aligned; AtomicU32 allows any bit pattern and concurrent access.
        unsafe { &*self.base.as_ptr().add(offset).cast::<AtomicU32>() }
    }

    /// `count` shared 64-bit words from `offset` on.
    ///
    /// # Panics
    /// Outside of the mapping or unaligned: our bug, as above.
    #[inline(always)]
    pub fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        assert!(
            offset.is_multiple_of(8) && offset + count * 8 <= self.len,
            "shared words lie inside their region"
        );
        // SAFETY: in bounds and aligned; AtomicU64 allows any bit pattern and concurrent access.
        unsafe {
            std::slice::from_raw_parts(self.base.as_ptr().add(offset).cast::<AtomicU64>(), count)
        }
    }

    /// Copies bytes out; false (and nothing copied) where the range is not inside the mapping.
    /// The peer may be writing: the copy is then some mixture, which the caller must expect.
    #[inline]
    pub fn copy_out(&self, offset: usize, into: &mut [u8]) -> bool {
        if offset
            .checked_add(into.len())
            .is_none_or(|end| end > self.len)
        {
            return false;
        }
        // SAFETY: in bounds; raw copy, no reference to the shared bytes is formed.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.base.as_ptr().add(offset),
                into.as_mut_ptr(),
                into.len(),
            )
        };
        true
    }

    /// Copies bytes in; false where the range is not inside the mapping or it is read-only.
    #[inline]
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> bool {
        if self.access != Access::ReadWrite
            || offset
                .checked_add(from.len())
                .is_none_or(|end| end > self.len)
        {
            return false;
        }
        // SAFETY: in bounds and writable; raw copy, no reference to the shared bytes is formed.
        unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), self.base.as_ptr().add(offset), from.len())
        };
        true
    }

    /// A view of bytes, if they lie inside the mapping.
    ///
    /// # Safety
    /// Nobody may write these bytes while the slice lives: the caller holds a share on the buffer
    /// that they belong to, or is the pool's only writer.
    #[inline(always)]
    pub unsafe fn bytes(&self, offset: usize, len: usize) -> Option<&[u8]> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return None;
        }
        // SAFETY: in bounds; the caller promises that nobody writes meanwhile.
        Some(unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset), len) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // A forked child has no such mapping; what lies there by now may be something else.
        if rustix::process::getpid() != self.owner {
            return;
        }
        // SAFETY: the range is ours; references into it borrow `self` and are gone.
        // An error would mean that the range was not mapped, and there is nothing left to undo.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_sealed_for_good_takes_no_new_writer_but_its_first_mapping_stores_on() {
        let fd = create("test", 8192).unwrap();
        let first = Mapping::of(&fd, 8192, Access::ReadWrite).unwrap();
        first.populate().unwrap();
        seal(&fd, Sealed::ForGood).unwrap();
        assert!(Mapping::of(&fd, 8192, Access::ReadWrite).is_err());
        let reader = Mapping::of(&fd, 8192, Access::ReadOnly).unwrap();
        assert!(first.copy_in(4096, b"hello"));
        let mut seen = [0; 5];
        assert!(reader.copy_out(4096, &mut seen));
        assert_eq!(&seen, b"hello");
        assert!(
            !reader.copy_in(0, b"x"),
            "a read-only mapping takes no bytes"
        );
        assert!(
            rustix::fs::ftruncate(&fd, 0).is_err(),
            "a sealed region cannot shrink"
        );
        assert!(
            seal(&fd, Sealed::Size).is_err(),
            "no seal can follow F_SEAL_SEAL"
        );
    }

    #[test]
    fn a_file_shorter_than_announced_is_refused() {
        let fd = create("test", 4096).unwrap();
        assert!(matches!(
            Mapping::of(&fd, 8192, Access::ReadOnly),
            Err(MemoryError::Size { .. })
        ));
    }

    #[test]
    fn this_kernel_seals() {
        probe_seals().unwrap();
    }
}
