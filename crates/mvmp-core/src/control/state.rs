//! What control knows.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;
use std::time::Instant;

use mvmp_policy::Config;
use mvmp_policy::config::PortSpec;
use serde_json::Value;

use super::admission::Connections;
use super::links::LinkSource;
use super::session::Session;
use super::trace::Trace;
use crate::capture::Fault;
use crate::counters::{PoolCounters, PortCounters, WorkerCounters};
use crate::dpdk::Pool;
use crate::worker::device::Device;
use crate::worker::{Command, PortFacts};

/// One worker, seen from control.
pub struct WorkerEntry {
    pub cpu: usize,
    pub commands: Sender<Command>,
    /// Written after each command.
    pub doorbell: OwnedFd,
    pub counters: Arc<WorkerCounters>,
    pub thread: Option<std::thread::JoinHandle<()>>,
    /// Parcels between it and each other worker.
    pub parcels: Vec<Arc<AtomicU64>>,
}

impl WorkerEntry {
    /// Tells the worker; one that is gone hears nothing.
    pub fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&self.doorbell, &1u64.to_ne_bytes());
    }
}

/// One pool.
pub struct PoolEntry {
    pub id: u8,
    pub worker: usize,
    pub pool: Pool,
    pub records: OwnedFd,
    pub counters: Arc<PoolCounters>,
    /// Ports whose frames lie in it, those included that are gone and may come back.
    pub ports: Vec<usize>,
    /// It was made without ports, for what NFs send each other.
    pub for_nfs: bool,
    /// Its worker was told to give it back.
    pub retiring: bool,
}

/// One port.
pub struct PortEntry {
    pub spec: PortSpec,
    pub worker: usize,
    pub pool: usize,
    pub counters: Arc<PortCounters>,
    pub present: bool,
    pub mac: Option<[u8; 6]>,
    pub mtu: u32,
    /// What it takes, since it was opened.
    pub facts: PortFacts,
    /// What was changed on the interface, what could not be had.
    pub notes: Vec<String>,
    /// Where it is said that the files of a capture cannot be read to their end, or written.
    pub faults: Vec<Fault>,
    /// Who knows whether it has a link, and whether it had one at the last look.
    pub link: LinkSource,
    pub link_up: bool,
    /// A capture that has begun to play.
    pub started: bool,
    /// Who asked for its removal.
    pub removing: Option<Sender<Result<(), String>>>,
}

impl PortEntry {
    /// A port that is not there yet.
    pub fn new(spec: PortSpec, worker: usize, pool: usize) -> Self {
        Self {
            facts: crate::platform::devices::port_facts(&spec),
            mtu: crate::platform::ports::mtu(&spec),
            spec,
            worker,
            pool,
            counters: Arc::default(),
            present: false,
            mac: None,
            notes: Vec::new(),
            faults: Vec::new(),
            link: LinkSource::Always,
            link_up: true,
            started: false,
            removing: None,
        }
    }

    /// It plays a file.
    pub fn plays(&self) -> bool {
        self.present
            && self
                .spec
                .capture()
                .is_some_and(|capture| capture.pcap.is_some())
    }

    /// It plays a file that has ended.
    pub fn ended(&self) -> bool {
        self.counters.ended.get() == 1
    }
}

/// One device.
pub struct DeviceEntry {
    pub name: String,
    pub rootless: bool,
    pub ports: Vec<usize>,
    /// Without its receivers, which workers know.
    pub device: Device,
    /// The NF that has defined it for itself.
    pub owner: Option<u32>,
    /// The configuration does not name it any more; its number may be used again.
    pub gone: bool,
}

/// What reclaiming has cost.
#[derive(Debug, Default)]
pub struct Reclaims {
    /// Handles of dead NFs that were swept.
    pub count: u64,
    /// Shares that they held.
    pub buffers: u64,
    /// Nanoseconds of sweeping, last and most.
    pub last_nanos: u64,
    pub max_nanos: u64,
}

/// Control's whole state.
pub struct Control {
    pub config: Config,
    pub facts: Value,
    pub started: Instant,
    pub lossless: bool,
    pub pools: Vec<PoolEntry>,
    pub workers: Vec<WorkerEntry>,
    pub ports: Vec<PortEntry>,
    pub devices: Vec<DeviceEntry>,
    /// Who has defined which device for itself.
    pub owners: BTreeMap<String, u32>,
    pub sessions: BTreeMap<u32, Session>,
    pub next_nf: u32,
    /// Which (NF, handle) has each slot.
    pub slots: Vec<Option<(u32, u8)>>,
    /// Books of handles that are gone, by (role, device).
    pub closed: BTreeMap<(String, String), Value>,
    pub reclaims: Reclaims,
    pub connections: Connections,
    /// The trace that was asked for last.
    pub trace: Trace,
    pub stopping: bool,
    /// When somebody last asked whether everything is drained.
    pub drain_asked: Option<Instant>,
    /// Consecutive ticks, since then, at which everything was seen drained.
    pub quiet_ticks: u32,
}

impl Control {
    /// The number of the port with this name.
    pub fn port_number(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.spec.name == name)
    }

    /// The pool with this number.
    pub fn pool(&self, id: usize) -> Option<&PoolEntry> {
        self.pools.iter().find(|pool| usize::from(pool.id) == id)
    }

    /// The number of the device with this name.
    pub fn device_number(&self, name: &str) -> Option<usize> {
        let named = |device: &DeviceEntry| device.name == name && !device.gone;
        self.devices.iter().position(named)
    }
}
