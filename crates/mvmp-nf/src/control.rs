//! Talking to the platform: the hello, and the thread that keeps the connection.
//!
//! The thread gives a sign of life each second, hands answers to whoever asked, and heeds what
//! the platform says unasked. It ends with the connection.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mvmp_wire::channel::{self, ChannelError};
use mvmp_wire::memory::Access;
use mvmp_wire::message::{FromPlatform, ToPlatform, WorkerGeometry};
use mvmp_wire::packet::TunnelPorts;
use mvmp_wire::region::{STATUS_BYTES, StatusRegion, UpRegion};
use mvmp_wire::{Mapping, PROTOCOL_VERSION};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::Interrupted;
use crate::born::Born;
use crate::error::NfError;
use crate::returns::WorkerLink;
use crate::session::{Answer, Session, TICK, Welcomed, locked, map};

const ALIVE: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(20);

/// Connects, trying again for as long as `wait` says.
pub(crate) fn connect(
    path: &Path,
    wait: Duration,
    interrupted: Interrupted,
) -> Result<OwnedFd, NfError> {
    // A time beyond all clocks is for ever.
    let deadline = Instant::now().checked_add(wait);
    loop {
        match attempt(path) {
            Ok(socket) => return Ok(socket),
            Err(error)
                if !matches!(error, Errno::NOENT | Errno::CONNREFUSED)
                    || deadline.is_some_and(|deadline| Instant::now() >= deadline) =>
            {
                return Err(NfError::Connect(unreachable_platform(path, error)));
            }
            Err(_) if interrupted() => return Err(NfError::Interrupted),
            Err(_) => std::thread::sleep(RETRY),
        }
    }
}

fn attempt(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn unreachable_platform(path: &Path, error: Errno) -> String {
    let advice = match error {
        Errno::NOENT => {
            "there is no such socket: is the platform running (`mvmp up FILE`), and is its folder mounted here?"
        }
        Errno::CONNREFUSED => {
            "nobody listens there: the platform has ended; start it again with `mvmp up FILE`"
        }
        Errno::ACCESS => {
            "this user may not use that socket; ask the operator for the role's own folder, nf/ROLE/"
        }
        Errno::NAMETOOLONG => "a socket's path has at most 107 bytes; choose a shorter one",
        _ => "that is no platform's socket",
    };
    format!(
        "cannot reach the platform at {}: {error}\n  {advice}",
        path.display()
    )
}

/// Says hello and maps what the welcome brings.
pub(crate) fn hello(
    socket: OwnedFd,
    role: &str,
    interrupted: Interrupted,
) -> Result<Session, NfError> {
    let library = concat!("mvmp-nf ", env!("CARGO_PKG_VERSION")).to_owned();
    channel::send(
        &socket,
        &ToPlatform::Hello {
            protocol: PROTOCOL_VERSION,
            role: role.into(),
            library,
        },
        &[],
    )?;
    let (answer, fds) = await_message(&socket, interrupted)?;
    let FromPlatform::Welcome {
        protocol,
        platform,
        instance,
        workers,
        private_bytes,
        lossless,
        tunnel_ports,
    } = answer
    else {
        return Err(NfError::from_answer(answer));
    };
    if protocol != PROTOCOL_VERSION {
        return Err(NfError::Connect(format!(
            "the platform ({platform}) speaks protocol {protocol}, this library {PROTOCOL_VERSION}: use the same version of mvmp on both sides"
        )));
    }
    let (links, private) = map_welcome(&workers, private_bytes, fds)?;
    channel::send(&socket, &ToPlatform::Mapped { handle: None }, &[])?;
    match await_message(&socket, interrupted)?.0 {
        FromPlatform::Ready { .. } => {}
        other => return Err(NfError::from_answer(other)),
    }
    let born =
        Born::here().map_err(|error| NfError::Connect(format!("MADV_WIPEONFORK: {error}")))?;
    Ok(Session::new(
        socket,
        born,
        Welcomed {
            instance,
            lossless,
            tunnel_ports: TunnelPorts::from(&tunnel_ports),
            links,
            private,
            private_bytes,
        },
    ))
}

fn await_message(socket: &OwnedFd, interrupted: Interrupted) -> Result<Answer, NfError> {
    loop {
        if readable(socket, TICK) {
            match channel::receive::<FromPlatform>(socket) {
                Ok((FromPlatform::Unknown, _)) | Err(ChannelError::WouldBlock) => {}
                Ok(answer) => return Ok(answer),
                Err(ChannelError::Closed) => {
                    return Err(NfError::Connect(
                        "the platform has hung up on the hello; its log says why".into(),
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
        if interrupted() {
            return Err(NfError::Interrupted);
        }
    }
}

fn map_welcome(
    workers: &[WorkerGeometry],
    private_bytes: u64,
    fds: Vec<OwnedFd>,
) -> Result<(Vec<WorkerLink>, Mapping), NfError> {
    let sound = |worker: &WorkerGeometry| {
        worker.return_slots.is_power_of_two() && worker.return_slots <= 1 << 24
    };
    if fds.len() != workers.len() * 3 + 1 || workers.is_empty() || !workers.iter().all(sound) {
        return Err(NfError::Connect(
            "the platform's welcome is incomplete".into(),
        ));
    }
    let mut fds = fds.into_iter();
    let mut next = || {
        fds.next()
            .ok_or_else(|| NfError::Connect("the platform's welcome is incomplete".into()))
    };
    let mut links = Vec::with_capacity(workers.len());
    for worker in workers {
        let slots = worker.return_slots;
        links.push(WorkerLink {
            up: UpRegion::new(
                Arc::new(map(next()?, UpRegion::bytes(slots), Access::ReadWrite)?),
                slots,
            ),
            status: StatusRegion::new(Arc::new(map(next()?, STATUS_BYTES, Access::ReadOnly)?)),
            wake: next()?,
        });
    }
    let bytes = usize::try_from(private_bytes)
        .map_err(|_| NfError::Connect("the private region is too large to map".into()))?;
    Ok((links, map(next()?, bytes, Access::ReadWrite)?))
}

fn readable(socket: impl AsFd, timeout: Duration) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: timeout.subsec_nanos() as _,
    };
    matches!(poll(&mut fds, Some(&timeout)), Ok(1..))
}

/// Starts the thread that keeps the connection.
pub(crate) fn keep(session: Arc<Session>) -> Result<(), NfError> {
    let thread = std::thread::Builder::new().name("mvmp-nf".into());
    let started = thread.spawn(move || run(&session));
    started
        .map(drop)
        .map_err(|error| NfError::Connect(format!("cannot start the control thread: {error}")))
}

fn run(session: &Session) {
    let mut next = Instant::now() + ALIVE;
    loop {
        if readable(
            session.socket(),
            next.saturating_duration_since(Instant::now()),
        ) {
            match channel::receive::<FromPlatform>(session.socket()) {
                Ok((message, fds)) => heed(session, message, fds),
                Err(ChannelError::WouldBlock | ChannelError::Malformed(_)) => {}
                Err(ChannelError::Closed | ChannelError::System(_)) => break,
            }
        }
        if Instant::now() >= next {
            next = Instant::now() + ALIVE;
            session.flush();
            if session.send(&ToPlatform::Alive).is_err() {
                break;
            }
        }
    }
    session.lose();
}

fn heed(session: &Session, message: FromPlatform, fds: Vec<OwnedFd>) {
    match message {
        FromPlatform::Pools { pools } => {
            // Unmapped, their packets are the platform's named drop `not_mapped`.
            if session.add_pools(&pools, &mut fds.into_iter()).is_ok() {
                let _ = session.send(&ToPlatform::Mapped { handle: None });
            }
        }
        FromPlatform::Ports { handle, ports } => session.each_opening(|opening| {
            if opening.number == handle {
                locked(&opening.ports).clone_from(&ports);
            }
        }),
        FromPlatform::Detached { handle, reason } => {
            if handle.is_none() {
                session.note_detached(&reason);
            }
            session.each_opening(|opening| {
                if handle.is_none_or(|number| number == opening.number) {
                    opening.detach(&reason);
                }
            });
        }
        FromPlatform::Bye => session.note_bye(),
        FromPlatform::Ready { handle: None }
        | FromPlatform::Welcome { .. }
        | FromPlatform::Unknown => {}
        answer => session.answer((answer, fds)),
    }
}
