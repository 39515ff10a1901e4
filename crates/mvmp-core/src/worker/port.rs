//! A port as its worker sees it: where bursts come from and go to.
//!
//! Built by control, owned by the worker of its domain, given back when it is removed. A port is
//! a DPDK port (a NIC, or what stands in for it) or a capture file, which is read and written by
//! threads of its own.

use std::sync::Arc;

use mvmp_wire::packet::Link;

use super::buffers::{BURST, Buffers, Departed};
use super::face::Face;
use super::item::{Arrival, Item};
use super::outgoing::{Outgoing, Parcel, bytes_of, discard_all};
use super::returned::Returned;
use crate::capture::{CaptureSink, CaptureSource, Fault, NotTaken, Pacer};
use crate::counters::{DropReason, PortCounters};
use crate::dpdk::{EthPort, InterfacePort, Mbuf};
use mvmp_wire::packet::Headers;

/// A DPDK port, however it was found.
pub enum Nic {
    /// By its devargs.
    Eth(EthPort),
    /// By a kernel interface's name.
    Interface(InterfacePort),
}

impl Nic {
    /// The DPDK port.
    pub fn port(&self) -> &EthPort {
        match self {
            Self::Eth(port) => port,
            Self::Interface(interface) => interface.port(),
        }
    }
}

/// A capture file that is played, written, or both.
pub struct Capture {
    pub source: Option<CaptureSource>,
    pub sink: Option<CaptureSink>,
    pub pacer: Pacer,
    /// Keeps what it has read until all receivers have room.
    pub lossless: bool,
    /// Control has said that it may begin.
    pub started: bool,
}

impl Capture {
    /// Where its files' faults are said.
    pub fn faults(&self) -> Vec<Fault> {
        let read = self.source.iter().map(CaptureSource::fault);
        let written = self.sink.iter().map(CaptureSink::fault);
        read.chain(written).cloned().collect()
    }
}

/// What a port is.
pub enum Io {
    Nic(Nic),
    Capture(Capture),
}

/// What became of one burst, packet by packet.
#[derive(Default)]
pub struct Books {
    /// A policy wanted it.
    pub matched: u64,
    /// It was offered to a handle.
    pub offered: u64,
    /// It was sent on in the absence of NFs; what could not leave is in the books of the port out.
    pub bypassed: u64,
    /// Some handle receives from a device of this port.
    pub heard: bool,
    /// Some handle took all of them.
    pub all_lent: bool,
}

/// Bytes of the longest frame that is put together to be sent.
pub const SENT_BYTES_MAX: usize = 16_384;

/// A port.
pub struct Port {
    /// Its number: the place in the configuration, as in the `in_port` column.
    pub number: u16,
    /// Which of the worker's pools receives its frames.
    pub pool: usize,
    pub io: Io,
    /// What is received from it, and by which devices.
    pub faces: Vec<Face>,
    /// What is received of that which leaves by it, and by which devices.
    pub outward: Vec<Face>,
    pub counters: Arc<PortCounters>,
    /// Its source is at the end, and all of it is dispatched.
    pub ended: bool,
    /// Frames that files of this port could not write before it was added again.
    write_failed_before: u64,
    /// What the driver hands over; of no meaning between two bursts.
    inbox: [*mut Mbuf; BURST],
    out: Vec<*mut Mbuf>,
}

// SAFETY: the pointers in `out` are mbufs that wait for `flush`, those in `inbox` are not read again; whoever holds the port holds them.
#[allow(unsafe_code)]
unsafe impl Send for Port {}

/// How many outgoing mbufs wait at the most before the driver is asked.
const OUT_MAX: usize = 64;

impl Port {
    pub fn new(
        number: u16,
        pool: usize,
        io: Io,
        (faces, outward): (Vec<Face>, Vec<Face>),
        counters: Arc<PortCounters>,
    ) -> Self {
        let write_failed_before = counters.write_failed.get();
        Self {
            write_failed_before,
            number,
            pool,
            io,
            faces,
            outward,
            counters,
            ended: false,
            inbox: [std::ptr::null_mut(); BURST],
            out: Vec::with_capacity(2 * OUT_MAX),
        }
    }

    /// The devices that receive from it.
    pub fn devices(&self) -> impl Iterator<Item = usize> + '_ {
        self.faces
            .iter()
            .flat_map(|face| face.devices.iter().copied())
    }

    /// Enters a burst of `count` packets into the books.
    #[inline]
    pub fn enter(&self, books: &Books, count: usize) {
        let all = u64::MAX >> (64 - count);
        let dispatched = books.offered | books.bypassed;
        self.counters
            .dispatched
            .add(u64::from(dispatched.count_ones()));
        if books.bypassed != 0 {
            let bypassed = books.bypassed.count_ones();
            self.counters.bypassed.add(u64::from(bypassed));
        }
        let mut left = all & !dispatched;
        if left == 0 {
            return;
        }
        let drops = &self.counters.drops;
        // Wanted by a device but by none of its handles' own matches: unmatched too, if it has handles.
        let lonely = if books.heard { 0 } else { left & books.matched };
        drops.add(DropReason::NoNf, u64::from(lonely.count_ones()));
        left &= !lonely;
        drops.add(DropReason::Unmatched, u64::from(left.count_ones()));
    }

    /// Whether frames can be sent here without loss, and how many (captures only; NICs drop).
    pub fn lossless_room(&self) -> usize {
        match &self.io {
            Io::Capture(Capture {
                sink: Some(sink), ..
            }) => sink.room_frames(),
            _ => usize::MAX,
        }
    }

    /// Receives at most `most` frames, admitted and described.
    pub fn receive(
        &mut self,
        buffers: &mut Buffers,
        most: usize,
        now_ns: i64,
        items: &mut [Item; BURST],
        headers: &mut [Headers; BURST],
    ) -> usize {
        match &mut self.io {
            Io::Nic(nic) => {
                let most = most.min(BURST);
                #[allow(unsafe_code)]
                // SAFETY: queue 0 exists and only this worker receives on it.
                let got = unsafe { nic.port().rx_burst(0, &mut self.inbox[..most]) };
                if got == 0 {
                    return 0;
                }
                let arrival = Arrival {
                    timestamp_ns: now_ns,
                    wire_length: 0,
                    in_port: self.number,
                    link: Link::Ethernet,
                };
                let admitted = buffers.admit(&mut self.inbox[..got], arrival, items, headers);
                let counters = &self.counters;
                counters.received.add(got as u64);
                counters.bytes.add(admitted.bytes);
                if admitted.count < got {
                    counters.drops.add(DropReason::NoBuffer, admitted.no_buffer);
                    counters.drops.add(DropReason::TooLong, admitted.too_long);
                }
                admitted.count
            }
            Io::Capture(capture) => play(
                capture,
                self.number,
                &self.counters,
                buffers,
                most.min(BURST),
                now_ns,
                items,
                headers,
            ),
        }
    }

    /// The source can yield nothing more.
    pub fn source_ended(&self) -> bool {
        match &self.io {
            Io::Nic(_) => false,
            Io::Capture(capture) => capture.source.as_ref().is_none_or(CaptureSource::ended),
        }
    }

    /// A capture that control has not started yet.
    pub fn waits_to_start(&self) -> bool {
        matches!(&self.io, Io::Capture(capture) if !capture.started && capture.source.is_some())
    }

    /// Frames wait for the file's thread.
    pub fn has_unwritten(&self) -> bool {
        matches!(&self.io, Io::Capture(Capture { sink: Some(sink), .. }) if sink.pending() != 0)
    }

    /// Sends a buffer that is leaving the ledger, or a clone of one that stays.
    #[inline(always)]
    pub fn send(&mut self, outgoing: Outgoing) {
        self.counters.accepted.add(1);
        self.out.push(outgoing.into_raw());
        if self.out.len() >= OUT_MAX {
            self.flush(false);
        }
    }

    /// Sends what a run of one slot's descriptors names; returns how many left, and what did not.
    #[inline]
    pub fn send_run(&mut self, buffers: &mut Buffers, slot: u8, run: &[Returned]) -> Departed {
        let waiting = self.out.len();
        let out = &mut self.out;
        let departed = buffers.depart(slot, run, |_, outgoing| out.push(outgoing.into_raw()));
        self.counters
            .accepted
            .add((self.out.len() - waiting) as u64);
        if self.out.len() >= OUT_MAX {
            self.flush(false);
        }
        departed
    }

    /// Whether frames are sent here as bytes (a capture), not as mbufs.
    #[inline(always)]
    pub fn is_capture(&self) -> bool {
        matches!(self.io, Io::Capture(_))
    }

    /// Writes a frame to the capture.
    pub fn write(&mut self, frame: &[u8], timestamp_ns: i64, wire_length: u32, link: Link) {
        self.counters.accepted.add(1);
        let Io::Capture(capture) = &mut self.io else {
            return;
        };
        let Some(sink) = &mut capture.sink else {
            // A capture port without `out` is a sink that counts: the frame is sent.
            self.counters.transmitted.add(1);
            self.counters.transmitted_bytes.add(frame.len() as u64);
            return;
        };
        match sink.push(frame, timestamp_ns, wire_length, link) {
            Ok(()) => {
                self.counters.transmitted.add(1);
                self.counters.transmitted_bytes.add(frame.len() as u64);
            }
            Err(NotTaken::Full) => self.counters.tx_drops.add(DropReason::TxFull, 1),
            Err(NotTaken::LinkType) => self.counters.tx_drops.add(DropReason::LinkType, 1),
        }
    }

    /// Takes a frame that another worker has handed over; gives it back if a lossless file has no room.
    pub fn take_over(&mut self, parcel: Parcel, lossless: bool) -> Option<Parcel> {
        if lossless && self.lossless_room() == 0 {
            return Some(parcel);
        }
        if !self.is_capture() && parcel.sent.link != Link::Ethernet {
            self.counters.accepted.add(1);
            self.counters.tx_drops.add(DropReason::NoEthernet, 1);
            parcel.open().discard();
        } else if self.is_capture() {
            self.write(
                parcel.frame(),
                parcel.sent.timestamp_ns,
                parcel.sent.wire_length,
                parcel.sent.link,
            );
            parcel.open().discard();
        } else {
            self.send(parcel.open());
        }
        None
    }

    /// Gives what was sent to the driver, or to the file's thread (all of it when `idle`, else in fair portions).
    #[inline]
    pub fn flush(&mut self, idle: bool) {
        match &mut self.io {
            Io::Nic(nic) => {
                if self.out.is_empty() {
                    return;
                }
                let mut bytes = bytes_of(&self.out);
                #[allow(unsafe_code)]
                // SAFETY: queue 0 exists, only this worker sends on it, the mbufs are ours, each of one segment.
                let sent = unsafe { nic.port().tx_burst(0, &mut self.out) };
                self.counters.transmitted.add(sent as u64);
                if sent < self.out.len() {
                    self.counters
                        .tx_drops
                        .add(DropReason::TxFull, (self.out.len() - sent) as u64);
                    bytes -= bytes_of(&self.out[sent..]);
                    discard_all(&mut self.out[sent..]);
                }
                self.counters.transmitted_bytes.add(bytes);
                self.out.clear();
            }
            Io::Capture(capture) => {
                if let Some(sink) = &mut capture.sink {
                    if idle {
                        sink.flush_chunk();
                    } else {
                        sink.end_round();
                    }
                    let pending = sink.pending();
                    self.counters
                        .write_failed
                        .set(self.write_failed_before + sink.lost());
                    // Last: whoever sees that nothing waits any more sees what was lost of it.
                    self.counters.unwritten.set(pending);
                }
            }
        }
    }
}

/// Plays up to `most` frames of a capture.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one port and one pool, borrowed apart"
)]
fn play(
    capture: &mut Capture,
    number: u16,
    counters: &PortCounters,
    buffers: &mut Buffers,
    most: usize,
    now_ns: i64,
    items: &mut [Item; BURST],
    headers: &mut [Headers; BURST],
) -> usize {
    let Some(source) = capture.source.as_mut().filter(|_| capture.started) else {
        return 0;
    };
    let (mut count, mut bytes, mut seen) = (0, 0, 0);
    while seen < most {
        let Some(frame) = source.peek() else { break };
        let timestamp_ns = frame.meta.timestamp_ns;
        if capture.pacer.due(now_ns as u64, timestamp_ns) > 0 {
            break;
        }
        let arrival = Arrival {
            timestamp_ns,
            wire_length: frame.meta.wire_length,
            in_port: number,
            link: frame.meta.link,
        };
        let admitted = if frame.meta.unsupported {
            Err(DropReason::LinkType)
        } else if frame.meta.is_too_long() {
            Err(DropReason::TooLong)
        } else {
            let taken = buffers.take_in(frame.bytes, arrival, &mut headers[count]);
            taken.map_err(DropReason::from)
        };
        if matches!(admitted, Err(DropReason::NoBuffer)) && capture.lossless {
            break;
        }
        bytes += u64::from(frame.meta.length);
        seen += 1;
        match admitted {
            Ok(item) => {
                items[count] = item;
                count += 1;
            }
            Err(reason) => counters.drops.add(reason, 1),
        }
        source.advance();
        capture.pacer.sent(now_ns as u64, timestamp_ns);
    }
    counters.received.add(seen as u64);
    counters.bytes.add(bytes);
    count
}
