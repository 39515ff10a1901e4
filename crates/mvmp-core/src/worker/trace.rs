//! Tracing: the next packets of one device, step by step, for people.
//!
//! Off, it costs one comparison a burst. On, the packets that are looked at are copied, and every
//! step is told to control, which puts it into words. What NFs do with them is told as well, until
//! they are given back or the trace ends.

use mvmp_wire::Op;

use super::delivery::Except;
use super::face::CELLS;
use super::item::Item;
use super::returned::Returned;
use super::view::Part;
use super::{Event, Worker, lane_at};

/// Bytes of a packet that are told.
const SNAP: usize = 512;

/// A trace that is under way.
pub struct Tracer {
    pub device: usize,
    /// Packets that are still to be looked at.
    pub left: u32,
    /// The number of the next.
    next: u32,
    /// Buffers of those that NFs may still have, and their numbers.
    watched: Vec<(u32, u32)>,
    /// Returns that are still told of: an NF can mirror one packet for ever.
    returns_left: u32,
}

/// Returns that are told of for each packet that is looked at.
const RETURNS_PER_PACKET: u32 = 16;

/// What became of a packet at one handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the handle's ring.
    Delivered,
    /// Its own match, or its group, left it to others.
    NotIts,
    /// Its ring was full, or it holds as many as it may.
    Full,
}

/// One step of one packet.
#[derive(Clone, Debug)]
pub enum Step {
    /// It came by a port, is about to leave by one, or goes from one NF to others.
    Seen {
        /// The worker's number for it.
        packet: u32,
        device: usize,
        /// None: over a rootless device.
        port: Option<u16>,
        outbound: bool,
        timestamp_ns: i64,
        wire_length: u32,
        link: u8,
        /// The first bytes of it.
        frame: Vec<u8>,
        /// What of it the device is shown.
        shown: Part,
        wanted: bool,
        handles: Vec<(u8, Outcome)>,
        bypassed: bool,
    },
    /// An NF gave it back, over one of its handles if it was sent.
    Returned {
        packet: u32,
        slot: u8,
        op: u8,
        over: u8,
    },
}

impl Worker {
    /// Begins a trace; one that was under way ends.
    pub(super) fn begin_trace(&mut self, device: usize, left: u32) {
        self.tracer = (left != 0).then(|| Tracer {
            device,
            left,
            next: 1,
            watched: Vec::new(),
            returns_left: left.saturating_mul(RETURNS_PER_PACKET),
        });
    }

    /// Tells of the packets of a burst, in buffers of `pool`, that the traced device was offered: at a
    /// port, or by another NF. `except`: those who do not get them.
    #[cold]
    pub(super) fn trace_seen(
        &mut self,
        (port, pool): (Option<u16>, usize),
        devices: &[usize],
        items: &[Item],
        wanted: &[u64; CELLS],
        except: Except,
    ) {
        let Some(mut tracer) = self.tracer.take() else {
            return;
        };
        if let Some(cell) = devices.iter().position(|&device| device == tracer.device) {
            for (n, item) in items.iter().enumerate() {
                if tracer.left == 0 {
                    break;
                }
                tracer.left -= 1;
                let packet = tracer.next;
                tracer.next += 1;
                let wanted = wanted[cell] & 1 << n != 0;
                let whose = (packet, tracer.device);
                let step = self.seen((port, pool), whose, (*item, n), wanted, except);
                if wanted {
                    tracer.watched.push((item.granule, packet));
                }
                self.say(Event::Traced(self.parts.index, Box::new(step)));
            }
        }
        if tracer.left != 0 || !tracer.watched.is_empty() {
            self.tracer = Some(tracer);
        }
    }

    fn seen(
        &mut self,
        (port, pool): (Option<u16>, usize),
        (packet, device): (u32, usize),
        (item, n): (Item, usize),
        wanted: bool,
        except: Except,
    ) -> Step {
        let buffers = &self.parts.pools[pool];
        let record = buffers.record(item.granule);
        let whole = Item::showing(item.granule, Default::default(), &record);
        let frame = buffers.frame(whole);
        let mut handles = Vec::new();
        for slot in self.parts.devices[device].listeners() {
            let holds = buffers.ledger.is_held(slot, item.granule);
            let lane = lane_at(&mut self.lanes, slot).filter(|lane| !except.is(lane));
            if let Some(lane) = lane.filter(|_| wanted) {
                // What is left of its own match and its group's choice.
                let outcome = match (holds, lane.narrowed & 1 << n != 0) {
                    (true, _) => Outcome::Delivered,
                    (false, true) => Outcome::Full,
                    (false, false) => Outcome::NotIts,
                };
                handles.push((slot, outcome));
            }
        }
        let outbound = matches!(except, Except::Slot(_));
        Step::Seen {
            packet,
            device,
            port,
            outbound,
            timestamp_ns: record.timestamp_ns,
            wire_length: record.wire_length,
            link: record.link as u8,
            frame: frame[..frame.len().min(SNAP)].to_vec(),
            shown: item.view.shown(&record),
            wanted,
            handles,
            bypassed: wanted && !outbound && self.parts.devices[device].bypasses(),
        }
    }

    /// Tells what an NF does with packets that are traced. Its descriptors are not believed yet:
    /// only a share that is open is told of.
    #[cold]
    pub(super) fn trace_returned(&mut self, pool: usize, run: &[Returned]) {
        let Some(mut tracer) = self.tracer.take() else {
            return;
        };
        for returned in run {
            let descriptor = returned.read();
            let ledger = &self.parts.pools[pool].ledger;
            let open = ledger.holds(descriptor.slot, descriptor.granule, descriptor.token);
            // The last that lay in this buffer.
            let watched = tracer
                .watched
                .iter()
                .rposition(|&(granule, _)| granule == descriptor.granule);
            let Some(place) = watched.filter(|_| open) else {
                continue;
            };
            let (_, packet) = tracer.watched[place];
            if descriptor.op != Op::Mirror as u8 && !ledger.is_shared(descriptor.granule) {
                tracer.watched.swap_remove(place);
            }
            if tracer.returns_left == 0 {
                continue;
            }
            tracer.returns_left -= 1;
            let step = Step::Returned {
                packet,
                slot: descriptor.slot,
                op: descriptor.op,
                over: descriptor.arg,
            };
            self.say(Event::Traced(self.parts.index, Box::new(step)));
        }
        if tracer.left != 0 || !tracer.watched.is_empty() {
            self.tracer = Some(tracer);
        }
    }
}
