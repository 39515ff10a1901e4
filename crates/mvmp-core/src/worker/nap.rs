//! Waiting: when a worker has nothing to do it naps, and it wakes NFs that sleep.
//!
//! When an NF is woken is decided in [`mvmp_wire::wake`], where loom checks that no wake-up is lost.
//! The worker's own sleep is the same handshake the other way round: sleeping words, fence, a last look.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use mvmp_wire::wake::{Patience, Turn};
use rustix::event::epoll;
use rustix::time::Timespec;

use super::{Worker, lane_at, wake};

/// Idle turns before the first nap: traffic that comes in bursts finds the worker awake.
const IDLE_TURNS: u32 = 256;
/// The first nap; each further one is twice as long, up to the configured `idle_nap`.
const FIRST_NAP_NS: u64 = 10_000;
/// A nap while everything that can happen ends it: a command, or an NF that returns something.
const QUIET_NAP_NS: u64 = 100_000_000;
/// Where naps may last a millisecond anyway (no NIC whose queue could run over), they are four
/// times as long after a thousand of them in a row: its timer is what an idle worker costs.
const LONG_NAP_FROM_NS: u64 = 1_000_000;
const LONG_NAP_AFTER: u32 = 1000;
/// An NF that sleeps is woken when its first packet has waited so long.
const WAKE_AFTER_NS: u64 = 50_000;

pub struct Nap {
    epoll: Option<OwnedFd>,
    idle_turns: u32,
    next_ns: u64,
    in_a_row: u32,
    most_ns: u64,
    sleeps: u32,
    patience: Patience,
    /// Reused by sweeps, so that they allocate only while it grows.
    pub scratch: Vec<u32>,
}

impl Nap {
    pub fn new(doorbell: &OwnedFd, most: Duration, tsc_hz: u64) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).ok();
        let wake_after = WAKE_AFTER_NS * (tsc_hz / 1_000_000) / 1000;
        let nap = Self {
            epoll,
            idle_turns: 0,
            next_ns: FIRST_NAP_NS,
            in_a_row: 0,
            most_ns: (most.as_nanos() as u64).max(FIRST_NAP_NS),
            sleeps: 0,
            patience: Patience {
                most: wake_after,
                half_full: wake_after / 5,
            },
            scratch: Vec::new(),
        };
        nap.watch(doorbell);
        nap
    }

    /// Something that ends a nap.
    pub fn watch(&self, fd: &OwnedFd) {
        if let Some(epoll) = &self.epoll {
            let data = epoll::EventData::new_u64(std::os::fd::AsRawFd::as_raw_fd(fd) as u64);
            if let Err(error) = epoll::add(epoll, fd, data, epoll::EventFlags::IN) {
                tracing::warn!(%error, "a wake-up pipe cannot be watched; naps still end by time");
            }
        }
    }

    pub fn forget(&self, fd: &OwnedFd) {
        if let Some(epoll) = &self.epoll {
            // An fd that was never watched is forgotten already.
            let _ = epoll::delete(epoll, fd);
        }
    }

    #[inline(always)]
    pub fn busy(&mut self) {
        self.idle_turns = 0;
        self.next_ns = FIRST_NAP_NS;
        self.in_a_row = 0;
    }

    #[inline(always)]
    pub fn is_due(&mut self) -> bool {
        self.idle_turns += 1;
        if self.idle_turns < IDLE_TURNS {
            std::hint::spin_loop();
        }
        self.idle_turns >= IDLE_TURNS
    }

    /// `quiet`: nothing has to be looked after meanwhile.
    fn wait(&mut self, quiet: bool) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let nanos = match self.next_ns {
            most if quiet && most >= self.most_ns => QUIET_NAP_NS,
            most if self.in_a_row > LONG_NAP_AFTER && self.most_ns >= LONG_NAP_FROM_NS => 4 * most,
            next => next,
        };
        let nap = Timespec {
            tv_sec: 0,
            tv_nsec: nanos.min(999_999_999) as _,
        };
        self.next_ns = (self.next_ns * 2).min(self.most_ns);
        let Some(epoll) = &self.epoll else {
            return std::thread::sleep(Duration::from_nanos(self.next_ns));
        };
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; 16];
        let woken = epoll::wait(epoll, &mut events, Some(&nap)).unwrap_or(0);
        let mut drained = [0; 64];
        for event in &events[..woken] {
            let fd = event.data.u64() as i32;
            #[allow(unsafe_code)]
            // SAFETY: the fd was watched by its owner, who forgets it before closing it.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
            // A writer that is gone leaves the pipe readable for ever: do not let it keep us awake.
            if rustix::io::read(fd.as_fd(), &mut drained).is_ok_and(|bytes| bytes == 0) {
                let _ = epoll::delete(epoll, fd);
            }
        }
    }
}

impl Worker {
    /// Shows NFs what was delivered in this turn, and wakes those that sleep beside packets: half a
    /// ring, packets that wait long, or before our own nap.
    pub(super) fn wake_nfs(&mut self, tsc: u64, idle: bool) {
        if self.to_wake.is_empty() {
            return;
        }
        for &slot in &self.to_wake {
            if let Some(lane) = lane_at(&mut self.lanes, slot) {
                lane.publish();
            }
        }
        let (mut at, mut turn) = (0, Turn::new(tsc, idle));
        let patience = self.nap.patience;
        while let Some(&slot) = self.to_wake.get(at) {
            let keep = lane_at(&mut self.lanes, slot).is_some_and(|lane| {
                let waker = lane.waker;
                if !waker.is_due(&turn, patience, || lane.is_half_full()) {
                    return true;
                }
                let sleeping = lane.up.sleeping(lane.handle);
                if lane.waker.must_wake(&mut turn, sleeping) {
                    wake(lane, &self.parts.counters);
                }
                false
            });
            if keep {
                at += 1;
            } else {
                self.to_wake.swap_remove(at);
            }
        }
    }

    /// Naps, unless something came meanwhile.
    pub(super) fn sleep(&mut self) {
        self.nap.sleeps = self.nap.sleeps.wrapping_add(1).max(1);
        for nf in &self.nfs {
            nf.status
                .worker_sleeping()
                .store(self.nap.sleeps, Ordering::Relaxed);
        }
        // ORDERING: between our sleeping words and our last look at the rings.
        fence(Ordering::SeqCst);
        let quiet = self.nfs.iter_mut().all(|nf| {
            nf.quarantined
                || nf.blocked
                || nf
                    .returns
                    .available(nf.up.return_tail())
                    .is_ok_and(|waiting| waiting == 0)
        });
        if quiet {
            self.parts.counters.naps.add(1);
            let quiet = self.nothing_to_poll();
            self.nap.wait(quiet);
        }
        for nf in &self.nfs {
            nf.status.worker_sleeping().store(0, Ordering::Relaxed);
        }
    }

    /// No port must be polled, nobody waits for room, nothing is on its way.
    fn nothing_to_poll(&self) -> bool {
        let must_poll = |port: &super::port::Port| {
            !port.ended && !port.waits_to_start() || port.has_unwritten()
        };
        !self.ports.iter().any(must_poll)
            && self.to_wake.is_empty()
            && self.sweeps.is_empty()
            && !self.nfs.iter().any(|nf| nf.blocked)
            // Another worker hands over without ringing.
            && self.parts.hand_over.iter().all(Option::is_none)
    }
}
