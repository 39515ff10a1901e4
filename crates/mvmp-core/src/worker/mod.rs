//! Workers: the threads that move packets.
//!
//! A worker owns some pools with their ledgers, the ports that fill them, and its side of every NF
//! and handle that those can reach. Nobody else touches these: control sends [`Command`]s, which
//! the worker obeys between bursts, and hears [`Event`]s. Each turn of the loop:
//!
//! ```text
//! commands ─▶ ports: receive, classify, deliver ─▶ NFs: return rings ─▶ hand-overs ─▶ ports: flush ─▶ sweeps ─▶ wake-ups
//! ```
//!
//! Invariants: per packet there is no lock, no allocation, no log and no system call; nothing here
//! waits for an NF; nothing that an NF writes makes it panic.

pub mod buffers;
mod built;
pub mod change;
mod clones;
mod command;
mod delivery;
pub mod device;
mod egress;
pub mod face;
mod facts;
mod fragments;
mod item;
pub mod lane;
pub mod mask;
mod nap;
mod outgoing;
mod outward;
pub mod port;
mod receive;
pub mod returned;
mod returns;
mod sending;
mod sweep;
pub mod trace;
pub mod view;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use buffers::{BURST, Buffers};
pub use command::{Command, Event};
use device::Device;
pub use facts::PortFacts;
use item::Item;
use lane::{Lane, NO_SLOT, NfLane};
use mvmp_wire::packet::TunnelPorts;
use mvmp_wire::region::STATE_CLOSED;
use outgoing::Parcel;
use port::Port;
use returned::Returned;

use crate::counters::{DropReason, PortCounters, WorkerCounters};
use crate::dpdk::{WorkerLcore, rdtsc};
use crate::ledger::SLOTS;

/// A worker's ends of the rings between it and another worker.
pub struct HandOver {
    /// Parcels for the other worker.
    pub out: rtrb::Producer<Parcel>,
    /// Parcels from it.
    pub inbox: rtrb::Consumer<Parcel>,
    /// Parcels on their way, either direction counted by its sender and receiver.
    pub in_transit: Arc<AtomicU64>,
    /// One that a lossless file had no room for yet, or whose port is not served yet.
    pub waiting: Option<Parcel>,
}

/// What a worker is made from.
pub struct WorkerParts {
    pub index: usize,
    pub cpu: usize,
    pub pools: Vec<Buffers>,
    pub devices: Vec<Device>,
    /// Which worker owns each port, by the port's number.
    pub owner_of_port: Vec<Option<usize>>,
    /// What each port takes, by its number.
    pub port_facts: Vec<PortFacts>,
    /// UDP ports that announce tunnels.
    pub tunnel_ports: TunnelPorts,
    /// Policies look into tunnels.
    pub deep: bool,
    /// Handles may see parts of frames.
    pub views: bool,
    /// The books of each port, for what is handed over to a port that is gone.
    pub port_books: Vec<Arc<PortCounters>>,
    /// By worker; `None` for itself.
    pub hand_over: Vec<Option<HandOver>>,
    pub commands: Receiver<Command>,
    pub events: Sender<Event>,
    /// Written after each event, so that control wakes up.
    pub bell: Arc<OwnedFd>,
    /// Readable when there is a command.
    pub doorbell: OwnedFd,
    pub counters: Arc<WorkerCounters>,
    pub lossless: bool,
    pub idle_nap: Duration,
    pub tsc_hz: u64,
}

/// A worker at work.
pub struct Worker {
    parts: WorkerParts,
    ports: Vec<Port>,
    /// Place in `ports` by the port's number.
    port_at: Vec<Option<usize>>,
    lanes: Vec<Option<Box<Lane>>>,
    nfs: Vec<NfLane>,
    /// Slots whose NF may have to be woken.
    to_wake: Vec<u8>,
    sweeps: Vec<sweep::Sweep>,
    nap: nap::Nap,
    clock: Clock,
    turns: u64,
    /// The time stamp counter at the beginning of this turn.
    tsc: u64,
    /// Ports with a link, by number.
    links: Vec<bool>,
    /// Changes of the configuration that were taken over: every worker gets the same ones.
    changes: u32,
    /// Ports that the last one announced: those of this worker's own are served in a moment.
    coming: Vec<u16>,
    /// Policies, or handles' own matches, look into tunnels.
    deep: bool,
    fragments: fragments::Fragments,
    /// Reused by each burst that comes in; away while one is at hand.
    arrivals: Option<Box<face::Arrivals>>,
    /// The same for what leaves, and for what passes from NF to NF.
    departures: Option<Box<face::Arrivals>>,
    bench: egress::Workbench,
    tracer: Option<trace::Tracer>,
    /// Reused by each look at a return ring.
    batch: Vec<Returned>,
    /// What of it is passed on to other NFs.
    passing: Vec<Item>,
    /// Which flow each packet of a burst is of, where a group asks for it.
    flows: Box<[u32; BURST]>,
}

/// Wall-clock time from the time stamp counter.
struct Clock {
    base_ns: i64,
    base_tsc: u64,
    ns_per_tick: f64,
}

impl Clock {
    fn new(tsc_hz: u64) -> Self {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            base_ns: now.as_nanos() as i64,
            base_tsc: rdtsc(),
            ns_per_tick: 1e9 / tsc_hz.max(1) as f64,
        }
    }

    #[inline(always)]
    fn now_ns(&self, tsc: u64) -> i64 {
        self.base_ns + (tsc.wrapping_sub(self.base_tsc) as f64 * self.ns_per_tick) as i64
    }
}

/// Turns between two rounds of housekeeping.
const HOUSEKEEPING_TURNS: u64 = 1024;

impl Worker {
    /// Runs until it is told to stop or control is gone. Called on the worker's own thread.
    pub fn run(parts: WorkerParts) {
        pin(parts.cpu);
        let lcore = WorkerLcore::register();
        if let Err(error) = &lcore {
            tracing::error!(%error, "worker runs without an lcore of its own: slower, but right");
        }
        let (tsc_hz, ports, deep) = (parts.tsc_hz, parts.owner_of_port.len(), parts.deep);
        let nap = nap::Nap::new(&parts.doorbell, parts.idle_nap, tsc_hz);
        let mut worker = Self {
            parts,
            ports: Vec::new(),
            port_at: vec![None; ports],
            lanes: (0..SLOTS).map(|_| None).collect(),
            nfs: Vec::new(),
            to_wake: Vec::with_capacity(SLOTS),
            sweeps: Vec::new(),
            nap,
            clock: Clock::new(tsc_hz),
            turns: 0,
            tsc: rdtsc(),
            links: vec![true; ports],
            changes: 0,
            coming: Vec::new(),
            deep,
            fragments: Default::default(),
            arrivals: Some(Box::default()),
            departures: Some(Box::default()),
            bench: Default::default(),
            tracer: None,
            batch: Vec::with_capacity(returns::TURN),
            passing: Vec::with_capacity(BURST),
            flows: Box::new([0; BURST]),
        };
        if worker.parts.views {
            let pools = &mut worker.parts.pools;
            pools.iter_mut().for_each(|pool| pool.ledger.keep_views());
        }
        while worker.turn() {}
        worker.close();
    }

    /// One turn of the loop; false: it is over.
    fn turn(&mut self) -> bool {
        if !self.obey() {
            return false;
        }
        let tsc = rdtsc();
        self.tsc = tsc;
        self.expect_returns();
        let mut work = self.receive(self.clock.now_ns(tsc));
        work += self.take_returns(work);
        work += self.take_hand_overs();
        self.flush(work == 0);
        work += self.advance_sweeps();
        self.wake_nfs(tsc, work == 0);
        self.turns += 1;
        self.parts.counters.loops.add(1);
        if work != 0 {
            self.parts.counters.busy_loops.add(1);
            self.nap.busy();
        } else if self.nap.is_due() {
            self.publish();
            self.sleep();
        }
        if self.turns.is_multiple_of(HOUSEKEEPING_TURNS) {
            self.keep_house(tsc);
        }
        true
    }

    fn flush(&mut self, idle: bool) {
        for port in &mut self.ports {
            port.flush(idle);
        }
        for pool in &mut self.parts.pools {
            pool.settle();
            pool.publish();
        }
    }

    fn keep_house(&mut self, tsc: u64) {
        // The wall clock is looked at again now and then, so that timestamps follow NTP.
        if tsc.wrapping_sub(self.clock.base_tsc) > self.parts.tsc_hz {
            self.clock = Clock::new(self.parts.tsc_hz);
        }
        for pool in &mut self.parts.pools {
            pool.ledger.rebalance();
        }
        self.publish();
        self.quarantine_broken();
    }

    fn publish(&mut self) {
        for lane in self.lanes.iter().flatten() {
            let (mut held, mut limit) = (0, 0);
            for pool in &self.parts.pools {
                held += u64::from(pool.ledger.held(lane.slot));
                limit += u64::from(pool.ledger.limit(lane.slot));
            }
            lane.counters.held.set(held);
            lane.counters.limit.set(limit);
        }
    }

    fn say(&self, event: Event) {
        // Control that is gone has stopped listening; then there is nobody to tell.
        let _ = self.parts.events.send(event);
        let _ = rustix::io::write(&*self.parts.bell, &1u64.to_ne_bytes());
    }

    /// The port of a parcel is on its way here: its sender has heard of it before this worker.
    fn is_coming(&self, parcel: &Parcel) -> bool {
        let ahead = parcel.changes.wrapping_sub(self.changes);
        (ahead != 0 && ahead < 1 << 31) || self.coming.contains(&parcel.port)
    }

    fn take_hand_overs(&mut self) -> usize {
        let (mut work, lossless) = (0, self.parts.lossless);
        for at in 0..self.parts.hand_over.len() {
            for _ in 0..BURST {
                let Some(hand_over) = &mut self.parts.hand_over[at] else {
                    break;
                };
                let Some(parcel) = hand_over
                    .waiting
                    .take()
                    .or_else(|| hand_over.inbox.pop().ok())
                else {
                    break;
                };
                let place = self.port_at.get(parcel.port as usize).copied().flatten();
                match place {
                    Some(place) => {
                        let waiting = self.take_parcel(place, parcel, lossless);
                        if let Some(hand_over) = &mut self.parts.hand_over[at] {
                            hand_over.waiting = waiting;
                        }
                    }
                    None if self.is_coming(&parcel) => {
                        if let Some(hand_over) = &mut self.parts.hand_over[at] {
                            hand_over.waiting = Some(parcel);
                        }
                    }
                    None => {
                        if let Some(books) = self.parts.port_books.get(parcel.port as usize) {
                            books.accepted.add(1);
                            books.tx_drops.add(DropReason::PortGone, 1);
                        }
                        parcel.open().discard();
                    }
                }
                let Some(hand_over) = &self.parts.hand_over[at] else {
                    break;
                };
                if hand_over.waiting.is_some() {
                    break;
                }
                work += 1;
                // ORDERING: partner of the load in control's drain check.
                hand_over.in_transit.fetch_sub(1, Ordering::Release);
            }
        }
        work
    }

    /// Looks at every rx head, also of rings that had room enough not to be looked at.
    fn quarantine_broken(&mut self) {
        for lane in self
            .lanes
            .iter_mut()
            .flatten()
            .filter(|lane| lane.receiving)
        {
            lane.broken |= lane.ring.refresh(lane.up.rx_head(lane.handle)).is_err();
        }
        for at in 0..self.nfs.len() {
            let broken = self
                .lanes
                .iter()
                .flatten()
                .any(|lane| lane.broken && lane.nf == self.nfs[at].nf);
            if broken {
                self.quarantine(at, "an rx ring's head is impossible".into());
            }
        }
    }

    /// Reads nothing of this NF any more; control closes its handles.
    fn quarantine(&mut self, at: usize, reason: String) {
        if std::mem::replace(&mut self.nfs[at].quarantined, true) {
            return;
        }
        self.say(Event::Quarantined {
            worker: self.parts.index,
            nf: self.nfs[at].nf,
            reason,
        });
    }

    /// Gives back everything, in the order ports, shares, pools.
    fn close(mut self) {
        while let Some(number) = self.ports.first().map(|port| port.number) {
            self.remove_port(number);
        }
        for slot in 0..SLOTS {
            let Some(lane) = self.lanes[slot].take() else {
                continue;
            };
            // ORDERING: release; the last word about this handle.
            lane.down.state().fetch_or(STATE_CLOSED, Ordering::Release);
            for pool in &mut self.parts.pools {
                let (rows, mut home) = (pool.ledger.rows(), Vec::new());
                pool.ledger
                    .sweep(lane.slot, 0..rows, |granule| home.push(granule));
                home.into_iter().for_each(|granule| pool.go_home(granule));
            }
            let mut lane = lane;
            wake(&mut lane, &self.parts.counters);
        }
        for hand_over in self.parts.hand_over.iter_mut().flatten() {
            let waiting = hand_over.waiting.take();
            waiting
                .into_iter()
                .for_each(|parcel| parcel.open().discard());
            while let Ok(parcel) = hand_over.inbox.pop() {
                parcel.open().discard();
            }
        }
        for pool in &mut self.parts.pools {
            pool.close();
            pool.publish();
        }
    }
}

/// Writes a wake-up into the NF's pipe. Full or broken pipes are the NF's affair.
fn wake(lane: &mut Lane, counters: &WorkerCounters) {
    counters.wakes.add(1);
    let _ = rustix::io::write(&lane.wake, &[1]);
}

fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(cpu, %error, "worker cannot be pinned to its CPU");
    }
}

/// The lane in a slot, if there is one.
#[inline(always)]
fn lane_at(lanes: &mut [Option<Box<Lane>>], slot: u8) -> Option<&mut Lane> {
    if slot == NO_SLOT {
        return None;
    }
    lanes[slot as usize].as_deref_mut()
}
