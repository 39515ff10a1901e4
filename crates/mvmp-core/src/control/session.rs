//! One NF instance: what control knows of it. Its life is in `handshake` and `handles`.
//!
//! ```text
//! New ──hello──▶ (Waiting for an instance) ──▶ Mapping ──mapped──▶ Ready ──EOF, death, close──▶ Leaving ──swept──▶ gone
//! ```
//!
//! A handle goes Mapping → Attaching → Open → Closing → gone. Nothing that an NF maps is used
//! before it is sealed, and nothing is ever used by a second incarnation.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use mvmp_wire::channel;
use mvmp_wire::memory::Mapping;
use mvmp_wire::message::{FromPlatform, PortFacts};
use mvmp_wire::region::{DownRegion, StatusRegion, UpRegion};

use super::authorize::Refusal;
use super::sockets::Door;
use crate::counters::{HandleCounters, NfCounters};
use crate::worker::lane::Lane;

/// What an NF shares with one worker.
pub struct Share {
    pub up: UpRegion,
    pub status: StatusRegion,
    pub counters: Arc<NfCounters>,
}

/// Regions that wait for the NF's acknowledgement.
pub struct Unsealed {
    pub(super) fds: Vec<(OwnedFd, Arc<Mapping>)>,
    pub(super) wakes: Vec<OwnedFd>,
    pub(super) private: Arc<Mapping>,
}

/// Where a session stands.
pub enum Phase {
    /// Connected, silent.
    New,
    /// Its role is full; a holder is being reclaimed, or may be dying.
    Waiting { role: String, since: Instant },
    /// Regions are sent.
    Mapping(Box<Unsealed>),
    /// In service.
    Ready,
    /// Handles are being swept; `forgotten` workers have let it go.
    Leaving { forgotten: usize },
}

/// Where a handle stands.
pub enum HandlePhase {
    /// Regions are sent.
    Mapping(Vec<(usize, Box<Lane>)>),
    /// So many workers have yet to attach.
    Attaching { left: usize, failed: Option<String> },
    /// In service.
    Open,
    /// So many workers have yet to sweep; whether its NF asked for it.
    Closing {
        left: usize,
        swept: u64,
        nanos: u64,
        asked: bool,
    },
}

/// One handle.
pub struct Handle {
    pub slot: u8,
    pub device: usize,
    pub rx: bool,
    pub tx: bool,
    pub phase: HandlePhase,
    pub lanes: Vec<LaneEntry>,
    pub ended: bool,
    pub died: bool,
    pub stuck: bool,
    /// Pools that are announced with it, a bit for each.
    pub pools: u64,
    /// What its NF knows of its device's ports.
    pub ports: Vec<PortFacts>,
}

/// A lane, seen from control.
pub struct LaneEntry {
    pub worker: usize,
    pub down: DownRegion,
    pub counters: Arc<HandleCounters>,
    /// Its head at the last look, and since when it stands there beside packets.
    pub last_head: u32,
    pub still_since: Option<Instant>,
}

/// One NF instance.
pub struct Session {
    pub nf: u32,
    pub socket: OwnedFd,
    pub pidfd: Option<OwnedFd>,
    pub pid: u32,
    pub uid: u32,
    pub door: Door,
    pub role: String,
    pub instance: u32,
    pub phase: Phase,
    pub last_alive: Instant,
    pub handles: BTreeMap<u8, Handle>,
    /// Pools that it was handed, a bit for each.
    pub known_pools: u64,
    /// Pools that it has acknowledged, a bit for each.
    pub mapped_pools: u64,
    pub shares: Vec<Share>,
    pub quarantined: Option<String>,
}

impl Session {
    pub fn new(nf: u32, socket: OwnedFd, door: Door) -> Self {
        let (pid, uid, pidfd) = peer(&socket);
        Self {
            nf,
            socket,
            pidfd,
            pid,
            uid,
            door,
            role: String::new(),
            instance: 0,
            phase: Phase::New,
            last_alive: Instant::now(),
            handles: BTreeMap::new(),
            known_pools: 0,
            mapped_pools: 0,
            shares: Vec::new(),
            quarantined: None,
        }
    }

    /// `role/0`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.role, self.instance)
    }

    /// It has a role: connected for real.
    pub fn is_named(&self) -> bool {
        !self.role.is_empty()
    }

    pub fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving { .. })
    }

    /// Sends; a peer that does not read its socket loses what it is told, and only that.
    pub fn say(&self, message: &FromPlatform, fds: &[BorrowedFd<'_>]) {
        if let Err(error) = channel::send(&self.socket, message, fds) {
            tracing::debug!(nf = self.name(), %error, "a control message was not taken");
        }
    }

    pub fn refuse(&self, refusal: Refusal) {
        let Refusal {
            code,
            message,
            hint,
            line,
            column,
        } = refusal;
        self.say(
            &FromPlatform::Error {
                code,
                message,
                hint,
                line,
                column,
            },
            &[],
        );
    }
}

/// Who is at the other end: pid, uid, and a pidfd where the kernel gives one.
fn peer(socket: &OwnedFd) -> (u32, u32, Option<OwnedFd>) {
    let Ok(credentials) = rustix::net::sockopt::socket_peercred(socket) else {
        return (0, u32::MAX, None);
    };
    let pid = credentials.pid;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok();
    (
        pid.as_raw_nonzero().get() as u32,
        credentials.uid.as_raw(),
        pidfd,
    )
}
