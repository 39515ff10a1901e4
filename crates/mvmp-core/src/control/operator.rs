//! The operator's socket: status, stop, ports, policies. One JSON request, one JSON reply, any number
//! of times; both may be [long](mvmp_wire::long).

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use mvmp_wire::channel::ChannelError;
use mvmp_wire::long;
use serde::Deserialize;
use serde_json::{Value, json};

use super::apply::Wanted;
use super::sockets::Sockets;
use super::state::Control;

/// What an operator can ask.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Ask {
    Ping,
    Status,
    Stop,
    AddPort {
        name: String,
        spec: Value,
    },
    RemovePort {
        name: String,
    },
    /// Trace the next packets of a device; 0 ends it.
    Trace {
        device: String,
        count: u32,
    },
    /// What was traced since the last time.
    Traced,
    /// The configuration that holds now.
    Config,
    /// Another configuration; what is different is carried out, or told.
    Apply(Wanted),
}

struct Operator {
    socket: OwnedFd,
    /// An answer that a worker still works on.
    pending: Option<Receiver<Result<(), String>>>,
}

/// All operators that are connected.
#[derive(Default)]
pub struct Operators(Vec<Operator>);

/// Operators that are connected at a time.
const OPERATORS_MAX: usize = 32;

impl Operators {
    pub fn add(&mut self, socket: OwnedFd) {
        if self.0.len() < OPERATORS_MAX {
            self.0.push(Operator {
                socket,
                pending: None,
            });
        }
    }

    pub fn sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.0.iter().map(|operator| &operator.socket)
    }

    /// Answers whatever was asked; forgets who has gone.
    pub fn serve(&mut self, control: &mut Control, sockets: &mut Sockets) {
        self.0
            .retain_mut(|operator| operator.serve(control, sockets));
    }
}

impl Operator {
    fn serve(&mut self, control: &mut Control, sockets: &mut Sockets) -> bool {
        if let Some(pending) = &self.pending {
            match pending.try_recv() {
                Ok(outcome) => {
                    self.pending = None;
                    return self.reply(&said(outcome));
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => self.pending = None,
            }
        }
        match long::receive::<Value>(&self.socket) {
            Ok(ask) => match serde_json::from_value::<Ask>(ask) {
                Ok(ask) => self.obey(ask, control, sockets),
                Err(error) => self.reply(&json!({"error": format!("not a request: {error}")})),
            },
            Err(ChannelError::WouldBlock) => true,
            Err(ChannelError::Malformed(what)) => self.reply(&json!({"error": what})),
            Err(_) => false,
        }
    }

    fn obey(&mut self, ask: Ask, control: &mut Control, sockets: &mut Sockets) -> bool {
        match ask {
            Ask::Ping => self.reply(&json!({"ok": true, "version": env!("CARGO_PKG_VERSION")})),
            Ask::Status => self.reply(&control.stats()),
            Ask::Stop => {
                control.stopping = true;
                self.reply(&json!({"ok": true}))
            }
            Ask::AddPort { name, spec } => self.reply(&said(control.add_port(&name, &spec))),
            Ask::RemovePort { name } => {
                let (done, pending) = channel();
                self.pending = Some(pending);
                control.remove_port(&name, done);
                true
            }
            Ask::Trace { device, count } => self.reply(&said(control.begin_trace(&device, count))),
            Ask::Traced => self.reply(&control.traced()),
            Ask::Config => {
                let config = control.config.to_json();
                self.reply(&json!({"type": "config", "config": config}))
            }
            Ask::Apply(wanted) => self.reply(&control.apply(&wanted, sockets)),
        }
    }

    fn reply(&self, reply: &Value) -> bool {
        match long::send(&self.socket, reply) {
            Ok(()) => true,
            Err(ChannelError::Malformed(what)) => {
                let _ = long::send(&self.socket, &json!({"error": what}));
                true
            }
            Err(_) => false,
        }
    }
}

fn said(outcome: Result<(), String>) -> Value {
    match outcome {
        Ok(()) => json!({"ok": true}),
        Err(error) => json!({"error": error}),
    }
}
