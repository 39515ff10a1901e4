//! The authorization table: who may speak for a role, and what a role may open.

use mvmp_policy::Config;
use mvmp_wire::message::ErrorCode;

use super::sockets::Door;

/// A refusal, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
    pub hint: Option<String>,
    pub line: u32,
    pub column: u32,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            line: 0,
            column: 0,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Whether a peer may speak for a role, and how many instances and bytes of memory that role has.
pub fn role(config: &Config, door: &Door, role: &str, uid: u32) -> Result<(u32, u64), Refusal> {
    let valid = !role.is_empty()
        && role.len() <= 64
        && role
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !valid {
        return Err(Refusal::new(
            ErrorCode::Malformed,
            format!("`{role}` is no role name: letters, digits, `_`, `.`, `-`, at most 64"),
        ));
    }
    let spec = config.nf(role);
    match door {
        Door::Role(own) if own != role => Err(Refusal::new(
            ErrorCode::NotAuthorized,
            format!("this socket belongs to the role `{own}`, not to `{role}`"),
        )),
        Door::Shared => {
            let by_uid = spec.and_then(|spec| spec.uid) == Some(uid);
            if config.platform.open || by_uid {
                return Ok(
                    spec.map_or((1, mvmp_policy::config::MEMORY_BYTES_DEFAULT), |spec| {
                        (spec.instances, spec.memory_bytes)
                    }),
                );
            }
            let refusal = Refusal::new(
                ErrorCode::NotAuthorized,
                format!("uid {uid} may not speak for the role `{role}` on the shared socket"),
            );
            Err(refusal.hint(match spec {
                Some(_) => format!(
                    "connect to nf/{role}/mvmp.sock beside it (the folder, named as the socket, means that one), or set `uid = {uid}` in [nfs.{role}]"
                ),
                None => format!(
                    "name it in the configuration: [nfs.{role}], or set `open = true` in [platform]"
                ),
            }))
        }
        _ => match spec {
            Some(spec) => Ok((spec.instances, spec.memory_bytes)),
            None => Err(Refusal::new(
                ErrorCode::NotAuthorized,
                format!("the configuration names no role `{role}`"),
            )),
        },
    }
}

/// What a role may do with a device: (rx, tx), of which `rx` and `tx` ask for a part.
pub fn rights(
    config: &Config,
    role: &str,
    device: &str,
    rx: Option<bool>,
    tx: Option<bool>,
) -> Result<(bool, bool), Refusal> {
    let granted = match config.nf(role).and_then(|spec| spec.right(device)) {
        Some(right) => (right.rx, right.tx),
        None if config.platform.open => (true, true),
        None => {
            return Err(Refusal::new(
                ErrorCode::NotAuthorized,
                format!("the role `{role}` may not open the device `{device}`"),
            )
            .hint(format!("add \"{device}\" to `devices` in [nfs.{role}]")));
        }
    };
    let (want_rx, want_tx) = (rx.unwrap_or(granted.0), tx.unwrap_or(granted.1));
    if (want_rx && !granted.0) || (want_tx && !granted.1) {
        let what = if want_rx && !granted.0 {
            "receive from"
        } else {
            "send to"
        };
        return Err(Refusal::new(
            ErrorCode::NotAuthorized,
            format!("the role `{role}` may not {what} the device `{device}`"),
        ));
    }
    if !want_rx && !want_tx {
        return Err(Refusal::new(
            ErrorCode::Config,
            format!("`{device}` would be opened neither for receiving nor for sending"),
        ));
    }
    Ok((want_rx, want_tx))
}

/// Whether a role may define a device over these ports.
pub fn may_define<'a>(
    config: &Config,
    role: &str,
    mut ports: impl Iterator<Item = &'a str>,
) -> Result<(), Refusal> {
    let allowed = config.nf(role).map_or(&[][..], |spec| &spec.may_define);
    let denied = |port: &&str| !config.platform.open && !allowed.iter().any(|name| name == port);
    match ports.find(denied) {
        None => Ok(()),
        Some(port) => Err(Refusal::new(
            ErrorCode::NotAuthorized,
            format!("the role `{role}` may not define a device over the port `{port}`"),
        )
        .hint(format!("add \"{port}\" to `may_define` in [nfs.{role}]"))),
    }
}
