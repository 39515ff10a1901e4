//! The loop of the control thread.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use mvmp_wire::channel::{self, ChannelError};
use mvmp_wire::message::{ErrorCode, FromPlatform, ToPlatform};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use serde_json::Value;

use super::admission::Admission;
use super::authorize::Refusal;
use super::opening::OpenRequest;
use super::operator::Operators;
use super::session::{Phase, Session};
use super::sockets::{Listener, Sockets};
use super::state::Control;
use crate::worker::Event;

/// What the owner of the platform asks of its control thread.
pub enum Request {
    /// The statistics.
    Stats(Sender<Value>),
    /// Whether everything is drained now, and was at the tick before.
    Drained(Sender<bool>),
    /// Who holds packets, for people.
    Holders(Sender<String>),
    /// Add a port that a device names and that is not there.
    AddPort {
        name: String,
        spec: Value,
        done: Sender<Result<(), String>>,
    },
    /// Take a port out of service.
    RemovePort {
        name: String,
        done: Sender<Result<(), String>>,
    },
    /// Stop; answered when all workers have ended.
    Stop,
}

/// Ticks in a row at which everything must have been seen drained.
const QUIET_TICKS: u32 = 2;
/// Tick while nothing plays, and while a stream's start, end or drain is awaited.
const TICK: Duration = Duration::from_millis(100);
const BUSY_TICK: Duration = Duration::from_millis(2);

/// Whether a descriptor has something to say now (a pidfd: its process has ended).
pub fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .is_ok_and(|ready| ready > 0)
}

/// Serves until it is told to stop. `bell` is written after each request and worker's event.
pub fn run(
    mut control: Control,
    mut sockets: Sockets,
    requests: &Receiver<Request>,
    events: &Receiver<Event>,
    bell: &OwnedFd,
) {
    let mut operators = Operators::default();
    let mut admission = Admission::new(sockets.doors());
    let mut last_tick = Instant::now();
    loop {
        let ready = wait(&control, listening(&sockets, &admission), &operators, bell);
        while let Ok(request) = requests.try_recv() {
            control.answer(request);
        }
        while let Ok(event) = events.try_recv() {
            control.hear(event);
        }
        admission.admit(&mut control, &sockets, &mut operators);
        operators.serve(&mut control, &mut sockets);
        admission.resize(sockets.doors());
        if ready {
            control.read_sessions();
        }
        if last_tick.elapsed() >= control.tick_length() {
            let on_time = last_tick.elapsed() < Duration::from_millis(500);
            last_tick = Instant::now();
            control.tick(on_time);
        }
        if control.stopping {
            break;
        }
    }
    control.stop();
}

/// Those whose connections are accepted now: none while there is no descriptor for one.
fn listening<'a>(sockets: &'a Sockets, admission: &Admission) -> &'a [Listener] {
    if admission.is_open() {
        &sockets.listeners
    } else {
        &[]
    }
}

/// Blocks until something is to be done, at most a tick; whether a session may have something.
fn wait(control: &Control, listeners: &[Listener], operators: &Operators, bell: &OwnedFd) -> bool {
    let mut fds = vec![PollFd::new(bell, PollFlags::IN)];
    fds.extend(
        listeners
            .iter()
            .map(|listener| PollFd::new(listener, PollFlags::IN)),
    );
    fds.extend(
        operators
            .sockets()
            .map(|socket| PollFd::new(socket, PollFlags::IN)),
    );
    let sessions_from = fds.len();
    for session in control
        .sessions
        .values()
        .filter(|session| !session.is_leaving())
    {
        fds.push(PollFd::new(&session.socket, PollFlags::IN));
        if let Some(pidfd) = &session.pidfd {
            fds.push(PollFd::new(pidfd, PollFlags::IN));
        }
    }
    let tick = control.tick_length();
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: tick.as_nanos() as _,
    };
    if poll(&mut fds, Some(&timeout)).is_err() {
        return true;
    }
    let sessions = fds[sessions_from..]
        .iter()
        .any(|fd| !fd.revents().is_empty());
    if !fds[0].revents().is_empty() {
        let mut count = [0; 8];
        let _ = rustix::io::read(bell, &mut count);
    }
    sessions
}

impl Control {
    pub(super) fn tick_length(&self) -> Duration {
        if self.is_streaming() { BUSY_TICK } else { TICK }
    }

    fn read_sessions(&mut self) {
        let numbers: Vec<u32> = self.sessions.keys().copied().collect();
        for nf in numbers {
            self.read_session(nf);
        }
    }

    /// Reads what an NF has said, a bounded number of messages; then looks whether it lives.
    pub(super) fn read_session(&mut self, nf: u32) {
        for _ in 0..16 {
            let Some(session) = self
                .sessions
                .get(&nf)
                .filter(|session| !session.is_leaving())
            else {
                return;
            };
            // Descriptors that an NF sends are closed at once: none is asked for.
            match channel::receive::<ToPlatform>(&session.socket) {
                Ok((message, _fds)) => self.obey(nf, message),
                Err(ChannelError::WouldBlock) => break,
                Err(ChannelError::Malformed(what)) => {
                    session.refuse(Refusal::new(ErrorCode::Malformed, what))
                }
                Err(ChannelError::Closed) => return self.leave(nf, "it closed its connection"),
                Err(ChannelError::System(error)) => return self.leave(nf, &error.to_string()),
            }
        }
        let died = self
            .sessions
            .get(&nf)
            .and_then(|session| session.pidfd.as_ref())
            .is_some_and(is_readable);
        if died {
            self.leave(nf, "its process ended");
        }
    }

    fn obey(&mut self, nf: u32, message: ToPlatform) {
        // Who has no role yet must get one in time, whatever else it says.
        if let Some(session) = self
            .sessions
            .get_mut(&nf)
            .filter(|session| session.is_named())
        {
            session.last_alive = Instant::now();
        }
        match message {
            ToPlatform::Hello {
                protocol,
                role,
                library,
            } => {
                tracing::debug!(nf, role, library, "hello");
                self.hello(nf, protocol, &role);
            }
            ToPlatform::Mapped { handle: None } => self.mapped(nf),
            ToPlatform::Mapped {
                handle: Some(handle),
            } => self.handle_mapped(nf, handle),
            ToPlatform::Open {
                device,
                rx,
                tx,
                rule,
                ring,
                define,
            } => self.open(
                nf,
                OpenRequest {
                    device,
                    rx,
                    tx,
                    rule,
                    ring,
                    define,
                },
            ),
            ToPlatform::Close { handle } => self.close_handle(nf, handle, true, false),
            ToPlatform::Stats { handle } => self.tell_stats(nf, handle),
            ToPlatform::Alive | ToPlatform::Unknown => {}
        }
    }

    fn tell_stats(&self, nf: u32, number: u8) {
        let Some(session) = self.sessions.get(&nf) else {
            return;
        };
        match session.handles.get(&number) {
            Some(handle) => session.say(
                &FromPlatform::Stats {
                    stats: self.handle_stats(session, handle),
                },
                &[],
            ),
            None => session.refuse(Refusal::new(
                ErrorCode::Config,
                format!("this NF has no handle number {number}"),
            )),
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Attached { slot, outcome } => self.attached(slot, outcome),
            Event::Closed { slot, swept, nanos } => self.swept(slot, swept, nanos),
            Event::NfRemoved { nf } => self.forgotten(nf),
            Event::Quarantined { nf, reason, worker } => {
                if let Some(session) = self.sessions.get_mut(&nf) {
                    tracing::warn!(
                        nf = session.name(),
                        worker,
                        reason,
                        "NF broke the protocol and is quarantined"
                    );
                    session.quarantined = Some(reason.clone());
                    session.say(
                        &FromPlatform::Detached {
                            handle: None,
                            reason,
                        },
                        &[],
                    );
                }
                self.leave(nf, "it broke the protocol");
            }
            Event::Traced(worker, step) => self.note_step(worker, *step),
            Event::PoolRetired { pool, buffers } => self.pool_retired(pool, buffers),
            Event::PortRemoved { port } => {
                if let Some(port) = port {
                    self.port_removed(port.number as usize);
                    drop(port);
                }
            }
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            // Whoever asked may have stopped waiting: then nobody reads the answer.
            Request::Stats(reply) => drop(reply.send(self.stats())),
            Request::Holders(reply) => drop(reply.send(self.holders())),
            Request::Drained(reply) => {
                self.drain_asked = Some(Instant::now());
                // Whoever asked may have gone.
                let _ = reply.send(self.quiet_ticks >= QUIET_TICKS && self.is_drained());
            }
            Request::AddPort { name, spec, done } => drop(done.send(self.add_port(&name, &spec))),
            Request::RemovePort { name, done } => self.remove_port(&name, done),
            Request::Stop => self.stopping = true,
        }
    }

    /// Regular work: signs of life, stuck handles, streams. `on_time`: this thread itself was not held up.
    fn tick(&mut self, on_time: bool) {
        let deadline = Duration::from_secs_f64(self.config.platform.alive_s * 3.5);
        if !on_time {
            // We were not running: that the NFs were silent meanwhile proves nothing.
            self.sessions
                .values_mut()
                .for_each(|session| session.last_alive = Instant::now());
        }
        self.watch_links();
        // Who waits for an instance has a deadline of its own.
        let judged = |session: &&Session| {
            !matches!(session.phase, Phase::Leaving { .. } | Phase::Waiting { .. })
        };
        let late: Vec<u32> = self
            .sessions
            .values()
            .filter(judged)
            .filter(|session| session.last_alive.elapsed() > deadline)
            .map(|session| session.nf)
            .collect();
        for nf in late {
            if let Some(session) = self.sessions.get(&nf) {
                session.say(
                    &FromPlatform::Detached {
                        handle: None,
                        reason: "three signs of life were missed".into(),
                    },
                    &[],
                );
            }
            self.leave(nf, "three signs of life were missed");
        }
        self.refuse_who_waits_in_vain();
        self.retry_waiting();
        self.watch_workers();
        self.watch_for_stuck();
        self.retire_pools();
        self.tend_streams();
    }

    /// A worker that ended by itself has panicked: our bug, and no state of its is to be trusted.
    fn watch_workers(&mut self) {
        let ended = |worker: &super::state::WorkerEntry| {
            worker
                .thread
                .as_ref()
                .is_some_and(std::thread::JoinHandle::is_finished)
        };
        if let Some(worker) = self.workers.iter().find(|worker| ended(worker)) {
            tracing::error!(
                cpu = worker.cpu,
                "a worker has panicked; the platform stops"
            );
            self.stopping = true;
        }
    }

    /// Tells everyone, ends the workers, and waits for them.
    fn stop(&mut self) {
        for session in self.sessions.values() {
            session.say(&FromPlatform::Bye, &[]);
        }
        for worker in &mut self.workers {
            worker.tell(crate::worker::Command::Stop);
            if let Some(thread) = worker.thread.take()
                && thread.join().is_err()
            {
                tracing::error!(cpu = worker.cpu, "a worker panicked; its pools are kept");
            }
        }
    }
}
