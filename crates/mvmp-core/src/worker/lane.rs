//! Lanes: one (worker, handle) pair, and the NF side that they share.
//!
//! Built by control when an NF connects or opens a device, then owned by one worker until they
//! are given back. Everything that an NF writes is read here once and checked.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mvmp_policy::Matcher;
use mvmp_wire::MAX_HANDLES;
use mvmp_wire::memory::Mapping;
use mvmp_wire::region::{DownRegion, StatusRegion, UpRegion};
use mvmp_wire::ring::{Consumer, Producer};
use mvmp_wire::wake::Waker;

use super::buffers::{BURST, Buffers, prefetch_to_write};
use super::device::Seat;
use super::item::Item;
use super::mask::ones;
use crate::counters::{DropReason, HandleCounters, NfCounters};
use crate::ledger::Ledger;

/// No slot.
pub const NO_SLOT: u8 = u8::MAX;

/// One NF instance, as one worker sees it.
pub struct NfLane {
    /// The instance's number within the platform; never reused.
    pub nf: u32,
    pub up: UpRegion,
    pub status: StatusRegion,
    pub returns: Consumer,
    pub private: Arc<Mapping>,
    /// Write end for the platform's counterpart: the read end of the pipe that wakes this worker.
    pub wake: OwnedFd,
    /// Slot of each of its handles on this worker, [`NO_SLOT`] where there is none.
    pub slots: [u8; MAX_HANDLES],
    pub counters: Arc<NfCounters>,
    /// It broke the protocol: nothing of it is read any more.
    pub quarantined: bool,
    /// A lossless stream waits for room at the head of its return ring.
    pub blocked: bool,
    /// Descriptors that were seen on the return ring, and asked for, at the beginning of this turn.
    pub expected: u32,
}

/// Refused descriptors before an NF is quarantined: at a few million guesses a second, a 32-bit
/// token would fall within minutes; this many guesses find nothing.
pub const REFUSED_MAX: u64 = 1000;

/// Descriptors in a cache line.
pub const SLOTS_PER_LINE: usize = 4;

/// One handle, as one worker sees it.
pub struct Lane {
    pub slot: u8,
    pub nf: u32,
    /// The handle's number within its NF.
    pub handle: u8,
    /// The device's number.
    pub device: usize,
    pub tx: bool,
    pub matcher: Option<Arc<Matcher>>,
    /// The packets of the burst at hand that its own match wants.
    pub narrowed: u64,
    /// Its place in a group that shares the flows.
    pub seat: Option<Seat>,
    pub ring: Producer,
    pub down: DownRegion,
    pub up: UpRegion,
    /// Write end of the pipe that wakes the NF.
    pub wake: OwnedFd,
    pub counters: Arc<HandleCounters>,
    /// It receives; false once it is being closed.
    pub receiving: bool,
    /// It is being closed.
    pub closing: bool,
    /// Pools that its NF has mapped, a bit for each.
    pub mapped: u64,
    /// The NF's index was impossible.
    pub broken: bool,
    /// When its NF is woken.
    pub waker: Waker,
}

impl Lane {
    /// How many packets it certainly takes now: ring and limit.
    #[inline]
    pub fn room(&mut self, buffers: &Buffers, wanted: u32) -> u32 {
        if self.mapped & 1 << buffers.id == 0 {
            return wanted;
        }
        match self.ring.room(self.up.rx_head(self.handle), wanted) {
            Ok(free) => free.min(buffers.ledger.room(self.slot)),
            Err(_) => {
                self.broken = true;
                0
            }
        }
    }

    /// Half of its ring waits for the NF, as far as the NF has said.
    #[inline]
    pub fn is_half_full(&mut self) -> bool {
        let half = self.ring.capacity() / 2;
        if self.ring.occupied() < half {
            return false;
        }
        self.broken |= self.ring.refresh(self.up.rx_head(self.handle)).is_err();
        self.ring.occupied() >= half
    }

    /// Delivers the packets that `wanted` names; each opens a share. The NF sees them at the end of
    /// the turn, or once there is a burst of them. Returns how many it took, and
    /// those that this handle holds already (they must be delivered as copies), which are not counted yet.
    #[inline]
    pub fn deliver(&mut self, buffers: &mut Buffers, items: &[Item], wanted: u64) -> (u32, u64) {
        let offered = wanted.count_ones();
        if offered == 0 {
            return (0, 0);
        }
        if self.mapped & 1 << buffers.id == 0 {
            self.counters.offered.add(u64::from(offered));
            self.counters
                .drops
                .add(DropReason::NotMapped, u64::from(offered));
            return (0, 0);
        }
        let ring_room = match self.ring.room(self.up.rx_head(self.handle), offered) {
            Ok(room) => room,
            Err(_) => {
                self.broken = true;
                0
            }
        };
        // The lines were read by the NF's core: they are asked for while shares are opened.
        for ahead in (0..offered.min(ring_room)).step_by(SLOTS_PER_LINE) {
            if let Some(slot) = self.ring.slot(self.down.rx_slots(), ahead) {
                prefetch_to_write(std::ptr::from_ref(slot).cast());
            }
        }
        let limit_room = buffers.ledger.room(self.slot);
        let room = ring_room.min(limit_room);
        let chosen = if offered <= room {
            wanted
        } else {
            fitting(&buffers.ledger, self.slot, items, wanted, room)
        };
        let (pool, slot) = (buffers.id, self.slot);
        let mut shares = buffers.ledger.column(slot);
        let held_already = shares.open_all(chosen, |at| items[at].granule);
        // Apart: opening and filling each need most of the CPU's registers.
        let mut slots = self.ring.filling(self.down.rx_slots());
        for item in ones(chosen & !held_already).map(|at| &items[at]) {
            shares.show(item.granule, item.view);
            slots.fill(item.descriptor(shares.token(item.granule), pool, slot));
        }
        let taken = slots.end();
        drop(shares);
        let left = wanted & !chosen;
        self.finish(
            taken,
            left.count_ones(),
            ring_room <= limit_room,
            buffers.ledger.held(self.slot),
        );
        (taken, held_already)
    }

    #[inline(always)]
    fn finish(&mut self, delivered: u32, dropped: u32, by_ring: bool, held: u32) {
        let counters = &self.counters;
        counters.offered.add(u64::from(delivered + dropped));
        if dropped != 0 {
            let reason = if by_ring {
                DropReason::RingFull
            } else {
                DropReason::Quota
            };
            counters.drops.add(reason, u64::from(dropped));
        }
        if delivered != 0 {
            counters.delivered.add(u64::from(delivered));
            counters.held.set(u64::from(held));
            // The index lies in a line that the NF's core polls: a full burst is worth fetching it back,
            // less waits for the end of the turn.
            if self.ring.unpublished() >= BURST as u32 {
                self.publish();
            }
        }
    }

    /// Shows the NF all that was delivered.
    #[inline]
    pub fn publish(&mut self) {
        self.ring.publish(self.down.rx_tail());
    }
}

/// The first of the wanted packets, as many as there is room for; those that the slot holds already
/// need none here.
#[cold]
fn fitting(ledger: &Ledger, slot: u8, items: &[Item], wanted: u64, mut room: u32) -> u64 {
    let fits = |&at: &usize| {
        let fits = room != 0;
        room -= u32::from(fits && !ledger.is_held(slot, items[at].granule));
        fits
    };
    ones(wanted)
        .take_while(fits)
        .fold(0, |all, at| all | 1 << at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mvmp_wire::packet::Link;

    #[test]
    fn what_a_slot_holds_already_takes_no_room_from_the_rest() {
        let mut ledger = Ledger::new(128, 128);
        ledger.open_slot(3).unwrap();
        ledger.open(3, 0).unwrap();
        let items: Vec<Item> = (0..4)
            .map(|at| Item::new(at, 0, 60, Link::Ethernet))
            .collect();
        assert_eq!(fitting(&ledger, 3, &items, 0b1111, 2), 0b0111);
        assert_eq!(fitting(&ledger, 3, &items, 0b1110, 2), 0b0110);
        assert_eq!(fitting(&ledger, 3, &items, 0b1111, 0), 0);
    }
}
