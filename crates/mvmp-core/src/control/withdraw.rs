//! What a new configuration takes away: the doors of roles, the sessions that came in by them, and
//! handles.
//!
//! Called by `reconfigure`. Invariant: what the new configuration would refuse to a newcomer, nobody
//! keeps.

use mvmp_policy::Config;
use mvmp_wire::message::FromPlatform;

use super::authorize;
use super::session::Session;
use super::sockets::{Door, NextDoor, Sockets};
use super::state::Control;

/// Sockets that were bound for a new configuration.
#[derive(Default)]
pub(super) struct Doors {
    /// Roles that are new.
    pub(super) opened: Vec<String>,
    /// Those of roles that become another user's.
    next: Vec<NextDoor>,
}

impl Doors {
    /// Puts those in their places that are another user's; returns the roles.
    pub(super) fn hand_over(self, sockets: &mut Sockets) -> Vec<String> {
        let mut roles = Vec::new();
        for next in self.next {
            roles.push(next.role.clone());
            if let Err(error) = sockets.hand_over(next) {
                tracing::error!(role = roles.last(), %error, "the role has no socket any more");
            }
        }
        roles
    }
}

impl Control {
    /// Binds the sockets of roles that are new, and next ones for roles that become another user's.
    ///
    /// # Errors
    /// Why not; the sockets are as they were then.
    pub(super) fn open_doors(&self, new: &Config, sockets: &mut Sockets) -> Result<Doors, String> {
        let mut doors = Doors::default();
        for role in &new.nfs {
            let bound = match self.config.nf(&role.name) {
                Some(old) if old.uid == role.uid => continue,
                Some(_) => sockets.next_door(role).map(|next| doors.next.push(next)),
                None => sockets
                    .open_role(role)
                    .map(|()| doors.opened.push(role.name.clone())),
            };
            if let Err((path, error)) = bound {
                sockets.close_roles(&doors.opened);
                return Err(format!("{}: {error}", path.display()));
            }
        }
        Ok(doors)
    }

    /// Ends the sessions of those who would not be let in any more. `given`: roles that are another
    /// user's now.
    pub(super) fn throw_out(&mut self, given: &[String]) {
        let judged = |session: &Session| Some((session.nf, self.why_out(session, given)?));
        let out: Vec<_> = self.sessions.values().filter_map(judged).collect();
        for (nf, reason) in out {
            if let Some(session) = self.sessions.get(&nf).filter(|it| it.is_named()) {
                let (handle, reason) = (None, reason.clone());
                session.say(&FromPlatform::Detached { handle, reason }, &[]);
            }
            self.leave(nf, &reason);
        }
    }

    fn why_out(&self, session: &Session, given: &[String]) -> Option<String> {
        // Who has not said hello yet has come in by a door all the same.
        if let Door::Role(role) = &session.door
            && given.contains(role)
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
