//! A changed configuration, as one worker takes it over: all of it between two bursts.

use std::sync::Arc;

use mvmp_wire::packet::TunnelPorts;

use super::device::{Device, Exits, Seat};
use super::face::{self, Face};
use super::{PortFacts, Worker};
use crate::counters::PortCounters;

/// The faces of one port.
pub struct NewFaces {
    pub port: u16,
    pub faces: Vec<Face>,
    pub outward: Vec<Face>,
}

/// What a worker acts on from now on. Handles stay; who has lost a right is closed apart.
pub struct Change {
    /// Ports that their workers are told to serve right after this.
    pub coming: Vec<u16>,
    /// All devices, by number.
    pub devices: Vec<Device>,
    /// The faces of this worker's ports.
    pub faces: Vec<NewFaces>,
    /// The place of each handle, by slot, in a group or not.
    pub seats: Vec<(u8, Option<Seat>)>,
    /// What each port can take, which worker has it, and its books, by number.
    pub port_facts: Vec<PortFacts>,
    pub owner_of_port: Vec<Option<usize>>,
    pub port_books: Vec<Arc<PortCounters>>,
    pub tunnel_ports: TunnelPorts,
    pub deep: bool,
    pub views: bool,
}

impl Worker {
    /// Takes a change over.
    pub(super) fn change(&mut self, change: Change) {
        self.changes = self.changes.wrapping_add(1);
        self.coming = change.coming;
        for (slot, seat) in change.seats {
            if let Some(lane) = self.lanes[slot as usize].as_deref_mut() {
                lane.seat = seat;
            }
        }
        let before = std::mem::replace(&mut self.parts.devices, change.devices);
        for (device, before) in self.parts.devices.iter_mut().zip(before) {
            keep_stations(device, before);
        }
        for lane in self.lanes.iter().flatten() {
            let device = &mut self.parts.devices[lane.device];
            if lane.receiving {
                device.admit(lane.slot, lane.seat.as_ref());
            }
            device.senders += u32::from(lane.tx && !lane.closing);
        }
        let ports = change.port_facts.len();
        self.port_at.resize(ports, None);
        self.links.resize(ports, true);
        self.parts.port_facts = change.port_facts;
        self.parts.port_books = change.port_books;
        // A port of this worker's own that is going is noted when it is gone.
        self.parts.owner_of_port = change.owner_of_port;
        for new in change.faces {
            if let Some(place) = self.port_at[new.port as usize] {
                self.ports[place].faces = new.faces;
                self.ports[place].outward = new.outward;
            }
        }
        self.parts.tunnel_ports = change.tunnel_ports;
        let own = |lane: &super::Lane| {
            let matcher = lane.matcher.as_ref();
            matcher.is_some_and(|matcher| face::asks_deeper(matcher.needs()))
        };
        self.deep = change.deep || self.lanes.iter().flatten().any(|lane| own(lane));
        if change.views && !self.parts.views {
            self.parts.views = true;
            let pools = &mut self.parts.pools;
            pools.iter_mut().for_each(|pool| pool.ledger.keep_views());
        }
    }
}

/// A bridge over the same ports knows whom the old one has heard.
fn keep_stations(device: &mut Device, before: Device) {
    if device.ports() == before.ports()
        && let (Exits::Bridge(new), Exits::Bridge(old)) = (&mut device.exits, before.exits)
    {
        *new = old;
    }
}
