//! From hello to ready: role, instance, regions, seals; and the end, when every worker has let go.
//!
//! Called by `serve` with what NFs say and workers report. Invariant: no region is used before it
//! is sealed, and none is ever used by a second incarnation.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mvmp_wire::memory::{self, Access, Mapping, MemoryError, Sealed};
use mvmp_wire::message::{ErrorCode, FromPlatform, TunnelPortLists, WorkerGeometry};
use mvmp_wire::region::{STATUS_BYTES, StatusRegion, UpRegion};
use mvmp_wire::ring::Consumer;
use mvmp_wire::{MAX_HANDLES, PROTOCOL_VERSION};
use rustix::pipe::{PipeFlags, pipe_with};

use super::authorize::{self, Refusal};
use super::session::{Phase, Session, Share, Unsealed};
use super::state::Control;
use crate::worker::Command;
use crate::worker::lane::{NO_SLOT, NfLane};

/// So long a hello for a full role waits for a holder that may be dying: longer than a process takes
/// from SIGKILL to its pidfd's word, even where CPUs are short.
const DYING_MAX: Duration = Duration::from_secs(1);
/// So long it waits for a reclaim in progress.
const RECLAIM_MAX: Duration = Duration::from_secs(5);

/// A region that only the platform writes: sealed before anyone gets it.
pub(super) fn sealed_region(
    name: &str,
    bytes: usize,
) -> Result<(OwnedFd, Arc<Mapping>), MemoryError> {
    let fd = memory::create(name, bytes)?;
    let mapping = Mapping::of(&fd, bytes, Access::ReadWrite)?;
    mapping.populate()?;
    memory::seal(&fd, Sealed::ForGood)?;
    Ok((fd, Arc::new(mapping)))
}

/// A region that an NF will write: sealed for good once it has mapped it.
fn owned_region(name: &str, bytes: usize) -> Result<(OwnedFd, Arc<Mapping>), MemoryError> {
    let fd = memory::create(name, bytes)?;
    memory::seal(&fd, Sealed::Size)?;
    let mapping = Mapping::of(&fd, bytes, Access::ReadWrite)?;
    mapping.populate()?;
    Ok((fd, Arc::new(mapping)))
}

pub(super) fn trouble(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        ErrorCode::Other,
        format!("the platform could not make the shared memory: {error}"),
    )
}

impl Control {
    /// Hello: role, rights, instance, then the regions.
    pub(super) fn hello(&mut self, nf: u32, protocol: u32, role: &str) {
        let Some(session) = self.sessions.get(&nf) else {
            return;
        };
        if protocol != PROTOCOL_VERSION {
            return session.refuse(Refusal::new(
                ErrorCode::Version,
                format!("the NF's library speaks protocol {protocol}, this platform {PROTOCOL_VERSION}: install the same version of mvmp on both sides"),
            ));
        }
        if session.is_named() {
            return session.refuse(Refusal::new(ErrorCode::Malformed, "hello was said already"));
        }
        let (instances, memory) =
            match authorize::role(&self.config, &session.door, role, session.uid) {
                Ok(granted) => granted,
                Err(refusal) => return session.refuse(refusal),
            };
        let named = self
            .sessions
            .values()
            .filter(|session| session.is_named())
            .count();
        if named >= self.config.platform.max_nfs as usize {
            let refusal = Refusal::new(
                ErrorCode::NoRoom,
                format!("{named} NFs are connected, the limit (`max_nfs`)"),
            );
            session.refuse(refusal);
            return self.stop_waiting(nf);
        }
        self.bury_the_dead(role);
        let taken: Vec<u32> = self
            .holders_of(role)
            .map(|holder| holder.instance)
            .collect();
        let free = (0..instances).find(|instance| !taken.contains(instance));
        let Some(session) = self.sessions.get_mut(&nf) else {
            return;
        };
        match free {
            Some(instance) => {
                (session.role, session.instance) = (role.to_owned(), instance);
                if let Err(error) = self.welcome(nf, memory)
                    && let Some(session) = self.sessions.get_mut(&nf)
                {
                    session.role.clear();
                    session.refuse(trouble(error));
                }
            }
            // It may be that somebody is just dying: a killed process is dead only when it has given its memory back.
            None => {
                let since = match &session.phase {
                    Phase::Waiting { since, .. } => *since,
                    _ => Instant::now(),
                };
                session.phase = Phase::Waiting {
                    role: role.to_owned(),
                    since,
                };
            }
        }
    }

    /// Who has an instance of a role, those who are just leaving included.
    fn holders_of(&self, role: &str) -> impl Iterator<Item = &Session> {
        self.sessions
            .values()
            .filter(move |session| session.role == role)
    }

    /// Refuses those who have waited for an instance as long as makes sense.
    pub(super) fn refuse_who_waits_in_vain(&mut self) {
        let in_vain = |session: &&Session| match &session.phase {
            Phase::Waiting { role, since } if self.holders_of(role).any(Session::is_leaving) => {
                since.elapsed() > RECLAIM_MAX
            }
            Phase::Waiting { since, .. } => since.elapsed() > DYING_MAX,
            _ => false,
        };
        let refused: Vec<u32> = self
            .sessions
            .values()
            .filter(in_vain)
            .map(|session| session.nf)
            .collect();
        for nf in refused {
            let Some(session) = self.sessions.get_mut(&nf) else {
                continue;
            };
            let Phase::Waiting { role, .. } = std::mem::replace(&mut session.phase, Phase::New)
            else {
                continue;
            };
            let instances = self.config.nf(&role).map_or(1, |spec| spec.instances);
            let refusal = Refusal::new(
                ErrorCode::NameInUse,
                format!("all {instances} instances of `{role}` are connected"),
            );
            session.refuse(refusal.hint(format!(
                "raise `instances` in [nfs.{role}], or end one of them"
            )));
        }
    }

    /// Those who wait for an instance of a role try again.
    pub(super) fn retry_waiting(&mut self) {
        let waiting: Vec<(u32, String)> = self
            .sessions
            .values()
            .filter_map(|session| match &session.phase {
                Phase::Waiting { role, .. } => Some((session.nf, role.clone())),
                _ => None,
            })
            .collect();
        for (nf, role) in waiting {
            self.hello(nf, PROTOCOL_VERSION, &role);
        }
    }

    /// Refused: it may say hello again.
    fn stop_waiting(&mut self, nf: u32) {
        if let Some(session) = self.sessions.get_mut(&nf) {
            session.phase = Phase::New;
        }
    }

    /// Holders of a role that have died, but whose end was not noticed yet.
    fn bury_the_dead(&mut self, role: &str) {
        let dead: Vec<u32> = self
            .sessions
            .values()
            .filter(|session| session.role == role && !session.is_leaving())
            .filter(|session| {
                session
                    .pidfd
                    .as_ref()
                    .is_some_and(super::serve::is_readable)
            })
            .map(|session| session.nf)
            .collect();
        dead.into_iter().for_each(|nf| self.leave(nf, "it died"));
    }

    fn welcome(&mut self, nf: u32, memory: u64) -> Result<(), MemoryError> {
        let return_slots = (self.config.platform.ring_slots * 2).max(4096);
        let (mut fds, mut unsealed, mut wakes, mut shares) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in &self.workers {
            let (up_fd, up) = owned_region("mvmp-up", UpRegion::bytes(return_slots))?;
            let (status_fd, status) = sealed_region("mvmp-status", STATUS_BYTES)?;
            let (wake_read, wake_write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
                .map_err(|source| MemoryError::System {
                    step: "pipe",
                    source,
                })?;
            fds.extend([
                up_fd.try_clone().map_err(clone_failed)?,
                status_fd,
                wake_write,
            ]);
            shares.push(Share {
                up: UpRegion::new(Arc::clone(&up), return_slots),
                status: StatusRegion::new(status),
                counters: Arc::default(),
            });
            unsealed.push((up_fd, up));
            wakes.push(wake_read);
        }
        let private_bytes = memory.max(4096).next_multiple_of(4096);
        let (private_fd, private) = owned_region("mvmp-private", private_bytes as usize)?;
        fds.push(private_fd.try_clone().map_err(clone_failed)?);
        unsealed.push((private_fd, Arc::clone(&private)));
        let (lossless, workers) = (self.lossless, self.workers.len());
        let ports = &self.config.platform.tunnel_ports;
        let tunnel_ports = TunnelPortLists {
            vxlan: ports.vxlan.clone(),
            geneve: ports.geneve.clone(),
            gtpu: ports.gtpu.clone(),
        };
        let Some(session) = self.sessions.get_mut(&nf) else {
            return Ok(());
        };
        session.shares = shares;
        session.phase = Phase::Mapping(Box::new(Unsealed {
            fds: unsealed,
            wakes,
            private,
        }));
        let welcome = FromPlatform::Welcome {
            protocol: PROTOCOL_VERSION,
            platform: env!("CARGO_PKG_VERSION").into(),
            instance: session.name(),
            workers: vec![WorkerGeometry { return_slots }; workers],
            private_bytes,
            lossless,
            tunnel_ports,
        };
        session.say(&welcome, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>());
        Ok(())
    }

    /// The NF has mapped what `welcome` brought: seal it, and only then use it.
    pub(super) fn mapped(&mut self, nf: u32) {
        let Some(session) = self.sessions.get_mut(&nf) else {
            return;
        };
        let Phase::Mapping(_) = &session.phase else {
            return;
        };
        let Phase::Mapping(unsealed) = std::mem::replace(&mut session.phase, Phase::Ready) else {
            return;
        };
        for (fd, mapping) in &unsealed.fds {
            // The owner may have punched holes before the seal: fill them now, where it is an error and not a SIGBUS.
            if let Err(error) = memory::seal(fd, Sealed::ForGood).and_then(|()| mapping.populate())
            {
                // No worker knows it yet: there is nothing to wait for.
                session.refuse(trouble(error));
                self.sessions.remove(&nf);
                return self.retry_waiting();
            }
        }
        for ((worker, share), wake) in self.workers.iter().zip(&session.shares).zip(unsealed.wakes)
        {
            worker.tell(Command::AddNf(Box::new(NfLane {
                nf,
                up: share.up.clone(),
                status: share.status.clone(),
                returns: Consumer::new(share.up.return_capacity()),
                private: Arc::clone(&unsealed.private),
                wake,
                slots: [NO_SLOT; MAX_HANDLES],
                counters: Arc::clone(&share.counters),
                quarantined: false,
                blocked: false,
                expected: 0,
            })));
        }
        session.say(&FromPlatform::Ready { handle: None }, &[]);
        tracing::info!(
            nf = session.name(),
            pid = session.pid,
            uid = session.uid,
            "NF connected"
        );
    }

    /// The NF is gone, or thrown out: close everything that it has.
    pub(super) fn leave(&mut self, nf: u32, why: &str) {
        let Some(session) = self.sessions.get_mut(&nf) else {
            return;
        };
        if session.is_leaving() {
            return;
        }
        let in_service = matches!(session.phase, Phase::Ready);
        session.phase = Phase::Leaving { forgotten: 0 };
        if !in_service {
            self.sessions.remove(&nf);
            return self.retry_waiting();
        }
        tracing::info!(nf = session.name(), why, "NF leaves");
        let handles: Vec<u8> = session.handles.keys().copied().collect();
        if handles.is_empty() {
            return self.forget(nf);
        }
        handles
            .into_iter()
            .for_each(|number| self.close_handle(nf, number, false, true));
    }

    pub(super) fn forget(&mut self, nf: u32) {
        self.workers
            .iter()
            .for_each(|worker| worker.tell(Command::RemoveNf { nf }));
    }

    /// A worker has forgotten an NF; when all have, its name is free.
    pub(super) fn forgotten(&mut self, nf: u32) {
        let workers = self.workers.len();
        if let Some(session) = self.sessions.get_mut(&nf)
            && let Phase::Leaving { forgotten } = &mut session.phase
        {
            *forgotten += 1;
            if *forgotten >= workers {
                self.sessions.remove(&nf);
                self.retry_waiting();
            }
        }
    }
}

pub(super) fn clone_failed(error: std::io::Error) -> MemoryError {
    let source = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::MFILE);
    MemoryError::System {
        step: "duplicating a file descriptor",
        source,
    }
}
