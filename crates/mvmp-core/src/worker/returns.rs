//! From the NFs' return rings: check each descriptor against the ledger, then send, forward,
//! mirror or free.
//!
//! A descriptor is copied out of the ring before it is looked at, and believed only as far as the
//! ledger agrees. Bounds come from the record that the platform wrote, never from the NF.

use mvmp_wire::descriptor::ReleaseReason;
use mvmp_wire::record::Record;
use mvmp_wire::{Descriptor, Op, PRIVATE_POOL};

use super::buffers::{BURST, prefetch};
use super::delivery::{Except, deal, prepare};
use super::device::Exits;
use super::face::CELLS;
use super::item::Item;
use super::lane::{NO_SLOT, REFUSED_MAX, SLOTS_PER_LINE};
use super::returned::Returned;
use super::view::View;
use super::{Worker, lane_at};
use crate::broken::{Rule, is_broken};
use crate::counters::DropReason;

/// Descriptors taken from one NF in one turn.
pub(super) const TURN: usize = 128;

/// Where a run of descriptors goes.
pub(super) enum Way {
    /// They are given back.
    Home,
    /// Lost, for a reason: the share ends, if it was to end.
    Lost(DropReason),
    /// Out of the ports of a device.
    Ports(usize),
    /// To the receivers of a rootless device.
    Receivers(usize),
}

impl Worker {
    /// Asks for the slots that NFs have filled: they come from another core's cache while this one receives.
    pub(super) fn expect_returns(&mut self) {
        (0..self.nfs.len()).for_each(|at| self.expect_returns_of(at));
    }

    #[inline]
    fn expect_returns_of(&mut self, at: usize) {
        let nf = &mut self.nfs[at];
        nf.expected = 0;
        if nf.quarantined {
            return;
        }
        let waiting = match nf.returns.available(nf.up.return_tail()) {
            Ok(waiting) => waiting.min(TURN as u32),
            Err(broken) => return self.quarantine(at, broken.to_string()),
        };
        nf.expected = waiting;
        let slots = nf.up.return_slots();
        for ahead in (0..waiting).step_by(SLOTS_PER_LINE) {
            if let Some(slot) = nf.returns.slot(slots, ahead) {
                prefetch(std::ptr::from_ref(slot).cast());
            }
        }
    }

    /// Takes what NFs return: of each a turn's worth, or twice as much as was received if that is more.
    pub(super) fn take_returns(&mut self, received: usize) -> usize {
        let mut work = 0;
        for at in 0..self.nfs.len() {
            let mut taken = 0;
            loop {
                let done = self.take_returns_of(at);
                taken += done;
                if done < TURN || taken >= 2 * received {
                    break;
                }
                self.expect_returns_of(at);
            }
            work += taken;
        }
        work
    }

    /// Takes the expected descriptors of one NF; returns how many.
    #[inline(never)]
    fn take_returns_of(&mut self, at: usize) -> usize {
        let nf = &mut self.nfs[at];
        let waiting = std::mem::take(&mut nf.expected) as usize;
        if waiting == 0 || nf.quarantined {
            return 0;
        }
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        let slots = nf.up.return_slots();
        nf.returns
            .peek_all(slots, waiting as u32, Returned::new, &mut batch);
        let mut done = 0;
        while done < batch.len() {
            let run = Returned::run_length(&batch[done..]);
            let taken = self.take_run(at, &batch[done..done + run]);
            done += taken;
            if taken < run {
                break;
            }
        }
        self.batch = batch;
        let nf = &mut self.nfs[at];
        nf.blocked = done < waiting;
        nf.returns.advance(done as u32);
        nf.returns.retire(nf.status.return_head());
        if nf.counters.refused.get() > REFUSED_MAX {
            self.quarantine(at, format!("more than {REFUSED_MAX} refused descriptors"));
        }
        done
    }

    /// Takes descriptors that all ask for the same; returns how many (fewer where a lossless stream must wait).
    #[inline(never)]
    fn take_run(&mut self, at: usize, run: &[Returned]) -> usize {
        let first = run[0].read();
        if first.pool == PRIVATE_POOL {
            return self.take_built(at, run);
        }
        let pool = self
            .parts
            .pools
            .iter()
            .position(|pool| pool.id == first.pool);
        let (Some(pool), Some(op)) = (pool, run[0].asked()) else {
            self.nfs[at].counters.refused.add(run.len() as u64);
            return run.len();
        };
        let mine = first.slot != NO_SLOT && self.nfs[at].slots.contains(&first.slot);
        if !mine && !is_broken(Rule::SlotCheck) {
            self.nfs[at].counters.refused.add(run.len() as u64);
            return run.len();
        }
        let way = self.way(at, op, first.arg);
        let room = if self.parts.lossless {
            self.room_on(at, pool, &way, run)
        } else {
            run.len()
        };
        if room == 0 {
            return 0;
        }
        let run = &run[..room];
        if self.tracer.is_some() {
            self.trace_returned(pool, run);
        }
        match op {
            Op::Release => self.release(at, pool, run),
            Op::Forward => self.forward(at, pool, run, &way),
            _ => self.mirror(at, pool, run, &way),
        }
        run.len()
    }

    /// Where handle number `arg` of this NF leads.
    pub(super) fn way(&mut self, at: usize, op: Op, arg: u8) -> Way {
        if op == Op::Release {
            return Way::Home;
        }
        let slot = self.slot_of(at, arg);
        let Some((nf, device)) = lane_at(&mut self.lanes, slot)
            .filter(|lane| lane.tx)
            .map(|lane| (lane.nf, lane.device))
        else {
            return Way::Lost(DropReason::NotAuthorized);
        };
        match &self.parts.devices[device].exits {
            Exits::Direct(_) | Exits::Bridge(_) | Exits::Bond(_) => Way::Ports(device),
            Exits::Rootless => {
                let foreign = |slot: u8| {
                    self.lanes[slot as usize]
                        .as_ref()
                        .is_some_and(|lane| lane.nf != nf)
                };
                let heard = self.parts.devices[device].listeners().any(foreign);
                if heard {
                    Way::Receivers(device)
                } else {
                    Way::Lost(DropReason::NoReceiver)
                }
            }
        }
    }

    /// How many of the run can go on without loss.
    pub(super) fn room_on(&mut self, at: usize, pool: usize, way: &Way, run: &[Returned]) -> usize {
        let room = match way {
            Way::Home | Way::Lost(_) => usize::MAX,
            Way::Receivers(device) => {
                let nf = self.nfs[at].nf;
                self.room_of_receivers(pool, *device, Except::Nf(nf), run.len() as u32) as usize
            }
            Way::Ports(device) => {
                let sender = run.first().map(|returned| returned.read().arg);
                let slot = sender.map_or(NO_SLOT, |handle| self.slot_of(at, handle));
                self.room_of_exits(pool, *device, run.len() as u32, Except::Slot(slot))
            }
        };
        room.min(run.len())
    }

    fn release(&mut self, at: usize, pool: usize, run: &[Returned]) {
        let Descriptor { slot, arg, .. } = run[0].read();
        let (closed, refused) = self.parts.pools[pool].give_back(slot, run);
        self.count_refused(at, refused);
        if let Some(lane) = lane_at(&mut self.lanes, slot) {
            lane.counters.released.add(closed);
            if arg == ReleaseReason::TxRingFull as u8 {
                lane.counters.tx_ring_full.add(closed);
            }
            lane.counters
                .held
                .set(u64::from(self.parts.pools[pool].ledger.held(slot)));
        }
    }

    fn forward(&mut self, at: usize, pool: usize, run: &[Returned], way: &Way) {
        let slot = run[0].read().slot;
        let (closed, refused, no_way) = match way {
            Way::Receivers(device) => self.forward_to_receivers(at, pool, run, *device),
            Way::Ports(device) => {
                let (refused, no_way) = self.send_run(at, pool, run, *device);
                (run.len() as u64 - refused, refused, no_way)
            }
            Way::Home | Way::Lost(_) => {
                let (closed, refused) = self.parts.pools[pool].give_back(slot, run);
                (closed, refused, closed)
            }
        };
        self.count_refused(at, refused);
        let held = self.parts.pools[pool].ledger.held(slot);
        if let Some(lane) = lane_at(&mut self.lanes, slot) {
            let books = if matches!(way, Way::Ports(..)) {
                &lane.counters.sent
            } else {
                &lane.counters.forwarded
            };
            books.add(closed - no_way);
            lane.counters.released.add(no_way);
            lane.counters.no_way.add(no_way);
            lane.counters.held.set(u64::from(held));
            if let Way::Lost(reason) = way {
                lane.counters.out_drops.add(*reason, closed);
            }
        }
    }

    /// Opens the receivers' shares first, then closes the sender's: the buffer is never free in between.
    fn forward_to_receivers(
        &mut self,
        at: usize,
        pool: usize,
        run: &[Returned],
        device: usize,
    ) -> (u64, u64, u64) {
        let Descriptor { slot, arg, .. } = run[0].read();
        let (mut closed, mut refused, mut no_way) = (0, 0, 0);
        let mut items = std::mem::take(&mut self.passing);
        for part in run.chunks(BURST) {
            self.check(pool, slot, part, &mut items);
            let heard = self.deliver_to_receivers(at, pool, &items, device, arg);
            let (ended, not_held) = self.parts.pools[pool].give_back(slot, part);
            closed += ended;
            refused += not_held;
            no_way += ended.saturating_sub(heard);
        }
        self.passing = items;
        (closed, refused, no_way)
    }

    /// Finds the items of those descriptors whose share is open; returns how many others there were. (Who
    /// forwards one share twice in a burst has it delivered twice, as by a mirror; it ends once.)
    fn check(&mut self, pool: usize, slot: u8, part: &[Returned], items: &mut Vec<Item>) -> u64 {
        let buffers = &self.parts.pools[pool];
        let (held, records) = (buffers.ledger.held_by(slot), buffers.records());
        let (mut limited, mut refused) = (0, 0u64);
        items.clear();
        for returned in part {
            let descriptor = returned.read();
            let Some(view) = held.view_of(descriptor.granule, descriptor.token) else {
                refused += 1;
                continue;
            };
            if descriptor.hop == u8::MAX {
                limited += 1;
                continue;
            }
            let item = if view == View::default() {
                let (offset, length, link) = Record::bounds(records, descriptor.granule);
                Item::new(descriptor.granule, offset, length, link)
            } else {
                Item::showing(
                    descriptor.granule,
                    view,
                    &buffers.record(descriptor.granule),
                )
            };
            items.push(item.passed_on(descriptor.hop));
        }
        if limited != 0
            && let Some(lane) = lane_at(&mut self.lanes, slot)
        {
            lane.counters.out_drops.add(DropReason::HopLimit, limited);
        }
        refused
    }

    /// Delivers to all others that receive; what none of their matches wants is the drop
    /// `no_receiver` of the handle that it was sent over, `arg`. Returns how many were wanted.
    pub(super) fn deliver_to_receivers(
        &mut self,
        at: usize,
        pool: usize,
        items: &[Item],
        device: usize,
        arg: u8,
    ) -> u64 {
        let Some(mut seen) = self.departures.take() else {
            return 0;
        };
        let except = Except::Nf(self.nfs[at].nf);
        let mut offered = 0;
        for part in items.chunks(BURST) {
            let Self {
                parts,
                lanes,
                to_wake,
                fragments,
                flows,
                deep,
                tsc,
                ..
            } = self;
            let (receiving, buffers) = (&parts.devices[device], &mut parts.pools[pool]);
            let tunnels = deep.then_some(&parts.tunnel_ports);
            let asks = |slot| lane_at(lanes, slot).is_some_and(|lane| lane.matcher.is_some());
            let looks = !receiving.groups.is_empty() || receiving.listeners().any(asks);
            let all = u64::MAX >> (64 - part.len());
            if looks {
                seen.seen_alike(part, buffers, tunnels, |packets| {
                    prepare(receiving, lanes, fragments, packets, all, flows);
                });
            } else {
                for slot in receiving.listeners() {
                    if let Some(lane) = lane_at(lanes, slot) {
                        lane.narrowed = all;
                    }
                }
            }
            let dealt = deal(
                receiving, lanes, to_wake, buffers, part, flows, except, *tsc,
            );
            offered += dealt.offered.count_ones() as usize;
            if self.tracer.is_some() {
                self.trace_seen((None, pool), &[device], part, &[all; CELLS], except);
            }
        }
        self.departures = Some(seen);
        let unheard = (items.len() - offered) as u64;
        self.count_out_drops(at, arg, DropReason::NoReceiver, unheard);
        offered as u64
    }

    fn mirror(&mut self, at: usize, pool: usize, run: &[Returned], way: &Way) {
        let Descriptor { slot, arg, .. } = run[0].read();
        let (mut mirrored, mut refused) = (0, 0);
        let mut items = std::mem::take(&mut self.passing);
        for part in run.chunks(BURST) {
            let not_held = self.check(pool, slot, part, &mut items);
            mirrored += part.len() as u64 - not_held;
            refused += not_held;
            match way {
                Way::Receivers(device) => {
                    self.deliver_to_receivers(at, pool, &items, *device, arg);
                }
                Way::Ports(device) => self.mirror_out(at, pool, part, *device),
                Way::Home | Way::Lost(_) => {}
            }
        }
        self.passing = items;
        self.count_refused(at, refused);
        if let Some(lane) = lane_at(&mut self.lanes, slot) {
            lane.counters.mirrored.add(mirrored);
            if let Way::Lost(reason) = way {
                lane.counters.out_drops.add(*reason, mirrored);
            }
        }
    }

    pub(super) fn count_refused(&mut self, at: usize, refused: u64) {
        if refused != 0 {
            self.nfs[at].counters.refused.add(refused);
        }
    }

    /// Counts at the handle that was sent over.
    pub(super) fn count_out_drop(&mut self, at: usize, handle: u8, reason: DropReason) {
        self.count_out_drops(at, handle, reason, 1);
    }

    pub(super) fn count_out_drops(&mut self, at: usize, handle: u8, reason: DropReason, n: u64) {
        if n == 0 {
            return;
        }
        let slot = self.slot_of(at, handle);
        if let Some(lane) = lane_at(&mut self.lanes, slot) {
            lane.counters.out_drops.add(reason, n);
        }
    }
}
