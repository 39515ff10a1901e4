//! One NF instance: from hello to the last sweep.
//!
//! ```text
//! New ──hello──▶ (Waiting for an instance) ──▶ Mapping ──mapped──▶ Ready ──EOF, death, close──▶ Leaving ──swept──▶ gone
//! ```
//!
//! A handle goes Mapping → Attaching → Open → Closing → gone. Nothing that an NF maps is used
//! before it is sealed, and nothing is ever used by a second incarnation.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use mvmp_policy::{Matcher, Rule};
use mvmp_wire::channel;
use mvmp_wire::memory::{self, Access, Mapping, MemoryError, Sealed};
use mvmp_wire::message::{
    ErrorCode, FromPlatform, LaneGeometry, PoolGeometry, PortFacts, WorkerGeometry,
};
use mvmp_wire::region::{DownRegion, STATUS_BYTES, StatusRegion, UpRegion};
use mvmp_wire::ring::{Consumer, Producer};
use mvmp_wire::{MAX_HANDLES, PROTOCOL_VERSION};
use rustix::pipe::{PipeFlags, pipe_with};

use super::authorize::{self, Refusal};
use super::sockets::Door;
use super::state::Control;
use crate::counters::{HandleCounters, NfCounters};
use crate::worker::Command;
use crate::worker::lane::{Lane, NO_SLOT, NfLane};

/// What an NF shares with one worker.
pub struct Share {
    pub up: UpRegion,
    pub status: StatusRegion,
    pub counters: Arc<NfCounters>,
}

/// Regions that wait for the NF's acknowledgement.
pub struct Unsealed {
    fds: Vec<(OwnedFd, Arc<Mapping>)>,
    wakes: Vec<OwnedFd>,
    private: Arc<Mapping>,
}

/// Where a session stands.
pub enum Phase {
    /// Connected, silent.
    New,
    /// Its role is full; a reclaim is in progress.
    Waiting { role: String, since: Instant },
    /// Regions are sent.
    Mapping(Box<Unsealed>),
    /// In service.
    Ready,
    /// Handles are being swept; `forgotten` workers have let it go.
    Leaving { forgotten: usize },
}

/// Where a handle stands.
pub enum HandlePhase {
    /// Regions are sent.
    Mapping(Vec<(usize, Box<Lane>)>),
    /// So many workers have yet to attach.
    Attaching { left: usize, failed: Option<String> },
    /// In service.
    Open,
    /// So many workers have yet to sweep; whether its NF asked for it.
    Closing {
        left: usize,
        swept: u64,
        nanos: u64,
        asked: bool,
    },
}

/// One handle.
pub struct Handle {
    pub slot: u8,
    pub device: usize,
    pub rx: bool,
    pub tx: bool,
    pub phase: HandlePhase,
    pub lanes: Vec<LaneEntry>,
    pub ended: bool,
    pub died: bool,
    pub stuck: bool,
}

/// A lane, seen from control.
pub struct LaneEntry {
    pub worker: usize,
    pub down: DownRegion,
    pub counters: Arc<HandleCounters>,
    /// Its head at the last look, and since when it stands there beside packets.
    pub last_head: u32,
    pub still_since: Option<Instant>,
}

/// One NF instance.
pub struct Session {
    pub nf: u32,
    pub socket: OwnedFd,
    pub pidfd: Option<OwnedFd>,
    pub pid: u32,
    pub uid: u32,
    pub door: Door,
    pub role: String,
    pub instance: u32,
    pub phase: Phase,
    pub last_alive: Instant,
    pub handles: BTreeMap<u8, Handle>,
    pub known_pools: u64,
    pub shares: Vec<Share>,
    pub quarantined: Option<String>,
}

impl Session {
    pub fn new(nf: u32, socket: OwnedFd, door: Door) -> Self {
        let (pid, uid, pidfd) = peer(&socket);
        Self {
            nf,
            socket,
            pidfd,
            pid,
            uid,
            door,
            role: String::new(),
            instance: 0,
            phase: Phase::New,
            last_alive: Instant::now(),
            handles: BTreeMap::new(),
            known_pools: 0,
            shares: Vec::new(),
            quarantined: None,
        }
    }

    /// `role/0`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.role, self.instance)
    }

    /// It has a role: connected for real.
    pub fn is_named(&self) -> bool {
        !self.role.is_empty()
    }

    pub fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving { .. })
    }

    /// Sends; a peer that does not read its socket loses what it is told, and only that.
    pub fn say(&self, message: &FromPlatform, fds: &[BorrowedFd<'_>]) {
        if let Err(error) = channel::send(&self.socket, message, fds) {
            tracing::debug!(nf = self.name(), %error, "a control message was not taken");
        }
    }

    pub fn refuse(&self, refusal: Refusal) {
        let Refusal {
            code,
            message,
            hint,
            line,
            column,
        } = refusal;
        self.say(
            &FromPlatform::Error {
                code,
                message,
                hint,
                line,
                column,
            },
            &[],
        );
    }
}

/// Who is at the other end: pid, uid, and a pidfd where the kernel gives one.
fn peer(socket: &OwnedFd) -> (u32, u32, Option<OwnedFd>) {
    let Ok(credentials) = rustix::net::sockopt::socket_peercred(socket) else {
        return (0, u32::MAX, None);
    };
    let pid = credentials.pid;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok();
    (
        pid.as_raw_nonzero().get() as u32,
        credentials.uid.as_raw(),
        pidfd,
    )
}

/// A region that only the platform writes: sealed before anyone gets it.
fn sealed_region(name: &str, bytes: usize) -> Result<(OwnedFd, Arc<Mapping>), MemoryError> {
    let fd = memory::create(name, bytes)?;
    let mapping = Mapping::of(&fd, bytes, Access::ReadWrite)?;
    mapping.populate()?;
    memory::seal(&fd, Sealed::ForGood)?;
    Ok((fd, Arc::new(mapping)))
}

/// A region that an NF will write: sealed for good once it has mapped it.
fn owned_region(name: &str, bytes: usize) -> Result<(OwnedFd, Arc<Mapping>), MemoryError> {
    let fd = memory::create(name, bytes)?;
    memory::seal(&fd, Sealed::Size)?;
    let mapping = Mapping::of(&fd, bytes, Access::ReadWrite)?;
    mapping.populate()?;
    Ok((fd, Arc::new(mapping)))
}

fn trouble(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        ErrorCode::Other,
        format!("the platform could not make the shared memory: {error}"),
    )
}

impl Control {
    /// Hello: role, rights, instance, then the regions.
    pub(super) fn hello(&mut self, nf: u32, protocol: u32, role: &str) {
        let Some(session) = self.sessions.get(&nf) else {
            return;
        };
        if protocol != PROTOCOL_VERSION {
            return session.refuse(Refusal::new(
                ErrorCode::Version,
                format!("the NF's library speaks protocol {protocol}, this platform {PROTOCOL_VERSION}: install the same version of mvmp on both sides"),
            ));
        }
        if session.is_named() {
            return session.refuse(Refusal::new(ErrorCode::Malformed, "hello was said already"));
        }
        let (instances, memory) =
            match authorize::role(&self.config, &session.door, role, session.uid) {
                Ok(granted) => granted,
                Err(refusal) => return session.refuse(refusal),
            };
        let named = self
            .sessions
            .values()
            .filter(|session| session.is_named())
            .count();
        if named >= self.config.platform.max_nfs as usize {
            let refusal = Refusal::new(
                ErrorCode::NoRoom,
                format!("{named} NFs are connected, the limit (`max_nfs`)"),
            );
            session.refuse(refusal);
            return self.stop_waiting(nf);
        }
        self.bury_the_dead(role);
        let taken: Vec<(u32, bool)> = self
            .sessions
            .values()
            .filter(|session| session.role == role)
            .map(|session| (session.instance, session.is_leaving()))
            .collect();
        let free = (0..instances).find(|instance| taken.iter().all(|(other, _)| other != instance));
        let leaving = taken.iter().any(|(_, leaving)| *leaving);
        let Some(session) = self.sessions.get_mut(&nf) else {
            return;
        };
        match free {
            Some(instance) => {
                (session.role, session.instance) = (role.to_owned(), instance);
                if let Err(error) = self.welcome(nf, memory)
                    && let Some(session) = self.sessions.get_mut(&nf)
                {
                    session.role.clear();
                    session.refuse(trouble(error));
                }
            }
            None if leaving => {
                let since = match &session.phase {
                    Phase::Waiting { since, .. } => *since,
                    _ => Instant::now(),
                };
                session.phase = Phase::Waiting {
                    role: role.to_owned(),
                    since,
                };
            }
            None => {
                session.phase = Phase::New;
                let refusal = Refusal::new(
                    ErrorCode::NameInUse,
                    format!("all {instances} instances of `{role}` are connected"),
                );
                session.refuse(refusal.hint(format!(
                    "raise `instances` in [nfs.{role}], or end one of them"
                )));
            }
        }
    }

    /// Those who wait for an instance of a role try again; after five seconds they are refused.
    pub(super) fn retry_waiting(&mut self) {
        let waiting: Vec<(u32, String)> = self
            .sessions
            .values()
            .filter_map(|session| match &session.phase {
                Phase::Waiting { role, .. } => Some((session.nf, role.clone())),
                _ => None,
            })
            .collect();
        for (nf, role) in waiting {
            self.hello(nf, PROTOCOL_VERSION, &role);
        }
    }

    /// Refused: it may say hello again.
    fn stop_waiting(&mut self, nf: u32) {
        if let Some(session) = self.sessions.get_mut(&nf) {
            session.phase = Phase::New;
        }
    }

    /// Holders of a role that have died, but whose end was not noticed yet.
    fn bury_the_dead(&mut self, role: &str) {
        let dead: Vec<u32> = self
            .sessions
            .values()
            .filter(|session| session.role == role && !session.is_leaving())
            .filter(|session| {
                session
                    .pidfd
                    .as_ref()
                    .is_some_and(super::serve::is_readable)
            })
            .map(|session| session.nf)
            .collect();
        dead.into_iter().for_each(|nf| self.leave(nf, "it died"));
    }

    fn welcome(&mut self, nf: u32, memory: u64) -> Result<(), MemoryError> {
        let return_slots = (self.config.platform.ring_slots * 2).max(4096);
        let (mut fds, mut unsealed, mut wakes, mut shares) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in &self.workers {
            let (up_fd, up) = owned_region("mvmp-up", UpRegion::bytes(return_slots))?;
            let (status_fd, status) = sealed_region("mvmp-status", STATUS_BYTES)?;
            let (wake_read, wake_write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
                .map_err(|source| MemoryError::System {
                    step: "pipe",
                    source,
                })?;
            fds.extend([
                up_fd.try_clone().map_err(clone_failed)?,
                status_fd,
                wake_write,
            ]);
            shares.push(Share {
                up: UpRegion::new(Arc::clone(&up), return_slots),
                status: StatusRegion::new(status),
                counters: Arc::default(),
            });
            unsealed.push((up_fd, up));
            wakes.push(wake_read);
        }
        let private_bytes = memory.max(4096).next_multiple_of(4096);
        let (private_fd, private) = owned_region("mvmp-private", private_bytes as usize)?;
        fds.push(private_fd.try_clone().map_err(clone_failed)?);
        unsealed.push((private_fd, Arc::clone(&private)));
        let (lossless, workers) = (self.lossless, self.workers.len());
        let Some(session) = self.sessions.get_mut(&nf) else {
            return Ok(());
        };
        session.shares = shares;
        session.phase = Phase::Mapping(Box::new(Unsealed {
            fds: unsealed,
            wakes,
            private,
        }));
        let welcome = FromPlatform::Welcome {
            protocol: PROTOCOL_VERSION,
            platform: env!("CARGO_PKG_VERSION").into(),
            instance: session.name(),
            workers: vec![WorkerGeometry { return_slots }; workers],
            private_bytes,
            lossless,
        };
        session.say(&welcome, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>());
        Ok(())
    }

    /// The NF has mapped what `welcome` brought: seal it, and only then use it.
    pub(super) fn mapped(&mut self, nf: u32) {
        let Some(session) = self.sessions.get_mut(&nf) else {
            return;
        };
        let Phase::Mapping(_) = &session.phase else {
            return;
        };
        let Phase::Mapping(unsealed) = std::mem::replace(&mut session.phase, Phase::Ready) else {
            return;
        };
        for (fd, mapping) in &unsealed.fds {
            // The owner may have punched holes before the seal: fill them now, where it is an error and not a SIGBUS.
            if let Err(error) = memory::seal(fd, Sealed::ForGood).and_then(|()| mapping.populate())
            {
                // No worker knows it yet: there is nothing to wait for.
                session.refuse(trouble(error));
                self.sessions.remove(&nf);
                return self.retry_waiting();
            }
        }
        for ((worker, share), wake) in self.workers.iter().zip(&session.shares).zip(unsealed.wakes)
        {
            worker.tell(Command::AddNf(Box::new(NfLane {
                nf,
                up: share.up.clone(),
                status: share.status.clone(),
                returns: Consumer::new(share.up.return_capacity()),
                private: Arc::clone(&unsealed.private),
                wake,
                slots: [NO_SLOT; MAX_HANDLES],
                counters: Arc::clone(&share.counters),
                quarantined: false,
                blocked: false,
                expected: 0,
            })));
        }
        session.say(&FromPlatform::Ready { handle: None }, &[]);
        tracing::info!(
            nf = session.name(),
            pid = session.pid,
            uid = session.uid,
            "NF connected"
        );
    }

    /// Opens a device: rights, rule, slot, regions.
    pub(super) fn open(&mut self, nf: u32, request: OpenRequest) {
        match self.try_open(nf, &request) {
            Ok(()) => {}
            Err(refusal) => {
                if let Some(session) = self.sessions.get(&nf) {
                    session.refuse(refusal);
                }
            }
        }
    }

    fn try_open(&mut self, nf: u32, request: &OpenRequest) -> Result<(), Refusal> {
        let session = self
            .sessions
            .get(&nf)
            .ok_or_else(|| Refusal::new(ErrorCode::Other, "no such session"))?;
        if !matches!(session.phase, Phase::Ready) {
            return Err(Refusal::new(
                ErrorCode::Malformed,
                "open comes after hello and mapped",
            ));
        }
        let name = &request.device;
        let device = self
            .devices
            .iter()
            .position(|device| device.name == *name)
            .ok_or_else(|| {
                let known: Vec<&str> = self
                    .devices
                    .iter()
                    .map(|device| device.name.as_str())
                    .collect();
                Refusal::new(ErrorCode::Config, format!("there is no device `{name}`"))
                    .hint(format!("there is: {}", known.join(", ")))
            })?;
        let (rx, tx) =
            authorize::rights(&self.config, &session.role, name, request.rx, request.tx)?;
        let matcher = compile(request.rule.as_deref())?;
        let ring_slots = ring_slots(request.ring.unwrap_or(self.config.platform.ring_slots))?;
        let handle = (0..MAX_HANDLES as u8).find(|handle| !session.handles.contains_key(handle));
        let handle = handle.ok_or_else(|| {
            Refusal::new(
                ErrorCode::NoRoom,
                format!("this NF has {MAX_HANDLES} handles open, the most that it can"),
            )
        })?;
        let slot = self.slots.iter().position(Option::is_none);
        let slot = slot.ok_or_else(|| {
            Refusal::new(
                ErrorCode::NoRoom,
                format!(
                    "{} handles are open on this platform, the most that it has room for",
                    self.slots.len()
                ),
            )
        })? as u8;
        let new = NewHandle {
            nf,
            handle,
            slot,
            device,
            rx,
            tx,
            matcher,
            ring_slots,
        };
        self.announce(new).map_err(trouble)
    }

    /// Makes the regions of a handle and sends them.
    fn announce(&mut self, new: NewHandle) -> Result<(), MemoryError> {
        let reaches = self.workers_of(new.device);
        let (mut fds, mut lanes, mut entries, mut geometry): (
            Vec<OwnedFd>,
            Vec<_>,
            Vec<_>,
            Vec<_>,
        ) = Default::default();
        let Some(session) = self.sessions.get(&new.nf) else {
            return Ok(());
        };
        let mut pools = Vec::new();
        for pool in &self.pools {
            if reaches.contains(&pool.worker) && session.known_pools & (1 << pool.id) == 0 {
                fds.push(pool.pool.fd().try_clone_to_owned().map_err(clone_failed)?);
                fds.push(pool.records.try_clone().map_err(clone_failed)?);
                pools.push(PoolGeometry {
                    pool: pool.id,
                    worker: pool.worker as u8,
                    bytes: pool.pool.len_bytes() as u64,
                    granules: pool.pool.granules(),
                });
            }
        }
        for &worker in &reaches {
            let (down_fd, mapping) = sealed_region("mvmp-down", DownRegion::bytes(new.ring_slots))?;
            let (wake_read, wake_write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
                .map_err(|source| MemoryError::System {
                    step: "pipe",
                    source,
                })?;
            let down = DownRegion::new(mapping, new.ring_slots);
            let counters: Arc<HandleCounters> = Arc::default();
            fds.extend([down_fd, wake_read]);
            geometry.push(LaneGeometry {
                worker: worker as u8,
                ring_slots: new.ring_slots,
            });
            entries.push(LaneEntry {
                worker,
                down: down.clone(),
                counters: Arc::clone(&counters),
                last_head: 0,
                still_since: None,
            });
            let lane = Lane {
                slot: new.slot,
                nf: new.nf,
                handle: new.handle,
                device: new.device,
                tx: new.tx,
                matcher: new.matcher.clone(),
                ring: Producer::new(new.ring_slots),
                down,
                up: session.shares[worker].up.clone(),
                wake: wake_write,
                counters,
                receiving: new.rx,
                broken: false,
                woken: 0,
                waiting_since: 0,
            };
            lanes.push((worker, Box::new(lane)));
        }
        let opened = FromPlatform::Opened {
            handle: new.handle,
            slot: new.slot,
            rx: new.rx,
            tx: new.tx,
            rootless: self.devices[new.device].rootless,
            lanes: geometry,
            pools: pools.clone(),
            ports: self.port_facts(new.device),
        };
        session.say(&opened, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>());
        self.slots[new.slot as usize] = Some((new.nf, new.handle));
        let Some(session) = self.sessions.get_mut(&new.nf) else {
            return Ok(());
        };
        pools
            .iter()
            .for_each(|pool| session.known_pools |= 1 << pool.pool);
        session.handles.insert(
            new.handle,
            Handle {
                slot: new.slot,
                device: new.device,
                rx: new.rx,
                tx: new.tx,
                phase: HandlePhase::Mapping(lanes),
                lanes: entries,
                ended: false,
                died: false,
                stuck: false,
            },
        );
        Ok(())
    }

    /// Workers whose packets can reach a device: the owner of its ports, or all for a rootless one.
    fn workers_of(&self, device: usize) -> Vec<usize> {
        match self.devices[device].ports.first() {
            Some(&port) => vec![self.ports[port].worker],
            None => (0..self.workers.len()).collect(),
        }
    }

    fn port_facts(&self, device: usize) -> Vec<PortFacts> {
        let facts = |&number: &usize| {
            let port = &self.ports[number];
            PortFacts {
                name: port.spec.name.clone(),
                number: number as u16,
                mac: port.mac,
                mtu: port.mtu,
            }
        };
        self.devices[device].ports.iter().map(facts).collect()
    }

    /// The NF has mapped a handle's regions: let packets flow.
    pub(super) fn handle_mapped(&mut self, nf: u32, number: u8) {
        let Some(handle) = self
            .sessions
            .get_mut(&nf)
            .and_then(|session| session.handles.get_mut(&number))
        else {
            return;
        };
        if !matches!(handle.phase, HandlePhase::Mapping(_)) {
            return;
        }
        let attaching = HandlePhase::Attaching {
            left: handle.lanes.len(),
            failed: None,
        };
        let HandlePhase::Mapping(lanes) = std::mem::replace(&mut handle.phase, attaching) else {
            return;
        };
        for (worker, lane) in lanes {
            self.workers[worker].tell(Command::Attach(lane));
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
        if let HandlePhase::Closing { .. } = handle.phase {
            handle.died |= died;
            return;
        }
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
        let key = (
            session.role.clone(),
            self.devices[handle.device].name.clone(),
        );
        let leaving = session.is_leaving() && session.handles.is_empty();
        self.keep_books(key, &handle);
        if leaving {
            self.forget(nf);
        }
    }

    /// The NF is gone, or thrown out: close everything that it has.
    pub(super) fn leave(&mut self, nf: u32, why: &str) {
        let Some(session) = self.sessions.get_mut(&nf) else {
            return;
        };
        if session.is_leaving() {
            return;
        }
        let in_service = matches!(session.phase, Phase::Ready);
        session.phase = Phase::Leaving { forgotten: 0 };
        if !in_service {
            self.sessions.remove(&nf);
            return self.retry_waiting();
        }
        tracing::info!(nf = session.name(), why, "NF leaves");
        let handles: Vec<u8> = session.handles.keys().copied().collect();
        if handles.is_empty() {
            return self.forget(nf);
        }
        handles
            .into_iter()
            .for_each(|number| self.close_handle(nf, number, false, true));
    }

    fn forget(&mut self, nf: u32) {
        self.workers
            .iter()
            .for_each(|worker| worker.tell(Command::RemoveNf { nf }));
    }

    /// A worker has forgotten an NF; when all have, its name is free.
    pub(super) fn forgotten(&mut self, nf: u32) {
        let workers = self.workers.len();
        if let Some(session) = self.sessions.get_mut(&nf)
            && let Phase::Leaving { forgotten } = &mut session.phase
        {
            *forgotten += 1;
            if *forgotten >= workers {
                self.sessions.remove(&nf);
                self.retry_waiting();
            }
        }
    }
}

/// What an NF asks to open.
pub struct OpenRequest {
    pub device: String,
    pub rx: Option<bool>,
    pub tx: Option<bool>,
    pub rule: Option<String>,
    pub ring: Option<u32>,
}

struct NewHandle {
    nf: u32,
    handle: u8,
    slot: u8,
    device: usize,
    rx: bool,
    tx: bool,
    matcher: Option<Arc<Matcher>>,
    ring_slots: u32,
}

fn compile(rule: Option<&str>) -> Result<Option<Arc<Matcher>>, Refusal> {
    let Some(text) = rule else { return Ok(None) };
    match Rule::parse(text) {
        Ok(rule) => Ok(Some(Arc::new(rule.compile())).filter(|matcher| !matcher.is_all())),
        Err(error) => Err(Refusal {
            code: ErrorCode::Policy,
            message: error.message.clone(),
            hint: error.hint.clone(),
            line: error.line,
            column: error.column,
        }),
    }
}

fn ring_slots(asked: u32) -> Result<u32, Refusal> {
    if asked.is_power_of_two() && (64..=32_768).contains(&asked) {
        return Ok(asked);
    }
    Err(Refusal::new(
        ErrorCode::Config,
        format!("a ring of {asked} slots is not possible: a power of two from 64 to 32768"),
    ))
}

fn clone_failed(error: std::io::Error) -> MemoryError {
    let source = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::MFILE);
    MemoryError::System {
        step: "duplicating a file descriptor",
        source,
    }
}
