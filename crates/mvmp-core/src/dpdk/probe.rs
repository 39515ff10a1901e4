//! What this machine and this user can have, found out before EAL is initialised (which is
//! possible only once) and before a pool is made.
//!
//! Called by `eal` and `pool`. Changes nothing.

use std::ffi::CStr;
use std::fs;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// The one size of huge page that we use.
pub(super) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// EAL's own heap wants this many to start with.
const EAL_HUGE_PAGES: usize = 32;

/// Set to `off` to do without huge pages where there are some.
const SWITCH: &str = "MVMP_HUGE_PAGES";

/// Whether huge pages can be used, and if not, why.
pub(super) struct HugePages {
    pub usable: bool,
    pub refused: Vec<String>,
}

pub(super) fn huge_pages() -> HugePages {
    match huge_pages_or_why_not() {
        Ok(()) => HugePages {
            usable: true,
            refused: Vec::new(),
        },
        Err(why) => HugePages {
            usable: false,
            refused: vec![format!("no huge pages: {why}")],
        },
    }
}

fn huge_pages_or_why_not() -> Result<(), String> {
    switched_off()?;
    let free = free_huge_pages()?;
    if free < EAL_HUGE_PAGES {
        return Err(format!(
            "{free} of 2 MiB are free, {EAL_HUGE_PAGES} are needed (vm.nr_hugepages)"
        ));
    }
    touch_one_huge_page().map_err(|error| format!("this user cannot have one: {error}"))
}

/// Whether a pool of so many bytes may try huge pages.
pub(super) fn huge_pages_fit(bytes: usize) -> bool {
    switched_off().is_ok() && free_huge_pages().is_ok_and(|free| free * HUGE_PAGE_BYTES >= bytes)
}

fn switched_off() -> Result<(), String> {
    match std::env::var(SWITCH) {
        Ok(value) if value == "off" => Err(format!("{SWITCH}=off")),
        _ => Ok(()),
    }
}

/// Free and not promised to anyone.
fn free_huge_pages() -> Result<usize, String> {
    let count = |what: &str| -> Result<usize, String> {
        let path = format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{what}");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        text.trim()
            .parse()
            .map_err(|_| format!("{path} is not a number"))
    };
    Ok(count("free_hugepages")?.saturating_sub(count("resv_hugepages")?))
}

/// A page may be counted as free and yet be refused to this user or its cgroup.
fn touch_one_huge_page() -> rustix::io::Result<()> {
    const NAME: &CStr = c"mvmp probe";
    let fd = memfd_create(
        NAME,
        MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
    )?;
    ftruncate(&fd, HUGE_PAGE_BYTES as u64)?;
    // SAFETY: a fresh mapping at an address that the kernel chooses, unmapped below, never referred to.
    unsafe {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let page = mmap(
            std::ptr::null_mut(),
            HUGE_PAGE_BYTES,
            protection,
            MapFlags::SHARED,
            &fd,
            0,
        )?;
        let touched = madvise(page, HUGE_PAGE_BYTES, Advice::LinuxPopulateWrite);
        munmap(page, HUGE_PAGE_BYTES)?;
        touched
    }
}

/// The lowest CPU that the calling thread may use: EAL's thread sleeps there.
pub(super) fn first_allowed_cpu() -> usize {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else {
        return 0;
    };
    (0..rustix::thread::CpuSet::MAX_CPU)
        .find(|&cpu| allowed.is_set(cpu))
        .unwrap_or(0)
}
