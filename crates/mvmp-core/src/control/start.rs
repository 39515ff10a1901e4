//! When a capture starts: its NFs are there, with all that they may open (DESIGN rule 11); and what
//! it waits for until then.

use std::collections::BTreeSet;

use mvmp_policy::config::WaitFor;

use super::session::{Handle, HandlePhase, Phase, Session};
use super::state::{Control, DeviceEntry};
use crate::worker::Command;

impl Control {
    /// Starts every capture that waits for nobody any more.
    pub(super) fn start_captures(&mut self) {
        for number in 0..self.ports.len() {
            if self.ports[number].plays()
                && !self.ports[number].started
                && self.awaited(number).is_empty()
            {
                self.ports[number].started = true;
                self.workers[self.ports[number].worker].tell(Command::StartCapture {
                    port: number as u16,
                });
            }
        }
    }

    /// What a capture still waits for, in words; nothing: it may start (DESIGN rule 11).
    pub(super) fn awaited(&self, number: usize) -> Vec<String> {
        let capture = self.ports[number].spec.capture();
        let is_over = |device: &DeviceEntry| !device.gone && device.ports.contains(&number);
        let own: Vec<usize> = (0..self.devices.len())
            .filter(|&device| is_over(&self.devices[device]))
            .collect();
        let roles = match capture.and_then(|capture| capture.wait_for.clone()) {
            Some(WaitFor::Roles(roles)) => roles,
            Some(WaitFor::Count(count)) => {
                let open: usize = own.iter().map(|&device| self.open_handles(device)).sum();
                let wanted = format!("handles on its devices ({open} of {count} are open)");
                return Vec::from_iter((open < count as usize).then_some(wanted));
            }
            None if self.config.platform.open => {
                let idle = own.iter().filter(|&&device| self.open_handles(device) == 0);
                let wanted = |&device: &usize| format!("a handle on {}", self.devices[device].name);
                return idle.map(wanted).collect();
            }
            None if own
                .iter()
                .all(|&device| self.devices[device].owner.is_some()) =>
            {
                self.roles_that_define(number)
            }
            None => self.roles_reached(&own),
        };
        let missing = roles.iter().filter_map(|role| self.missing(role, number));
        missing.collect()
    }

    fn open_handles(&self, device: usize) -> usize {
        let open =
            |handle: &&Handle| handle.device == device && matches!(handle.phase, HandlePhase::Open);
        self.sessions
            .values()
            .flat_map(|session| session.handles.values())
            .filter(open)
            .count()
    }

    /// The devices that packets of these devices can reach, by the rights in the table.
    pub(super) fn devices_reached(&self, from: &[usize]) -> BTreeSet<usize> {
        let mut reached: BTreeSet<usize> = from.iter().copied().collect();
        if self.config.platform.open {
            reached.extend((0..self.devices.len()).filter(|&device| self.devices[device].rootless));
            return reached;
        }
        loop {
            let before = reached.len();
            for nf in &self.config.nfs {
                let right = |device: usize| nf.right(&self.devices[device].name);
                if reached
                    .iter()
                    .any(|&device| right(device).is_some_and(|right| right.rx))
                {
                    let sends = (0..self.devices.len())
                        .filter(|&device| right(device).is_some_and(|right| right.tx))
                        .flat_map(|device| self.fed_by_sending(device));
                    reached.extend(sends.collect::<Vec<_>>());
                }
            }
            if reached.len() == before {
                return reached;
            }
        }
    }

    /// The devices that receive what is sent over this one.
    fn fed_by_sending(&self, device: usize) -> Vec<usize> {
        if self.devices[device].rootless {
            return vec![device];
        }
        let ports = &self.devices[device].ports;
        let shares = |other: &usize| {
            let of = &self.devices[*other].ports;
            self.is_fed_by_nfs(*other) && of.iter().any(|port| ports.contains(port))
        };
        (0..self.devices.len()).filter(shares).collect()
    }

    /// The roles that may define devices over a port.
    fn roles_that_define(&self, port: usize) -> Vec<String> {
        let port = &self.ports[port].spec.name;
        let nfs = self.config.nfs.iter();
        let define = nfs.filter(|nf| nf.may_define.contains(port));
        define.map(|nf| nf.name.clone()).collect()
    }

    fn roles_reached(&self, from: &[usize]) -> Vec<String> {
        let reached = self.devices_reached(from);
        let named = |nf: &&mvmp_policy::config::NfSpec| {
            reached
                .iter()
                .any(|&device| nf.right(&self.devices[device].name).is_some())
        };
        self.config
            .nfs
            .iter()
            .filter(named)
            .map(|nf| nf.name.clone())
            .collect()
    }

    /// What is missing until one instance of a role has all its devices open, and one of its own
    /// over the port, where it may define some and the file has none for it.
    fn missing(&self, role: &str, port: usize) -> Option<String> {
        let spec = self.config.nf(role)?;
        let name = &self.ports[port].spec.name;
        let is_over = |device: &DeviceEntry| !device.gone && device.ports.contains(&port);
        let is_given = |device: &DeviceEntry| {
            device.owner.is_none() && is_over(device) && spec.right(&device.name).is_some()
        };
        let defines = spec.may_define.contains(name) && !self.devices.iter().any(is_given);
        let closed = |session: &Session| -> Vec<String> {
            let open = session.handles.values();
            let open = open.filter(|handle| matches!(handle.phase, HandlePhase::Open));
            let open: Vec<&DeviceEntry> = open.map(|it| &self.devices[it.device]).collect();
            let is_open = |device: &&str| open.iter().any(|it| it.name == *device);
            let is_own = |it: &&DeviceEntry| it.owner == Some(session.nf) && is_over(it);
            let devices = spec.devices.iter().map(|right| right.device.as_str());
            let devices = devices.filter(|device| !is_open(device)).map(String::from);
            let own = (defines && !open.iter().any(is_own))
                .then(|| format!("a device of its own over {name}"));
            devices.chain(own).collect()
        };
        let instances = self
            .sessions
            .values()
            .filter(|session| session.role == role && matches!(session.phase, Phase::Ready));
        match instances.map(closed).min_by_key(Vec::len) {
            Some(devices) if devices.is_empty() => None,
            Some(devices) => Some(format!("{role} to open {}", devices.join(" and "))),
            None => Some(role.to_owned()),
        }
    }
}
