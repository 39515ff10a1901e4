//! From the ports to the NFs: receive, classify, deliver, and free what nobody wants.
//!
//! Each burst is looked at once for each face of its port. Who wants which packet is decided
//! before the first is delivered; then each device's receivers get theirs. What a device lets pass
//! in the absence of NFs is sent on last.

use mvmp_wire::packet::Link;

use super::Worker;
use super::buffers::BURST;
use super::delivery::{Except, deal, prepare};
use super::device::{Device, Exits, stations};
use super::egress::Departing;
use super::face::{Arrivals, CELLS, Face};
use super::item::Item;
use super::lane::NO_SLOT;
use super::mask::ones;
use super::port::Books;
use super::sending::Leaving;

impl Worker {
    /// One burst from each port; returns how many packets there were.
    pub(super) fn receive(&mut self, now_ns: i64) -> usize {
        let mut work = 0;
        for at in 0..self.ports.len() {
            let most = if self.parts.lossless {
                self.lossless_room(at)
            } else {
                BURST
            };
            work += self.receive_from(at, most, now_ns);
        }
        work
    }

    /// How many packets every receiver of this port's devices takes for sure, and every port that
    /// they are sent on by in the absence of NFs.
    fn lossless_room(&mut self, at: usize) -> usize {
        let (mut room, mut times) = (BURST, 1);
        let pool = self.ports[at].pool;
        for face in &self.ports[at].faces {
            let devices = face
                .devices
                .iter()
                .map(|&device| &self.parts.devices[device]);
            let bypassing = devices.filter(|device| device.bypasses());
            times += bypassing.map(Device::fan_out).sum::<usize>();
        }
        // Who receives inout is shown what is sent on a second time, and by each port it leaves by.
        let wanted = (BURST * times) as u32;
        for face in 0..self.ports[at].faces.len() {
            for cell in 0..self.ports[at].faces[face].devices.len() {
                let device = self.ports[at].faces[face].devices[cell];
                let least = self.room_of_receivers(pool, device, Except::Nobody, wanted);
                room = room.min(least as usize / times);
                if self.parts.devices[device].bypasses() {
                    room =
                        room.min(self.room_of_exits(pool, device, wanted, Except::Nobody) / times);
                }
            }
        }
        room
    }

    #[inline(never)]
    fn receive_from(&mut self, at: usize, most: usize, now_ns: i64) -> usize {
        let port = &mut self.ports[at];
        if port.ended || most == 0 {
            return 0;
        }
        let Some(mut arrivals) = self.arrivals.take() else {
            return 0;
        };
        let pool = port.pool;
        let buffers = &mut self.parts.pools[pool];
        let (items, headers) = (&mut arrivals.items, &mut arrivals.headers);
        let count = port.receive(buffers, most, now_ns, items, headers);
        if count == 0 {
            self.arrivals = Some(arrivals);
            if self.ports[at].source_ended() {
                self.end_port(at);
            }
            return 0;
        }
        if self.deep {
            arrivals.look_deeper(buffers, count, &self.parts.tunnel_ports);
        }
        let hears = |device: usize| !self.parts.devices[device].is_deaf();
        let mut books = Books {
            heard: self.ports[at].devices().any(hears),
            ..Books::default()
        };
        for face in 0..self.ports[at].faces.len() {
            self.dispatch(at, face, &mut arrivals, count, &mut books);
        }
        if !books.all_lent {
            let buffers = &mut self.parts.pools[pool];
            for item in &arrivals.items[..count] {
                if !buffers.ledger.is_lent(item.granule) {
                    buffers.go_home(item.granule);
                }
            }
        }
        self.arrivals = Some(arrivals);
        self.ports[at].enter(&books, count);
        count
    }

    /// The cells of a face whose rules matter: a bit for each. Where nobody receives from the port at
    /// all, every rule is asked: the drop is named after it.
    fn asked(&self, face: &Face, heard: bool) -> u64 {
        if !heard || self.tracer.is_some() {
            return u64::MAX;
        }
        let matters = |&device: &usize| {
            let device = &self.parts.devices[device];
            !device.is_deaf() || device.bypasses() || matches!(device.exits, Exits::Bridge(_))
        };
        let cells = face.devices.iter().enumerate();
        cells.fold(0, |asked, (cell, device)| {
            asked | u64::from(matters(device)) << cell
        })
    }

    /// Offers a burst to the devices of one face.
    #[inline(never)]
    fn dispatch(
        &mut self,
        at: usize,
        face_at: usize,
        arrivals: &mut Arrivals,
        count: usize,
        books: &mut Books,
    ) {
        let asked = self.asked(&self.ports[at].faces[face_at], books.heard);
        let Self {
            ports,
            parts,
            lanes,
            to_wake,
            fragments,
            flows,
            tsc,
            ..
        } = self;
        let (port, devices) = (&ports[at], &mut parts.devices);
        let face = &port.faces[face_at];
        let buffers = &mut parts.pools[port.pool];
        let mut wanted = [0; CELLS];
        let items = arrivals.seen_by(face, buffers, count, |packets| {
            face.classify(packets, asked, &mut wanted);
            for (&device, &wanted) in face.devices.iter().zip(&wanted) {
                if wanted == 0 {
                    continue;
                }
                let device = &mut devices[device];
                prepare(device, lanes, fragments, packets, wanted, flows);
                if let Exits::Bridge(bridge) = &mut device.exits {
                    for n in ones(wanted) {
                        // What begins with IP names no station.
                        if packets.outer[n].link == Link::Ethernet {
                            bridge.learn(stations(packets.outer_frames[n]).1, port.number);
                        }
                    }
                }
            }
        });
        let mut bypassed = 0;
        for (&device, &wanted) in face.devices.iter().zip(&wanted) {
            let device = &devices[device];
            if wanted == 0 {
                continue;
            }
            books.matched |= wanted;
            let dealt = deal(
                device,
                lanes,
                to_wake,
                buffers,
                items,
                flows,
                Except::Nobody,
                *tsc,
            );
            books.offered |= dealt.offered;
            books.all_lent |= dealt.whole;
            if device.bypasses() {
                bypassed |= wanted;
            }
        }
        if bypassed != 0 || self.tracer.is_some() {
            let mut seen = [Item::default(); BURST];
            seen[..count].copy_from_slice(items);
            let (mut cells, face) = ([0; CELLS], &self.ports[at].faces[face_at]);
            let devices = &mut cells[..face.devices.len()];
            devices.copy_from_slice(&face.devices);
            let pool = self.ports[at].pool;
            let port = Some(self.ports[at].number);
            let items = &seen[..count];
            self.trace_seen((port, pool), devices, items, &wanted, Except::Nobody);
            if bypassed != 0 {
                self.bypass(at, devices, &seen[..count], &wanted, books);
            }
        }
    }

    /// Sends on what devices let pass while no NF is there to send.
    #[cold]
    fn bypass(
        &mut self,
        at: usize,
        devices: &[usize],
        items: &[Item],
        wanted: &[u64; CELLS],
        books: &mut Books,
    ) {
        let (pool, in_port) = (self.ports[at].pool, self.ports[at].number);
        for (&device, &wanted) in devices.iter().zip(wanted) {
            if !self.parts.devices[device].bypasses() {
                continue;
            }
            for n in ones(wanted) {
                let leaving = Leaving {
                    pool,
                    granule: items[n].granule,
                    device,
                    in_port,
                    view: items[n].view,
                    sender: NO_SLOT,
                    hop: 0,
                };
                let exit = self.exit(&leaving);
                self.show_outward(&leaving, exit);
                // Another device may let it pass, too: what leaves here is a clone.
                let departing = self.parts.pools[pool]
                    .leave_shared(leaving.granule)
                    .map_or(Departing::NoBuffer, Departing::Shared);
                self.leave(&leaving, exit, departing);
            }
            books.bypassed |= wanted;
        }
    }

    /// A source has played to its end: its handles end with it.
    fn end_port(&mut self, at: usize) {
        self.ports[at].ended = true;
        self.ports[at].counters.ended.set(1);
        let devices: Vec<usize> = self.ports[at].devices().collect();
        for device in devices {
            if self.is_over(device) {
                let slots: Vec<u8> = self.parts.devices[device].listeners().collect();
                slots.into_iter().for_each(|slot| self.end_handle(slot));
            }
        }
    }

    /// The ports that feed a device have all been played to their end.
    pub(super) fn is_over(&self, device: usize) -> bool {
        // Who also receives what leaves is told by control, when nothing can leave any more.
        let mut faces = self.ports.iter().flat_map(|port| &port.outward);
        if faces.any(|face| face.devices.contains(&device)) {
            return false;
        }
        let feeds = |port: &&super::port::Port| port.devices().any(|other| other == device);
        let mut feeding = self.ports.iter().filter(feeds).peekable();
        feeding.peek().is_some() && feeding.all(|port| port.ended)
    }
}
