//! What an NF asks to open: refused with a reason, or its regions are made and sent.
//!
//! What becomes of a handle after that is in `handles`.

use std::hash::{Hash, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mvmp_policy::{Matcher, Rule};
use mvmp_wire::MAX_HANDLES;
use mvmp_wire::memory::MemoryError;
use mvmp_wire::message::{ErrorCode, FromPlatform, LaneGeometry, PoolGeometry, PortFacts};
use mvmp_wire::packet::encap::Encap;
use mvmp_wire::region::{DownRegion, STATE_ENDED};
use mvmp_wire::ring::Producer;
use mvmp_wire::wake::Waker;
use rustix::pipe::{PipeFlags, pipe_with};

use super::authorize::Refusal;
use super::handshake::{clone_failed, sealed_region, trouble};
use super::session::{Handle, HandlePhase, LaneEntry, Phase, Session};
use super::state::{Control, PoolEntry};
use crate::counters::HandleCounters;
use crate::worker::device::Seat;
use crate::worker::lane::Lane;

impl Control {
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
        let device = match &request.define {
            Some(table) => self.define(nf, &request.device, table)?,
            None => self.find_device(&request.device)?,
        };
        let opened = self.try_open_device(nf, device, request);
        if opened.is_err() {
            self.forget_own_device(device);
        }
        opened
    }

    fn find_device(&self, name: &str) -> Result<usize, Refusal> {
        self.device_number(name).ok_or_else(|| {
            let known = self.devices.iter().filter(|device| !device.gone);
            let known: Vec<&str> = known.map(|device| device.name.as_str()).collect();
            Refusal::new(ErrorCode::Config, format!("there is no device `{name}`"))
                .hint(format!("there is: {}", known.join(", ")))
        })
    }

    fn try_open_device(
        &mut self,
        nf: u32,
        device: usize,
        request: &OpenRequest,
    ) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(&nf) else {
            return Ok(());
        };
        let (rx, tx) = self.rights(session, device, request.rx, request.tx)?;
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
        let receives = self.workers_of(new.device);
        let lanes_on = self.lanes_on(&receives, new.tx);
        let (mut fds, mut lanes, mut entries, mut geometry): (
            Vec<OwnedFd>,
            Vec<_>,
            Vec<_>,
            Vec<_>,
        ) = Default::default();
        let Some(session) = self.sessions.get(&new.nf) else {
            return Ok(());
        };
        let seat = self.seat(session, new.device);
        let mut pools = Vec::new();
        let reached = if new.rx {
            self.pools_of(new.device, &session.role)
        } else {
            0
        };
        for pool in &self.pools {
            if (reached & !session.known_pools) & (1 << pool.id) != 0 {
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
        for &worker in &lanes_on {
            let receiving = new.rx && receives.contains(&worker);
            let (down, down_fd) = down_region(new.ring_slots)?;
            let (wake_read, wake) = wake_pipe()?;
            if !receiving {
                // Nothing will ever come on this lane: only what is sent passes here.
                down.state().store(STATE_ENDED, Ordering::Release);
            }
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
                narrowed: 0,
                closing: false,
                mapped: 0,
                seat: seat.clone(),
                ring: Producer::new(new.ring_slots),
                down,
                up: session.shares[worker].up.clone(),
                wake,
                counters,
                receiving,
                broken: false,
                waker: Waker::default(),
            };
            lanes.push((worker, Box::new(lane)));
        }
        let ports = self.port_facts(new.device);
        let opened = FromPlatform::Opened {
            handle: new.handle,
            slot: new.slot,
            rx: new.rx,
            tx: new.tx,
            rootless: self.devices[new.device].rootless,
            lanes: geometry,
            pools: pools.clone(),
            ports: ports.clone(),
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
                pools: reached,
                ports,
            },
        );
        Ok(())
    }

    /// The place in a group that an NF has on a device, if its role is in one.
    pub(super) fn seat(&self, session: &Session, device: usize) -> Option<Seat> {
        let name = &self.devices[device].name;
        let groups = &self.config.nf(&session.role)?.groups;
        let (_, group) = groups.iter().find(|(device, _)| device == name)?;
        let mut hasher = std::hash::DefaultHasher::new();
        session.name().hash(&mut hasher);
        Some(Seat {
            group: group.clone(),
            identity: hasher.finish(),
        })
    }

    /// The pools whose packets can reach an NF by this device, a bit for each. It maps no others:
    /// what NFs define for themselves joins no pools for anybody else.
    fn pools_of(&self, device: usize, role: &str) -> u64 {
        let own = &self.devices[device].ports;
        let file = self.without_own_devices();
        let domains = file.domains();
        let by_nfs: Vec<usize> = match file.nfs.iter().position(|nf| nf.name == role) {
            Some(role) if self.is_fed_by_nfs(device) => file
                .reach()
                .swap_remove(role)
                .into_iter()
                .flat_map(|domain| &domains[domain].ports)
                .filter_map(|&port| self.port_number(&file.ports[port].name))
                .collect(),
            _ => Vec::new(),
        };
        let reaches = |pool: &&PoolEntry| {
            let feeds = |port| own.contains(port) || by_nfs.contains(port);
            file.platform.open || pool.for_nfs || pool.ports.iter().any(feeds)
        };
        let reached = self.pools.iter().filter(reaches);
        reached.fold(0, |bits, pool| bits | 1 << pool.id)
    }

    /// Where a handle has lanes: where it receives first; who may send needs one on every worker,
    /// since packets of any pool can be sent over it.
    fn lanes_on(&self, receives: &[usize], tx: bool) -> Vec<usize> {
        let others = (0..self.workers.len()).filter(|worker| tx && !receives.contains(worker));
        receives.iter().copied().chain(others).collect()
    }

    /// Workers whose packets can reach a device: the owner of its ports, or all for a rootless one.
    fn workers_of(&self, device: usize) -> Vec<usize> {
        match self.devices[device].ports.first() {
            Some(&port) => vec![self.ports[port].worker],
            None => (0..self.workers.len()).collect(),
        }
    }

    /// Tells handles whose device's ports are others now, or can take something else.
    pub(crate) fn tell_port_facts(&mut self) {
        let is_told = |(nf, number, device): &(u32, u8, usize)| {
            let handle = &self.sessions[nf].handles[number];
            // One that is not mapped yet is told once it is: until then its NF does not know it.
            !matches!(handle.phase, HandlePhase::Mapping(_))
                && handle.ports != self.port_facts(*device)
        };
        let of = |(&nf, session): (&u32, &Session)| {
            let handles = session.handles.iter();
            handles
                .map(|(&number, handle)| (nf, number, handle.device))
                .collect::<Vec<_>>()
        };
        let all = self.sessions.iter().flat_map(of);
        let stale: Vec<_> = all.filter(is_told).collect();
        for (nf, number, device) in stale {
            let ports = self.port_facts(device);
            let Some(session) = self.sessions.get_mut(&nf) else {
                continue;
            };
            if let Some(handle) = session.handles.get_mut(&number) {
                handle.ports.clone_from(&ports);
            }
            session.say(
                &FromPlatform::Ports {
                    handle: number,
                    ports,
                },
                &[],
            );
        }
    }

    fn port_facts(&self, device: usize) -> Vec<PortFacts> {
        let facts = |&number: &usize| {
            let port = &self.ports[number];
            let encap = self.devices[device].device.shape(number as u16);
            PortFacts {
                name: port.spec.name.clone(),
                number: number as u16,
                mac: port.mac,
                mtu: port
                    .mtu
                    .saturating_sub(encap.map_or(0, Encap::mtu_bytes) as u32),
            }
        };
        self.devices[device].ports.iter().map(facts).collect()
    }
}

/// What an NF asks to open.
pub struct OpenRequest {
    pub device: String,
    pub rx: Option<bool>,
    pub tx: Option<bool>,
    pub rule: Option<String>,
    pub ring: Option<u32>,
    pub define: Option<serde_json::Value>,
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

/// Whether a rule would be compiled by libpcap, which may look names up, and block, meanwhile.
pub(super) fn is_libpcaps(rule: &str) -> bool {
    rule.trim_start().starts_with("pcap:")
}

/// What an NF hears that would have libpcap compile something on the control thread.
pub(super) fn of_libpcap() -> Refusal {
    let message = "`pcap:` rules stand in the configuration only: libpcap may look names up, and nobody is to wait for that";
    let hint =
        "write it in `receive` of a device, or use `burst.match(policy)`, or our own dialect";
    Refusal::new(ErrorCode::Policy, message).hint(hint)
}

fn down_region(ring_slots: u32) -> Result<(DownRegion, OwnedFd), MemoryError> {
    let (fd, mapping) = sealed_region("mvmp-down", DownRegion::bytes(ring_slots))?;
    Ok((DownRegion::new(mapping, ring_slots), fd))
}

/// The end that the NF sleeps on, and the one that a worker writes to.
fn wake_pipe() -> Result<(OwnedFd, OwnedFd), MemoryError> {
    let failed = |source| MemoryError::System {
        step: "pipe",
        source,
    };
    pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(failed)
}

fn compile(rule: Option<&str>) -> Result<Option<Arc<Matcher>>, Refusal> {
    let Some(text) = rule else { return Ok(None) };
    if is_libpcaps(text) {
        return Err(of_libpcap());
    }
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
