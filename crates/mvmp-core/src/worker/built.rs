//! Frames that NFs build in their private memory: each is copied into a fresh buffer, then sent
//! like any other.

use std::sync::Arc;

use mvmp_wire::descriptor::ANY_PORT;
use mvmp_wire::memory::Mapping;
use mvmp_wire::packet::Link;
use mvmp_wire::{Descriptor, Op};

use super::buffers::Buffers;
use super::egress::Departing;
use super::item::Arrival;
use super::lane::NO_SLOT;
use super::returned::Returned;
use super::returns::Way;
use super::sending::Leaving;
use super::view::View;
use super::{Worker, lane_at};
use crate::counters::DropReason;

impl Worker {
    /// Takes descriptors of private memory; returns how many (fewer where a lossless stream must wait).
    pub(super) fn take_built(&mut self, at: usize, run: &[Returned]) -> usize {
        let private = Arc::clone(&self.nfs[at].private);
        for (done, returned) in run.iter().enumerate() {
            let descriptor = &returned.read();
            if returned.asked() != Some(Op::Forward) {
                self.count_refused(at, 1);
                continue;
            }
            let slot = self.slot_of(at, descriptor.arg);
            let way = self.way(at, Op::Forward, descriptor.arg);
            let pool = self.pool_for(at, slot, &way);
            if self.parts.lossless && self.room_on(at, pool, &way, &run[done..=done]) == 0 {
                return done;
            }
            if let Some(lane) = lane_at(&mut self.lanes, slot) {
                lane.counters.built.add(1);
            } else {
                self.count_refused(at, 1);
            }
            if let Err(reason) = self.take_one_built(at, descriptor, slot, (&way, pool), &private) {
                self.count_out_drop(at, descriptor.arg, reason);
            }
        }
        run.len()
    }

    /// The slot of an NF's handle, [`NO_SLOT`] where there is none.
    #[inline(always)]
    pub(super) fn slot_of(&self, at: usize, handle: u8) -> u8 {
        let slots = &self.nfs[at].slots;
        slots.get(handle as usize).copied().unwrap_or(NO_SLOT)
    }

    /// The pool that a frame is copied to: that of the ports it leaves by, else one that all who receive it
    /// have mapped, and its sender, too, if there is such a one: nobody else is to read it.
    fn pool_for(&mut self, at: usize, sender: u8, way: &Way) -> usize {
        let Self {
            parts,
            ports,
            port_at,
            lanes,
            nfs,
            ..
        } = self;
        let own = lane_at(lanes, sender).map_or(0, |lane| lane.mapped);
        let mut heard = u64::MAX;
        match way {
            Way::Ports(device) => {
                let first = parts.devices[*device].ports().first();
                if let Some(place) = first.and_then(|port| port_at[*port as usize]) {
                    return ports[place].pool;
                }
            }
            Way::Receivers(device) => {
                for slot in parts.devices[*device].listeners() {
                    if let Some(lane) = lane_at(lanes, slot)
                        && lane.nf != nfs[at].nf
                    {
                        heard &= lane.mapped;
                    }
                }
            }
            Way::Home | Way::Lost(_) => {}
        }
        let among = |bits: u64| {
            let is_one = |pool: &Buffers| bits >> pool.id & 1 == 1;
            parts.pools.iter().position(is_one)
        };
        among(heard & own).or_else(|| among(heard)).unwrap_or(0)
    }

    fn take_one_built(
        &mut self,
        at: usize,
        descriptor: &Descriptor,
        sender: u8,
        (way, pool): (&Way, usize),
        private: &Mapping,
    ) -> Result<(), DropReason> {
        if let Way::Lost(reason) = way {
            return Err(*reason);
        }
        let from =
            descriptor.granule as usize * mvmp_wire::GRANULE_BYTES + descriptor.offset as usize;
        // The port that an NF names for a frame of its own travels as the hop byte, what the frame
        // begins with as the token: see docs/protocol.md.
        let in_port = if descriptor.hop == u8::MAX {
            ANY_PORT
        } else {
            u16::from(descriptor.hop)
        };
        let length = descriptor.length as usize;
        let arrival = Arrival {
            timestamp_ns: self.clock.now_ns(self.tsc),
            wire_length: length as u32,
            in_port,
            link: Link::from_bits(descriptor.token as u8),
        };
        let Some(buffers) = self.parts.pools.get_mut(pool) else {
            return Err(DropReason::NoBuffer);
        };
        let taken = buffers.take_in_with(length, arrival, |room| private.copy_out(from, room));
        let item = match taken {
            Ok(Some(item)) => item,
            Ok(None) => return Err(DropReason::BadFrame),
            Err(refusal) => return Err(refusal.into()),
        };
        if self.deep
            && let Some(seen) = &mut self.departures
        {
            // Its flow is the innermost one, as that of what came in: a bond and a tunnel ask for it.
            let parts = &self.parts;
            seen.look_at(item, arrival.link, &parts.pools[pool], &parts.tunnel_ports);
        }
        match way {
            Way::Receivers(device) => {
                self.deliver_to_receivers(at, pool, &[item], *device, descriptor.arg);
                let buffers = &mut self.parts.pools[pool];
                if !buffers.ledger.is_lent(item.granule) {
                    buffers.go_home(item.granule);
                }
            }
            Way::Ports(device) => {
                let leaving = Leaving {
                    pool,
                    granule: item.granule,
                    device: *device,
                    in_port,
                    view: View::default(),
                    sender,
                    hop: 0,
                };
                let exit = self.exit(&leaving);
                self.show_outward(&leaving, exit);
                let departing = self.part_with(pool, item.granule);
                self.leave(&leaving, exit, departing);
            }
            Way::Home | Way::Lost(_) => self.parts.pools[pool].go_home(item.granule),
        }
        Ok(())
    }

    /// A buffer that the worker itself sends: it is still the worker's, or others hold it.
    pub(super) fn part_with(&mut self, pool: usize, granule: u32) -> Departing {
        let buffers = &mut self.parts.pools[pool];
        if !buffers.ledger.is_lent(granule) {
            return Departing::Last(buffers.leave(granule));
        }
        buffers
            .leave_shared(granule)
            .map_or(Departing::NoBuffer, Departing::Shared)
    }
}
