//! Delivering items to lanes: to each receiver of a device and to the member of each group whose
//! flow it is; copies where one holds the buffer already.

use mvmp_policy::rule::Packets;

use super::buffers::{BURST, Buffers};
use super::device::Device;
use super::fragments::Fragments;
use super::item::Item;
use super::lane::Lane;
use super::mask::ones;
use super::{Worker, lane_at};
use crate::counters::DropReason;

/// Who does not get a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Except {
    /// Everybody gets it.
    Nobody,
    /// The handle that it is sent over.
    Slot(u8),
    /// All handles of the NF that sends it.
    Nf(u32),
}

impl Except {
    #[inline(always)]
    pub fn is(self, lane: &Lane) -> bool {
        match self {
            Self::Nobody => false,
            Self::Slot(slot) => lane.slot == slot,
            Self::Nf(nf) => lane.nf == nf,
        }
    }
}

/// Decides, while the packets can be looked at, what [`deal`] needs: which of them each handle's
/// own match wants, and which flow each belongs to.
#[inline]
pub fn prepare(
    device: &Device,
    lanes: &mut [Option<Box<Lane>>],
    fragments: &mut Fragments,
    packets: &Packets<'_>,
    wanted: u64,
    flows: &mut [u32; BURST],
) {
    for slot in device.listeners() {
        if let Some(lane) = lane_at(lanes, slot) {
            lane.narrowed = match &lane.matcher {
                None => wanted,
                Some(matcher) => wanted & matcher.match_packets(packets),
            };
        }
    }
    if device.groups.is_empty() {
        return;
    }
    for at in ones(wanted) {
        let headers = &packets.headers[at];
        flows[at] = if headers.fragment {
            fragments.flow(headers, packets.frames[at])
        } else if packets.stacks.is_empty() {
            headers.flow_hash
        } else {
            packets.outer[at].flow_hash
        };
    }
}

/// What [`deal`] did: the packets that were offered to anyone, and whether one handle took them all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dealt {
    pub offered: u64,
    pub whole: bool,
}

/// Delivers the packets that `prepare` has looked at to all who receive from a device.
#[inline]
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one worker, borrowed apart"
)]
pub fn deal(
    device: &Device,
    lanes: &mut [Option<Box<Lane>>],
    to_wake: &mut Vec<u8>,
    buffers: &mut Buffers,
    items: &[Item],
    flows: &[u32; BURST],
    except: Except,
    tsc: u64,
) -> Dealt {
    let mut dealt = Dealt::default();
    let mut give = |slot: u8, of: u64| {
        let Some(lane) = lane_at(lanes, slot).filter(|lane| !except.is(lane)) else {
            return;
        };
        lane.narrowed &= of;
        let wanted = lane.narrowed;
        if wanted != 0 {
            dealt.offered |= wanted;
            dealt.whole |=
                deliver(lane, buffers, to_wake, items, wanted, tsc) as usize == items.len();
        }
    };
    for &slot in &device.receivers {
        give(slot, u64::MAX);
    }
    for group in &device.groups {
        let parts = group.parts(items.len(), flows);
        for (slot, part) in group.slots().zip(parts) {
            give(slot, part);
        }
    }
    dealt
}

/// Delivers to one lane, and sees to what it already holds (DESIGN rule 1: a copy in a fresh buffer).
/// Returns how many of the packets themselves it has taken.
#[inline]
fn deliver(
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
    // Looked after, and shown to the NF, at the end of the turn.
    if lane.ring.occupied() != 0 && lane.waker.published(tsc) {
        to_wake.push(lane.slot);
    }
    taken
}

#[cold]
fn deliver_copies(lane: &mut Lane, buffers: &mut Buffers, items: &[Item], again: u64) {
    for at in ones(again) {
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
        except: Except,
        wanted: u32,
    ) -> u32 {
        let (mut room, buffers) = (u32::MAX, &self.parts.pools[pool]);
        for slot in self.parts.devices[device].listeners() {
            if let Some(lane) = lane_at(&mut self.lanes, slot)
                && !except.is(lane)
                && !lane.broken
            {
                room = room.min(lane.room(buffers, wanted));
            }
        }
        room
    }
}
