//! The platform as a whole: built from a configuration, run by threads of its own, stopped by its drop.
//!
//! Building it is all that happens here: pools, workers, ports, sockets, the control thread. From
//! then on control owns everything and this is a remote for it. One at a time in a process.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use mvmp_policy::Config;
use mvmp_policy::config::{CAPTURE_FRAME_BYTES_DEFAULT, Mode, PortKind};
use mvmp_wire::memory::{self, Access, Mapping, Sealed};
use mvmp_wire::region::RecordRegion;
use serde_json::{Value, json};

use crate::control::{
    Control, DeviceEntry, PoolEntry, PortEntry, Reclaims, Request, Sockets, WorkerEntry, run,
};
use crate::counters::WorkerCounters;
use crate::dpdk::{BlockedSignals, Eal, EalError, IndirectPool, Pool, PoolError, tsc_hz};
use crate::ledger::{Ledger, SLOTS};
use crate::worker::buffers::Buffers;
use crate::worker::{Command, Device, Event, Exits, HandOver, Worker, WorkerParts};

mod ports;

/// Why a platform could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A second platform in one process.
    #[error(
        "a platform runs in this process already; stop it first (DPDK exists once per process)"
    )]
    Running,
    /// DPDK does not start.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// This kernel cannot seal memory.
    #[error("{0}")]
    Seals(String),
    /// No packet memory.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Shared memory.
    #[error(transparent)]
    Memory(#[from] memory::MemoryError),
    /// A port.
    #[error("port {name}: {reason}")]
    Port {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// A socket.
    #[error("{}: {source}", path.display())]
    Socket {
        /// Which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration asks for something that this machine has not.
    #[error("{0}")]
    Machine(String),
}

/// How a platform is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The shared NF socket; the operator's is this with `.ctl` appended.
    pub socket: PathBuf,
    /// Make the process undumpable, so that no process of the same user can write into it.
    pub harden: bool,
}

/// A running platform.
pub struct Platform {
    requests: Sender<Request>,
    bell: Arc<OwnedFd>,
    control: Option<std::thread::JoinHandle<()>>,
    socket: PathBuf,
    facts: Value,
}

static RUNNING: AtomicBool = AtomicBool::new(false);

/// Frees the place of the process's one platform.
struct Claim;

impl Claim {
    fn take() -> Result<Self, StartError> {
        // ORDERING: the claim orders nothing but itself.
        if RUNNING.swap(true, Ordering::AcqRel) {
            Err(StartError::Running)
        } else {
            Ok(Self)
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        RUNNING.store(false, Ordering::Release);
    }
}

/// Buffers that drivers, caches and copies need beside what NFs may hold.
const RESERVE_MIN: u32 = 256;
/// Mbufs for sending what others still hold.
const INDIRECT_MBUFS: u32 = 4096 - 1;
/// Parcels between two workers.
const HAND_OVER_SLOTS: usize = 1024;

impl Platform {
    /// Builds everything and begins to serve.
    ///
    /// # Errors
    /// What is missing, and nothing is left behind.
    pub fn start(config: Config, options: &Options) -> Result<Self, StartError> {
        let claim = Claim::take()?;
        memory::probe_seals().map_err(StartError::Seals)?;
        let eal = Eal::get()?;
        if options.harden {
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
                .map_err(|error| StartError::Machine(format!("PR_SET_DUMPABLE: {error}")))?;
        }
        let sockets = Sockets::bind(&options.socket, &config)
            .map_err(|(path, source)| StartError::Socket { path, source })?;
        let (requests, request_inbox) = channel();
        let (events, event_inbox) = channel();
        let bell = Arc::new(eventfd()?);
        let control = Builder {
            eal,
            config,
            bell: Arc::clone(&bell),
            events,
        }
        .build()?;
        let facts = control.facts.clone();
        let thread = spawn("mvmp-control", {
            let bell = Arc::clone(&bell);
            move || {
                run(control, sockets, &request_inbox, &event_inbox, &bell);
                // Pools and ports go here, on this thread, before a next platform may start.
                drop((request_inbox, event_inbox));
                drop(claim);
            }
        })?;
        Ok(Self {
            requests,
            bell,
            control: Some(thread),
            socket: options.socket.clone(),
            facts,
        })
    }

    fn ask(&self, request: Request) {
        // A control thread that is gone answers nothing: the reply channel says so.
        let _ = self.requests.send(request);
        let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
    }

    /// The shared NF socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What was found when it started: user, DPDK, pages.
    pub fn facts(&self) -> &Value {
        &self.facts
    }

    /// The books, as a tree. Empty once the platform has stopped.
    pub fn stats(&self) -> Value {
        let (reply, answer) = channel();
        self.ask(Request::Stats(reply));
        answer.recv().unwrap_or(Value::Null)
    }

    /// Waits until all captures have ended, nobody holds a packet and outputs are written.
    /// `interrupted` is asked every 50 ms whether to give up.
    ///
    /// # Errors
    /// After `timeout`, who still holds how many.
    pub fn wait_drained(
        &self,
        timeout: Option<Duration>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), String> {
        let drained = || {
            let (reply, answer) = channel();
            self.ask(Request::Drained(reply));
            answer
                .recv()
                .map_err(|_| "the platform has stopped".to_owned())
        };
        let mut wrong = None;
        let mut done = || match drained() {
            Ok(now) => now,
            Err(error) => {
                wrong = Some(error);
                true
            }
        };
        let in_time = poll(timeout, DRAIN_POLL, &mut done, interrupted);
        match wrong {
            Some(error) => Err(error),
            None if in_time => Ok(()),
            None => {
                let (reply, answer) = channel();
                self.ask(Request::Holders(reply));
                Err(answer
                    .recv()
                    .unwrap_or_else(|_| "the platform has stopped".into()))
            }
        }
    }

    /// Waits until somebody stops the platform (an operator); false after `timeout` or when interrupted.
    pub fn wait_stopped(
        &self,
        timeout: Option<Duration>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> bool {
        poll(
            timeout,
            STOP_POLL,
            &mut || {
                self.control
                    .as_ref()
                    .is_none_or(|thread| thread.is_finished())
            },
            interrupted,
        )
    }

    /// Adds a port that a device names, after it was removed.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn add_port(&self, name: &str, spec: Value) -> Result<(), String> {
        let (done, answer) = channel();
        self.ask(Request::AddPort {
            name: name.into(),
            spec,
            done,
        });
        answer
            .recv()
            .unwrap_or_else(|_| Err("the platform has stopped".into()))
    }

    /// Takes a port out of service.
    ///
    /// # Errors
    /// Why not.
    pub fn remove_port(&self, name: &str) -> Result<(), String> {
        let (done, answer) = channel();
        self.ask(Request::RemovePort {
            name: name.into(),
            done,
        });
        answer
            .recv()
            .unwrap_or_else(|_| Err("the platform has stopped".into()))
    }

    /// Stops in order: NFs are told, outputs are written, ports and pools are given back.
    pub fn stop(&mut self) {
        self.ask(Request::Stop);
        if let Some(thread) = self.control.take()
            && thread.join().is_err()
        {
            tracing::error!("the control thread panicked");
        }
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How often a waiter looks.
const DRAIN_POLL: Duration = Duration::from_millis(2);
const STOP_POLL: Duration = Duration::from_millis(50);

/// Asks `done` every so often until it says yes; false: the time is over, or the caller was interrupted.
fn poll(
    timeout: Option<Duration>,
    every: Duration,
    done: &mut dyn FnMut() -> bool,
    interrupted: &mut dyn FnMut() -> bool,
) -> bool {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut asked_at = Instant::now();
    loop {
        if done() {
            return true;
        }
        let left = deadline.map_or(every, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            return false;
        }
        // A signal is noticed within 50 ms; asking takes the interpreter's lock, so not each time.
        if asked_at.elapsed() >= STOP_POLL {
            asked_at = Instant::now();
            if interrupted() {
                return false;
            }
        }
        std::thread::sleep(left.min(every));
    }
}

fn eventfd() -> Result<OwnedFd, StartError> {
    let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
    rustix::event::eventfd(0, flags)
        .map_err(|error| StartError::Machine(format!("eventfd: {error}")))
}

fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, StartError> {
    let _blocked = BlockedSignals::all();
    let builder = std::thread::Builder::new().name(name.into());
    builder
        .spawn(body)
        .map_err(|error| StartError::Machine(format!("a thread could not be started: {error}")))
}

/// What control is built from.
struct Builder {
    eal: &'static Eal,
    config: Config,
    bell: Arc<OwnedFd>,
    events: Sender<Event>,
}

/// A pool and its worker's side of it, before the workers run.
struct Domain {
    entry: PoolEntry,
    buffers: Buffers,
}

impl Builder {
    fn build(self) -> Result<Control, StartError> {
        let groups = self.groups();
        let cpus = self.cpus(groups.len())?;
        let mut domains = Vec::new();
        for (id, ports) in groups.iter().enumerate() {
            domains.push(self.domain(id, id % cpus.len(), ports)?);
        }
        let ports: Vec<PortEntry> = (0..self.config.ports.len())
            .map(|number| self.port_entry(number, &domains))
            .collect();
        let devices = self.devices();
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
            sessions: Default::default(),
            next_nf: 0,
            slots: (0..SLOTS - 1).map(|_| None).collect(),
            closed: Default::default(),
            reclaims: Reclaims::default(),
            stopping: false,
            drain_asked: None,
            quiet_ticks: 0,
            config: self.config,
        };
        for number in 0..control.ports.len() {
            if let Err(reason) = control.plug(number) {
                let name = control.ports[number].spec.name.clone();
                control.abandon();
                return Err(StartError::Port { name, reason });
            }
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
        let frame = ports
            .iter()
            .map(|&number| ports::max_frame(&self.config.ports[number]))
            .max()
            .unwrap_or(CAPTURE_FRAME_BYTES_DEFAULT);
        let room = ports::data_room(
            &ports
                .iter()
                .map(|&number| &self.config.ports[number])
                .collect::<Vec<_>>(),
            frame,
        );
        let pool = Pool::create(
            self.eal,
            &format!("mvmp-pool-{id}"),
            self.config.platform.buffers,
            room,
        )?;
        let indirect =
            IndirectPool::create(self.eal, &format!("mvmp-indirect-{id}"), INDIRECT_MBUFS)?;
        let granules = pool.granules();
        let bytes = RecordRegion::bytes(granules);
        let records = memory::create("mvmp-records", bytes)?;
        let mapping = Mapping::of(&records, bytes, Access::ReadWrite)?;
        mapping.populate()?;
        memory::seal(&records, Sealed::ForGood)?;
        let reserve: u32 = ports
            .iter()
            .map(|&number| ports::reserve(&self.config.ports[number]))
            .sum::<u32>()
            + RESERVE_MIN;
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
        };
        Ok(Domain { entry, buffers })
    }

    fn port_entry(&self, number: usize, domains: &[Domain]) -> PortEntry {
        let pool = domains
            .iter()
            .position(|domain| domain.entry.ports.contains(&number))
            .unwrap_or(0);
        PortEntry {
            spec: self.config.ports[number].clone(),
            worker: domains[pool].entry.worker,
            pool,
            counters: Arc::default(),
            present: false,
            mac: None,
            mtu: ports::max_frame(&self.config.ports[number]).saturating_sub(22),
            notes: Vec::new(),
            started: false,
            removing: None,
        }
    }

    fn devices(&self) -> Vec<DeviceEntry> {
        let number = |name: &str| {
            self.config
                .port_index(name)
                .expect("a configuration's device names its ports") as u16
        };
        let entry = |spec: &mvmp_policy::config::DeviceSpec| {
            let ports: Vec<u16> = spec.ports().map(number).collect();
            let exits = match spec.mode {
                Mode::Rootless => Exits::Rootless,
                Mode::Direct => Exits::Direct(ports[0]),
                Mode::Bridge => Exits::Bridge(ports[0], ports[1]),
            };
            DeviceEntry {
                name: spec.name.clone(),
                rootless: spec.mode == Mode::Rootless,
                ports: ports.iter().map(|&port| port as usize).collect(),
                device: Device {
                    exits,
                    receivers: Vec::new(),
                },
            }
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
                owner_of_port: ports.iter().map(|port| Some(port.worker)).collect(),
                port_books: ports.iter().map(|port| Arc::clone(&port.counters)).collect(),
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
