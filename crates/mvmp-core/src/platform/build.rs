//! Building a platform: pools and ledgers, workers and the rings between them, ports.
//!
//! Called once by `Platform::start`. Ports joined by devices form a domain: one pool, one worker.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use mvmp_policy::Config;
use mvmp_policy::config::{CAPTURE_FRAME_BYTES_DEFAULT, Mode, PortKind, PortSpec};
use mvmp_wire::memory::{self, Access, Mapping, Sealed};
use mvmp_wire::region::RecordRegion;
use serde_json::{Value, json};

use super::{StartError, devices, eventfd, files, ports, spawn};
use crate::control::{
    Connections, Control, DeviceEntry, PoolEntry, PortEntry, Reclaims, WorkerEntry,
};
use crate::counters::WorkerCounters;
use crate::dpdk::{Eal, IndirectPool, Pool, tsc_hz};
use crate::ledger::{Ledger, SLOTS};
use crate::worker::buffers::Buffers;
use crate::worker::{Command, Event, HandOver, Worker, WorkerParts};

/// Buffers that drivers, caches and copies need beside what NFs may hold.
const RESERVE_MIN: u32 = 256;
/// Mbufs for sending what others still hold.
const INDIRECT_MBUFS: u32 = 4096 - 1;
/// Parcels between two workers.
const HAND_OVER_SLOTS: usize = 1024;

/// What control is built from.
pub(super) struct Builder {
    pub(super) eal: &'static Eal,
    pub(super) config: Config,
    pub(super) bell: Arc<OwnedFd>,
    pub(super) events: Sender<Event>,
}

/// A pool and its worker's side of it, before the workers run.
pub struct Domain {
    pub entry: PoolEntry,
    pub buffers: Buffers,
}

impl Builder {
    pub(super) fn build(self) -> Result<Control, StartError> {
        if let Some(([name, _], reason)) = files::conflict(self.config.ports.iter()) {
            let name = name.into();
            return Err(StartError::Port { name, reason });
        }
        let groups = self.groups();
        let cpus = self.cpus(groups.len())?;
        let mut domains = Vec::new();
        for (id, ports) in groups.iter().enumerate() {
            domains.push(self.domain(id, id % cpus.len(), ports)?);
        }
        let ports: Vec<PortEntry> = (0..self.config.ports.len())
            .map(|number| self.port_entry(number, &domains))
            .collect();
        let devices = self.devices().map_err(StartError::Machine)?;
        let (pools, workers) = self.start_workers(domains, &devices, &ports, &cpus)?;
        let facts = self.facts(&pools);
        let mut control = Control {
            lossless: self.config.is_lossless(),
            facts,
            started: Instant::now(),
            pools,
            workers,
            ports,
            devices,
            owners: Default::default(),
            sessions: Default::default(),
            next_nf: 0,
            slots: (0..SLOTS - 1).map(|_| None).collect(),
            closed: Default::default(),
            reclaims: Reclaims::default(),
            connections: Connections::default(),
            trace: Default::default(),
            stopping: false,
            drain_asked: None,
            quiet_ticks: 0,
            config: self.config,
        };
        // All are opened before any is in service: what their files held is there if one cannot be.
        let mut opened = Vec::new();
        for number in 0..control.ports.len() {
            match control.open_io(number) {
                Ok(io) => opened.push((number, io)),
                Err(reason) => {
                    let name = control.ports[number].spec.name.clone();
                    drop(opened);
                    control.abandon();
                    return Err(StartError::Port { name, reason });
                }
            }
        }
        for (number, io) in opened {
            control.serve_port(number, io);
        }
        Ok(control)
    }

    /// Which ports share a pool: the domains; without ports, one pool for rootless devices.
    fn groups(&self) -> Vec<Vec<usize>> {
        let groups: Vec<Vec<usize>> = self
            .config
            .domains()
            .into_iter()
            .map(|domain| domain.ports)
            .collect();
        if groups.is_empty() {
            vec![Vec::new()]
        } else {
            groups
        }
    }

    /// As many CPUs as there is work for, of those that were asked for.
    fn cpus(&self, domains: usize) -> Result<Vec<usize>, StartError> {
        let allowed = rustix::thread::sched_getaffinity(None)
            .map_err(|error| StartError::Machine(format!("sched_getaffinity: {error}")))?;
        let all: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|&cpu| allowed.is_set(cpu))
            .collect();
        let mut cpus = match &self.config.platform.workers {
            Some(cpus) => cpus.clone(),
            None => all.last().copied().into_iter().collect(),
        };
        if let Some(cpu) = cpus.iter().find(|cpu| !all.contains(cpu)) {
            return Err(StartError::Machine(format!(
                "platform.workers: CPU {cpu} is not one that this process may use; it may use {all:?}"
            )));
        }
        if cpus.len() > domains {
            tracing::info!(
                workers = cpus.len(),
                domains,
                "more workers than domains of ports: the rest is not started"
            );
            cpus.truncate(domains);
        }
        Ok(cpus)
    }

    fn domain(&self, id: usize, worker: usize, ports: &[usize]) -> Result<Domain, StartError> {
        let specs: Vec<&PortSpec> = ports
            .iter()
            .map(|&number| &self.config.ports[number])
            .collect();
        domain(
            self.eal,
            id,
            worker,
            ports,
            &specs,
            self.config.platform.buffers,
        )
    }
    fn port_entry(&self, number: usize, domains: &[Domain]) -> PortEntry {
        let pool = domains
            .iter()
            .position(|domain| domain.entry.ports.contains(&number))
            .unwrap_or(0);
        PortEntry::new(
            self.config.ports[number].clone(),
            domains[pool].entry.worker,
            pool,
        )
    }

    fn devices(&self) -> Result<Vec<DeviceEntry>, String> {
        let number = |name: &str| {
            self.config
                .port_index(name)
                .expect("a configuration's device names its ports") as u16
        };
        let entry = |spec: &mvmp_policy::config::DeviceSpec| {
            let ports: Vec<u16> = spec.ports().map(number).collect();
            Ok(DeviceEntry {
                name: spec.name.clone(),
                rootless: spec.mode == Mode::Rootless,
                ports: ports.iter().map(|&port| port as usize).collect(),
                device: devices::device(spec, &ports)?,
                owner: None,
                gone: false,
            })
        };
        self.config.devices.iter().map(entry).collect()
    }

    fn start_workers(
        &self,
        domains: Vec<Domain>,
        devices: &[DeviceEntry],
        ports: &[PortEntry],
        cpus: &[usize],
    ) -> Result<(Vec<PoolEntry>, Vec<WorkerEntry>), StartError> {
        let mut rings = hand_over_rings(cpus.len());
        let (mut pools, mut buffers): (Vec<PoolEntry>, Vec<Vec<Buffers>>) =
            (Vec::new(), cpus.iter().map(|_| Vec::new()).collect());
        for domain in domains {
            buffers[domain.entry.worker].push(domain.buffers);
            pools.push(domain.entry);
        }
        let mut workers = Vec::new();
        for (index, (&cpu, pools)) in cpus.iter().zip(buffers).enumerate() {
            let (commands, inbox) = channel();
            let doorbell = eventfd()?;
            let doorbell_read = doorbell
                .as_fd()
                .try_clone_to_owned()
                .map_err(|error| StartError::Machine(error.to_string()))?;
            let counters: Arc<WorkerCounters> = Arc::default();
            let hand_over: Vec<Option<HandOver>> = std::mem::take(&mut rings[index]);
            let parcels = hand_over
                .iter()
                .flatten()
                .map(|ring| Arc::clone(&ring.in_transit))
                .collect();
            let parts = WorkerParts {
                index,
                cpu,
                pools,
                devices: devices.iter().map(|entry| entry.device.clone()).collect(),
                port_facts: ports.iter().map(|port| port.facts).collect(),
                tunnel_ports: devices::tunnel_ports(&self.config),
                deep: devices::looks_deep(&self.config),
                views: devices::shows_parts(&self.config),
                owner_of_port: ports.iter().map(|port| Some(port.worker)).collect(),
                port_books: ports
                    .iter()
                    .map(|port| Arc::clone(&port.counters))
                    .collect(),
                hand_over,
                commands: inbox,
                events: self.events.clone(),
                bell: Arc::clone(&self.bell),
                doorbell: doorbell_read,
                counters: Arc::clone(&counters),
                lossless: self.config.is_lossless(),
                idle_nap: self.idle_nap(),
                tsc_hz: tsc_hz(self.eal),
            };
            let thread = spawn(&format!("mvmp-worker-{index}"), move || Worker::run(parts))?;
            workers.push(WorkerEntry {
                cpu,
                commands,
                doorbell,
                counters,
                thread: Some(thread),
                parcels,
            });
        }
        Ok((pools, workers))
    }

    /// 100 µs where a NIC may have something that cannot be waited for, else 1 ms.
    fn idle_nap(&self) -> Duration {
        let nic = |port: &mvmp_policy::config::PortSpec| matches!(&port.kind, PortKind::Devargs { devargs } if !devargs.starts_with("net_"));
        let default = if self.config.ports.iter().any(nic) {
            100
        } else {
            1000
        };
        Duration::from_micros(self.config.platform.idle_nap_us.unwrap_or(default).into())
    }

    fn facts(&self, pools: &[PoolEntry]) -> Value {
        let facts = self.eal.facts();
        let pages = pools
            .iter()
            .map(|pool| pool.pool.page_bytes())
            .min()
            .unwrap_or(0);
        json!({
            "dpdk": facts.dpdk_version,
            "huge_pages": facts.huge_pages,
            "page_bytes": pages,
            "uid": facts.uid,
            "line": facts.line(),
            "refused": facts.refused,
        })
    }
}

/// The pool of ports that belong together, with its ledger, for one worker.
fn domain(
    eal: &'static Eal,
    id: usize,
    worker: usize,
    ports: &[usize],
    specs: &[&PortSpec],
    buffers: u32,
) -> Result<Domain, StartError> {
    let frame = specs
        .iter()
        .map(|spec| ports::max_frame(spec))
        .max()
        .unwrap_or(CAPTURE_FRAME_BYTES_DEFAULT);
    let room = ports::data_room(specs, frame);
    let pool = Pool::create(eal, &format!("mvmp-pool-{id}"), buffers, room)?;
    let indirect = IndirectPool::create(eal, &format!("mvmp-indirect-{id}"), INDIRECT_MBUFS)?;
    let granules = pool.granules();
    let bytes = RecordRegion::bytes(granules);
    let records = memory::create("mvmp-records", bytes)?;
    let mapping = Mapping::of(&records, bytes, Access::ReadWrite)?;
    mapping.populate()?;
    memory::seal(&records, Sealed::ForGood)?;
    let reserve: u32 = specs.iter().map(|spec| ports::reserve(spec)).sum::<u32>() + RESERVE_MIN;
    let budget = pool
        .buffers()
        .saturating_sub(reserve.min(pool.buffers() / 2));
    let counters = Arc::default();
    let ledger = Ledger::new(granules, budget);
    let records_region = RecordRegion::new(Arc::new(mapping), granules);
    let buffers = Buffers::new(
        id as u8,
        pool.clone(),
        indirect,
        records_region,
        ledger,
        Arc::clone(&counters),
    );
    let entry = PoolEntry {
        id: id as u8,
        worker,
        pool,
        records,
        counters,
        ports: ports.to_vec(),
        for_nfs: specs.is_empty(),
        retiring: false,
    };
    Ok(Domain { entry, buffers })
}

/// The pool of ports that come to a running platform.
pub fn build_domain(
    id: usize,
    worker: usize,
    ports: &[&PortSpec],
    buffers: u32,
) -> Result<Domain, String> {
    let eal = Eal::get().map_err(|error| error.to_string())?;
    domain(eal, id, worker, &[], ports, buffers).map_err(|error| error.to_string())
}

/// A pair of rings between each two workers: `[a][b]` is a's end towards b.
fn hand_over_rings(workers: usize) -> Vec<Vec<Option<HandOver>>> {
    let mut ends: Vec<Vec<Option<HandOver>>> = (0..workers)
        .map(|_| (0..workers).map(|_| None).collect())
        .collect();
    for (a, b) in (0..workers).flat_map(|a| (a + 1..workers).map(move |b| (a, b))) {
        let (a_out, b_in) = rtrb::RingBuffer::new(HAND_OVER_SLOTS);
        let (b_out, a_in) = rtrb::RingBuffer::new(HAND_OVER_SLOTS);
        let in_transit = Arc::new(AtomicU64::new(0));
        ends[a][b] = Some(HandOver {
            out: a_out,
            inbox: a_in,
            in_transit: Arc::clone(&in_transit),
            waiting: None,
        });
        ends[b][a] = Some(HandOver {
            out: b_out,
            inbox: b_in,
            in_transit,
            waiting: None,
        });
    }
    ends
}

impl Control {
    /// Ends the workers of a platform that did not get as far as serving.
    fn abandon(&mut self) {
        for worker in &mut self.workers {
            worker.tell(Command::Stop);
            if let Some(thread) = worker.thread.take() {
                // It has nothing yet that a panic could lose.
                let _ = thread.join();
            }
        }
    }
}
