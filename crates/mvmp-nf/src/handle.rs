//! A handle: one opening of one device, as the NF uses it. Cheap to clone; calls are short.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use mvmp_wire::Op;
use mvmp_wire::message::{FromPlatform, PortFacts, ToPlatform};
use mvmp_wire::packet::Link;
use serde_json::{Value, json};

use crate::burst::{Burst, Which};
use crate::error::NfError;
use crate::opening::Opening;
use crate::rx::{Look, RxSide};
use crate::session::{Answer, locked};
use crate::wait::{self, Wait};
use crate::{Interrupted, transmit};

/// How a device is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Whether to receive; `None`: what the table grants.
    pub rx: Option<bool>,
    /// Whether to send; `None`: what the table grants.
    pub tx: Option<bool>,
    /// A rule that narrows what is received.
    pub rule: Option<String>,
    /// Rx ring slots; `None`: the platform's default.
    pub ring: Option<u32>,
    /// The device itself, as the table of the configuration file, if it is this NF's own.
    pub define: Option<serde_json::Value>,
}

/// One opening of one device. Clones are the same handle.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    device: String,
    options: OpenOptions,
    rx: Mutex<RxSide>,
    opening: RwLock<Arc<Opening>>,
}

impl Handle {
    pub(crate) fn new(device: &str, options: OpenOptions, opening: Arc<Opening>) -> Self {
        let rx = Mutex::new(RxSide::new(opening.clone()));
        Self {
            shared: Arc::new(Shared {
                device: device.into(),
                options,
                rx,
                opening: RwLock::new(opening),
            }),
        }
    }

    pub(crate) fn options(&self) -> &OpenOptions {
        &self.shared.options
    }

    /// Takes a new incarnation after a reconnect.
    pub(crate) fn revive(&self, opening: Arc<Opening>) {
        *self
            .shared
            .rx
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = RxSide::new(opening.clone());
        *self
            .shared
            .opening
            .write()
            .unwrap_or_else(PoisonError::into_inner) = opening;
    }

    pub(crate) fn opening(&self) -> Arc<Opening> {
        self.shared
            .opening
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn rx_side(&self) -> Result<MutexGuard<'_, RxSide>, NfError> {
        match self.shared.rx.try_lock() {
            Ok(side) => Ok(side),
            Err(TryLockError::Poisoned(side)) => Ok(side.into_inner()),
            Err(TryLockError::WouldBlock) => Err(NfError::Busy),
        }
    }

    /// The name of the device.
    pub fn device(&self) -> &str {
        &self.shared.device
    }

    /// Whether two handles are the same one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Receives up to `max` packets into `burst`, whose earlier packets are released. Never blocks.
    ///
    /// # Errors
    /// [`NfError::Busy`], or that the handle is closed, detached, or the platform gone.
    #[inline]
    pub fn rx_burst(&self, max: usize, burst: &mut Burst) -> Result<usize, NfError> {
        self.rx_side()?.take(max, burst)
    }

    /// Waits for packets; `None` for ever.
    ///
    /// # Errors
    /// As [`Self::rx_burst`].
    pub fn wait(
        &self,
        timeout: Option<Duration>,
        interrupted: Interrupted,
    ) -> Result<Wait, NfError> {
        wait::wait(&mut [self.rx_side()?], timeout, interrupted)
    }

    /// Waits until one of several handles of one NF has packets, or all have ended; `None` for ever.
    ///
    /// # Errors
    /// As [`Self::rx_burst`], for any of them.
    pub fn wait_all(
        handles: &[Self],
        timeout: Option<Duration>,
        interrupted: Interrupted,
    ) -> Result<Wait, NfError> {
        let mut sides = handles
            .iter()
            .map(Self::rx_side)
            .collect::<Result<Vec<_>, _>>()?;
        wait::wait(&mut sides, timeout, interrupted)
    }

    /// Moves packets to this handle's device, in order; their shares end. Returns how many there
    /// was room for; the rest stays in the burst and is counted `tx_ring_full` if released.
    ///
    /// `in_port` is the port number to assume as the input, for send policies that ask for it.
    ///
    /// # Errors
    /// That the handle may not send, is closed, detached, the platform gone, or the burst another Nf's.
    #[inline]
    pub fn tx_burst(
        &self,
        burst: &mut Burst,
        which: &Which,
        in_port: Option<u16>,
    ) -> Result<usize, NfError> {
        transmit::put(&self.opening(), burst, which, Op::Forward, in_port, 0)
    }

    /// Sends packets and keeps them: their shares stay with the burst.
    ///
    /// # Errors
    /// As [`Self::tx_burst`].
    pub fn mirror(
        &self,
        burst: &mut Burst,
        which: &Which,
        in_port: Option<u16>,
    ) -> Result<usize, NfError> {
        transmit::put(&self.opening(), burst, which, Op::Mirror, in_port, 0)
    }

    /// As [`Self::tx_burst`], waiting for room; `None` for ever.
    ///
    /// # Errors
    /// As [`Self::tx_burst`], and [`NfError::Interrupted`]: what was taken until then is gone from the burst.
    pub fn tx_burst_within(
        &self,
        burst: &mut Burst,
        which: &Which,
        in_port: Option<u16>,
        timeout: Option<Duration>,
        interrupted: Interrupted,
    ) -> Result<usize, NfError> {
        let opening = self.opening();
        let wanted = burst.count_held(which);
        transmit::until_taken(wanted, timeout, interrupted, |_| {
            transmit::put(&opening, burst, which, Op::Forward, in_port, 0)
        })
    }

    /// As [`Self::mirror`], waiting for room; `None` for ever.
    ///
    /// # Errors
    /// As [`Self::tx_burst_within`].
    pub fn mirror_within(
        &self,
        burst: &mut Burst,
        which: &Which,
        in_port: Option<u16>,
        timeout: Option<Duration>,
        interrupted: Interrupted,
    ) -> Result<usize, NfError> {
        let opening = self.opening();
        let wanted = burst.count_held(which);
        transmit::until_taken(wanted, timeout, interrupted, |taken| {
            transmit::put(&opening, burst, which, Op::Mirror, in_port, taken)
        })
    }

    /// Sends frames that this NF built, which begin with `link`. Returns how many there was room for.
    ///
    /// # Errors
    /// As [`Self::tx_burst`]; [`NfError::Config`] for a frame that can never fit.
    pub fn send(
        &self,
        frames: &[&[u8]],
        in_port: Option<u16>,
        link: Link,
    ) -> Result<usize, NfError> {
        self.send_within(frames, in_port, link, Some(Duration::ZERO), &crate::never)
    }

    /// As [`Self::send`], waiting for room; `None` for ever.
    ///
    /// # Errors
    /// As [`Self::send`], and [`NfError::Interrupted`].
    pub fn send_within(
        &self,
        frames: &[&[u8]],
        in_port: Option<u16>,
        link: Link,
        timeout: Option<Duration>,
        interrupted: Interrupted,
    ) -> Result<usize, NfError> {
        let in_port = match in_port {
            None => u8::MAX,
            Some(port) => u8::try_from(port).map_err(|_| {
                NfError::config("in_port is the number of a port, which is at most 31")
            })?,
        };
        let opening = self.opening();
        transmit::until_taken(frames.len(), timeout, interrupted, |taken| {
            transmit::send(&opening, &frames[taken..], in_port, link)
        })
    }

    /// Nothing more will come and the rings are empty; true as well once it is closed.
    pub fn ended(&self) -> bool {
        if self.closed() {
            return true;
        }
        // Another thread that receives now has not seen the end yet.
        self.rx_side().is_ok_and(|mut side| {
            matches!(
                side.look(),
                Ok(Look::Ended) | Err(NfError::PlatformLost { .. })
            )
        })
    }

    /// Whether calls on it fail: closed, detached, or the platform gone.
    pub fn closed(&self) -> bool {
        self.opening().check().is_err()
    }

    /// Whether it receives, and whether it sends.
    pub fn directions(&self) -> (bool, bool) {
        let opening = self.opening();
        (opening.rx, opening.tx)
    }

    /// The device has no ports.
    pub fn rootless(&self) -> bool {
        self.opening().rootless
    }

    /// The device's ports, as they are now.
    pub fn ports(&self) -> Vec<PortFacts> {
        locked(&self.opening().ports).clone()
    }

    /// Its number, as senders name it in descriptors.
    pub fn number(&self) -> u8 {
        self.opening().number
    }

    /// Its number within the platform.
    pub fn slot(&self) -> u8 {
        self.opening().slot
    }

    /// A descriptor that is readable while packets wait, at the end, on close and on loss
    /// (level-triggered). It belongs to the handle. From the first call on, receiving costs a few
    /// system calls more. A reconnect makes a new one.
    ///
    /// # Errors
    /// [`NfError::Busy`], or what the system said.
    pub fn fileno(&self) -> Result<RawFd, NfError> {
        let mut side = self.rx_side()?;
        let fd = side.opening.epoll()?.as_raw_fd();
        if !side.opening.polled.swap(true, Ordering::AcqRel) {
            // Lost or closed it is readable, and the next call says why.
            let _ = side.settle();
        }
        Ok(fd)
    }

    /// The counters: `platform` as in `mvmp status -o json`, and `nf`, this library's own.
    ///
    /// # Errors
    /// That the handle is closed or the platform gone.
    pub fn stats(&self, interrupted: Interrupted) -> Result<Value, NfError> {
        let opening = self.opening();
        opening.check()?;
        match opening
            .session
            .request(
                &ToPlatform::Stats {
                    handle: opening.number,
                },
                interrupted,
            )?
            .0
        {
            FromPlatform::Stats { stats } => {
                Ok(json!({ "platform": stats, "nf": self.counters() }))
            }
            other => Err(NfError::from_answer(other)),
        }
    }

    /// This library's own counters since the handle was opened.
    pub fn counters(&self) -> Value {
        let opening = self.opening();
        let counters = &opening.counters;
        json!({
            "received": counters.received.load(Ordering::Relaxed),
            "sent": counters.sent.load(Ordering::Relaxed),
            "mirrored": counters.mirrored.load(Ordering::Relaxed),
            "tx_ring_full": counters.tx_ring_full.load(Ordering::Relaxed),
        })
    }

    /// Whether sending waits by default: all sources are lossless captures.
    pub fn lossless(&self) -> bool {
        self.opening().session.lossless
    }

    /// Closes it. What its bursts hold is swept by the platform; packets that are viewed stay
    /// until their last view dies. Waits until what was sent over it has gone on: without loss that may
    /// take as long as the slowest of those who receive it.
    pub fn close(&self) {
        // Never interrupted.
        let _ = self.close_interruptibly(&crate::never);
    }

    /// As [`Self::close`], asking `interrupted` while it waits. It is closed all the same.
    ///
    /// # Errors
    /// [`NfError::Interrupted`].
    pub fn close_interruptibly(&self, interrupted: Interrupted) -> Result<(), NfError> {
        let opening = self.opening();
        match opening.begin_close() {
            Some(answer) => opening.session.await_answer(&answer, None, interrupted),
            None => Ok(()),
        }
    }

    /// The answer that says it is closed, to be waited for.
    pub(crate) fn begin_close(&self) -> Option<Receiver<Answer>> {
        self.opening().begin_close()
    }

    /// Whether [`Self::close`] was called, on it or on the whole NF's behalf.
    pub fn closed_by_nf(&self) -> bool {
        self.opening().is_closed()
    }
}

/// For `epoll` and `poll`: see [`Handle::fileno`].
#[derive(Debug)]
pub(crate) struct Watched(pub(crate) Arc<Opening>);

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // `fileno` has made the epoll before; without it there is nothing to watch but the first waker.
        match self.0.epoll() {
            Ok(fd) => fd.as_fd(),
            Err(_) => self.0.session.socket().as_fd(),
        }
    }
}
