//! The mark by which an object knows that it lives in a forked child. An unsafe room.
//!
//! A page that the kernel wipes at `fork` holds a 1; a child reads 0 there. Asking is one load,
//! which costs less than `getpid` and needs no handler registered with libc.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};

const PAGE_BYTES: usize = 4096;

/// True in the process that made it, false in its children.
#[derive(Debug)]
pub(crate) struct Born {
    page: NonNull<AtomicU32>,
}

// SAFETY: the page holds one atomic word and has no owner thread.
unsafe impl Send for Born {}
// SAFETY: as above.
unsafe impl Sync for Born {}

impl Born {
    pub(crate) fn here() -> Result<Self, rustix::io::Errno> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice disturbs no other memory.
        let page = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), PAGE_BYTES, prot, MapFlags::PRIVATE)
        }?;
        // SAFETY: the page was mapped a line above and nobody else knows it.
        unsafe { rustix::mm::madvise(page, PAGE_BYTES, Advice::LinuxWipeOnFork) }?;
        let born = Self {
            page: NonNull::new(page.cast()).expect("mmap never returns null on success"),
        };
        born.word().store(1, Ordering::Relaxed);
        Ok(born)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped as long as `self` lives (in a child too: wiped, not unmapped) and aligned.
        unsafe { self.page.as_ref() }
    }

    /// Whether this is the process that it was made in.
    #[inline(always)]
    pub(crate) fn is_here(&self) -> bool {
        // ORDERING: relaxed; a child sees its own wiped page from its first instruction on.
        self.word().load(Ordering::Relaxed) == 1
    }
}

impl Drop for Born {
    fn drop(&mut self) {
        // SAFETY: the page is ours alone, in a child as well, and no reference to it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.page.as_ptr().cast(), PAGE_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_made_the_mark_sees_it() {
        let born = Born::here().unwrap();
        assert!(born.is_here());
    }
}
