//! Traces in words: what workers tell of a device's packets, for `mvmp trace`.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use mvmp_wire::Op;
use mvmp_wire::packet::{Link, Stack, walk_stack};
use serde_json::{Value, json};

use super::state::Control;
use crate::layers;
use crate::platform::devices;
use crate::worker::Command;
use crate::worker::trace::{Outcome, Step};

/// Packets of one trace.
const PACKETS_MAX: u32 = 1000;
/// Steps that wait to be asked for.
const STEPS_MAX: usize = 16 * PACKETS_MAX as usize;

/// Who has not asked for so long is gone: another may trace.
const PATIENCE: Duration = Duration::from_secs(3);

/// The trace that was asked for last.
#[derive(Debug, Default)]
pub struct Trace {
    /// When the operator was heard last; none: it has ended the trace.
    heard: Option<Instant>,
    device: String,
    /// Packets that are still to come.
    left: u32,
    steps: VecDeque<Value>,
    /// Steps that nobody fetched in time.
    lost: u64,
    /// The numbers of packets, by the worker and the number that it gave.
    numbers: HashMap<(usize, u32), usize>,
}

impl Control {
    /// Begins to trace the next `count` packets of a device; 0 ends what was begun.
    ///
    /// # Errors
    /// There is no such device, that is too many, or another trace is under way.
    pub(super) fn begin_trace(&mut self, name: &str, count: u32) -> Result<(), String> {
        let Some(device) = self.device_number(name) else {
            let known = self.devices.iter().filter(|device| !device.gone);
            let known: Vec<&str> = known.map(|device| device.name.as_str()).collect();
            let known = known.join(", ");
            return Err(format!("there is no device `{name}`; there is {known}"));
        };
        if count > PACKETS_MAX {
            return Err(format!("a trace has at most {PACKETS_MAX} packets"));
        }
        let under_way = self.trace.heard.is_some_and(|at| at.elapsed() < PATIENCE);
        if count != 0 && under_way {
            return Err(format!(
                "a trace of `{}` is under way: one at a time; wait until it has ended",
                self.trace.device
            ));
        }
        self.trace = Trace {
            heard: (count != 0).then(Instant::now),
            device: name.into(),
            left: count,
            ..Trace::default()
        };
        for worker in &self.workers {
            worker.tell(Command::Trace { device, count });
        }
        Ok(())
    }

    /// What was traced since the last time, and how many packets are still to come.
    pub(super) fn traced(&mut self) -> Value {
        self.trace.heard = self.trace.heard.map(|_| Instant::now());
        let steps: Vec<Value> = self.trace.steps.drain(..).collect();
        json!({"steps": steps, "left": self.trace.left, "lost": self.trace.lost})
    }

    /// A worker tells of a step.
    pub(super) fn note_step(&mut self, worker: usize, step: Step) {
        let known = self.trace.numbers.len();
        let number = match step {
            // Each worker looks at as many as were asked for.
            Step::Seen { .. } if self.trace.left == 0 => return,
            Step::Seen { packet, .. } => {
                self.trace.left -= 1;
                self.trace.numbers.insert((worker, packet), known + 1);
                known + 1
            }
            Step::Returned { packet, .. } => match self.trace.numbers.get(&(worker, packet)) {
                Some(&number) => number,
                None => return,
            },
        };
        if self.trace.steps.len() >= STEPS_MAX {
            self.trace.lost += 1;
            return;
        }
        let mut words = self.in_words(&step);
        words["packet"] = number.into();
        self.trace.steps.push_back(words);
    }

    fn in_words(&self, step: &Step) -> Value {
        let holder = |slot: u8| {
            let place = self.slots.get(slot as usize).copied().flatten();
            place.and_then(|(nf, handle)| Some((self.sessions.get(&nf)?, handle)))
        };
        let name = |slot| holder(slot).map_or("(gone)".into(), |(session, _)| session.name());
        match step {
            Step::Seen {
                device,
                port,
                outbound,
                timestamp_ns,
                wire_length,
                link,
                frame,
                shown,
                wanted,
                handles,
                bypassed,
                ..
            } => {
                let device = &self.devices[*device].name;
                let port = port.map(|port| self.ports[port as usize].spec.name.as_str());
                let spec = self.config.device(device);
                let cell = spec.and_then(|spec| {
                    spec.cells
                        .iter()
                        .find(|cell| Some(cell.port.as_str()) == port)
                });
                let receive = cell.and_then(|cell| cell.receive.as_ref());
                let rule = receive.map(|receive| receive.rule.to_string());
                let told = |(slot, outcome): &(u8, Outcome)| {
                    let outcome = match outcome {
                        Outcome::Delivered => "delivered",
                        Outcome::NotIts => {
                            "not its: its own match or its group leaves it to others"
                        }
                        Outcome::Full => "dropped: its ring was full or it holds too many",
                    };
                    json!({"nf": name(*slot), "outcome": outcome})
                };
                json!({
                    "step": "seen",
                    "device": device,
                    "port": port,
                    "direction": port.map(|_| if *outbound { "out" } else { "in" }),
                    "timestamp_ns": timestamp_ns,
                    "length": wire_length,
                    "layers": self.layers(frame, *link),
                    "rule": rule,
                    "wanted": wanted,
                    "jumped": shown.start,
                    "bypassed": bypassed,
                    "handles": handles.iter().map(told).collect::<Vec<_>>(),
                    "frame": frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
                })
            }
            Step::Returned { slot, op, over, .. } => {
                let what = match Op::from_bits(*op) {
                    Some(Op::Forward) => "sent",
                    Some(Op::Mirror) => "mirrored",
                    _ => "released",
                };
                let over = holder(*slot)
                    .filter(|_| what != "released")
                    .and_then(|(session, _)| session.handles.get(over))
                    .map(|handle| self.devices[handle.device].name.clone());
                json!({
                    "step": "returned", "nf": name(*slot), "what": what, "over": over,
                })
            }
        }
    }

    /// The layers of a frame, outermost first, and why there are no more.
    fn layers(&self, frame: &[u8], link: u8) -> Vec<String> {
        let link = match link {
            4 => Link::Ipv4,
            6 => Link::Ipv6,
            _ => Link::Ethernet,
        };
        let mut stack = Stack::default();
        walk_stack(
            frame,
            link,
            &devices::tunnel_ports(&self.config),
            &mut stack,
        );
        let words = stack.layers().iter().map(layers::in_words);
        let end = layers::end_in_words(stack.stop()).map(String::from);
        words.chain(end).collect()
    }
}
