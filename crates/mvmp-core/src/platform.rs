//! The platform as a whole: built from a configuration, run by threads of its own, stopped by its drop.
//!
//! Building it is all that happens here: pools, workers, ports, sockets, the control thread. From
//! then on control owns everything and this is a remote for it. One at a time in a process.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use build::Builder;
pub(crate) use build::build_domain;
use mvmp_policy::Config;
use mvmp_wire::memory;
use serde_json::Value;

use crate::control::{Request, Sockets, run};
use crate::dpdk::{BlockedSignals, Eal, EalError, PoolError};

mod build;
pub(crate) mod devices;
pub(crate) mod files;
pub(crate) mod ports;

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
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
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
