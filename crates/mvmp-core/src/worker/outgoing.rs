//! Packets that leave: mbufs on their way to a driver, or to another worker first.
//!
//! Here an mbuf's bounds are changed and headers are put in front of its bytes: the one place of
//! the worker, beside `buffers` and its `reception`, where mbuf pointers are dereferenced. Invariants:
//! * Bytes are written only into the headroom of a direct mbuf that nobody else refers to.
//! * The bounds of an mbuf never leave its data room.
#![allow(unsafe_code)]

use mvmp_wire::packet::Link;
use mvmp_wire::packet::encap::{Built, SKIP_BYTES_MAX};

use super::item::Arrival;
use crate::dpdk::{Mbuf, free_bulk};

/// An mbuf on its way to a driver: must end in [`Outgoing::into_raw`] or [`Outgoing::discard`].
#[must_use]
pub struct Outgoing(*mut Mbuf);

impl Outgoing {
    /// Takes an mbuf of one segment that nobody else will send or free.
    ///
    /// # Safety
    /// The caller is the mbuf's only holder, and gives it up. Its bytes are not written elsewhere.
    pub unsafe fn new(mbuf: *mut Mbuf) -> Self {
        Self(mbuf)
    }

    /// For a driver's queue.
    pub fn into_raw(self) -> *mut Mbuf {
        self.0
    }

    /// Frees it.
    pub fn discard(self) {
        // SAFETY: we are its only holder.
        unsafe { free_bulk(&mut [self.0]) };
    }

    /// Leaves only `length` bytes from `start` on. False, and nothing changed, where it has fewer.
    pub fn cut(&mut self, start: usize, length: usize) -> bool {
        // SAFETY: we hold the mbuf; its bounds only shrink. Indirect mbufs have bounds of their own.
        unsafe {
            let mbuf = &mut *self.0;
            if start + length > usize::from(mbuf.data_len) {
                return false;
            }
            mbuf.data_off += start as u16;
            mbuf.data_len = length as u16;
            mbuf.pkt_len = length as u32;
        }
        true
    }

    /// Puts bytes in front. False, and nothing written, where others refer to the buffer or there
    /// is no room in front.
    pub fn prepend(&mut self, header: &[u8]) -> bool {
        // SAFETY: a direct mbuf with one reference is ours alone, headroom included: before its
        // `data_off` there are that many bytes of its own buffer.
        unsafe {
            let mbuf = &mut *self.0;
            let direct = mbuf.ol_flags & INDIRECT == 0;
            if !direct || mbuf.refcnt != 1 || usize::from(mbuf.data_off) < header.len() {
                return false;
            }
            mbuf.data_off -= header.len() as u16;
            mbuf.data_len += header.len() as u16;
            mbuf.pkt_len += header.len() as u32;
            let start = mbuf.buf_addr.cast::<u8>().add(usize::from(mbuf.data_off));
            std::ptr::copy_nonoverlapping(header.as_ptr(), start, header.len());
        }
        true
    }

    /// For another worker: as it is to be sent, and as it was before.
    pub fn into_parcel(
        self,
        (port, changes): (u16, u32),
        sent: Arrival,
        before: BeforeEncap,
    ) -> Parcel {
        Parcel {
            mbuf: self.0,
            port,
            changes,
            sent,
            before,
        }
    }
}

const INDIRECT: u64 = dpdk_sys::DPDK_SYS_MBUF_F_INDIRECT | dpdk_sys::DPDK_SYS_MBUF_F_EXTERNAL;

/// An mbuf on its way between threads that both belong to the platform, as it is to be sent.
#[derive(Debug)]
pub struct Parcel {
    mbuf: *mut Mbuf,
    /// The port that it is for.
    pub port: u16,
    /// How many changes of the configuration its sender had taken over.
    pub changes: u32,
    /// Of the bytes that it carries; `in_port` is where the packet came in.
    pub sent: Arrival,
    /// What those who receive what leaves are shown.
    pub before: BeforeEncap,
}

/// A packet before encapsulation, as far as what is sent of it does not say it.
#[derive(Clone, Copy, Debug)]
pub struct BeforeEncap {
    pub wire_length: u32,
    /// What its first byte is.
    pub link: Link,
    /// The slot of the handle that sent it.
    pub sender: u8,
    /// NFs that had handed it on.
    pub hop: u8,
    /// Header bytes that stand in front now …
    headers: u16,
    /// … in place of so many of these.
    skip: u8,
    skipped: [u8; SKIP_BYTES_MAX],
}

impl BeforeEncap {
    /// Of a frame that [`Built`] was built for.
    pub fn of(
        (frame, link, wire_length): (&[u8], Link, u32),
        built: &Built,
        (sender, hop): (u8, u8),
    ) -> Self {
        let mut skipped = [0; SKIP_BYTES_MAX];
        let replaced = &frame[..built.skip.min(SKIP_BYTES_MAX)];
        skipped[..replaced.len()].copy_from_slice(replaced);
        Self {
            wire_length,
            link,
            sender,
            hop,
            headers: built.headers as u16,
            skip: replaced.len() as u8,
            skipped,
        }
    }
}

// SAFETY: a parcel is the only holder of its mbuf, and mempools take mbufs back from any thread.
unsafe impl Send for Parcel {}

impl Parcel {
    /// What it carries.
    pub fn frame(&self) -> &[u8] {
        // SAFETY: we hold the mbuf, of one segment.
        unsafe {
            let mbuf = &*self.mbuf;
            let start = mbuf.buf_addr.cast::<u8>().add(usize::from(mbuf.data_off));
            std::slice::from_raw_parts(start, usize::from(mbuf.data_len))
        }
    }

    /// The packet before encapsulation, in two pieces.
    pub fn before(&self) -> [&[u8]; 2] {
        let BeforeEncap {
            headers,
            skip,
            skipped,
            ..
        } = &self.before;
        let rest = self.frame().get(usize::from(*headers)..);
        [&skipped[..usize::from(*skip)], rest.unwrap_or_default()]
    }

    /// Unpacks it.
    pub fn open(self) -> Outgoing {
        Outgoing(self.mbuf)
    }
}

/// The bytes of frames that wait for a driver.
#[inline]
pub fn bytes_of(mbufs: &[*mut Mbuf]) -> u64 {
    // SAFETY: the caller collected them from `Outgoing::into_raw`, and still holds them.
    let length = |&mbuf: &*mut Mbuf| u64::from(unsafe { (*mbuf).pkt_len });
    mbufs.iter().map(length).sum()
}

/// Frees mbufs that a driver did not take.
pub fn discard_all(mbufs: &mut [*mut Mbuf]) {
    // SAFETY: the caller collected them from `Outgoing::into_raw` and the driver left them.
    unsafe { free_bulk(mbufs) };
}
