//! Views of frames in the pools. An unsafe room: the only one where packet bytes become slices.
//!
//! Descriptors come from the platform, and are checked all the same: an unknown pool, a granule
//! beyond the pool, a delivery that is no part of the frame received, a frame that leaves the
//! mapping give no view.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mvmp_wire::record::RECORD_WORDS;
use mvmp_wire::region::RecordRegion;
use mvmp_wire::{Descriptor, GRANULE_BYTES, Mapping, Record};

/// One pool, mapped read-only with its records.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) worker: u8,
    granules: u32,
    memory: Arc<Mapping>,
    records: RecordRegion,
}

impl Pool {
    pub(crate) fn new(
        worker: u8,
        granules: u32,
        memory: Arc<Mapping>,
        records: RecordRegion,
    ) -> Self {
        Self {
            worker,
            granules,
            memory,
            records,
        }
    }

    /// The pool for a pass over many packets.
    #[inline(always)]
    pub(crate) fn frames(&self) -> Frames<'_> {
        Frames {
            granules: self.granules,
            memory: &self.memory,
            records: self.records.words(),
        }
    }
}

/// The frames of one pool and their records.
#[derive(Clone, Copy)]
pub(crate) struct Frames<'a> {
    granules: u32,
    memory: &'a Mapping,
    records: &'a [AtomicU64],
}

impl<'a> Frames<'a> {
    /// What a descriptor delivers: the frame received, or a part of it.
    ///
    /// The slice is sound only while this NF holds the descriptor's share: then neither the
    /// platform nor anyone else writes the buffer. [`crate::Readable`] calls it for held packets
    /// alone and lends the slice no longer than the burst is borrowed.
    #[inline(always)]
    pub(crate) fn delivered(self, descriptor: &Descriptor) -> Option<&'a [u8]> {
        let record = self.record(descriptor);
        let begins = descriptor.offset.checked_sub(record.offset)?;
        if u32::from(begins) + u32::from(descriptor.length) > u32::from(record.length) {
            return None;
        }
        self.bytes(descriptor.granule, descriptor.offset, descriptor.length)
    }

    /// The whole frame of a descriptor, as received; `record` is its own. Sound as [`Self::delivered`] is.
    #[inline(always)]
    pub(crate) fn received(self, descriptor: &Descriptor, record: &Record) -> Option<&'a [u8]> {
        self.bytes(descriptor.granule, record.offset, record.length)
    }

    #[inline(always)]
    fn bytes(self, granule: u32, offset: u16, length: u16) -> Option<&'a [u8]> {
        if granule >= self.granules {
            return None;
        }
        let start = granule as usize * GRANULE_BYTES + offset as usize;
        // SAFETY: the share that the caller holds keeps every writer off these bytes until it is
        // returned, which needs the burst's exclusive borrow; `bytes` checks the bounds.
        unsafe { self.memory.bytes(start, length as usize) }
    }

    /// The record beside the buffer.
    #[inline(always)]
    pub(crate) fn record(self, descriptor: &Descriptor) -> Record {
        Record::load(self.records, descriptor.granule)
    }

    /// Asks the CPU for the first cache line of a frame, and for its record.
    #[inline(always)]
    pub(crate) fn prefetch(self, descriptor: &Descriptor) {
        let record = descriptor.granule as usize * RECORD_WORDS;
        if let Some(word) = self.records.get(record) {
            prefetch(word);
        }
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let start = descriptor.granule as usize * GRANULE_BYTES + descriptor.offset as usize;
            // SAFETY: a prefetch of any address is harmless: it never faults and changes nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.memory.base().wrapping_add(start).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = descriptor;
    }
}

/// Asks the CPU for a shared word's cache line, to read it soon.
#[inline(always)]
pub(crate) fn prefetch(word: &AtomicU64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is harmless: it never faults and changes nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = word;
}

/// Asks the CPU for a shared word's cache line, to write it soon.
#[inline(always)]
pub(crate) fn prefetch_to_write(word: &AtomicU64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is harmless; CPUs without the instruction take it for a NOP.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) std::ptr::from_ref(word), options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = word;
}
