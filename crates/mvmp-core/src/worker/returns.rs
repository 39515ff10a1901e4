//! From the NFs' return rings: check each descriptor against the ledger, then send, forward,
//! mirror or free.
//!
//! A descriptor is copied out of the ring before it is looked at, and believed only as far as the
//! ledger agrees. Bounds come from the record that the platform wrote, never from the NF.

use std::sync::Arc;

use mvmp_wire::descriptor::{ANY_PORT, ReleaseReason};
use mvmp_wire::memory::Mapping;
use mvmp_wire::packet::Link;
use mvmp_wire::{Descriptor, Op, PRIVATE_POOL};

use super::buffers::{Arrival, Buffers, Item, Outgoing, Refusal, prefetch};
use super::delivery::deliver;
use super::lane::{NO_SLOT, REFUSED_MAX, SLOTS_PER_LINE, asked};
use super::port::written_as;
use super::{Exits, Worker, lane_at};
use crate::broken::{Rule, is_broken};
use crate::counters::DropReason;
use crate::ledger::Closed;

/// Descriptors taken from one NF in one turn.
pub(super) const TURN: usize = 128;

/// Where a run of descriptors goes.
enum Way {
    /// They are given back.
    Home,
    /// Lost, for a reason: the share ends, if it was to end.
    Lost(DropReason),
    /// Out of a port, by each packet's input port.
    Ports(u16, u16),
    /// To the receivers of a rootless device.
    Receivers(usize),
}

impl Worker {
    /// Asks for the slots that NFs have filled: they come from another core's cache while this one receives.
    pub(super) fn expect_returns(&mut self) {
        for nf in self.nfs.iter_mut().filter(|nf| !nf.quarantined) {
            // What is wrong with the index is found again, and dealt with, by the taking.
            let waiting = nf
                .returns
                .available(nf.up.return_tail())
                .unwrap_or(1)
                .min(TURN as u32);
            nf.expected = waiting;
            let slots = nf.up.return_slots();
            for ahead in (0..waiting).step_by(SLOTS_PER_LINE) {
                if let Some(slot) = nf.returns.slot(slots, ahead) {
                    prefetch(std::ptr::from_ref(slot).cast());
                }
            }
        }
    }

    pub(super) fn take_returns(&mut self) -> usize {
        let mut work = 0;
        for at in 0..self.nfs.len() {
            if !self.nfs[at].quarantined && self.nfs[at].expected != 0 {
                work += self.take_returns_of(at, self.nfs[at].expected as usize);
            }
        }
        work
    }

    /// Takes up to `most` descriptors of one NF; returns how many.
    pub(super) fn take_returns_of(&mut self, at: usize, most: usize) -> usize {
        let nf = &mut self.nfs[at];
        let waiting = match nf.returns.available(nf.up.return_tail()) {
            Ok(waiting) => (waiting as usize).min(most),
            Err(broken) => {
                self.quarantine(at, broken.to_string());
                return 0;
            }
        };
        if waiting == 0 {
            return 0;
        }
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        let slots = nf.up.return_slots();
        batch.extend((0..waiting as u32).map(|ahead| nf.returns.peek(slots, ahead)));
        let mut done = 0;
        while done < waiting {
            let run = run_length(&batch[done..waiting]);
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
    fn take_run(&mut self, at: usize, run: &[Descriptor]) -> usize {
        let first = run[0];
        if first.pool == PRIVATE_POOL {
            return self.take_built(at, run);
        }
        let pool = self
            .parts
            .pools
            .iter()
            .position(|pool| pool.id == first.pool);
        let (Some(pool), Some(op)) = (pool, asked(&first)) else {
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
        match op {
            Op::Release => self.release(at, pool, run),
            Op::Forward => self.forward(at, pool, run, &way),
            _ => self.mirror(at, pool, run, &way),
        }
        run.len()
    }

    /// Where handle number `arg` of this NF leads.
    fn way(&mut self, at: usize, op: Op, arg: u8) -> Way {
        if op == Op::Release {
            return Way::Home;
        }
        let slot = self.nfs[at]
            .slots
            .get(arg as usize)
            .copied()
            .unwrap_or(NO_SLOT);
        let Some((nf, device)) = lane_at(&mut self.lanes, slot)
            .filter(|lane| lane.tx)
            .map(|lane| (lane.nf, lane.device))
        else {
            return Way::Lost(DropReason::NotAuthorized);
        };
        match self.parts.devices[device].exits {
            Exits::Direct(port) => Way::Ports(port, port),
            Exits::Bridge(one, other) => Way::Ports(one, other),
            Exits::Rootless => {
                let foreign = |&slot: &u8| {
                    self.lanes[slot as usize]
                        .as_ref()
                        .is_some_and(|lane| lane.nf != nf)
                };
                let heard = self.parts.devices[device].receivers.iter().any(foreign);
                if heard {
                    Way::Receivers(device)
                } else {
                    Way::Lost(DropReason::NoReceiver)
                }
            }
        }
    }

    /// How many of the run can go on without loss.
    fn room_on(&mut self, at: usize, pool: usize, way: &Way, run: &[Descriptor]) -> usize {
        let room = match way {
            Way::Home | Way::Lost(_) => usize::MAX,
            Way::Receivers(device) => {
                let nf = self.nfs[at].nf;
                self.room_of_receivers(pool, *device, Some(nf), run.len() as u32) as usize
            }
            Way::Ports(one, other) => self.room_of_port(*one).min(self.room_of_port(*other)),
        };
        room.min(run.len())
    }

    fn room_of_port(&self, number: u16) -> usize {
        match self.port_at.get(number as usize).copied().flatten() {
            Some(place) => self.ports[place].lossless_room(),
            None => match self
                .parts
                .owner_of_port
                .get(number as usize)
                .copied()
                .flatten()
            {
                Some(worker) => self.parts.hand_over[worker]
                    .as_ref()
                    .map_or(usize::MAX, |ring| ring.out.slots()),
                None => usize::MAX,
            },
        }
    }

    fn release(&mut self, at: usize, pool: usize, run: &[Descriptor]) {
        let Some(&Descriptor { slot, .. }) = run.first() else {
            return;
        };
        let (closed, refused) = self.parts.pools[pool].give_back(slot, run);
        self.count_refused(at, refused);
        if let Some(lane) = lane_at(&mut self.lanes, slot) {
            lane.counters.released.add(closed);
            if run[0].arg == ReleaseReason::TxRingFull as u8 {
                lane.counters.tx_ring_full.add(closed);
            }
            lane.counters
                .held
                .set(u64::from(self.parts.pools[pool].ledger.held(slot)));
        }
    }

    fn forward(&mut self, at: usize, pool: usize, run: &[Descriptor], way: &Way) {
        let Some(&Descriptor { slot, .. }) = run.first() else {
            return;
        };
        let (closed, refused, no_way) = match way {
            Way::Receivers(device) => self.forward_to_receivers(at, pool, run, *device),
            Way::Ports(one, other) => self.forward_to_ports(at, pool, run, (*one, *other)),
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

    /// Runs that leave by one NIC of this worker's go in one go, all else packet by packet.
    fn forward_to_ports(
        &mut self,
        at: usize,
        pool: usize,
        run: &[Descriptor],
        exits: (u16, u16),
    ) -> (u64, u64, u64) {
        let (mut refused, mut no_way, mut rest) = (0, 0, run);
        while let Some(first) = rest.first() {
            let exit = self.exit(pool, first, exits);
            let same = |next: &&Descriptor| self.exit(pool, next, exits) == exit;
            let length = if exits.0 == exits.1 {
                rest.len()
            } else {
                rest.iter().take_while(same).count()
            };
            let (part, after) = rest.split_at(length);
            rest = after;
            let refused_here = match exit.and_then(|exit| self.own_nic(exit)) {
                Some(place) => self.forward_to_nic(at, pool, part, place),
                None => self.forward_one_by_one(at, pool, part, exits),
            };
            refused += refused_here;
            if exit.is_none() {
                no_way += part.len() as u64 - refused_here;
            }
        }
        (run.len() as u64 - refused, refused, no_way)
    }

    #[inline(always)]
    fn own_nic(&self, exit: u16) -> Option<usize> {
        let place = self.port_at.get(exit as usize).copied().flatten()?;
        (!self.ports[place].is_capture()).then_some(place)
    }

    /// Returns how many were refused.
    fn forward_to_nic(&mut self, at: usize, pool: usize, part: &[Descriptor], place: usize) -> u64 {
        let (slot, arg) = (part[0].slot, part[0].arg);
        let departed = self.ports[place].send_run(&mut self.parts.pools[pool], slot, part);
        self.count_out_drops(at, arg, DropReason::NoBuffer, departed.no_buffer);
        departed.refused
    }

    fn forward_one_by_one(
        &mut self,
        at: usize,
        pool: usize,
        part: &[Descriptor],
        exits: (u16, u16),
    ) -> u64 {
        let mut refused = 0;
        for descriptor in part {
            match close_for_sending(&mut self.parts.pools[pool], descriptor) {
                None => refused += 1,
                Some(outgoing) => self.send(at, pool, descriptor, outgoing, exits),
            }
        }
        refused
    }

    /// Opens the receivers' shares first, then closes the sender's: the buffer is never free in between.
    fn forward_to_receivers(
        &mut self,
        at: usize,
        pool: usize,
        run: &[Descriptor],
        device: usize,
    ) -> (u64, u64, u64) {
        let (mut closed, mut refused, mut no_way) = (0, 0, 0);
        for part in run.chunks(64) {
            let mut items = [Item::default(); 64];
            let (count, _) = self.check(pool, part, &mut items);
            let heard = self.deliver_to_receivers(at, pool, &items[..count], device, part[0].arg);
            let (ended, not_held) = self.parts.pools[pool].give_back(part[0].slot, part);
            closed += ended;
            refused += not_held;
            no_way += ended.saturating_sub(heard);
        }
        (closed, refused, no_way)
    }

    /// The items of those descriptors whose share is open, and how many others there were. (Who
    /// forwards one share twice in a burst has it delivered twice, as by a mirror; it ends once.)
    fn check(&mut self, pool: usize, part: &[Descriptor], items: &mut [Item; 64]) -> (usize, u64) {
        let buffers = &self.parts.pools[pool];
        let (mut count, mut limited, mut refused) = (0, 0u64, 0);
        for descriptor in part {
            if !buffers
                .ledger
                .holds(descriptor.slot, descriptor.granule, descriptor.token)
            {
                refused += 1;
                continue;
            }
            if descriptor.hop == u8::MAX {
                limited += 1;
                continue;
            }
            items[count] = Item {
                hop: descriptor.hop + 1,
                ..item_of(buffers, descriptor.granule)
            };
            count += 1;
        }
        if limited != 0
            && let Some(lane) = lane_at(&mut self.lanes, part[0].slot)
        {
            lane.counters.out_drops.add(DropReason::HopLimit, limited);
        }
        (count, refused)
    }

    /// Delivers to all others that receive; what none of their matches wants is the drop
    /// `no_receiver` of the handle that it was sent over, `arg`. Returns how many were wanted.
    fn deliver_to_receivers(
        &mut self,
        at: usize,
        pool: usize,
        items: &[Item],
        device: usize,
        arg: u8,
    ) -> u64 {
        if items.is_empty() {
            return 0;
        }
        let (nf, tsc) = (self.nfs[at].nf, self.tsc);
        let all = u64::MAX >> (64 - items.len());
        let mut offered = 0;
        for &slot in &self.parts.devices[device].receivers {
            let Some(lane) = lane_at(&mut self.lanes, slot).filter(|lane| lane.nf != nf) else {
                continue;
            };
            let buffers = &mut self.parts.pools[pool];
            let wanted = match &lane.matcher {
                None => all,
                Some(matcher) => narrowed(matcher, buffers, items),
            };
            offered |= wanted;
            deliver(lane, buffers, &mut self.to_wake, items, wanted, tsc);
        }
        let heard = u64::from(offered.count_ones());
        let unheard = items.len() as u64 - heard;
        self.count_out_drops(at, arg, DropReason::NoReceiver, unheard);
        heard
    }

    fn mirror(&mut self, at: usize, pool: usize, run: &[Descriptor], way: &Way) {
        let slot = run[0].slot;
        let (mut mirrored, mut refused) = (0, 0);
        for part in run.chunks(64) {
            let mut items = [Item::default(); 64];
            let (count, not_held) = self.check(pool, part, &mut items);
            mirrored += part.len() as u64 - not_held;
            refused += not_held;
            match way {
                Way::Receivers(device) => {
                    self.deliver_to_receivers(at, pool, &items[..count], *device, part[0].arg);
                }
                Way::Ports(one, other) => self.mirror_out(at, pool, part, (*one, *other)),
                Way::Home | Way::Lost(_) => {}
            }
        }
        self.count_refused(at, refused);
        if let Some(lane) = lane_at(&mut self.lanes, slot) {
            lane.counters.mirrored.add(mirrored);
            if let Way::Lost(reason) = way {
                lane.counters.out_drops.add(*reason, mirrored);
            }
        }
    }

    fn mirror_out(&mut self, at: usize, pool: usize, part: &[Descriptor], exits: (u16, u16)) {
        for descriptor in part {
            let buffers = &mut self.parts.pools[pool];
            if !buffers
                .ledger
                .holds(descriptor.slot, descriptor.granule, descriptor.token)
            {
                continue;
            }
            let outgoing = match buffers.leave_shared(descriptor.granule) {
                Some(outgoing) => Departing::Shared(outgoing),
                None => Departing::NoBuffer,
            };
            self.send(at, pool, descriptor, outgoing, exits);
        }
    }

    /// The port that a packet's input port calls for.
    #[inline(always)]
    fn exit(&self, pool: usize, descriptor: &Descriptor, (one, other): (u16, u16)) -> Option<u16> {
        if one == other {
            return Some(one);
        }
        let any = descriptor.offset == ANY_PORT;
        match if any {
            self.parts.pools[pool].record(descriptor.granule).in_port
        } else {
            descriptor.offset
        } {
            port if port == one => Some(other),
            port if port == other => Some(one),
            _ => None,
        }
    }

    /// Sends one packet out of the port that its input port calls for.
    fn send(
        &mut self,
        at: usize,
        pool: usize,
        descriptor: &Descriptor,
        departing: Departing,
        (one, other): (u16, u16),
    ) {
        let granule = descriptor.granule;
        let record = self.parts.pools[pool].record(granule);
        let exit = self.exit(pool, descriptor, (one, other));
        let outgoing = match departing {
            Departing::Last(outgoing) | Departing::Shared(outgoing) => outgoing,
            Departing::NoBuffer => {
                return self.count_out_drop(at, descriptor.arg, DropReason::NoBuffer);
            }
        };
        let Some(exit) = exit else {
            outgoing.discard();
            return self.count_out_drop(at, descriptor.arg, DropReason::NoRoute);
        };
        match self.port_at.get(exit as usize).copied().flatten() {
            Some(place) => {
                let port = &mut self.ports[place];
                if port.is_capture() {
                    let (timestamp_ns, wire_length, link) = written_as(&record);
                    let item = item_of(&self.parts.pools[pool], granule);
                    port.write(
                        self.parts.pools[pool].frame(item),
                        timestamp_ns,
                        wire_length,
                        link,
                    );
                    outgoing.discard();
                } else {
                    port.send(outgoing);
                }
            }
            None => self.hand_over(at, descriptor.arg, exit, outgoing, pool, granule),
        }
    }

    fn hand_over(
        &mut self,
        at: usize,
        arg: u8,
        exit: u16,
        outgoing: Outgoing,
        pool: usize,
        granule: u32,
    ) {
        let owner = self
            .parts
            .owner_of_port
            .get(exit as usize)
            .copied()
            .flatten();
        let ring = owner
            .and_then(|worker| self.parts.hand_over.get_mut(worker))
            .and_then(Option::as_mut);
        let Some(ring) = ring else {
            outgoing.discard();
            return self.count_out_drop(at, arg, DropReason::PortGone);
        };
        let record = self.parts.pools[pool].record(granule);
        // ORDERING: counted before it can be taken out and discounted.
        ring.in_transit
            .fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        if let Err(rtrb::PushError::Full(parcel)) =
            ring.out.push(outgoing.into_parcel(exit, &record))
        {
            ring.in_transit
                .fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
            parcel.open().discard();
            self.count_out_drop(at, arg, DropReason::HandOverFull);
        }
    }

    fn count_refused(&mut self, at: usize, refused: u64) {
        if refused != 0 {
            self.nfs[at].counters.refused.add(refused);
        }
    }

    /// Counts at the handle that was sent over.
    fn count_out_drop(&mut self, at: usize, handle: u8, reason: DropReason) {
        self.count_out_drops(at, handle, reason, 1);
    }

    fn count_out_drops(&mut self, at: usize, handle: u8, reason: DropReason, n: u64) {
        if n == 0 {
            return;
        }
        let slot = self.nfs[at]
            .slots
            .get(handle as usize)
            .copied()
            .unwrap_or(NO_SLOT);
        if let Some(lane) = lane_at(&mut self.lanes, slot) {
            lane.counters.out_drops.add(reason, n);
        }
    }

    /// Takes frames that the NF has built in its private memory: each is copied into a fresh buffer.
    fn take_built(&mut self, at: usize, run: &[Descriptor]) -> usize {
        let private = Arc::clone(&self.nfs[at].private);
        for (done, descriptor) in run.iter().enumerate() {
            let (slot, way) = match asked(descriptor) {
                Some(Op::Forward) => {
                    let slot = self.nfs[at]
                        .slots
                        .get(descriptor.arg as usize)
                        .copied()
                        .unwrap_or(NO_SLOT);
                    (slot, self.way(at, Op::Forward, descriptor.arg))
                }
                _ => {
                    self.count_refused(at, 1);
                    continue;
                }
            };
            if self.parts.lossless && self.room_on(at, 0, &way, &run[done..=done]) == 0 {
                return done;
            }
            if let Some(lane) = lane_at(&mut self.lanes, slot) {
                lane.counters.built.add(1);
            } else {
                self.count_refused(at, 1);
            }
            if let Err(reason) = self.take_one_built(at, descriptor, &way, &private) {
                self.count_out_drop(at, descriptor.arg, reason);
            }
        }
        run.len()
    }

    fn take_one_built(
        &mut self,
        at: usize,
        descriptor: &Descriptor,
        way: &Way,
        private: &Mapping,
    ) -> Result<(), DropReason> {
        if let Way::Lost(reason) = way {
            return Err(*reason);
        }
        let from =
            descriptor.granule as usize * mvmp_wire::GRANULE_BYTES + descriptor.offset as usize;
        // The port that an NF names for a frame of its own travels as the hop byte: see docs/protocol.md.
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
            link: Link::Ethernet,
        };
        let Some(buffers) = self.parts.pools.first_mut() else {
            return Err(DropReason::NoBuffer);
        };
        let taken = buffers.take_in_with(length, arrival, |room| private.copy_out(from, room));
        let item = match taken {
            Ok(Some(item)) => item,
            Ok(None) => return Err(DropReason::BadFrame),
            Err(Refusal::NoBuffer) => return Err(DropReason::NoBuffer),
            Err(Refusal::TooLong) => return Err(DropReason::TooLong),
        };
        match way {
            Way::Receivers(device) => {
                self.deliver_to_receivers(at, 0, &[item], *device, descriptor.arg);
                let buffers = &mut self.parts.pools[0];
                if !buffers.ledger.is_lent(item.granule) {
                    buffers.go_home(item.granule);
                }
            }
            Way::Ports(one, other) => {
                let outgoing = Departing::Last(self.parts.pools[0].leave(item.granule));
                let sent = Descriptor {
                    granule: item.granule,
                    offset: ANY_PORT,
                    arg: descriptor.arg,
                    ..Descriptor::default()
                };
                self.send(at, 0, &sent, outgoing, (*one, *other));
            }
            Way::Home | Way::Lost(_) => self.parts.pools[0].go_home(item.granule),
        }
        Ok(())
    }
}

/// A buffer that leaves.
enum Departing {
    /// Nobody holds it any more.
    Last(Outgoing),
    /// Others do: an indirect mbuf.
    Shared(Outgoing),
    /// There was no mbuf for a clone.
    NoBuffer,
}

/// Closes the sender's share and yields what can be sent; `None`: refused.
#[inline(always)]
fn close_for_sending(buffers: &mut Buffers, descriptor: &Descriptor) -> Option<Departing> {
    match buffers
        .ledger
        .close(descriptor.slot, descriptor.granule, descriptor.token)
    {
        Closed::Refused => None,
        Closed::Last => Some(Departing::Last(buffers.leave(descriptor.granule))),
        Closed::Shared => Some(
            buffers
                .leave_shared(descriptor.granule)
                .map_or(Departing::NoBuffer, Departing::Shared),
        ),
    }
}

/// A buffer as it was received.
#[inline(always)]
fn item_of(buffers: &Buffers, granule: u32) -> Item {
    let record = buffers.record(granule);
    Item {
        granule,
        offset: record.offset,
        length: record.length,
        link: record.link as u8,
        hop: 0,
    }
}

fn narrowed(matcher: &mvmp_policy::Matcher, buffers: &Buffers, items: &[Item]) -> u64 {
    let mut wanted = 0;
    for (at, item) in items.iter().enumerate() {
        let frame = buffers.frame(*item);
        let link = buffers.record(item.granule).link;
        if matcher.matches(&mvmp_wire::packet::parse(frame, link), frame) {
            wanted |= 1 << at;
        }
    }
    wanted
}

/// How many descriptors at the front ask for the same thing in the same pool.
#[inline(always)]
fn run_length(batch: &[Descriptor]) -> usize {
    let first = &batch[0];
    let key = |of: &Descriptor| u32::from_le_bytes([of.op, of.arg, of.slot, of.pool]);
    let same = |next: &&Descriptor| key(next) == key(first);
    batch.iter().take_while(same).count()
}
