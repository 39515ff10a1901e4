//! Delivering items to lanes: to each receiver of a device, copies where one holds the buffer already.

use super::Worker;
use super::buffers::{Buffers, Item};
use super::lane::Lane;
use super::lane_at;
use crate::counters::DropReason;

/// Delivers to one lane, and sees to what it already holds (DESIGN rule 1: a copy in a fresh buffer).
/// Returns how many of the packets themselves it has taken.
pub fn deliver(
    lane: &mut Lane,
    buffers: &mut Buffers,
    to_wake: &mut Vec<u8>,
    items: &[Item],
    wanted: u64,
    tsc: u64,
) -> u32 {
    let (taken, again) = lane.deliver(buffers, items, wanted);
    if again != 0 {
        deliver_copies(lane, buffers, items, again);
    }
    if lane.ring.occupied() != 0 && lane.waker.published(tsc) {
        to_wake.push(lane.slot);
    }
    taken
}

#[cold]
fn deliver_copies(lane: &mut Lane, buffers: &mut Buffers, items: &[Item], again: u64) {
    let mut left = again;
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        let Some(copy) = buffers.copy(items[at]) else {
            lane.counters.offered.add(1);
            lane.counters.drops.add(DropReason::NoBuffer, 1);
            continue;
        };
        lane.deliver(buffers, &[copy], 1);
        if buffers.ledger.is_lent(copy.granule) {
            lane.counters.copied.add(1);
        } else {
            buffers.go_home(copy.granule);
        }
    }
}

impl Worker {
    /// How many more packets every receiver of a device takes without loss; `except` is the sender's NF.
    pub(super) fn room_of_receivers(
        &mut self,
        pool: usize,
        device: usize,
        except: Option<u32>,
        wanted: u32,
    ) -> u32 {
        let mut room = u32::MAX;
        for at in 0..self.parts.devices[device].receivers.len() {
            let slot = self.parts.devices[device].receivers[at];
            if let Some(lane) = lane_at(&mut self.lanes, slot)
                && Some(lane.nf) != except
                && !lane.broken
            {
                room = room.min(lane.room(&self.parts.pools[pool], wanted));
            }
        }
        room
    }
}
