//! Handles: attached to their workers when the NF has mapped them, closed and swept.
//!
//! Called by `serve` with what NFs ask and workers report. Invariant: a slot is free only when
//! every worker that had it has swept its column.

use mvmp_wire::message::{ErrorCode, FromPlatform};

use super::authorize::Refusal;
use super::session::HandlePhase;
use super::state::Control;
use crate::worker::Command;

impl Control {
    /// The NF has mapped a handle's regions: let packets flow.
    pub(super) fn handle_mapped(&mut self, nf: u32, number: u8) {
        let Some(handle) = self
            .sessions
            .get_mut(&nf)
            .and_then(|session| session.handles.get_mut(&number))
        else {
            // Taken away while it was mapped: each question has an answer, or the next would get it.
            return self.refuse_withdrawn(nf);
        };
        if !matches!(handle.phase, HandlePhase::Mapping(_)) {
            return self.refuse_withdrawn(nf);
        }
        let attaching = HandlePhase::Attaching {
            left: handle.lanes.len(),
            failed: None,
        };
        let HandlePhase::Mapping(lanes) = std::mem::replace(&mut handle.phase, attaching) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&nf) else {
            return;
        };
        let handle = session.handles.get(&number);
        session.mapped_pools |= handle.map_or(0, |handle| handle.pools);
        let pools = session.mapped_pools;
        for (worker, mut lane) in lanes {
            lane.mapped = pools;
            self.workers[worker].tell(Command::Attach(lane));
        }
        for worker in &self.workers {
            worker.tell(Command::Mapped { nf, pools });
        }
        self.tell_port_facts();
    }

    fn refuse_withdrawn(&self, nf: u32) {
        if let Some(session) = self.sessions.get(&nf) {
            let why = "the handle was taken away while it was being opened";
            session.refuse(Refusal::new(ErrorCode::Other, why));
        }
    }

    /// A worker delivers to a handle now, or has no room for it.
    pub(super) fn attached(&mut self, slot: u8, outcome: Result<(), crate::ledger::NoRoom>) {
        let Some((nf, number)) = self.slots[slot as usize] else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&nf) else {
            return;
        };
        let Some(handle) = session.handles.get_mut(&number) else {
            return;
        };
        let HandlePhase::Attaching { left, failed } = &mut handle.phase else {
            return;
        };
        *left -= 1;
        if let Err(error) = outcome {
            *failed = Some(error.to_string());
        }
        if *left != 0 {
            return;
        }
        match failed.take() {
            None => {
                handle.phase = HandlePhase::Open;
                session.say(
                    &FromPlatform::Ready {
                        handle: Some(number),
                    },
                    &[],
                );
            }
            Some(reason) => {
                handle.phase = HandlePhase::Open;
                session.refuse(Refusal::new(ErrorCode::NoRoom, reason));
                self.close_handle(nf, number, false, false);
            }
        }
    }

    /// Begins to close a handle on all its workers.
    pub(super) fn close_handle(&mut self, nf: u32, number: u8, asked: bool, died: bool) {
        let Some(handle) = self
            .sessions
            .get_mut(&nf)
            .and_then(|session| session.handles.get_mut(&number))
        else {
            if asked && let Some(session) = self.sessions.get(&nf) {
                session.say(&FromPlatform::Closed { handle: number }, &[]);
            }
            return;
        };
        if let HandlePhase::Closing { asked: before, .. } = &mut handle.phase {
            *before |= asked;
            if died && !std::mem::replace(&mut handle.died, true) {
                let slot = handle.slot;
                for lane in &handle.lanes {
                    self.workers[lane.worker].tell(Command::Died { slot });
                }
            }
            return;
        }
        let unanswered = matches!(handle.phase, HandlePhase::Attaching { .. });
        let never_attached = matches!(handle.phase, HandlePhase::Mapping(_));
        let left = if never_attached {
            0
        } else {
            handle.lanes.len()
        };
        handle.phase = HandlePhase::Closing {
            left,
            swept: 0,
            nanos: 0,
            asked,
        };
        handle.died = died;
        let (slot, workers): (u8, Vec<usize>) = (
            handle.slot,
            handle.lanes.iter().map(|lane| lane.worker).collect(),
        );
        if never_attached {
            return self.handle_gone(nf, number);
        }
        if unanswered {
            self.refuse_withdrawn(nf);
        }
        for worker in workers {
            self.workers[worker].tell(Command::Close { slot, died });
        }
    }

    /// A worker has swept a handle.
    pub(super) fn swept(&mut self, slot: u8, count: u64, took: u64) {
        let Some((nf, number)) = self.slots[slot as usize] else {
            return;
        };
        let Some(handle) = self
            .sessions
            .get_mut(&nf)
            .and_then(|session| session.handles.get_mut(&number))
        else {
            return;
        };
        let HandlePhase::Closing {
            left, swept, nanos, ..
        } = &mut handle.phase
        else {
            return;
        };
        *left = left.saturating_sub(1);
        *swept += count;
        *nanos += took;
        if *left == 0 {
            self.handle_gone(nf, number);
        }
    }

    fn handle_gone(&mut self, nf: u32, number: u8) {
        let Some(session) = self.sessions.get_mut(&nf) else {
            return;
        };
        let Some(handle) = session.handles.remove(&number) else {
            return;
        };
        self.slots[handle.slot as usize] = None;
        if let HandlePhase::Closing {
            swept,
            nanos,
            asked,
            ..
        } = handle.phase
        {
            if handle.died {
                self.reclaims.count += 1;
                self.reclaims.buffers += swept;
                self.reclaims.last_nanos = nanos;
                self.reclaims.max_nanos = self.reclaims.max_nanos.max(nanos);
            }
            if asked {
                session.say(&FromPlatform::Closed { handle: number }, &[]);
            }
        }
        let device = handle.device;
        let key = (
            session.role.clone(),
            self.devices[handle.device].name.clone(),
        );
        let leaving = session.is_leaving() && session.handles.is_empty();
        self.keep_books(key, &handle);
        self.forget_own_device(device);
        if leaving {
            self.forget(nf);
        }
    }
}
