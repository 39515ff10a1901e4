//! What control tells a worker, and what it hears: carried out between bursts.

use std::sync::atomic::Ordering;
use std::sync::mpsc::TryRecvError;

use mvmp_wire::region::STATE_ENDED;

use super::buffers::Buffers;
use super::device::Exits;
use super::lane::{Lane, NfLane};
use super::port::Port;
use super::{PortFacts, Worker, change, face, port, trace, wake};

/// What control tells a worker.
pub enum Command {
    /// An NF has connected and its regions are sealed.
    AddNf(Box<NfLane>),
    /// A handle is mapped: deliver from now on.
    Attach(Box<Lane>),
    /// Close a handle: drain, sweep, report. `died`: what it held counts so.
    Close { slot: u8, died: bool },
    /// The NF of a handle that is being closed is gone: it is swept without waiting, if it still is.
    Died { slot: u8 },
    /// Forget an NF whose handles are closed.
    RemoveNf { nf: u32 },
    /// Serve a port, which receives into the pool with this number.
    AddPort { port: Box<Port>, pool: u8 },
    /// Give a port back.
    RemovePort { port: u16 },
    /// The configuration has changed.
    Change(Box<change::Change>),
    /// Serve another pool.
    AddPool(Box<Buffers>),
    /// Give a pool back that no port fills any more, if all of it is at home.
    RetirePool { pool: u8 },
    /// An NF has mapped these pools by now, a bit for each.
    Mapped { nf: u32, pools: u64 },
    /// A port is something else from now on.
    Facts { port: u16, facts: PortFacts },
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
    /// A packet of a trace has made a step.
    Traced(usize, Box<trace::Step>),
    /// A pool is out of use; without its buffers: it is still in use.
    PoolRetired {
        pool: u8,
        buffers: Option<Box<Buffers>>,
    },
    /// A port is out of use.
    PortRemoved { port: Option<Box<Port>> },
}

impl Worker {
    /// Carries out what control has told; false: it is time to stop.
    pub(super) fn obey(&mut self) -> bool {
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
            Command::Died { slot } => self.hasten_close(slot),
            Command::RemoveNf { nf } => {
                if let Some(at) = self.nfs.iter().position(|lane| lane.nf == nf) {
                    let gone = self.nfs.swap_remove(at);
                    self.nap.forget(&gone.wake);
                }
                self.say(Event::NfRemoved { nf });
            }
            Command::AddPort { mut port, pool } => {
                let place = self.place_of_pool(pool);
                port.pool = place.expect("a port's pool was added before it and stays with it");
                let number = port.number as usize;
                self.coming.retain(|&coming| coming != port.number);
                self.port_at[number] = Some(self.ports.len());
                self.ports.push(*port);
                self.parts.owner_of_port[number] = Some(self.parts.index);
            }
            Command::RemovePort { port } => self.remove_port(port),
            Command::Change(change) => self.change(*change),
            Command::AddPool(pool) => self.add_pool(*pool),
            Command::RetirePool { pool } => {
                let buffers = self.retire_pool(pool).map(Box::new);
                self.say(Event::PoolRetired { pool, buffers });
            }
            Command::Mapped { nf, pools } => {
                let lanes = self.lanes.iter_mut().flatten();
                lanes
                    .filter(|lane| lane.nf == nf)
                    .for_each(|lane| lane.mapped = pools);
            }
            Command::Facts { port, facts } => {
                if let Some(known) = self.parts.port_facts.get_mut(port as usize) {
                    *known = facts;
                }
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

    /// Takes a pool out of service, unless something may still come back to it. The first one stays:
    /// frames that NFs build go there if no better place is known.
    fn retire_pool(&mut self, id: u8) -> Option<Buffers> {
        let place = self.place_of_pool(id).filter(|&place| place != 0)?;
        let is_fed = self.ports.iter().any(|port| port.pool == place);
        // A sweep goes through the pools by their places.
        if is_fed || !self.sweeps.is_empty() || !self.parts.pools[place].is_whole() {
            return None;
        }
        let behind = self.ports.iter_mut().filter(|port| port.pool > place);
        behind.for_each(|port| port.pool -= 1);
        let mut buffers = self.parts.pools.remove(place);
        buffers.close();
        Some(buffers)
    }

    fn place_of_pool(&self, id: u8) -> Option<usize> {
        self.parts.pools.iter().position(|pool| pool.id == id)
    }

    pub(super) fn remove_port(&mut self, number: u16) {
        self.coming.retain(|&coming| coming != number);
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
    pub(super) fn end_handle(&mut self, slot: u8) {
        if let Some(lane) = &mut self.lanes[slot as usize] {
            lane.publish();
            // ORDERING: release; everything delivered was published before, so whoever sees the end sees it all.
            lane.down.state().fetch_or(STATE_ENDED, Ordering::Release);
            wake(lane, &self.parts.counters);
        }
    }
}
