//! `mvmp apply`: another configuration for a running platform.
//!
//! ```text
//! text or JSON ─▶ read ─▶ differs how? ─▶ what of it cannot be done now? ─▶ told (dry_run), or carried out
//! ```
//!
//! A file that is wrong, or of which anything cannot be done, changes nothing.

use mvmp_policy::config::{Change, PortSpec, Section};
use mvmp_policy::{Config, ConfigError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::sockets::Sockets;
use super::state::{Control, PortEntry};
use crate::platform::files;
use crate::platform::ports::{frame_room, max_frame, what_is_missing};

/// What an operator wants to hold.
#[derive(Deserialize)]
pub struct Wanted {
    /// TOML as a string, or the same as an object.
    config: Value,
    /// The file's name, for messages.
    #[serde(default = "no_file")]
    file: String,
    /// Arguments of `--port`.
    #[serde(default)]
    ports: Vec<String>,
    /// Only tell what would happen.
    #[serde(default)]
    dry_run: bool,
}

fn no_file() -> String {
    "configuration".into()
}

impl Wanted {
    fn read(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Value::String(text) => Config::from_toml(text, &self.file)?,
            value => Config::from_json(value)?,
        };
        for argument in &self.ports {
            config.replace_port(PortSpec::from_argument(argument)?)?;
        }
        Ok(config)
    }
}

impl Control {
    /// Carries out what is wanted, or tells what it would be. The operator's reply.
    pub(super) fn apply(&mut self, wanted: &Wanted, sockets: &mut Sockets) -> Value {
        let new = match wanted.read() {
            Ok(new) => new,
            Err(error) => return wrong(&error),
        };
        let change = self.difference(&new);
        let reply = |kind: &str| {
            json!({
                "type": kind,
                "dry_run": wanted.dry_run,
                "changes": change.lines(),
                "items": change.to_json(),
            })
        };
        let refused = change.refused().count();
        match (wanted.dry_run, refused) {
            (true, _) => reply("applied"),
            (false, 0) => match self.carry_out(new, sockets) {
                Ok(()) => reply("applied"),
                Err(why) => json!({"type": "error", "message": why}),
            },
            (false, _) => {
                let mut reply = reply("error");
                let word = if refused == 1 { "change" } else { "changes" };
                reply["message"] = format!(
                    "{refused} {word} cannot be made while the platform runs; nothing is changed"
                )
                .into();
                reply
            }
        }
    }

    /// What is different, with what only the platform knows to be impossible.
    fn difference(&self, new: &Config) -> Change {
        let mut change = self.without_own_devices().diff(new);
        for port in &new.ports {
            let running = self.config.port(&port.name);
            let present = self
                .port_number(&port.name)
                .map(|at| self.ports[at].present);
            if present == Some(true) && running.is_some_and(|running| running != port) {
                let reason = "a port in use cannot change: apply without it, then with it again";
                change.refuse(Section::Ports, &port.name, reason);
            }
        }
        let absent = |port: &&PortSpec| {
            let known = self.port_number(&port.name);
            known.is_none_or(|number| !self.ports[number].present)
        };
        for port in new.ports.iter().filter(absent) {
            if let Err(reason) = what_is_missing(&port.kind) {
                change.refuse(Section::Ports, &port.name, reason);
            }
        }
        match files::conflict(new.ports.iter()) {
            Some((ports, reason)) => ports
                .into_iter()
                .for_each(|port| change.refuse(Section::Ports, port, reason.clone())),
            None => self.refuse_files_in_use(new, &mut change),
        }
        let domains = new.domains();
        for (number, port) in new.ports.iter().enumerate() {
            let domain = domains.iter().find(|domain| domain.ports.contains(&number));
            let domain = domain.into_iter().flat_map(|domain| &domain.ports);
            let specs: Vec<&PortSpec> = domain.map(|&port| &new.ports[port]).collect();
            let pool = self.pool_in_use(&specs).ok().flatten();
            let Some(pool) = pool.and_then(|pool| self.pool(pool)) else {
                continue;
            };
            let (wanted, room) = (max_frame(port), frame_room(pool.pool.data_room_bytes()));
            if wanted > room {
                let reason = format!(
                    "frames of {wanted} bytes do not fit the buffers of its pool, which hold {room}"
                );
                change.refuse(Section::Ports, &port.name, reason);
            }
        }
        change
    }

    /// A port that goes has its file until it is closed, and it is closed once the new ones serve.
    fn refuse_files_in_use(&self, new: &Config, change: &mut Change) {
        let goes = |port: &&PortEntry| port.present && new.port(&port.spec.name).is_none();
        for old in self.ports.iter().filter(goes) {
            let ports = std::iter::once(&old.spec).chain(&new.ports);
            let Some((pair, _)) = files::conflict(ports) else {
                continue;
            };
            let old = old.spec.name.as_str();
            for port in pair.into_iter().filter(|&port| port != old) {
                let reason = format!(
                    "the port `{old}` still has that file: apply without `{port}`, then with it again"
                );
                change.refuse(Section::Ports, port, reason);
            }
        }
    }
}

fn wrong(error: &ConfigError) -> Value {
    json!({
        "type": "error",
        "message": error.to_string(),
        "line": error.line,
        "column": error.column,
        "key": error.key,
        "hint": error.hint,
    })
}
