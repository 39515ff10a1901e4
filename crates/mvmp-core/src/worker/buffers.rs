//! A pool as its worker sees it: mbufs, their bytes, their records and their shares.
//!
//! Beside `outgoing` the one room of the worker where mbuf pointers are dereferenced. Called by
//! its other rooms, which know packets as [`Item`]s. Invariants:
//! * A buffer is in exactly one place: free, with a driver, lent (the ledger knows to whom), or in
//!   the worker's hands between two of these.
//! * The bytes of a lent buffer are never written.
//! * What leaves for a driver while others still hold it leaves as an indirect mbuf.
#![allow(unsafe_code)]

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mvmp_wire::packet::Link;
use mvmp_wire::record::Record;
use mvmp_wire::region::RecordRegion;

use super::clones::Clones;
use super::item::Item;
use super::outgoing::Outgoing;
use super::returned::Returned;
use crate::counters::PoolCounters;
use crate::dpdk::{GRANULE_SHIFT, IndirectPool, Mbuf, Pool, free_bulk};
use crate::ledger::{Closed, Ledger};

mod reception;
use reception::place;

/// Packets that the worker handles at a time.
pub const BURST: usize = 64;

pub struct Buffers {
    /// The pool's number in descriptors.
    pub id: u8,
    pub ledger: Ledger,
    pub counters: Arc<PoolCounters>,
    /// What came in was so long, at the least and at the most, and all of it Ethernet.
    lengths: RangeInclusive<u16>,
    all_ethernet: bool,
    pool: Pool,
    /// Where the pool begins.
    base: *mut u8,
    indirect: IndirectPool,
    records: RecordRegion,
    /// By granule; null where no buffer begins.
    mbufs: Box<[*mut Mbuf]>,
    clones: Clones,
    home: Vec<*mut Mbuf>,
    fresh: Vec<*mut Mbuf>,
}

// SAFETY: the pointers are places in the pool, which this value keeps alive; only the worker that owns it uses them.
unsafe impl Send for Buffers {}

impl Buffers {
    pub fn new(
        id: u8,
        pool: Pool,
        indirect: IndirectPool,
        records: RecordRegion,
        ledger: Ledger,
        counters: Arc<PoolCounters>,
    ) -> Self {
        let granules = pool.granules() as usize;
        let mut mbufs = vec![std::ptr::null_mut(); granules].into_boxed_slice();
        for buffer in pool.mbufs() {
            mbufs[buffer.granule as usize] = buffer.mbuf;
        }
        let home = Vec::with_capacity(4 * BURST);
        Self {
            id,
            ledger,
            counters,
            // Of none: any length widens it.
            lengths: RangeInclusive::new(u16::MAX, 0),
            all_ethernet: true,
            base: pool.base(),
            pool,
            indirect,
            records,
            mbufs,
            clones: Clones::new(granules),
            home,
            fresh: Vec::with_capacity(BURST),
        }
    }

    /// Whether a run is of Ethernet frames with a length in `takes`: a NIC can send all of them.
    #[inline]
    pub fn are_frames(&self, run: &[Returned], takes: RangeInclusive<u16>) -> bool {
        let all_lengths = &self.lengths;
        if self.all_ethernet
            && takes.start() <= all_lengths.start()
            && all_lengths.end() <= takes.end()
        {
            return true;
        }
        let records = self.records();
        run.iter().all(|returned| {
            let (_, length, link) = Record::bounds(records, returned.read().granule);
            link == Link::Ethernet && takes.contains(&length)
        })
    }

    /// A copy of a buffer in a fresh one, with a record of its own.
    pub fn copy(&mut self, item: Item) -> Option<Item> {
        let mut record = Record::load(self.records.words(), item.granule);
        let (from, length) = (self.at(item.granule, record.offset), record.length as usize);
        // SAFETY: the source is lent, so nobody writes it, and the fresh buffer is another one.
        let source = unsafe { std::slice::from_raw_parts(from, length) };
        let mbuf = self
            .fresh_with(length, |room| room.copy_from_slice(source))
            .ok()?;
        // SAFETY: a fresh mbuf of this pool.
        let (granule, offset) = unsafe { place(self.base, mbuf) };
        let moved = item.moved(granule, offset.wrapping_sub(record.offset));
        record.offset = offset;
        record.store(self.records.words(), granule);
        Some(moved)
    }

    #[inline(always)]
    fn at(&self, granule: u32, offset: u16) -> *const u8 {
        // In bounds: items are made in `reception` and by `copy`, as parts of these, or from records written there.
        self.base
            .wrapping_add(((granule as usize) << GRANULE_SHIFT) + offset as usize)
    }

    /// The bytes of an item.
    #[inline(always)]
    pub fn frame(&self, item: Item) -> &[u8] {
        // SAFETY: inside the pool, see `at`; the buffer is lent or ours, so nobody writes it.
        unsafe {
            std::slice::from_raw_parts(self.at(item.granule, item.offset()), item.length().into())
        }
    }

    /// Makes a packet ready for a port: a part of its frame with a header in front. In place where
    /// the buffer is the packet's alone, else in a fresh buffer. `None`: there was none, and the
    /// packet is freed.
    pub fn ready(
        &mut self,
        mut outgoing: Outgoing,
        granule: u32,
        part: std::ops::Range<usize>,
        header: &[u8],
    ) -> Option<Outgoing> {
        if outgoing.cut(part.start, part.len()) && (header.is_empty() || outgoing.prepend(header)) {
            return Some(outgoing);
        }
        let record = self.record(granule);
        let from = self.at(granule, record.offset).wrapping_add(part.start);
        // SAFETY: a part of the frame that the record describes; `outgoing` keeps the buffer ours.
        let source = unsafe { std::slice::from_raw_parts(from, part.len()) };
        let fresh = self.fresh_with(header.len() + source.len(), |room| {
            let (front, rest) = room.split_at_mut(header.len());
            front.copy_from_slice(header);
            rest.copy_from_slice(source);
        });
        outgoing.discard();
        // SAFETY: a fresh buffer is ours alone.
        fresh.ok().map(|mbuf| unsafe { Outgoing::new(mbuf) })
    }

    /// What was recorded of a buffer at reception.
    #[inline(always)]
    pub fn record(&self, granule: u32) -> Record {
        Record::load(self.records.words(), granule)
    }

    /// The records of all buffers.
    #[inline(always)]
    pub fn records(&self) -> &[AtomicU64] {
        self.records.words()
    }

    /// Records what flow a packet belongs to; returns its length on the wire.
    #[inline(always)]
    pub fn note_flow(&self, granule: u32, flow_hash: u32) -> u32 {
        Record::note_flow(self.records.words(), granule, flow_hash)
    }

    /// The buffer that nobody holds any more is free.
    #[inline(always)]
    pub fn go_home(&mut self, granule: u32) {
        bring_home(&self.mbufs, &mut self.clones, &mut self.home, granule);
    }

    /// The mbuf of a buffer that nobody holds any more, to be sent as it is.
    #[inline(always)]
    pub fn leave(&mut self, granule: u32) -> Outgoing {
        self.clones.forget(granule);
        // SAFETY: nobody holds a share of it: the platform alone has the buffer.
        unsafe { Outgoing::new(self.mbufs[granule as usize]) }
    }

    /// Closes the shares of a run of one slot's descriptors; what nobody holds any more is free.
    /// Returns how many were closed, and how many refused.
    #[inline]
    pub fn give_back(&mut self, slot: u8, run: &[Returned]) -> (u64, u64) {
        let Self {
            ledger,
            mbufs,
            clones,
            home,
            ..
        } = self;
        home.reserve(run.len());
        let mut shares = ledger.column(slot);
        let mut refused = 0;
        for returned in run {
            let descriptor = returned.read();
            match shares.close(descriptor.granule, descriptor.token) {
                Closed::Last => bring_home(mbufs, clones, home, descriptor.granule),
                Closed::Shared => {}
                Closed::Refused => refused += 1,
            }
        }
        (run.len() as u64 - refused, refused)
    }

    /// Closes the shares of a run of one slot's descriptors; `send` gets what is to be sent, and
    /// its place in the run.
    #[inline]
    pub fn depart(
        &mut self,
        slot: u8,
        run: &[Returned],
        mut send: impl FnMut(usize, Outgoing),
    ) -> Departed {
        let Self {
            ledger,
            mbufs,
            clones,
            indirect,
            ..
        } = self;
        let mut shares = ledger.column(slot);
        let mut departed = Departed::default();
        for (at, returned) in run.iter().enumerate() {
            let descriptor = returned.read();
            match shares.close(descriptor.granule, descriptor.token) {
                Closed::Refused => departed.refused += 1,
                Closed::Last => {
                    clones.forget(descriptor.granule);
                    let mbuf = mbufs[descriptor.granule as usize];
                    // The driver will look at it when it frees it.
                    prefetch(mbuf.cast());
                    // SAFETY: nobody holds a share of it: the platform alone has the buffer.
                    send(at, unsafe { Outgoing::new(mbuf) });
                }
                Closed::Shared => match clone_of(indirect, mbufs, clones, descriptor.granule) {
                    Some(clone) => send(at, clone),
                    None => departed.no_buffer += 1,
                },
            }
        }
        departed
    }

    /// An indirect mbuf of a buffer that others still hold.
    pub fn leave_shared(&mut self, granule: u32) -> Option<Outgoing> {
        clone_of(&self.indirect, &self.mbufs, &mut self.clones, granule)
    }

    /// Gives the buffers that came home back to the pool, in one go.
    #[inline]
    pub fn settle(&mut self) {
        if !self.home.is_empty() {
            // SAFETY: each was put here by `go_home` or never lent: ours alone, as allocated.
            unsafe { self.pool.put_bulk(&mut self.home) };
            self.home.clear();
        }
    }

    /// Whether every buffer is here: none lent, none with a driver.
    pub fn is_whole(&self) -> bool {
        let free = self.pool.available() as usize + self.fresh.len() + self.home.len();
        self.ledger.lent() == 0 && free == self.pool.buffers() as usize
    }

    /// Shows the gauges.
    pub fn publish(&self) {
        self.counters.lent.set(u64::from(self.ledger.lent()));
        self.counters.shares.set(self.ledger.shares());
        self.counters.kept.set(self.fresh.len() as u64);
    }

    /// Gives back all that this thread keeps aside, before it ends.
    pub fn close(&mut self) {
        self.home.append(&mut self.fresh);
        self.settle();
        self.pool.flush_cache();
        self.indirect.flush_cache();
    }
}

/// What became of a run that was to be sent; the rest of it is on its way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Departed {
    /// Descriptors whose share was not open.
    pub refused: u64,
    /// Others hold the buffer, and there was no mbuf for a clone.
    pub no_buffer: u64,
}

#[inline(always)]
fn bring_home(mbufs: &[*mut Mbuf], clones: &mut Clones, home: &mut Vec<*mut Mbuf>, granule: u32) {
    let mbuf = mbufs[granule as usize];
    if clones.forget(granule) {
        // SAFETY: our reference to it ends; an indirect one at a driver may keep it a while.
        unsafe { free_bulk(&mut [mbuf]) };
    } else {
        home.push(mbuf);
    }
}

fn clone_of(
    indirect: &IndirectPool,
    mbufs: &[*mut Mbuf],
    clones: &mut Clones,
    granule: u32,
) -> Option<Outgoing> {
    let mut clone = [std::ptr::null_mut()];
    // SAFETY: the buffer is lent, so its mbuf is live, direct and of one segment.
    let made = unsafe { indirect.clone_bulk(&mut [mbufs[granule as usize]], &mut clone) };
    if !made {
        return None;
    }
    clones.note(granule);
    // SAFETY: it was just made, for us.
    Some(unsafe { Outgoing::new(clone[0]) })
}

/// Asks the CPU for a cache line that will be written soon.
#[inline(always)]
pub fn prefetch_to_write(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is harmless; CPUs without the instruction take it for a NOP.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks the CPU for a cache line that will be read soon.
#[inline(always)]
pub fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is harmless.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
