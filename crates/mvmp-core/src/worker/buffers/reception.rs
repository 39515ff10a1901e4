//! Into the buffers: what drivers hand over, and frames of the platform's own making.
//!
//! Called by ports, and for frames that an NF has built or another worker hands over. What comes in
//! is a single, direct mbuf of the pool that nobody else refers to, or is made one; then it is
//! parsed and recorded, once.
#![allow(unsafe_code)]

use std::sync::atomic::AtomicU64;

use mvmp_wire::packet::{self, Headers, Link};
use mvmp_wire::record::{FLAG_MORE, Record};

use super::super::item::{Arrival, Item, Refusal};
use super::{BURST, Buffers, prefetch};
use crate::dpdk::{GRANULE_SHIFT, Mbuf, Mempool, free_bulk};

impl Buffers {
    /// Takes what a driver has received: parses, writes the records, and yields items and headers.
    /// Mbufs that are not single, direct, sole-reference ones of this pool are copied, or freed
    /// where that is not possible.
    pub fn admit(
        &mut self,
        mbufs: &mut [*mut Mbuf],
        arrival: Arrival,
        items: &mut [Item; BURST],
        headers: &mut [Headers; BURST],
    ) -> Admitted {
        let mut admitted = Admitted::default();
        let mempool = self.pool.mempool();
        // SAFETY: the driver has given us these mbufs.
        if mbufs.iter().all(|&mbuf| unsafe { is_plain(mbuf, mempool) }) {
            admitted.count = mbufs.len();
        } else {
            self.normalise_all(mbufs, &mut admitted);
        }
        let mbufs = &mbufs[..admitted.count];
        // Apart: each of the three needs most of the CPU's registers.
        let (mut shortest, mut longest) = (u16::MAX, 0);
        for (item, &mbuf) in items.iter_mut().zip(mbufs) {
            // SAFETY: plain mbufs of our own, all of them.
            let frame = unsafe {
                *item = item_of(self.base, mbuf, arrival.link);
                frame_of(mbuf)
            };
            let length = item.length();
            prefetch(frame);
            if usize::from(length) > LINE_BYTES {
                // What is in a tunnel begins there.
                prefetch(frame.wrapping_add(LINE_BYTES));
            }
            (shortest, longest) = (shortest.min(length), longest.max(length));
            admitted.bytes += u64::from(length);
        }
        self.note_lengths(shortest, longest);
        let items = &items[..mbufs.len()];
        for (item, headers) in items.iter().zip(&mut *headers) {
            packet::parse_into(self.frame(*item), arrival.link, headers);
        }
        let records = self.records.words();
        for (item, headers) in items.iter().zip(&*headers) {
            note(records, item, headers, arrival);
        }
        admitted
    }

    /// Brings plain mbufs of our own to the front, in their order, and counts what could not become one.
    #[cold]
    #[inline(never)]
    fn normalise_all(&mut self, mbufs: &mut [*mut Mbuf], admitted: &mut Admitted) {
        let mempool = self.pool.mempool();
        for at in 0..mbufs.len() {
            // SAFETY: the driver has given us this mbuf.
            let done = if unsafe { is_plain(mbufs[at], mempool) } {
                Ok(mbufs[at])
            } else {
                self.normalise(mbufs[at])
            };
            match done {
                Ok(mbuf) => {
                    mbufs[admitted.count] = mbuf;
                    admitted.count += 1;
                }
                Err(Refusal::NoBuffer) => admitted.no_buffer += 1,
                Err(Refusal::TooLong) => admitted.too_long += 1,
            }
        }
    }

    #[inline(always)]
    fn note_lengths(&mut self, shortest: u16, longest: u16) {
        let (start, end) = (*self.lengths.start(), *self.lengths.end());
        self.lengths = start.min(shortest)..=end.max(longest);
    }

    /// Puts a frame of the platform's own making into a fresh buffer.
    pub fn take_in(
        &mut self,
        bytes: &[u8],
        arrival: Arrival,
        headers: &mut Headers,
    ) -> Result<Item, Refusal> {
        let mbuf = self.fresh_with(bytes.len(), |room| room.copy_from_slice(bytes))?;
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

    /// A fresh buffer, with a frame that `write` writes.
    pub(super) fn fresh_with(
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
        // SAFETY: a fresh mbuf of this pool.
        let item = unsafe { item_of(self.base, mbuf, arrival.link) };
        self.note_lengths(item.length(), item.length());
        self.all_ethernet &= arrival.link == Link::Ethernet;
        packet::parse_into(self.frame(item), arrival.link, headers);
        note(self.records.words(), &item, headers, arrival);
        item
    }
}

/// What became of a burst from a driver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Admitted {
    /// How many there are now.
    pub count: usize,
    /// Their bytes.
    pub bytes: u64,
    /// There was no buffer for the copy of so many.
    pub no_buffer: u64,
    /// So many were too long for one.
    pub too_long: u64,
}

/// Where an mbuf's frame begins in the pool at `base`.
///
/// # Safety
/// A live mbuf of that pool.
#[inline(always)]
pub(super) unsafe fn place(base: *const u8, mbuf: *mut Mbuf) -> (u32, u16) {
    // SAFETY: the caller's promise.
    let (address, data_off) = unsafe { ((*mbuf).buf_addr as usize, (*mbuf).data_off) };
    let from_base = address - base as usize;
    (
        (from_base >> GRANULE_SHIFT) as u32,
        (from_base & ((1 << GRANULE_SHIFT) - 1)) as u16 + data_off,
    )
}

/// What an mbuf of the pool at `base` holds.
///
/// # Safety
/// A live mbuf of that pool.
#[inline(always)]
unsafe fn item_of(base: *const u8, mbuf: *mut Mbuf, link: Link) -> Item {
    // SAFETY: the caller's promise.
    let ((granule, offset), length) = unsafe { (place(base, mbuf), (*mbuf).data_len) };
    Item::new(granule, offset, length, link)
}

/// An mbuf of one segment of this mempool that only we hold, and whose bytes are its own.
///
/// # Safety
/// A live mbuf.
#[inline(always)]
unsafe fn is_plain(mbuf: *mut Mbuf, mempool: *mut Mempool) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let (refs, segments) = ((*mbuf).refcnt, (*mbuf).nb_segs);
        let counts = u32::from(refs) | u32::from(segments) << u16::BITS;
        counts == 1 | 1 << u16::BITS && (*mbuf).ol_flags & INDIRECT == 0 && (*mbuf).pool == mempool
    }
}

/// Where an mbuf's bytes begin.
///
/// # Safety
/// A live mbuf.
#[inline(always)]
unsafe fn frame_of(mbuf: *mut Mbuf) -> *const u8 {
    // SAFETY: the caller's promise.
    let (room, data_off) = unsafe { ((*mbuf).buf_addr, (*mbuf).data_off) };
    room.cast::<u8>().wrapping_add(data_off.into())
}

/// Writes what was found out about a frame.
#[inline(always)]
fn note(records: &[AtomicU64], item: &Item, headers: &Headers, arrival: Arrival) {
    let record = Record {
        timestamp_ns: arrival.timestamp_ns,
        wire_length: if arrival.wire_length == 0 {
            u32::from(item.length())
        } else {
            arrival.wire_length
        },
        flow_hash: headers.flow_hash,
        in_port: arrival.in_port,
        offset: item.offset(),
        length: item.length(),
        link: arrival.link,
        flags: if headers.more { FLAG_MORE } else { 0 },
        layers: headers.layers,
    };
    record.store(records, item.granule);
}

const LINE_BYTES: usize = 64;
const HEADROOM: usize = dpdk_sys::RTE_PKTMBUF_HEADROOM as usize;
const INDIRECT: u64 = dpdk_sys::DPDK_SYS_MBUF_F_INDIRECT | dpdk_sys::DPDK_SYS_MBUF_F_EXTERNAL;
