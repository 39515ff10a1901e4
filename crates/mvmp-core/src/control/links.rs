//! Which ports have a link: asked at each tick, for bonds that choose by it.
//!
//! The kernel says it of its interfaces, DPDK of the devices that it drives; a capture file has
//! always one. Workers hear of changes only.

use super::state::Control;
use crate::dpdk;
use crate::worker::Command;

/// Who knows whether a port has a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkSource {
    /// It always has.
    Always,
    /// DPDK, by the number of its port.
    Dpdk(u16),
    /// The kernel, by the name of the interface.
    Kernel(String),
}

impl LinkSource {
    fn is_up(&self) -> bool {
        match self {
            Self::Always => true,
            Self::Dpdk(port) => dpdk::link_up(*port),
            // Reading it of an interface that is down is an error of its own.
            Self::Kernel(interface) => {
                let path = format!("/sys/class/net/{interface}/carrier");
                std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
            }
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
            let up = port.link.is_up();
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
