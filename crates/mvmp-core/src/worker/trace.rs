//! Tracing: the next packets of one device, step by step, for people.
//!
//! Off, it costs one comparison a burst. On, the packets that are looked at are copied, and every
//! step is told to control, which puts it into words. What NFs do with them is told as well, until
//! they are given back or the trace ends.

use mvmp_wire::Op;

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
    /// Buffers of those that NFs may still have.
    watched: Vec<u32>,
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
    /// It came by a port, or is about to leave by one.
    Seen {
        device: usize,
        port: u16,
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
        slot: u8,
        granule: u32,
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
            watched: Vec::new(),
            returns_left: left.saturating_mul(RETURNS_PER_PACKET),
        });
    }

    /// Tells of the packets of a burst, in buffers of `pool`, that the traced device was offered
    /// at a port. `sender`: they are on their way out, sent over that slot, which does not get them.
    #[cold]
    pub(super) fn trace_seen(
        &mut self,
        (at, pool): (usize, usize),
        devices: &[usize],
        items: &[Item],
        wanted: &[u64; CELLS],
        sender: Option<u8>,
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
                let wanted = wanted[cell] & 1 << n != 0;
                let step = self.seen((at, pool), tracer.device, *item, n, wanted, sender);
                if wanted {
                    tracer.watched.push(item.granule);
                }
                self.say(Event::Traced(Box::new(step)));
            }
        }
        if tracer.left != 0 || !tracer.watched.is_empty() {
            self.tracer = Some(tracer);
        }
    }

    fn seen(
        &mut self,
        (at, pool): (usize, usize),
        device: usize,
        item: Item,
        n: usize,
        wanted: bool,
        sender: Option<u8>,
    ) -> Step {
        let port = &self.ports[at];
        let buffers = &self.parts.pools[pool];
        let record = buffers.record(item.granule);
        let whole = Item::showing(item.granule, Default::default(), &record);
        let frame = buffers.frame(whole);
        let mut handles = Vec::new();
        let listeners = self.parts.devices[device].listeners();
        for slot in listeners.filter(|&slot| Some(slot) != sender) {
            let holds = buffers.ledger.is_held(slot, item.granule);
            if let Some(lane) = lane_at(&mut self.lanes, slot) {
                let outcome = match (holds, lane.narrowed & 1 << n != 0) {
                    (true, _) => Outcome::Delivered,
                    (false, true) if self.parts.devices[device].groups.is_empty() => Outcome::Full,
                    (false, _) => Outcome::NotIts,
                };
                if wanted {
                    handles.push((slot, outcome));
                }
            }
        }
        Step::Seen {
            device,
            port: port.number,
            outbound: sender.is_some(),
            timestamp_ns: record.timestamp_ns,
            wire_length: record.wire_length,
            link: record.link as u8,
            frame: frame[..frame.len().min(SNAP)].to_vec(),
            shown: item.view.shown(&record),
            wanted,
            handles,
            bypassed: wanted && sender.is_none() && self.parts.devices[device].bypasses(),
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
            let watched = tracer
                .watched
                .iter()
                .position(|&granule| granule == descriptor.granule);
            let Some(place) = watched.filter(|_| open) else {
                continue;
            };
            if descriptor.op != Op::Mirror as u8 && !ledger.is_shared(descriptor.granule) {
                tracer.watched.swap_remove(place);
            }
            if tracer.returns_left == 0 {
                continue;
            }
            tracer.returns_left -= 1;
            self.say(Event::Traced(Box::new(Step::Returned {
                slot: descriptor.slot,
                granule: descriptor.granule,
                op: descriptor.op,
                over: descriptor.arg,
            })));
        }
        if tracer.left != 0 || !tracer.watched.is_empty() {
            self.tracer = Some(tracer);
        }
    }
}
