//! Closing handles: drain to a snapshot, sweep the column in slices, report.
//!
//! The handle receives nothing from the first step on, but its NF's return ring is still drained
//! up to where it stood: what a living NF has sent is sent. Then the column is swept, some rows a
//! turn, so that the packets of others go on. No memory of the NF is believed.

use std::sync::atomic::Ordering;

use mvmp_wire::region::STATE_CLOSED;

use super::lane::NO_SLOT;
use super::{Event, Worker, wake};
use crate::broken::{Rule, is_broken};
use crate::dpdk::rdtsc;

/// Rows swept in one turn.
const ROWS: u32 = 8192;

/// A handle on its way out.
pub struct Sweep {
    slot: u8,
    died: bool,
    /// Return-ring index up to which its NF is drained first; `None` once that is done.
    drain_to: Option<u32>,
    pool: usize,
    row: u32,
    swept: u64,
    ticks: u64,
}

impl Worker {
    /// Takes a handle out of service and begins to sweep it.
    pub(super) fn begin_close(&mut self, slot: u8, died: bool) {
        let Some(lane) = self.lanes[slot as usize].as_deref_mut() else {
            return self.say(Event::Closed {
                slot,
                swept: 0,
                nanos: 0,
            });
        };
        lane.receiving = false;
        lane.closing = true;
        // ORDERING: release; what was delivered before is in the ring.
        lane.down.state().fetch_or(STATE_CLOSED, Ordering::Release);
        let nf = lane.nf;
        let device = &mut self.parts.devices[lane.device];
        device.dismiss(slot);
        device.senders -= u32::from(lane.tx);
        wake(lane, &self.parts.counters);
        let drain_to = self
            .nfs
            .iter()
            .find(|lane| lane.nf == nf && !lane.quarantined)
            .map(|lane| {
                // ORDERING: one relaxed snapshot; whatever value stands there, at most a ring is drained.
                lane.up.return_tail().load(Ordering::Relaxed)
            });
        let drain_to = drain_to.filter(|_| !is_broken(Rule::Drain));
        self.sweeps.push(Sweep {
            slot,
            died,
            drain_to,
            pool: 0,
            row: 0,
            swept: 0,
            ticks: 0,
        });
    }

    /// The NF was closing in order, and is gone now: what it had left to be sent waits for nobody any more.
    pub(super) fn hasten_close(&mut self, slot: u8) {
        let sweep = self.sweeps.iter_mut().find(|sweep| sweep.slot == slot);
        sweep.into_iter().for_each(|sweep| sweep.died = true);
    }

    /// Does a slice of each sweep; returns how many have got on: those that wait for a ring to be drained are no work.
    pub(super) fn advance_sweeps(&mut self) -> usize {
        if self.sweeps.is_empty() {
            return 0;
        }
        let mut sweeps = std::mem::take(&mut self.sweeps);
        let mut moved = 0;
        sweeps.retain_mut(|sweep| {
            let drained = self.is_drained(sweep);
            moved += usize::from(drained);
            !(drained && self.advance_sweep(sweep))
        });
        self.sweeps.append(&mut sweeps);
        moved
    }

    /// One slice of a handle whose NF's ring is drained; true when it is closed and reported.
    fn advance_sweep(&mut self, sweep: &mut Sweep) -> bool {
        let begin = rdtsc();
        if let Some(buffers) = self.parts.pools.get_mut(sweep.pool) {
            let mut home = std::mem::take(&mut self.nap.scratch);
            sweep.swept += u64::from(buffers.ledger.sweep(
                sweep.slot,
                sweep.row..sweep.row + ROWS,
                |granule| home.push(granule),
            ));
            home.drain(..).for_each(|granule| buffers.go_home(granule));
            self.nap.scratch = home;
            buffers.settle();
            sweep.row += ROWS;
            if sweep.row >= buffers.ledger.rows() {
                (sweep.pool, sweep.row) = (sweep.pool + 1, 0);
            }
        }
        sweep.ticks += rdtsc().wrapping_sub(begin);
        if sweep.pool < self.parts.pools.len() {
            return false;
        }
        self.finish_close(sweep);
        true
    }

    /// The NF's return ring has been read as far as it had been filled when the close began.
    fn is_drained(&mut self, sweep: &mut Sweep) -> bool {
        let Some(drain_to) = sweep.drain_to else {
            return true;
        };
        let nf = self.lanes[sweep.slot as usize].as_ref().map(|lane| lane.nf);
        let at = self.nfs.iter().position(|lane| Some(lane.nf) == nf);
        let behind = match at {
            Some(at) if !self.nfs[at].quarantined => {
                let capacity = self.nfs[at].up.return_capacity();
                let behind = drain_to.wrapping_sub(self.nfs[at].returns.head());
                // A head beyond the snapshot, or a snapshot that no honest ring could have: drained.
                // So is a stalled lossless head: what stays behind is swept (rule 14), and if the NF
                // goes as a whole, read no more: each of its descriptors would count as a lie.
                let stalled = sweep.died && self.nfs[at].blocked;
                let mut lanes = self
                    .lanes
                    .iter()
                    .flatten()
                    .filter(|lane| Some(lane.nf) == nf);
                self.nfs[at].quarantined |= stalled && lanes.all(|lane| lane.closing);
                if behind > capacity || stalled {
                    0
                } else {
                    behind
                }
            }
            _ => 0,
        };
        if behind == 0 {
            sweep.drain_to = None;
        }
        behind == 0
    }

    fn finish_close(&mut self, sweep: &Sweep) {
        let slot = sweep.slot;
        self.parts
            .pools
            .iter_mut()
            .for_each(|pool| pool.ledger.close_slot(slot));
        if let Some(lane) = self.lanes[slot as usize].take() {
            if sweep.died {
                lane.counters.died.add(sweep.swept);
            } else {
                lane.counters.released.add(sweep.swept);
            }
            lane.counters.held.set(0);
            if let Some(nf) = self.nfs.iter_mut().find(|nf| nf.nf == lane.nf) {
                nf.slots[lane.handle as usize] = NO_SLOT;
            }
        }
        self.to_wake.retain(|&waiting| waiting != slot);
        self.parts.pools.iter().for_each(|pool| pool.publish());
        let nanos = (sweep.ticks as f64 * 1e9 / self.parts.tsc_hz.max(1) as f64) as u64;
        self.say(Event::Closed {
            slot,
            swept: sweep.swept,
            nanos,
        });
    }
}
