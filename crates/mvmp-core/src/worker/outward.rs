//! What leaves by a port, for those who receive it (`direction = "out"` and `"inout"`): after the
//! send policy has chosen the port, before encapsulation, never to the handle that sent it.

use super::buffers::BURST;
use super::delivery::{Except, deal, prepare};
use super::face::CELLS;
use super::item::{Arrival, Item};
use super::outgoing::{BeforeEncap, Parcel};
use super::view::Part;
use super::{Worker, lane_at};
use crate::counters::DropReason;

/// A packet on its way out.
pub(super) struct Shown {
    pub(super) pool: usize,
    /// What is sent of it, before encapsulation.
    pub(super) item: Item,
    /// The same as a part of the buffer's frame.
    pub(super) part: Part,
    /// The slot of the handle that sends it.
    pub(super) sender: u8,
    /// NFs that have handed it on so far. With 255 it is shown to nobody: two who receive what the other sends
    /// would send it for ever.
    pub(super) hop: u8,
}

impl Worker {
    /// Offers one packet to the devices that receive what leaves by a port.
    pub(super) fn offer_outward(&mut self, place: usize, shown: &Shown) {
        let &Shown {
            pool,
            item,
            part,
            sender,
            hop,
        } = shown;
        if hop == u8::MAX {
            if let Some(lane) = lane_at(&mut self.lanes, sender) {
                lane.counters.out_drops.add(DropReason::HopLimit, 1);
            }
            return;
        }
        let Some(mut seen) = self.departures.take() else {
            return;
        };
        let Self {
            ports,
            parts,
            lanes,
            to_wake,
            fragments,
            tsc,
            tracer,
            ..
        } = self;
        let (devices, buffers) = (&parts.devices, &mut parts.pools[pool]);
        let mut told = Vec::new();
        seen.look_at(item, part.link, buffers, &parts.tunnel_ports);
        for face in &ports[place].outward {
            let (mut wanted, mut flows) = ([0; CELLS], [0; BURST]);
            let items = seen.seen_outbound(face, part.start, hop, buffers, |packets| {
                face.classify(packets, u64::MAX, &mut wanted);
                for (&device, &wanted) in face.devices.iter().zip(&wanted) {
                    prepare(
                        &devices[device],
                        lanes,
                        fragments,
                        packets,
                        wanted,
                        &mut flows,
                    );
                }
            });
            for (&device, &wanted) in face.devices.iter().zip(&wanted) {
                if wanted != 0 {
                    let (device, except) = (&devices[device], Except::Slot(sender));
                    deal(device, lanes, to_wake, buffers, items, &flows, except, *tsc);
                }
            }
            if tracer.is_some() {
                told.push((face.devices.clone(), items[0], wanted));
            }
        }
        self.departures = Some(seen);
        for (devices, item, wanted) in told {
            let (port, except) = (Some(self.ports[place].number), Except::Slot(sender));
            self.trace_seen((port, pool), &devices, &[item], &wanted, except);
        }
    }

    /// Shows and sends what another worker has handed over; gives it back if anything lossless has no room.
    pub(super) fn take_parcel(
        &mut self,
        place: usize,
        parcel: Parcel,
        lossless: bool,
    ) -> Option<Parcel> {
        if !self.ports[place].outward.is_empty() {
            let pool = self.ports[place].pool;
            let sender = Except::Slot(parcel.before.sender);
            let has_room = self.ports[place].lossless_room() != 0
                && self.room_outward(place, pool, 1, sender) != 0;
            if lossless && !has_room {
                return Some(parcel);
            }
            self.show_parcel(place, &parcel);
        }
        self.ports[place].take_over(parcel, lossless)
    }

    /// Offers what another worker has handed over: the packet before encapsulation, in a buffer of
    /// this worker's. Its handle has the same slot on all workers.
    #[cold]
    fn show_parcel(&mut self, place: usize, parcel: &Parcel) {
        let pool = self.ports[place].pool;
        let BeforeEncap {
            wire_length,
            link,
            sender,
            hop,
            ..
        } = parcel.before;
        let arrival = Arrival {
            wire_length,
            link,
            ..parcel.sent
        };
        let [first, rest] = parcel.before();
        let write = |room: &mut [u8]| {
            let (head, tail) = room.split_at_mut(first.len());
            head.copy_from_slice(first);
            tail.copy_from_slice(rest);
            true
        };
        let buffers = &mut self.parts.pools[pool];
        let taken = buffers.take_in_with(first.len() + rest.len(), arrival, write);
        let Ok(Some(item)) = taken else {
            let devices = self.ports[place]
                .outward
                .iter()
                .flat_map(|face| &face.devices);
            for slot in devices.flat_map(|&device| self.parts.devices[device].listeners()) {
                if let Some(lane) = lane_at(&mut self.lanes, slot) {
                    lane.counters.offered.add(1);
                    lane.counters.drops.add(DropReason::NoBuffer, 1);
                }
            }
            return;
        };
        let part = Part {
            start: 0,
            end: item.length(),
            link,
        };
        let shown = Shown {
            pool,
            item,
            part,
            sender,
            hop,
        };
        self.offer_outward(place, &shown);
        let buffers = &mut self.parts.pools[pool];
        if !buffers.ledger.is_lent(item.granule) {
            buffers.go_home(item.granule);
        }
    }
}
