//! What a new configuration takes away: the doors of roles, the sessions that came in by them, and
//! handles.
//!
//! Called by `reconfigure`. Invariant: what the new configuration would refuse to a newcomer, nobody
//! keeps.

use mvmp_policy::Config;
use mvmp_wire::message::FromPlatform;

use super::authorize;
use super::session::Session;
use super::sockets::{Door, Sockets};
use super::state::Control;

/// Roles whose sockets were bound for a new configuration.
#[derive(Default)]
pub(super) struct Doors {
    /// They are new.
    opened: Vec<String>,
    /// They have become another user's.
    given: Vec<String>,
}

impl Control {
    /// Binds the sockets of roles that are new, and anew those of roles that are another user's now.
    ///
    /// # Errors
    /// Why not; the sockets are as they were then.
    pub(super) fn open_doors(&self, new: &Config, sockets: &mut Sockets) -> Result<Doors, String> {
        let mut doors = Doors::default();
        for role in &new.nfs {
            let bound = match self.config.nf(&role.name) {
                Some(old) if old.uid == role.uid => continue,
                Some(_) => {
                    doors.given.push(role.name.clone());
                    sockets.reopen_role(role)
                }
                None => sockets
                    .open_role(role)
                    .inspect(|()| doors.opened.push(role.name.clone())),
            };
            if let Err((path, error)) = bound {
                self.take_back(&doors, sockets);
                return Err(format!("{}: {error}", path.display()));
            }
        }
        Ok(doors)
    }

    /// Makes the sockets what they were.
    pub(super) fn take_back(&self, doors: &Doors, sockets: &mut Sockets) {
        sockets.close_roles(&doors.opened);
        let roles = doors.given.iter().filter_map(|name| self.config.nf(name));
        for role in roles {
            if let Err((path, error)) = sockets.reopen_role(role) {
                tracing::error!(role = role.name, path = %path.display(), %error, "the role has no socket any more");
            }
        }
    }

    /// Ends the sessions of those who would not be let in any more.
    pub(super) fn throw_out(&mut self, doors: &Doors) {
        let judged = |session: &Session| Some((session.nf, self.why_out(session, doors)?));
        let out: Vec<_> = self.sessions.values().filter_map(judged).collect();
        for (nf, reason) in out {
            if let Some(session) = self.sessions.get(&nf).filter(|it| it.is_named()) {
                let (handle, reason) = (None, reason.clone());
                session.say(&FromPlatform::Detached { handle, reason }, &[]);
            }
            self.leave(nf, &reason);
        }
    }

    fn why_out(&self, session: &Session, doors: &Doors) -> Option<String> {
        // Who has not said hello yet has come in by a door all the same.
        if let Door::Role(role) = &session.door
            && doors.given.contains(role)
        {
            let us = rustix::process::geteuid().as_raw();
            let uid = self.config.nf(role).and_then(|role| role.uid);
            if ![0, uid.unwrap_or(us)].contains(&session.uid) {
                return Some(format!("the role `{role}` is another user's now"));
            }
        }
        if !session.is_named() {
            return None;
        }
        let role = authorize::role(&self.config, &session.door, &session.role, session.uid);
        role.err().map(|refusal| refusal.message)
    }

    /// Closes handles whose device or right is gone.
    pub(super) fn withdraw_handles(&mut self, restless: &[usize]) {
        let mut handles = Vec::new();
        for session in self.sessions.values().filter(|it| !it.is_leaving()) {
            for (&number, handle) in &session.handles {
                let device = &self.devices[handle.device];
                let (rx, tx) = (Some(handle.rx), Some(handle.tx));
                let reason = if device.gone {
                    "its device was removed".into()
                } else if restless.contains(&handle.device) {
                    "its device has become another kind, or another pool's".into()
                } else {
                    match self.rights(session, handle.device, rx, tx) {
                        Ok(_) => continue,
                        Err(refusal) => refusal.message,
                    }
                };
                handles.push((session.nf, number, reason));
            }
        }
        for (nf, number, reason) in handles {
            if let Some(session) = self.sessions.get(&nf) {
                let handle = Some(number);
                session.say(&FromPlatform::Detached { handle, reason }, &[]);
            }
            self.close_handle(nf, number, false, false);
        }
    }
}
