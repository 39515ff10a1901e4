//! Streams: how the end of a capture travels, when everything is drained, who is stuck. When one
//! starts: `start`.
//!
//! DESIGN rules 11 to 14. Workers end the handles of ports; the end of rootless handles, and
//! drained, are questions about the whole platform, which are asked here at each tick.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mvmp_policy::config::OnStall;

use super::session::{Handle, HandlePhase, Phase, Session};
use super::state::Control;
use crate::worker::Command;

/// Whoever waits for the drain asks again within this time.
const DRAIN_INTEREST: Duration = Duration::from_millis(500);

impl Control {
    /// Something about a stream may change soon: tick often.
    pub(super) fn is_streaming(&self) -> bool {
        let playing =
            |port: &super::state::PortEntry| port.plays() && !(port.started && port.ended());
        let captures = self.ports.iter().any(|port| port.plays());
        self.drain_asked
            .is_some_and(|asked| asked.elapsed() < DRAIN_INTEREST)
            || self.ports.iter().any(playing)
            || (captures
                && self
                    .sessions
                    .values()
                    .flat_map(|session| session.handles.values())
                    .any(|handle| handle.rx && !handle.ended))
    }

    pub(super) fn tend_streams(&mut self) {
        self.start_captures();
        self.end_rootless();
        let asked = self
            .drain_asked
            .is_some_and(|asked| asked.elapsed() < DRAIN_INTEREST);
        self.quiet_ticks = if asked && self.is_drained() {
            self.quiet_ticks.saturating_add(1)
        } else {
            0
        };
        for session in self.sessions.values_mut() {
            for handle in session.handles.values_mut() {
                let ended = |lane: &super::session::LaneEntry| {
                    lane.down.state().load(Ordering::Acquire) & mvmp_wire::region::STATE_ENDED != 0
                };
                handle.ended = handle.lanes.iter().all(ended);
            }
        }
    }

    /// Ends the handles that NFs feed, rootless ones and those that receive what leaves by ports,
    /// when nothing can come to them any more (rule 12).
    fn end_rootless(&mut self) {
        let waiting = |session: &&Session| {
            session
                .handles
                .values()
                .any(|handle| self.is_fed_by_nfs(handle.device) && handle.rx && !handle.ended)
        };
        if !self.sessions.values().any(|session| waiting(&session)) || self.shares_open() != 0 {
            return;
        }
        let before = self.sleep_marks();
        let ending: Vec<u8> = (0..self.devices.len())
            .filter(|&device| self.has_run_dry(device))
            .flat_map(|device| self.receivers_of(device))
            .collect();
        // Looked at twice: an NF that woke in between may have sent something.
        if ending.is_empty()
            || self.shares_open() != 0
            || !self.rings_are_empty()
            || before != self.sleep_marks()
        {
            return;
        }
        for slot in ending {
            self.workers
                .iter()
                .for_each(|worker| worker.tell(Command::EndHandle { slot }));
        }
    }

    fn receivers_of(&self, device: usize) -> Vec<u8> {
        let receives = |handle: &&Handle| {
            handle.device == device
                && handle.rx
                && !handle.ended
                && matches!(handle.phase, HandlePhase::Open)
        };
        self.sessions
            .values()
            .flat_map(|session| session.handles.values())
            .filter(receives)
            .map(|handle| handle.slot)
            .collect()
    }

    /// Every port that can reach a rootless device is a capture at its end, and everyone who may send there has
    /// closed, or itself waits for a rootless end.
    fn has_run_dry(&self, device: usize) -> bool {
        if !self.is_fed_by_nfs(device) {
            return false;
        }
        if !self.devices[device].rootless {
            return self.has_sent_all(device);
        }
        let reaches = |number: &usize| {
            let own: Vec<usize> = (0..self.devices.len())
                .filter(|&other| self.devices[other].ports.contains(number))
                .collect();
            !own.is_empty() && self.devices_reached(&own).contains(&device)
        };
        let sources: Vec<usize> = (0..self.ports.len())
            .filter(|number| self.ports[*number].present)
            .filter(reaches)
            .collect();
        let playing = sources
            .iter()
            .filter(|&&number| self.ports[number].plays())
            .count();
        let over = sources.iter().all(|&number| {
            let port = &self.ports[number];
            port.spec
                .capture()
                .is_some_and(|capture| capture.pcap.is_none() || (port.started && port.ended()))
        });
        let may_send = |session: &&Session| {
            session
                .handles
                .values()
                .any(|handle| handle.device == device && handle.tx)
        };
        playing > 0
            && over
            && self
                .sessions
                .values()
                .filter(may_send)
                .all(|session| self.waits_for_rootless(session))
    }

    /// What NFs send comes to it: it is rootless, or receives what leaves by its ports.
    pub(super) fn is_fed_by_nfs(&self, device: usize) -> bool {
        let entry = &self.devices[device];
        let spec = self.config.device(&entry.name);
        entry.rootless
            || spec.is_some_and(|spec| spec.ports().any(|port| spec.receives_outbound(port)))
    }

    /// For a device that receives what leaves by its ports: all captures are at their end, and
    /// everyone who may send by those ports has closed, has been told of the end, or itself waits.
    fn has_sent_all(&self, device: usize) -> bool {
        let ports = &self.devices[device].ports;
        let mut playing = self.ports.iter().filter(|port| port.plays()).peekable();
        let sends_there = |handle: &Handle| {
            let of = &self.devices[handle.device].ports;
            handle.device != device && handle.tx && of.iter().any(|port| ports.contains(port))
        };
        let may_send = |session: &&Session| session.handles.values().any(sends_there);
        let is_quiet = |session: &Session| {
            let done = |handle: &Handle| !handle.rx || handle.ended;
            session.handles.values().all(done) || self.waits_for_rootless(session)
        };
        playing.peek().is_some()
            && playing.all(|port| port.started && port.ended())
            && self.sessions.values().filter(may_send).all(is_quiet)
    }

    /// An NF that sleeps on all lanes of its rootless handles, and has nothing else to receive.
    fn waits_for_rootless(&self, session: &Session) -> bool {
        let mut rootless = session
            .handles
            .iter()
            .filter(|(_, handle)| handle.rx && self.is_fed_by_nfs(handle.device))
            .peekable();
        rootless.peek().is_some()
            && rootless.all(|(&number, handle)| {
                handle.lanes.iter().all(|lane| {
                    session.shares[lane.worker]
                        .up
                        .sleeping(number)
                        .load(Ordering::Acquire)
                        != 0
                })
            })
    }

    fn sleep_marks(&self) -> Vec<u32> {
        let marks = |session: &Session| {
            let of = |(number, handle): (&u8, &Handle)| {
                handle
                    .lanes
                    .iter()
                    .map(|lane| {
                        session.shares[lane.worker]
                            .up
                            .sleeping(*number)
                            .load(Ordering::Acquire)
                    })
                    .collect::<Vec<_>>()
            };
            session.handles.iter().flat_map(of).collect::<Vec<_>>()
        };
        self.sessions.values().flat_map(marks).collect()
    }

    fn shares_open(&self) -> u64 {
        self.pools
            .iter()
            .map(|pool| pool.counters.shares.get())
            .sum()
    }

    fn rings_are_empty(&self) -> bool {
        let empty = |share: &super::session::Share| {
            share.up.return_tail().load(Ordering::Acquire)
                == share.status.return_head().load(Ordering::Acquire)
        };
        let parcels = self
            .workers
            .iter()
            .flat_map(|worker| &worker.parcels)
            .all(|parcels| parcels.load(Ordering::Acquire) == 0);
        // Before `mapped` nobody reads an NF's words: they say nothing yet.
        parcels
            && self
                .sessions
                .values()
                .filter(|session| matches!(session.phase, Phase::Ready))
                .flat_map(|session| &session.shares)
                .all(empty)
    }

    /// All captures have ended, no share is open, outputs are flushed (rule 13).
    pub(super) fn is_drained(&self) -> bool {
        let ended = self
            .ports
            .iter()
            .filter(|port| port.plays())
            .all(|port| port.started && port.ended());
        let written = self
            .ports
            .iter()
            .all(|port| port.counters.unwritten.get() == 0);
        ended && self.shares_open() == 0 && self.rings_are_empty() && written
    }

    /// Why it is not drained, for people.
    pub(super) fn holders(&self) -> String {
        let mut reasons: Vec<String> = Vec::new();
        for (number, port) in self
            .ports
            .iter()
            .enumerate()
            .filter(|(_, port)| port.plays() && !(port.started && port.ended()))
        {
            let state = if port.started {
                "is still playing".into()
            } else {
                format!("waits for {}", self.awaited(number).join(", "))
            };
            reasons.push(format!("port {} {state}", port.spec.name));
        }
        for session in self.sessions.values() {
            for handle in session.handles.values() {
                let held: u64 = handle
                    .lanes
                    .iter()
                    .map(|lane| lane.counters.held.get())
                    .sum();
                if held > 0 {
                    let since = handle
                        .lanes
                        .iter()
                        .filter_map(|lane| lane.still_since)
                        .min();
                    let since = since.map_or(String::new(), |since| {
                        format!(
                            ", without progress for {:.1} s",
                            since.elapsed().as_secs_f64()
                        )
                    });
                    reasons.push(format!(
                        "{} holds {held} on {}{since}",
                        session.name(),
                        self.devices[handle.device].name
                    ));
                }
            }
        }
        if reasons.is_empty() {
            "outputs are being written".into()
        } else {
            reasons.join("; ")
        }
    }

    /// Notices handles whose ring is not empty and whose head does not move.
    pub(super) fn watch_for_stuck(&mut self) {
        let stall = Duration::from_secs_f64(self.config.platform.stall_s);
        let mut detach = Vec::new();
        for session in self
            .sessions
            .values_mut()
            .filter(|session| matches!(session.phase, Phase::Ready))
        {
            let name = session.name();
            for (&number, handle) in &mut session.handles {
                let mut stuck = false;
                for lane in &mut handle.lanes {
                    let head = session.shares[lane.worker]
                        .up
                        .rx_head(number)
                        .load(Ordering::Relaxed);
                    let waiting = lane.down.rx_tail().load(Ordering::Relaxed) != head;
                    if !waiting || head != lane.last_head {
                        (lane.last_head, lane.still_since) = (head, None);
                    } else {
                        let since = *lane.still_since.get_or_insert_with(Instant::now);
                        stuck |= since.elapsed() >= stall;
                    }
                }
                if stuck && !handle.stuck {
                    tracing::warn!(
                        nf = name,
                        device = self.devices[handle.device].name,
                        "NF takes no packets: stuck"
                    );
                    if self.config.platform.on_stall == OnStall::Detach {
                        detach.push((session.nf, number));
                    }
                }
                handle.stuck = stuck;
            }
        }
        for (nf, number) in detach {
            if let Some(session) = self.sessions.get(&nf) {
                let reason = format!("it took no packets for {} s", stall.as_secs_f64());
                session.say(
                    &mvmp_wire::message::FromPlatform::Detached {
                        handle: Some(number),
                        reason,
                    },
                    &[],
                );
            }
            self.close_handle(nf, number, false, true);
        }
    }
}
