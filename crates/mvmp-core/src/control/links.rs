//! Which ports have a link: asked at each tick, for bonds that choose by it.
//!
//! The kernel says it of its interfaces, DPDK of the devices that it drives; a capture file has
//! always one. Where nobody knows, it stays as it was last. Workers hear of changes only.

use std::sync::Arc;

use super::state::Control;
use crate::dpdk::{self, Carrier};
use crate::worker::Command;

/// Who knows whether a port has a link.
#[derive(Clone, Debug)]
pub enum LinkSource {
    /// It always has.
    Always,
    /// DPDK, by the number of its port.
    Dpdk(u16),
    /// The kernel.
    Kernel(Arc<Carrier>),
}

impl LinkSource {
    /// Whether it is up, or why that cannot be known.
    fn is_up(&self) -> Result<bool, String> {
        match self {
            Self::Always => Ok(true),
            Self::Dpdk(port) => dpdk::link_up(*port).ok_or("its driver does not say".into()),
            Self::Kernel(carrier) => carrier.is_up().map_err(|error| error.to_string()),
        }
    }
}

impl Control {
    /// Tells workers which links have changed.
    pub(super) fn watch_links(&mut self) {
        for (number, port) in self.ports.iter_mut().enumerate() {
            if !port.present {
                continue;
            }
            let up = port.link.is_up().unwrap_or_else(|why| {
                let note = format!("whether it has a link cannot be known: {why}");
                if !port.notes.contains(&note) {
                    tracing::warn!(port = port.spec.name, "{note}");
                    port.notes.push(note);
                }
                port.link_up
            });
            if up == port.link_up {
                continue;
            }
            port.link_up = up;
            let state = if up { "up" } else { "down" };
            tracing::info!(port = port.spec.name, "link is {state}");
            self.workers[port.worker].tell(Command::Link {
                port: number as u16,
                up,
            });
        }
    }
}
