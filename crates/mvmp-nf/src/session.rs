//! One connection to the platform: its regions, its return rings, its state.
//!
//! Handles, bursts and the control thread share it; whoever holds it keeps the mappings. It ends
//! by [`Session::shut`] (in order) or [`Session::lose`] (end of file); what is asked of it then
//! is an error, and what is still mapped harms nobody.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use mvmp_wire::memory::Access;
use mvmp_wire::message::{FromPlatform, PoolGeometry, ToPlatform};
use mvmp_wire::packet::TunnelPorts;
use mvmp_wire::region::RecordRegion;
use mvmp_wire::{Mapping, PRIVATE_POOL, channel as wire};

use crate::Interrupted;
use crate::born::Born;
use crate::error::NfError;
use crate::frame::Pool;
use crate::opening::Opening;
use crate::returns::{Returns, WorkerLink};

/// How often a wait looks whether it was interrupted.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// A platform that takes longer for an answer is taken for lost.
const ANSWER: Duration = Duration::from_secs(30);

const LIVE: u8 = 0;
const CLOSING: u8 = 1;
const LOST: u8 = 2;
// The highest, for the control thread finds the connection gone then too: that is no loss.
const CLOSED: u8 = 3;

/// An answer with its file descriptors.
pub(crate) type Answer = (FromPlatform, Vec<OwnedFd>);

#[derive(Debug)]
pub(crate) struct Session {
    born: Born,
    pub(crate) instance: String,
    pub(crate) lossless: bool,
    /// By which UDP ports tunnels are known here.
    pub(crate) tunnel_ports: TunnelPorts,
    pub(crate) links: Vec<WorkerLink>,
    pools: [OnceLock<Pool>; PRIVATE_POOL as usize],
    pub(crate) private: Mapping,
    returns: Mutex<Returns>,
    overflow: AtomicBool,
    socket: OwnedFd,
    pending: Mutex<VecDeque<Option<Sender<Answer>>>>,
    pub(crate) openings: Mutex<Vec<Weak<Opening>>>,
    pub(crate) views: AtomicUsize,
    state: AtomicU8,
    bye: AtomicBool,
    /// Why the platform has thrown this NF out.
    detached: OnceLock<String>,
}

/// A lock that a panicking holder left is taken all the same: its contents are counters and queues.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a welcome brought, mapped.
pub(crate) struct Welcomed {
    pub(crate) instance: String,
    pub(crate) lossless: bool,
    pub(crate) tunnel_ports: TunnelPorts,
    pub(crate) links: Vec<WorkerLink>,
    pub(crate) private: Mapping,
    pub(crate) private_bytes: u64,
}

impl Session {
    pub(crate) fn new(socket: OwnedFd, born: Born, welcomed: Welcomed) -> Self {
        let returns = Returns::new(&welcomed.links, welcomed.private_bytes);
        Self {
            born,
            instance: welcomed.instance,
            lossless: welcomed.lossless,
            tunnel_ports: welcomed.tunnel_ports,
            links: welcomed.links,
            pools: [const { OnceLock::new() }; PRIVATE_POOL as usize],
            private: welcomed.private,
            returns: Mutex::new(returns),
            overflow: AtomicBool::new(false),
            socket,
            pending: Mutex::new(VecDeque::new()),
            openings: Mutex::new(Vec::new()),
            views: AtomicUsize::new(0),
            state: AtomicU8::new(LIVE),
            bye: AtomicBool::new(false),
            detached: OnceLock::new(),
        }
    }

    /// Whether calls may go on; the first thing that each of them asks.
    #[inline(always)]
    pub(crate) fn check(&self) -> Result<(), NfError> {
        if self.born.is_here() && self.state.load(Ordering::Acquire) == LIVE {
            Ok(())
        } else {
            Err(self.why_dead())
        }
    }

    #[cold]
    fn why_dead(&self) -> NfError {
        if !self.born.is_here() {
            return NfError::Closed(
                "this object was made before a fork; connect anew in the child".into(),
            );
        }
        match self.state.load(Ordering::Acquire) {
            LOST => match self.detached.get() {
                Some(reason) => NfError::Detached(reason.clone()),
                None => NfError::PlatformLost {
                    in_order: self.said_bye(),
                },
            },
            _ => NfError::Closed("this NF is closed".into()),
        }
    }

    pub(crate) fn is_here(&self) -> bool {
        self.born.is_here()
    }

    /// Whether what this NF was lent is still its own: until the connection ends.
    #[inline(always)]
    pub(crate) fn is_connected(&self) -> bool {
        self.born.is_here() && self.state.load(Ordering::Acquire) <= CLOSING
    }

    #[inline(always)]
    pub(crate) fn pool(&self, number: u8) -> Option<&Pool> {
        self.pools.get(number as usize)?.get()
    }

    /// Those that are mapped.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().filter_map(OnceLock::get)
    }

    /// Maps pools that were announced; two descriptors each, memory and records.
    pub(crate) fn add_pools(
        &self,
        pools: &[PoolGeometry],
        fds: &mut impl Iterator<Item = OwnedFd>,
    ) -> Result<(), NfError> {
        for geometry in pools {
            let (Some(memory), Some(records)) = (fds.next(), fds.next()) else {
                return Err(NfError::Connect(
                    "the platform announced a pool without its memory".into(),
                ));
            };
            let bytes = usize::try_from(geometry.bytes)
                .map_err(|_| NfError::Connect("a pool is too large to map".into()))?;
            let memory = Arc::new(map(memory, bytes, Access::ReadOnly)?);
            let records = Arc::new(map(
                records,
                RecordRegion::bytes(geometry.granules),
                Access::ReadOnly,
            )?);
            let records = RecordRegion::new(records, geometry.granules);
            let slot = self.pools.get(geometry.pool as usize);
            let slot = slot.ok_or_else(|| {
                NfError::Connect(format!("the platform announced pool {}", geometry.pool))
            })?;
            if usize::from(geometry.worker) >= self.links.len() {
                return Err(NfError::Connect(format!(
                    "pool {} belongs to an unknown worker",
                    geometry.pool
                )));
            }
            // A pool announced twice keeps its first mapping.
            let _ = slot.set(Pool::new(
                geometry.worker,
                geometry.granules,
                memory,
                records,
            ));
        }
        Ok(())
    }

    pub(crate) fn returns(&self) -> MutexGuard<'_, Returns> {
        locked(&self.returns)
    }

    /// Notes after a burst whether releases wait.
    #[inline]
    pub(crate) fn note_overflow(&self, returns: &Returns) {
        let waits = returns.has_overflow();
        // ORDERING: relaxed; a hint for `flush`, the truth is under the lock.
        if waits != self.overflow.load(Ordering::Relaxed) {
            self.overflow.store(waits, Ordering::Relaxed);
        }
    }

    /// Moves releases that wait; true when none does.
    #[inline]
    pub(crate) fn flush(&self) -> bool {
        if !self.overflow.load(Ordering::Relaxed) {
            return true;
        }
        let mut returns = self.returns();
        let empty = returns.flush(&self.links);
        self.note_overflow(&returns);
        empty
    }

    pub(crate) fn send(&self, message: &ToPlatform) -> Result<(), NfError> {
        Ok(wire::send(self.socket.as_fd(), message, &[])?)
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Asks, and waits for the answer. Interrupted or unanswered, the connection is given up:
    /// the answer might still come, and would be taken for the next one.
    pub(crate) fn request(
        &self,
        message: &ToPlatform,
        interrupted: Interrupted,
    ) -> Result<Answer, NfError> {
        let answer = self.ask(message)?;
        let deadline = Instant::now() + ANSWER;
        loop {
            match answer.recv_timeout(TICK) {
                Ok((error @ FromPlatform::Error { .. }, _)) => {
                    return Err(NfError::from_answer(error));
                }
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(self.why_dead()),
                Err(RecvTimeoutError::Timeout) if interrupted() => {
                    self.end(LOST);
                    return Err(NfError::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    self.end(LOST);
                    return Err(NfError::Connect(format!(
                        "the platform has not answered for {} s",
                        ANSWER.as_secs()
                    )));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    pub(crate) fn ask(&self, message: &ToPlatform) -> Result<Receiver<Answer>, NfError> {
        let (sender, receiver) = channel();
        self.enqueue(message, Some(sender))?;
        Ok(receiver)
    }

    /// Waits for an answer that may take as long as others are slow: until it is there, the connection ends, the
    /// time is over or the wait is interrupted. The question stays asked: its answer is dropped when it comes.
    pub(crate) fn await_answer(
        &self,
        answer: &Receiver<Answer>,
        longest: Option<Duration>,
        interrupted: Interrupted,
    ) -> Result<(), NfError> {
        let begun = Instant::now();
        while matches!(answer.recv_timeout(TICK), Err(RecvTimeoutError::Timeout)) {
            if interrupted() {
                return Err(NfError::Interrupted);
            }
            if !self.is_connected() || longest.is_some_and(|longest| begun.elapsed() >= longest) {
                break;
            }
        }
        Ok(())
    }

    /// Asks without waiting; the answer is dropped.
    pub(crate) fn tell(&self, message: &ToPlatform) -> Result<(), NfError> {
        self.enqueue(message, None)
    }

    fn enqueue(&self, message: &ToPlatform, sender: Option<Sender<Answer>>) -> Result<(), NfError> {
        if !self.is_connected() {
            return Err(self.why_dead());
        }
        // Held over the send, so that answers find the questions in their order.
        let mut pending = locked(&self.pending);
        self.send(message)?;
        pending.push_back(sender);
        Ok(())
    }

    pub(crate) fn answer(&self, answer: Answer) {
        if let Some(Some(sender)) = locked(&self.pending).pop_front() {
            // The one who asked may have given up.
            let _ = sender.send(answer);
        }
    }

    /// The handles that are open, by `found`.
    pub(crate) fn each_opening(&self, mut found: impl FnMut(&Arc<Opening>)) {
        let openings: Vec<_> = locked(&self.openings)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        openings.iter().for_each(&mut found);
    }

    /// The platform has said that it ends in order.
    pub(crate) fn said_bye(&self) -> bool {
        self.bye.load(Ordering::Acquire)
    }

    pub(crate) fn note_bye(&self) {
        self.bye.store(true, Ordering::Release);
    }

    /// The platform takes everything away; it hangs up right after.
    pub(crate) fn note_detached(&self, reason: &str) {
        let _ = self.detached.set(reason.to_owned());
    }

    /// The other side is gone.
    pub(crate) fn lose(&self) {
        self.end(LOST);
    }

    /// No new calls from now on; the connection stays while packets are viewed.
    pub(crate) fn shut(&self) {
        if self
            .state
            .compare_exchange(LIVE, CLOSING, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            self.each_opening(|opening| opening.raise());
        }
        self.view_gone();
    }

    /// Called when a view has died: the last one ends a connection that was to be closed.
    pub(crate) fn view_gone(&self) {
        if self.state.load(Ordering::Acquire) == CLOSING && self.views.load(Ordering::Acquire) == 0
        {
            self.end(CLOSED);
        }
    }

    fn end(&self, state: u8) {
        if self.state.fetch_max(state, Ordering::AcqRel) >= state || !self.is_here() {
            return;
        }
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        locked(&self.pending).clear();
        self.each_opening(|opening| opening.raise());
    }
}

pub(crate) fn map(fd: impl AsFd, bytes: usize, access: Access) -> Result<Mapping, NfError> {
    Mapping::of(fd, bytes, access)
        .map_err(|error| NfError::Connect(format!("memory of the platform: {error}")))
}
