//! One incarnation of a handle: what `open` brought. A reconnect makes a new one for the same handle.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, OnceLock};

use mvmp_wire::MAX_HANDLES;
use mvmp_wire::memory::Access;
use mvmp_wire::message::{FromPlatform, LaneGeometry, PortFacts, ToPlatform};
use mvmp_wire::region::DownRegion;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;

use crate::error::NfError;
use crate::session::{Answer, Session, locked, map};

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const DETACHED: u8 = 2;

/// One worker's deliveries to this handle.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) worker: u8,
    pub(crate) down: DownRegion,
    pub(crate) pipe: OwnedFd,
}

/// What happened on a handle, for its NF's own books.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) mirrored: AtomicU64,
    pub(crate) tx_ring_full: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) session: Arc<Session>,
    pub(crate) device: String,
    pub(crate) number: u8,
    pub(crate) slot: u8,
    pub(crate) rx: bool,
    pub(crate) tx: bool,
    pub(crate) rootless: bool,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) ports: Mutex<Vec<PortFacts>>,
    pub(crate) counters: Counters,
    /// Someone waits on `fileno()`: every receive must leave it telling the truth.
    pub(crate) polled: AtomicBool,
    epoll: OnceLock<OwnedFd>,
    event: OwnedFd,
    raised: AtomicBool,
    state: AtomicU8,
    reason: Mutex<String>,
    views: AtomicUsize,
    /// Closed while packets were viewed: the platform is told when the last view dies.
    owed: AtomicBool,
}

fn failed(step: &'static str) -> impl Fn(rustix::io::Errno) -> NfError {
    move |error| NfError::Connect(format!("{step}: {error}"))
}

impl Opening {
    /// The worker that frames of our own go to: the one that serves the ports, and without ports one
    /// that has a pool which we can read, so that others who can may have them.
    pub(crate) fn builds_at(&self) -> u8 {
        let first = self.lanes.first().map_or(0, |lane| lane.worker);
        if !self.rootless {
            return first;
        }
        let mut known = self.session.pools().map(|pool| pool.worker);
        known
            .find(|worker| self.lanes.iter().any(|lane| lane.worker == *worker))
            .unwrap_or(first)
    }

    /// Maps what an `opened` brings. The caller then says `mapped`.
    pub(crate) fn of(
        session: &Arc<Session>,
        device: &str,
        (answer, fds): Answer,
    ) -> Result<Arc<Self>, NfError> {
        let FromPlatform::Opened {
            handle,
            slot,
            rx,
            tx,
            rootless,
            lanes,
            pools,
            ports,
        } = answer
        else {
            return Err(NfError::from_answer(answer));
        };
        if usize::from(handle) >= MAX_HANDLES {
            return Err(NfError::Connect(format!(
                "the platform numbers a handle {handle}"
            )));
        }
        let mut fds = fds.into_iter();
        session.add_pools(&pools, &mut fds)?;
        let lanes = lanes
            .iter()
            .map(|geometry| lane(session, handle, geometry, &mut fds))
            .collect::<Result<_, _>>()?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(failed("eventfd"))?;
        let opening = Arc::new(Self {
            session: session.clone(),
            device: device.into(),
            number: handle,
            slot,
            rx,
            tx,
            rootless,
            lanes,
            ports: Mutex::new(ports),
            counters: Counters::default(),
            polled: AtomicBool::new(false),
            epoll: OnceLock::new(),
            event,
            raised: AtomicBool::new(false),
            state: AtomicU8::new(OPEN),
            reason: Mutex::new(String::new()),
            views: AtomicUsize::new(0),
            owed: AtomicBool::new(false),
        });
        let mut openings = locked(&session.openings);
        openings.retain(|other| other.strong_count() > 0);
        openings.push(Arc::downgrade(&opening));
        Ok(opening)
    }

    /// Whether calls on this handle may go on.
    #[inline(always)]
    pub(crate) fn check(&self) -> Result<(), NfError> {
        self.session.check().map_err(|error| self.why_gone(error))?;
        if self.state.load(Ordering::Acquire) == OPEN {
            Ok(())
        } else {
            Err(self.why_closed())
        }
    }

    /// A handle that was taken away before its connection ended says why it was.
    #[cold]
    fn why_gone(&self, error: NfError) -> NfError {
        match error {
            NfError::PlatformLost { .. } if self.state.load(Ordering::Acquire) == DETACHED => {
                self.why_closed()
            }
            other => other,
        }
    }

    #[cold]
    pub(crate) fn why_closed(&self) -> NfError {
        match self.state.load(Ordering::Acquire) {
            DETACHED => NfError::Detached(locked(&self.reason).clone()),
            _ => NfError::Closed(format!("this handle on {} is closed", self.device)),
        }
    }

    /// Whether the shares that bursts of this handle hold are still theirs.
    #[inline(always)]
    pub(crate) fn lends(&self) -> bool {
        self.session.is_connected() && self.state.load(Ordering::Acquire) == OPEN
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }

    pub(crate) fn detach(&self, reason: &str) {
        reason.clone_into(&mut locked(&self.reason));
        let _ = self
            .state
            .compare_exchange(OPEN, DETACHED, Ordering::AcqRel, Ordering::Acquire);
        self.raise();
    }

    /// Marks it closed; true for the call that did it.
    pub(crate) fn mark_closed(&self) -> bool {
        let first = self
            .state
            .compare_exchange(OPEN, CLOSED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        self.raise();
        first
    }

    /// Asks the platform to close it, now or when the last view dies; the answer comes when all that it
    /// was given back is where it was to go.
    pub(crate) fn begin_close(&self) -> Option<Receiver<Answer>> {
        if !self.mark_closed() || !self.session.is_here() {
            return None;
        }
        self.owed.store(true, Ordering::SeqCst);
        if self.views.load(Ordering::SeqCst) != 0 || !self.owed.swap(false, Ordering::SeqCst) {
            return None;
        }
        self.session.flush();
        // A platform that is gone has closed it already.
        let handle = self.number;
        self.session.ask(&ToPlatform::Close { handle }).ok()
    }

    /// A packet's bytes are being looked at from outside of the library.
    pub(crate) fn pin(&self) {
        self.views.fetch_add(1, Ordering::SeqCst);
        self.session.views.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn unpin(&self) {
        if self.views.fetch_sub(1, Ordering::SeqCst) == 1 && self.owed.swap(false, Ordering::SeqCst)
        {
            let _ = self.session.tell(&ToPlatform::Close {
                handle: self.number,
            });
        }
        if self.session.views.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.session.view_gone();
        }
    }

    /// Makes `fileno()` readable.
    pub(crate) fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    pub(crate) fn lower(&self) {
        if self.raised.swap(false, Ordering::AcqRel) {
            let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
        }
    }

    /// Takes the bytes out of the wake pipes.
    pub(crate) fn drain_pipes(&self) {
        for lane in &self.lanes {
            while matches!(rustix::io::read(&lane.pipe, &mut [0_u8; 256]), Ok(256)) {}
        }
    }

    /// All that a wait must watch.
    pub(crate) fn wakers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.lanes
            .iter()
            .map(|lane| lane.pipe.as_fd())
            .chain([self.event.as_fd()])
    }

    /// The epoll over them, made when first asked for.
    pub(crate) fn epoll(&self) -> Result<&OwnedFd, NfError> {
        if self.epoll.get().is_none() {
            let fd = epoll::create(CreateFlags::CLOEXEC).map_err(failed("epoll_create"))?;
            for waker in self.wakers() {
                epoll::add(&fd, waker, EventData::new_u64(0), EventFlags::IN)
                    .map_err(failed("epoll_ctl"))?;
            }
            let _ = self.epoll.set(fd);
        }
        self.epoll.get().ok_or(NfError::Busy)
    }
}

fn lane(
    session: &Session,
    handle: u8,
    geometry: &LaneGeometry,
    fds: &mut impl Iterator<Item = OwnedFd>,
) -> Result<Lane, NfError> {
    let slots = geometry.ring_slots;
    let link = session.links.get(geometry.worker as usize);
    let (Some(link), Some(down), Some(pipe)) = (link, fds.next(), fds.next()) else {
        return Err(NfError::Connect(
            "the platform's answer to open is incomplete".into(),
        ));
    };
    if !slots.is_power_of_two() || slots > 1 << 24 {
        return Err(NfError::Connect(format!(
            "the platform announced an rx ring of {slots} slots"
        )));
    }
    let flags = rustix::fs::fcntl_getfl(&pipe).map_err(failed("F_GETFL"))?;
    rustix::fs::fcntl_setfl(&pipe, flags | OFlags::NONBLOCK).map_err(failed("F_SETFL"))?;
    let down = DownRegion::new(
        Arc::new(map(down, DownRegion::bytes(slots), Access::ReadOnly)?),
        slots,
    );
    // A handle number may have been in use before: its words begin anew with its ring.
    link.up.rx_head(handle).store(0, Ordering::Release);
    link.up.sleeping(handle).store(0, Ordering::Release);
    Ok(Lane {
        worker: geometry.worker,
        down,
        pipe,
    })
}
