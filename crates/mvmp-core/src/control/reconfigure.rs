//! A new configuration on a running platform: the difference, what must be true of it, and the
//! change itself, which each worker takes over between two bursts.
//!
//! Everything that can fail happens first: sockets are bound, ports opened, pools made. Only then
//! is anything told to a worker; so a wrong file changes nothing. Handles stay open; those whose
//! device or right is gone are closed and say so.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::sockets::Sockets;
use super::state::{Control, DeviceEntry, PortEntry};
use crate::platform::devices;
use crate::worker::Command;
use crate::worker::change::{Change, NewFaces};
use crate::worker::device::Seat;
use mvmp_policy::Config;
use mvmp_policy::config::{Mode, NfSpec};

/// Devices of a platform, those that are gone but still drained included.
pub(super) const DEVICES_MAX: usize = 64;
/// Ports of a platform, those that were removed included.
const PORTS_MAX: usize = 64;

impl Control {
    /// Makes a new configuration hold.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn carry_out(&mut self, mut new: Config, sockets: &mut Sockets) -> Result<(), String> {
        let homes = self.homes(&new)?;
        self.keep_own_devices(&mut new);
        let coming: usize = homes.iter().map(|home| home.ports.len()).sum();
        if new.devices.len() > DEVICES_MAX || self.ports.len() + coming > PORTS_MAX {
            return Err(format!(
                "a platform has at most {DEVICES_MAX} devices and {PORTS_MAX} ports, those removed included"
            ));
        }
        for spec in &new.devices {
            devices::device(spec, &vec![0; spec.cells.len()])?;
        }
        let doors = self.open_doors(&new, sockets)?;
        let opened = match self.take_in_ports(homes) {
            Ok(opened) => opened,
            Err(error) => {
                sockets.close_roles(&doors.opened);
                return Err(error);
            }
        };
        let unnamed = |role: &&NfSpec| new.nf(&role.name).is_none();
        let gone: Vec<String> = self
            .config
            .nfs
            .iter()
            .filter(unnamed)
            .map(|nf| nf.name.clone())
            .collect();
        let restless = self.install_devices(&new);
        self.config = new;
        // Other workers learn by this who has them: they hand packets over.
        for (number, _) in &opened {
            self.ports[*number].present = true;
        }
        let coming: Vec<u16> = opened.iter().map(|(number, _)| *number as u16).collect();
        self.tell_workers(&coming);
        for (number, io) in opened {
            self.serve_port(number, io);
        }
        self.remove_ports();
        let given = doors.hand_over(sockets);
        self.throw_out(&given);
        self.withdraw_handles(&restless);
        self.tell_port_facts();
        sockets.close_roles(&gone);
        Ok(())
    }

    /// Takes the devices over; returns those whose handles cannot stay: they have become another kind.
    pub(super) fn install_devices(&mut self, new: &Config) -> Vec<usize> {
        let mut restless = Vec::new();
        for device in &mut self.devices {
            device.gone |= new.device(&device.name).is_none();
        }
        for spec in &new.devices {
            let ports: Vec<usize> = spec
                .ports()
                .filter_map(|port| self.port_number(port))
                .collect();
            let numbers: Vec<u16> = ports.iter().map(|&port| port as u16).collect();
            let Ok(device) = devices::device(spec, &numbers) else {
                continue;
            };
            let entry = DeviceEntry {
                name: spec.name.clone(),
                rootless: spec.mode == Mode::Rootless,
                device,
                ports,
                owner: self.owner_of(&spec.name),
                gone: false,
            };
            let is_free = |number: &usize| {
                let open = |handle: &super::session::Handle| handle.device == *number;
                let mut sessions = self.sessions.values();
                self.devices[*number].gone
                    && !sessions.any(|session| session.handles.values().any(open))
            };
            match self.device_number(&spec.name) {
                Some(number) => {
                    let old = &self.devices[number];
                    // Who has it open has mapped the pools that it had, and no others.
                    let moved = old.rootless != entry.rootless
                        || self.pools_under(&old.ports) != self.pools_under(&entry.ports);
                    if moved {
                        restless.push(number);
                    }
                    self.devices[number] = entry;
                }
                None => match (0..self.devices.len()).find(is_free) {
                    Some(number) => self.devices[number] = entry,
                    None => self.devices.push(entry),
                },
            }
        }
        restless
    }

    fn pools_under(&self, ports: &[usize]) -> BTreeSet<usize> {
        ports.iter().map(|&port| self.ports[port].pool).collect()
    }

    /// Lets every worker act on the configuration as it is now. `coming`: ports that the caller then lets be served.
    pub(super) fn tell_workers(&self, coming: &[u16]) {
        let seats: Vec<(u8, Option<Seat>)> = self
            .sessions
            .values()
            .flat_map(|session| {
                let of = |handle: &super::session::Handle| {
                    (handle.slot, self.seat(session, handle.device))
                };
                session.handles.values().map(of)
            })
            .collect();
        for (index, worker) in self.workers.iter().enumerate() {
            let own = |(_, port): &(usize, &PortEntry)| port.worker == index;
            let faces = |(number, port): (usize, &PortEntry)| {
                let (faces, outward) = self.faces(&port.spec.name);
                NewFaces {
                    port: number as u16,
                    faces,
                    outward,
                }
            };
            worker.tell(Command::Change(Box::new(Change {
                coming: coming.to_vec(),
                devices: self
                    .devices
                    .iter()
                    .map(|entry| entry.device.clone())
                    .collect(),
                faces: self
                    .ports
                    .iter()
                    .enumerate()
                    .filter(own)
                    .map(faces)
                    .collect(),
                seats: seats.clone(),
                port_facts: self.ports.iter().map(|port| port.facts).collect(),
                owner_of_port: self
                    .ports
                    .iter()
                    .map(|port| port.present.then_some(port.worker))
                    .collect(),
                port_books: self
                    .ports
                    .iter()
                    .map(|port| Arc::clone(&port.counters))
                    .collect(),
                tunnel_ports: devices::tunnel_ports(&self.config),
                deep: devices::looks_deep(&self.config),
                views: devices::shows_parts(&self.config),
            })));
        }
    }

    fn remove_ports(&mut self) {
        for (number, port) in self.ports.iter().enumerate() {
            if port.present && self.config.port(&port.spec.name).is_none() {
                self.workers[port.worker].tell(Command::RemovePort {
                    port: number as u16,
                });
            }
        }
    }
}
