//! A pool as its worker sees it: mbufs, their bytes, their records and their shares.
//!
//! The one room of the worker where mbuf pointers are dereferenced. Called by the worker's other
//! rooms, which know packets as [`Item`]s. Invariants:
//! * A buffer is in exactly one place: free, with a driver, lent (the ledger knows to whom), or in
//!   the worker's hands between two of these.
//! * The bytes of a lent buffer are never written.
//! * What leaves for a driver while others still hold it leaves as an indirect mbuf.
#![allow(unsafe_code)]

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mvmp_wire::Descriptor;
use mvmp_wire::packet::{self, Headers, Link};
use mvmp_wire::record::{FLAG_MORE, Record};
use mvmp_wire::region::RecordRegion;

use super::item::{Arrival, Item, Refusal};
use super::outgoing::Outgoing;
use super::view::View;
use crate::counters::PoolCounters;
use crate::dpdk::{GRANULE_SHIFT, IndirectPool, Mbuf, Pool, free_bulk};
use crate::ledger::{Closed, Ledger};

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
    indirect: IndirectPool,
    records: RecordRegion,
    /// By granule; null where no buffer begins.
    mbufs: Box<[*mut Mbuf]>,
    /// By granule: an indirect mbuf may still speak of it.
    cloned: Box<[bool]>,
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
        let cloned = vec![false; granules].into_boxed_slice();
        let home = Vec::with_capacity(4 * BURST);
        Self {
            id,
            ledger,
            counters,
            // Of none: any length widens it.
            lengths: RangeInclusive::new(u16::MAX, 0),
            all_ethernet: true,
            pool,
            indirect,
            records,
            mbufs,
            cloned,
            home,
            fresh: Vec::with_capacity(BURST),
        }
    }

    /// Takes what a driver has received: parses, writes the records, and yields items and headers.
    /// Mbufs that are not single, direct, sole-reference ones of this pool are copied, or freed
    /// where that is not possible; returns how many frames were lost so, and why.
    pub fn admit(
        &mut self,
        mbufs: &mut [*mut Mbuf],
        arrival: Arrival,
        items: &mut [Item; BURST],
        headers: &mut [Headers; BURST],
    ) -> (usize, [u64; 2]) {
        let (mut count, mut lost) = (0, [0; 2]);
        let (mut shortest, mut longest) = (u16::MAX, 0);
        let (pool, base, records) = (self.pool.clone(), self.pool.base(), self.records.clone());
        let words = records.words();
        for at in 0..mbufs.len() {
            if let Some(&ahead) = mbufs.get(at + AHEAD) {
                // SAFETY: `ahead` is an mbuf that the driver gave us.
                let (start, length) = unsafe {
                    let start = (*ahead).buf_addr.cast::<u8>();
                    (
                        start.wrapping_add((*ahead).data_off.into()),
                        (*ahead).data_len,
                    )
                };
                prefetch(start);
                if usize::from(length) > LINE_BYTES {
                    // What is in a tunnel begins there.
                    prefetch(start.wrapping_add(LINE_BYTES));
                }
            }
            let mbuf = mbufs[at];
            // SAFETY: the driver has given us this mbuf.
            let plain = unsafe {
                (*mbuf).nb_segs == 1
                    && (*mbuf).refcnt == 1
                    && pool.owns(mbuf)
                    && (*mbuf).ol_flags & INDIRECT == 0
            };
            let admitted = if plain {
                Ok(mbuf)
            } else {
                self.normalise(mbuf)
            };
            match admitted {
                Ok(mbuf) => {
                    let item = item_of(base, mbuf, arrival.link);
                    describe(words, item, self.frame(item), arrival, &mut headers[count]);
                    (shortest, longest) = (shortest.min(item.length), longest.max(item.length));
                    items[count] = item;
                    count += 1;
                }
                Err(Refusal::NoBuffer) => lost[0] += 1,
                Err(Refusal::TooLong) => lost[1] += 1,
            }
        }
        self.note_lengths(shortest, longest);
        (count, lost)
    }

    #[inline(always)]
    fn note_lengths(&mut self, shortest: u16, longest: u16) {
        let (start, end) = (*self.lengths.start(), *self.lengths.end());
        self.lengths = start.min(shortest)..=end.max(longest);
    }

    /// Whether a run is of Ethernet frames with a length in `takes`: a NIC can send all of them.
    #[inline]
    pub fn are_frames(&self, run: &[Descriptor], takes: RangeInclusive<u16>) -> bool {
        let all_lengths = &self.lengths;
        if self.all_ethernet
            && takes.start() <= all_lengths.start()
            && all_lengths.end() <= takes.end()
        {
            return true;
        }
        run.iter().all(|descriptor| {
            let record = self.record(descriptor.granule);
            record.link == Link::Ethernet && takes.contains(&record.length)
        })
    }

    /// Puts a frame of the platform's own making into a fresh buffer.
    pub fn take_in(
        &mut self,
        bytes: &[u8],
        arrival: Arrival,
        headers: &mut Headers,
    ) -> Result<Item, Refusal> {
        let mbuf = self.fresh_with(bytes.len(), |room| room.copy_from_slice(bytes))?;
        self.all_ethernet &= arrival.link == Link::Ethernet;
        Ok(self.describe(mbuf, arrival, headers))
    }

    /// The same, where `write` fills the buffer; false from it means that there was no frame.
    pub fn take_in_with(
        &mut self,
        length: usize,
        arrival: Arrival,
        write: impl FnOnce(&mut [u8]) -> bool,
    ) -> Result<Option<Item>, Refusal> {
        let mut written = false;
        let mbuf = self.fresh_with(length, |room| written = write(room))?;
        if !written {
            self.home.push(mbuf);
            return Ok(None);
        }
        Ok(Some(self.describe(mbuf, arrival, &mut Headers::default())))
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
        let (granule, offset) = place(self.pool.base(), mbuf);
        let within = item.offset - record.offset;
        record.offset = offset;
        record.store(self.records.words(), granule);
        Some(Item {
            granule,
            offset: offset + within,
            ..item
        })
    }

    fn fresh_with(
        &mut self,
        length: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<*mut Mbuf, Refusal> {
        if length + HEADROOM > self.pool.data_room_bytes() as usize {
            return Err(Refusal::TooLong);
        }
        if self.fresh.is_empty() {
            let mut one = [std::ptr::null_mut(); BURST];
            let got = self.pool.alloc_bulk(&mut one);
            let taken = if got {
                &one[..]
            } else if self.pool.alloc_bulk(&mut one[..1]) {
                &one[..1]
            } else {
                &[]
            };
            self.fresh.extend_from_slice(taken);
        }
        let mbuf = self.fresh.pop().ok_or(Refusal::NoBuffer)?;
        // SAFETY: a fresh mbuf is ours alone, its data room has `length` bytes behind the headroom.
        unsafe {
            (*mbuf).data_len = length as u16;
            (*mbuf).pkt_len = length as u32;
            let start = (*mbuf).buf_addr.cast::<u8>().add((*mbuf).data_off as usize);
            write(std::slice::from_raw_parts_mut(start, length));
        }
        Ok(mbuf)
    }

    /// A single buffer of our own with what a chained, shared or foreign mbuf holds.
    fn normalise(&mut self, mbuf: *mut Mbuf) -> Result<*mut Mbuf, Refusal> {
        // SAFETY: the driver has given us this chain; it is freed once its bytes are copied.
        unsafe {
            let length = (*mbuf).pkt_len as usize;
            let copied = self.fresh_with(length, |room| {
                let (mut at, mut segment) = (0, mbuf);
                while !segment.is_null() && at < room.len() {
                    let bytes = ((*segment).data_len as usize).min(room.len() - at);
                    let start = (*segment)
                        .buf_addr
                        .cast::<u8>()
                        .add((*segment).data_off as usize);
                    std::ptr::copy_nonoverlapping(start, room.as_mut_ptr().add(at), bytes);
                    at += bytes;
                    segment = (*segment).next;
                }
                room[at..].fill(0);
            });
            free_bulk(&mut [mbuf]);
            copied
        }
    }

    fn describe(&mut self, mbuf: *mut Mbuf, arrival: Arrival, headers: &mut Headers) -> Item {
        let item = item_of(self.pool.base(), mbuf, arrival.link);
        self.note_lengths(item.length, item.length);
        describe(
            self.records.words(),
            item,
            self.frame(item),
            arrival,
            headers,
        );
        item
    }

    #[inline(always)]
    fn at(&self, granule: u32, offset: u16) -> *const u8 {
        // In bounds: items are made by `describe` and `copy`, or from records that they wrote.
        self.pool
            .base()
            .wrapping_add(((granule as usize) << GRANULE_SHIFT) + offset as usize)
    }

    /// The bytes of an item.
    #[inline(always)]
    pub fn frame(&self, item: Item) -> &[u8] {
        // SAFETY: inside the pool, see `at`; the buffer is lent or ours, so nobody writes it.
        unsafe {
            std::slice::from_raw_parts(self.at(item.granule, item.offset), item.length as usize)
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

    /// Records what flow a packet belongs to; returns its record.
    #[inline(always)]
    pub fn note_flow(&self, granule: u32, flow_hash: u32) -> Record {
        let mut record = self.record(granule);
        if record.flow_hash != flow_hash {
            record.flow_hash = flow_hash;
            record.store(self.records.words(), granule);
        }
        record
    }

    /// The buffer that nobody holds any more is free.
    #[inline(always)]
    pub fn go_home(&mut self, granule: u32) {
        bring_home(&self.mbufs, &mut self.cloned, &mut self.home, granule);
    }

    /// The mbuf of a buffer that nobody holds any more, to be sent as it is.
    #[inline(always)]
    pub fn leave(&mut self, granule: u32) -> Outgoing {
        self.cloned[granule as usize] = false;
        // SAFETY: nobody holds a share of it: the platform alone has the buffer.
        unsafe { Outgoing::new(self.mbufs[granule as usize]) }
    }

    /// Closes the shares of a run of one slot's descriptors; what nobody holds any more is free.
    /// Returns how many were closed, and how many refused.
    #[inline]
    pub fn give_back(&mut self, slot: u8, run: &[Descriptor]) -> (u64, u64) {
        let Self {
            ledger,
            mbufs,
            cloned,
            home,
            ..
        } = self;
        let mut shares = ledger.column(slot);
        let mut refused = 0;
        for descriptor in run {
            match shares.close(descriptor.granule, descriptor.token) {
                Closed::Last => bring_home(mbufs, cloned, home, descriptor.granule),
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
        run: &[Descriptor],
        mut send: impl FnMut(usize, Outgoing),
    ) -> Departed {
        let Self {
            ledger,
            mbufs,
            cloned,
            indirect,
            ..
        } = self;
        let mut shares = ledger.column(slot);
        let mut departed = Departed::default();
        for (at, descriptor) in run.iter().enumerate() {
            if let Some(ahead) = run
                .get(at + AHEAD)
                .and_then(|ahead| mbufs.get(ahead.granule as usize))
            {
                // The driver will look at the mbuf when it frees it.
                prefetch(ahead.cast());
            }
            let granule = descriptor.granule as usize;
            match shares.close(descriptor.granule, descriptor.token) {
                Closed::Refused => departed.refused += 1,
                Closed::Last => {
                    cloned[granule] = false;
                    // SAFETY: nobody holds a share of it: the platform alone has the buffer.
                    send(at, unsafe { Outgoing::new(mbufs[granule]) });
                }
                Closed::Shared => match clone_of(indirect, mbufs, cloned, descriptor.granule) {
                    Some(clone) => send(at, clone),
                    None => departed.no_buffer += 1,
                },
            }
        }
        departed
    }

    /// An indirect mbuf of a buffer that others still hold.
    pub fn leave_shared(&mut self, granule: u32) -> Option<Outgoing> {
        clone_of(&self.indirect, &self.mbufs, &mut self.cloned, granule)
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

/// Where an mbuf's frame begins in the pool at `base`.
#[inline(always)]
fn place(base: *const u8, mbuf: *mut Mbuf) -> (u32, u16) {
    // SAFETY: an mbuf of this pool.
    let (address, data_off) = unsafe { ((*mbuf).buf_addr as usize, (*mbuf).data_off) };
    let from_base = address - base as usize;
    (
        (from_base >> GRANULE_SHIFT) as u32,
        (from_base & ((1 << GRANULE_SHIFT) - 1)) as u16 + data_off,
    )
}

/// What an mbuf of the pool at `base` holds.
#[inline(always)]
fn item_of(base: *const u8, mbuf: *mut Mbuf, link: Link) -> Item {
    let (granule, offset) = place(base, mbuf);
    Item {
        granule,
        offset,
        // SAFETY: an mbuf of this pool that only we hold.
        length: unsafe { (*mbuf).data_len },
        link: link as u8,
        hop: 0,
        view: View::default(),
    }
}

/// Parses a frame and writes its record.
#[inline(always)]
fn describe(
    records: &[AtomicU64],
    item: Item,
    frame: &[u8],
    arrival: Arrival,
    headers: &mut Headers,
) {
    packet::parse_into(frame, arrival.link, headers);
    let record = Record {
        timestamp_ns: arrival.timestamp_ns,
        wire_length: if arrival.wire_length == 0 {
            u32::from(item.length)
        } else {
            arrival.wire_length
        },
        flow_hash: headers.flow_hash,
        in_port: arrival.in_port,
        offset: item.offset,
        length: item.length,
        link: arrival.link,
        flags: if headers.more { FLAG_MORE } else { 0 },
        layers: headers.layers,
    };
    record.store(records, item.granule);
}

#[inline(always)]
fn bring_home(mbufs: &[*mut Mbuf], cloned: &mut [bool], home: &mut Vec<*mut Mbuf>, granule: u32) {
    let (mbuf, cloned) = (mbufs[granule as usize], &mut cloned[granule as usize]);
    if std::mem::replace(cloned, false) {
        // SAFETY: our reference to it ends; an indirect one at a driver may keep it a while.
        unsafe { free_bulk(&mut [mbuf]) };
    } else {
        home.push(mbuf);
    }
}

fn clone_of(
    indirect: &IndirectPool,
    mbufs: &[*mut Mbuf],
    cloned: &mut [bool],
    granule: u32,
) -> Option<Outgoing> {
    let mut clone = [std::ptr::null_mut()];
    // SAFETY: the buffer is lent, so its mbuf is live, direct and of one segment.
    let made = unsafe { indirect.clone_bulk(&mut [mbufs[granule as usize]], &mut clone) };
    if !made {
        return None;
    }
    cloned[granule as usize] = true;
    // SAFETY: it was just made, for us.
    Some(unsafe { Outgoing::new(clone[0]) })
}

/// How many packets ahead memory is asked for.
const AHEAD: usize = 8;
const LINE_BYTES: usize = 64;
const HEADROOM: usize = dpdk_sys::RTE_PKTMBUF_HEADROOM as usize;
const INDIRECT: u64 = dpdk_sys::DPDK_SYS_MBUF_F_INDIRECT | dpdk_sys::DPDK_SYS_MBUF_F_EXTERNAL;

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
