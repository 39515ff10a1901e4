//! An NF: the connection, its handles, and what concerns all of them.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mvmp_wire::message::ToPlatform;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::error::NfError;
use crate::handle::{Handle, OpenOptions, Watched};
use crate::opening::Opening;
use crate::session::{Session, locked};
use crate::wait::Wait;
use crate::{Interrupted, control, path, transmit};

/// How long an orderly end waits for room for the last releases.
/// How long an NF that is dropped, not closed, waits for what it has sent to go on.
const LAST_SENDS: Duration = Duration::from_secs(30);
const LAST_RELEASES: Duration = Duration::from_secs(1);

/// How to reach the platform.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// The socket, or the folder that holds `mvmp.sock`. `None`: `$MVMP_SOCKET`, else the role's
    /// own in the runtime folder, else the shared one there.
    pub socket: Option<PathBuf>,
    /// How long to wait for the platform to come up.
    pub wait: Duration,
}

/// An NF instance. Dropped, it closes its handles and its connection in order.
#[derive(Debug)]
pub struct Nf {
    role: String,
    options: ConnectOptions,
    session: RwLock<Arc<Session>>,
    handles: Mutex<Vec<Handle>>,
    epoll: OnceLock<OwnedFd>,
}

impl Nf {
    /// Connects under a role.
    ///
    /// # Errors
    /// [`NfError::Connect`], [`NfError::NotAuthorized`], [`NfError::NameInUse`].
    pub fn connect(role: &str, options: ConnectOptions) -> Result<Self, NfError> {
        Self::connect_interruptibly(role, options, &crate::never)
    }

    /// As [`Self::connect`], asking `interrupted` while it waits.
    ///
    /// # Errors
    /// As [`Self::connect`], and [`NfError::Interrupted`].
    pub fn connect_interruptibly(
        role: &str,
        options: ConnectOptions,
        interrupted: Interrupted,
    ) -> Result<Self, NfError> {
        let session = establish(role, &options, interrupted)?;
        Ok(Self {
            role: role.into(),
            options,
            session: RwLock::new(session),
            handles: Mutex::new(Vec::new()),
            epoll: OnceLock::new(),
        })
    }

    fn session(&self) -> Arc<Session> {
        self.session
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The name that the platform gave this instance: `role/0`.
    pub fn instance(&self) -> String {
        self.session().instance.clone()
    }

    /// All sources are lossless captures: sending had better wait than drop.
    pub fn lossless(&self) -> bool {
        self.session().lossless
    }

    /// Opens a device.
    ///
    /// # Errors
    /// [`NfError::NotAuthorized`], [`NfError::Config`], [`NfError::Policy`], [`NfError::Refused`].
    pub fn open(&self, device: &str, options: OpenOptions) -> Result<Handle, NfError> {
        self.open_interruptibly(device, options, &crate::never)
    }

    /// As [`Self::open`], asking `interrupted` while it waits.
    ///
    /// # Errors
    /// As [`Self::open`]; after [`NfError::Interrupted`] the connection is given up.
    pub fn open_interruptibly(
        &self,
        device: &str,
        options: OpenOptions,
        interrupted: Interrupted,
    ) -> Result<Handle, NfError> {
        let opening = open(&self.session(), device, &options, interrupted)?;
        let handle = Handle::new(device, options, opening);
        let mut handles = locked(&self.handles);
        handles.retain(|handle| !handle.closed_by_nf());
        handles.push(handle.clone());
        drop(handles);
        self.watch(&handle)?;
        Ok(handle)
    }

    /// The handles that are open, in the order of opening.
    pub fn handles(&self) -> Vec<Handle> {
        let mut handles = locked(&self.handles);
        handles.retain(|handle| !handle.closed_by_nf());
        handles.clone()
    }

    /// Waits until one of the handles has packets, or all have ended; `None` for ever.
    ///
    /// # Errors
    /// [`NfError::Busy`], or that one of them is detached or the platform gone.
    pub fn wait(
        &self,
        handles: &[Handle],
        timeout: Option<Duration>,
        interrupted: Interrupted,
    ) -> Result<Wait, NfError> {
        self.session().check()?;
        Handle::wait_all(handles, timeout, interrupted)
    }

    /// Readable while any of its handles is; see [`Handle::fileno`].
    ///
    /// # Errors
    /// [`NfError::Busy`], or what the system said.
    pub fn fileno(&self) -> Result<RawFd, NfError> {
        if self.epoll.get().is_none() {
            let fd = epoll::create(CreateFlags::CLOEXEC)
                .map_err(|error| NfError::Connect(format!("epoll_create: {error}")))?;
            if self.epoll.set(fd).is_ok() {
                for handle in self.handles() {
                    self.watch(&handle)?;
                }
            }
        }
        self.epoll
            .get()
            .map(AsRawFd::as_raw_fd)
            .ok_or(NfError::Busy)
    }

    fn watch(&self, handle: &Handle) -> Result<(), NfError> {
        let Some(fd) = self.epoll.get() else {
            return Ok(());
        };
        handle.fileno()?;
        epoll::add(
            fd,
            Watched(handle.opening()),
            EventData::new_u64(0),
            EventFlags::IN,
        )
        .map_err(|error| NfError::Connect(format!("epoll_ctl: {error}")))
    }

    /// Connects again after [`NfError::PlatformLost`] and opens the same handles again; earlier
    /// bursts stay closed. Handles that cannot be opened again stay lost.
    ///
    /// # Errors
    /// As [`Self::connect`] and [`Self::open`].
    pub fn reconnect(
        &self,
        wait: Option<Duration>,
        interrupted: Interrupted,
    ) -> Result<(), NfError> {
        let handles = self.handles();
        self.session().shut();
        let options = ConnectOptions {
            wait: wait.unwrap_or(self.options.wait),
            ..self.options.clone()
        };
        let session = establish(&self.role, &options, interrupted)?;
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = session.clone();
        for handle in handles {
            handle.revive(open(
                &session,
                handle.device(),
                handle.options(),
                interrupted,
            )?);
            self.watch(&handle)?;
        }
        Ok(())
    }

    /// Closes all handles and the connection, in order. What its bursts hold goes back to the
    /// platform; packets that are viewed stay until their last view dies. Waits as [`Handle::close`] does.
    pub fn close(&self) {
        // Never interrupted.
        let _ = self.close_within(None, &crate::never);
    }

    /// As [`Self::close`], asking `interrupted` while it waits. Interrupted, the connection is given up, and
    /// what was not sent yet is lost.
    ///
    /// # Errors
    /// [`NfError::Interrupted`].
    pub fn close_interruptibly(&self, interrupted: Interrupted) -> Result<(), NfError> {
        self.close_within(None, interrupted)
    }

    fn close_within(
        &self,
        longest: Option<Duration>,
        interrupted: Interrupted,
    ) -> Result<(), NfError> {
        let session = self.session();
        let mut outcome = Ok(());
        if session.check().is_ok() {
            transmit::settle(&session, Instant::now() + LAST_RELEASES);
            // All are asked before any is waited for: what one has left to be sent may wait for another.
            let answers: Vec<_> = self
                .handles()
                .iter()
                .filter_map(Handle::begin_close)
                .collect();
            for answer in answers {
                outcome =
                    outcome.and_then(|()| session.await_answer(&answer, longest, interrupted));
            }
        }
        session.shut();
        outcome
    }
}

impl Drop for Nf {
    fn drop(&mut self) {
        let _ = self.close_within(Some(LAST_SENDS), &crate::never);
    }
}

fn establish(
    role: &str,
    options: &ConnectOptions,
    interrupted: Interrupted,
) -> Result<Arc<Session>, NfError> {
    let path = path::socket_for(role, options.socket.as_deref());
    let socket = control::connect(&path, options.wait, interrupted)?;
    let session = Arc::new(control::hello(socket, role, interrupted)?);
    control::keep(session.clone())?;
    Ok(session)
}

fn open(
    session: &Arc<Session>,
    device: &str,
    options: &OpenOptions,
    interrupted: Interrupted,
) -> Result<Arc<Opening>, NfError> {
    session.check()?;
    let OpenOptions {
        rx,
        tx,
        rule,
        ring,
        define,
    } = options.clone();
    let answer = session.request(
        &ToPlatform::Open {
            device: device.into(),
            rx,
            tx,
            rule,
            ring,
            define,
        },
        interrupted,
    )?;
    let opening = Opening::of(session, device, answer)?;
    session.request(
        &ToPlatform::Mapped {
            handle: Some(opening.number),
        },
        interrupted,
    )?;
    Ok(opening)
}
