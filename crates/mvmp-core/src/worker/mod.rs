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
mod delivery;
pub mod device;
pub mod face;
mod fragments;
pub mod lane;
mod nap;
mod outgoing;
mod outward;
pub mod port;
mod receive;
mod returns;
mod sending;
mod sweep;
pub mod trace;
pub mod view;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use buffers::Buffers;
use device::{Device, Exits};
use lane::{Lane, NO_SLOT, NfLane};
use mvmp_wire::Descriptor;
use mvmp_wire::packet::TunnelPorts;
use mvmp_wire::region::{STATE_CLOSED, STATE_ENDED};
use outgoing::Parcel;
use port::Port;

use crate::counters::{DropReason, PortCounters, WorkerCounters};
use crate::dpdk::{WorkerLcore, rdtsc};
use crate::ledger::SLOTS;

/// What control tells a worker.
pub enum Command {
    /// An NF has connected and its regions are sealed.
    AddNf(Box<NfLane>),
    /// A handle is mapped: deliver from now on.
    Attach(Box<Lane>),
    /// Close a handle: drain, sweep, report. `died`: what it held counts so.
    Close { slot: u8, died: bool },
    /// Forget an NF whose handles are closed.
    RemoveNf { nf: u32 },
    /// Serve a port.
    AddPort(Box<Port>),
    /// Give a port back.
    RemovePort { port: u16 },
    /// The configuration has changed.
    Change(Box<change::Change>),
    /// Serve another pool.
    AddPool(Box<Buffers>),
    /// An NF has mapped these pools by now, a bit for each.
    Mapped { nf: u32, pools: u64 },
    /// A port's link has come up or gone down.
    Link { port: u16, up: bool },
    /// Its NFs are there: let the capture begin.
    StartCapture { port: u16 },
    /// Tell of the next packets of a device, step by step; 0: no more.
    Trace { device: usize, count: u32 },
    /// Nothing more will ever come to this handle.
    EndHandle { slot: u8 },
    /// Stop, give everything back.
    Stop,
}

/// What a worker tells control.
pub enum Event {
    /// The lane delivers, or there was no room for it.
    Attached {
        slot: u8,
        outcome: Result<(), crate::ledger::NoRoom>,
    },
    /// A handle is closed: so many of its shares were closed by the sweep, which took so long.
    Closed { slot: u8, swept: u64, nanos: u64 },
    /// An NF is forgotten.
    NfRemoved { nf: u32 },
    /// An NF broke the protocol.
    Quarantined {
        worker: usize,
        nf: u32,
        reason: String,
    },
    /// A capture's file cannot be read or written (further).
    PortFault { port: u16, what: String },
    /// A packet of a trace has made a step.
    Traced(Box<trace::Step>),
    /// A port is out of use.
    PortRemoved { port: Option<Box<Port>> },
}

/// A worker's ends of the rings between it and another worker.
pub struct HandOver {
    /// Parcels for the other worker.
    pub out: rtrb::Producer<Parcel>,
    /// Parcels from it.
    pub inbox: rtrb::Consumer<Parcel>,
    /// Parcels on their way, either direction counted by its sender and receiver.
    pub in_transit: Arc<AtomicU64>,
    /// One that a lossless file had no room for yet.
    pub waiting: Option<Parcel>,
}

/// What a port can take.
#[derive(Clone, Copy, Debug)]
pub struct PortFacts {
    /// Bytes of its longest frame.
    pub max_frame: u32,
    /// It takes nothing but Ethernet frames.
    pub is_ethernet: bool,
}

/// What a worker is made from.
pub struct WorkerParts {
    pub index: usize,
    pub cpu: usize,
    pub pools: Vec<Buffers>,
    pub devices: Vec<Device>,
    /// Which worker owns each port, by the port's number.
    pub owner_of_port: Vec<Option<usize>>,
    /// What each port can take, by its number.
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
    /// Policies, or handles' own matches, look into tunnels.
    deep: bool,
    fragments: fragments::Fragments,
    /// Reused by each burst that comes in; away while one is at hand.
    arrivals: Option<Box<face::Arrivals>>,
    /// The same for what leaves, and for what passes from NF to NF.
    departures: Option<Box<face::Arrivals>>,
    bench: sending::Workbench,
    tracer: Option<trace::Tracer>,
    /// Reused by each look at a return ring.
    batch: Vec<Descriptor>,
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
            deep,
            fragments: Default::default(),
            arrivals: Some(Box::default()),
            departures: Some(Box::default()),
            bench: Default::default(),
            tracer: None,
            batch: Vec::with_capacity(returns::TURN),
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
        work += self.take_returns();
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
        self.report_faults();
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

    fn report_faults(&self) {
        for port in &self.ports {
            if let Some(what) = port.fault() {
                self.say(Event::PortFault {
                    port: port.number,
                    what,
                });
            }
        }
    }

    fn say(&self, event: Event) {
        // Control that is gone has stopped listening; then there is nobody to tell.
        let _ = self.parts.events.send(event);
        let _ = rustix::io::write(&*self.parts.bell, &1u64.to_ne_bytes());
    }

    fn obey(&mut self) -> bool {
        loop {
            match self.parts.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Ok(command) => self.carry_out(command),
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::AddNf(nf) => {
                self.nap.watch(&nf.wake);
                self.nfs.push(*nf);
            }
            Command::Attach(lane) => self.attach(lane),
            Command::Close { slot, died } => self.begin_close(slot, died),
            Command::RemoveNf { nf } => {
                if let Some(at) = self.nfs.iter().position(|lane| lane.nf == nf) {
                    let gone = self.nfs.swap_remove(at);
                    self.nap.forget(&gone.wake);
                }
                self.say(Event::NfRemoved { nf });
            }
            Command::AddPort(port) => {
                let number = port.number as usize;
                self.port_at[number] = Some(self.ports.len());
                self.ports.push(*port);
                self.parts.owner_of_port[number] = Some(self.parts.index);
            }
            Command::RemovePort { port } => self.remove_port(port),
            Command::Change(change) => self.change(*change),
            Command::AddPool(pool) => self.add_pool(*pool),
            Command::Mapped { nf, pools } => {
                let lanes = self.lanes.iter_mut().flatten();
                lanes
                    .filter(|lane| lane.nf == nf)
                    .for_each(|lane| lane.mapped = pools);
            }
            Command::Link { port, up } => self.links[port as usize] = up,
            Command::StartCapture { port } => {
                if let Some(at) = self.port_at[port as usize]
                    && let port::Io::Capture(capture) = &mut self.ports[at].io
                {
                    capture.started = true;
                    self.ports[at].counters.started.set(1);
                }
            }
            Command::Trace { device, count } => self.begin_trace(device, count),
            Command::EndHandle { slot } => self.end_handle(slot),
            Command::Stop => {}
        }
    }

    fn attach(&mut self, lane: Box<Lane>) {
        let slot = lane.slot;
        let mut outcome = Ok(());
        // Who never receives here never holds a share.
        let pools = if lane.receiving {
            self.parts.pools.len()
        } else {
            0
        };
        for at in 0..pools {
            outcome = self.parts.pools[at].ledger.open_slot(slot);
            if outcome.is_err() {
                self.parts.pools[..at]
                    .iter_mut()
                    .for_each(|pool| pool.ledger.close_slot(slot));
                break;
            }
        }
        if outcome.is_ok() {
            let device = &mut self.parts.devices[lane.device];
            if lane.receiving {
                device.admit(slot, lane.seat.as_ref());
            }
            device.senders += u32::from(lane.tx);
            let matcher = lane.matcher.as_ref();
            self.deep |= matcher.is_some_and(|matcher| face::asks_deeper(matcher.needs()));
            if let Some(nf) = self.nfs.iter_mut().find(|nf| nf.nf == lane.nf) {
                nf.slots[lane.handle as usize] = slot;
            }
            let over = lane.receiving && self.is_over(lane.device);
            self.lanes[slot as usize] = Some(lane);
            self.publish();
            if over {
                self.end_handle(slot);
            }
        }
        self.say(Event::Attached { slot, outcome });
    }

    /// Takes a pool over. Who has a slot elsewhere has one here, as far as there is room.
    fn add_pool(&mut self, mut pool: Buffers) {
        if self.parts.views {
            pool.ledger.keep_views();
        }
        let receiving = self.lanes.iter().flatten().filter(|lane| lane.receiving);
        for lane in receiving {
            // A slot without room stays closed: what would be delivered there is over its quota.
            let _ = pool.ledger.open_slot(lane.slot);
        }
        self.parts.pools.push(pool);
    }

    fn remove_port(&mut self, number: u16) {
        let place = self.port_at[number as usize].take();
        let port = place.map(|at| {
            let mut port = self.ports.swap_remove(at);
            if let Some(moved) = self.ports.get(at) {
                self.port_at[moved.number as usize] = Some(at);
            }
            port.flush(true);
            Box::new(port)
        });
        self.parts.owner_of_port[number as usize] = None;
        for device in &mut self.parts.devices {
            if let Exits::Bridge(bridge) = &mut device.exits {
                bridge.forget(number);
            }
        }
        self.say(Event::PortRemoved { port });
    }

    /// Tells a handle that nothing more will come.
    fn end_handle(&mut self, slot: u8) {
        if let Some(lane) = &mut self.lanes[slot as usize] {
            // ORDERING: release; everything delivered was published before, so whoever sees the end sees it all.
            lane.down.state().fetch_or(STATE_ENDED, Ordering::Release);
            wake(lane, &self.parts.counters);
        }
    }

    fn take_hand_overs(&mut self) -> usize {
        let (mut work, lossless) = (0, self.parts.lossless);
        for at in 0..self.parts.hand_over.len() {
            for _ in 0..buffers::BURST {
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
                        let outward = !self.ports[place].outward.is_empty();
                        let room = !lossless || self.ports[place].lossless_room() != 0;
                        if outward && room {
                            self.show_parcel(place, &parcel);
                        }
                        let Some(hand_over) = &mut self.parts.hand_over[at] else {
                            break;
                        };
                        hand_over.waiting = self.ports[place].take_over(parcel, lossless)
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
