//! Out of the ports: which port a packet leaves by, and who else is shown it on the way.
//!
//! Called for what NFs send (`returns`), for frames they built (`built`), and for what the worker
//! itself sends on (`receive`). Runs that leave by NICs as they came go in one go, over bonds by
//! `bond`; all else goes packet by packet: shown to those who receive what leaves, then made ready
//! by `egress`.

mod bond;

use mvmp_wire::Descriptor;
use mvmp_wire::descriptor::ANY_PORT;
use mvmp_wire::packet::Link;

use super::Worker;
use super::buffers::{BURST, Buffers};
use super::delivery::Except;
use super::device::{Asked, Exit, Exits, stations};
use super::egress::{Departing, ETHERNET_BYTES};
use super::item::Item;
use super::lane::NO_SLOT;
use super::outward::Shown;
use super::returned::Returned;
use super::returns::TURN;
use super::view::View;
use crate::counters::DropReason;
use crate::ledger::Closed;

/// A packet on its way out of a device.
#[derive(Clone, Copy)]
pub(super) struct Leaving {
    pub(super) pool: usize,
    pub(super) granule: u32,
    pub(super) device: usize,
    /// The port that it is to be taken to have come by.
    pub(super) in_port: u16,
    /// What of the frame is sent.
    pub(super) view: View,
    /// The slot of the handle that it is sent over: it does not get it back.
    pub(super) sender: u8,
    /// NFs that have handed it on so far, as its descriptor says.
    pub(super) hop: u8,
}

impl Worker {
    /// The longest frame that all ports of this device take, whatever is in it, if what it sends whole
    /// leaves as it came, by NICs of this worker, unseen by others.
    fn plain_frame_bytes(&self, device: usize) -> Option<u16> {
        let device = &self.parts.devices[device];
        let mut most = u32::from(u16::MAX);
        for &number in device.ports() {
            let port = &self.ports[self.port_at[number as usize]?];
            if port.is_capture() || !port.outward.is_empty() {
                return None;
            }
            most = most.min(self.parts.port_facts[number as usize].longest);
        }
        device.shapes.is_empty().then_some(most as u16)
    }

    /// Sends a run of descriptors over a device with ports, and closes their shares. Returns how
    /// many were refused, and how many no way was known for.
    #[inline(never)]
    pub(super) fn send_run(
        &mut self,
        at: usize,
        pool: usize,
        run: &[Returned],
        device: usize,
    ) -> (u64, u64) {
        let buffers = &self.parts.pools[pool];
        let plain = self.plain_frame_bytes(device).is_some_and(|most| {
            buffers.ledger.sends_whole(run) && buffers.are_frames(run, ETHERNET_BYTES as u16..=most)
        });
        if !plain {
            return self.send_one_by_one(at, pool, run, device);
        }
        let sent = match self.parts.devices[device].exits {
            Exits::Direct(port) => {
                self.port_at[port as usize].map(|place| self.send_to_nic(at, pool, run, place))
            }
            // Links change between bursts only: either all parts of a run find a way, or none does.
            Exits::Bond(_) => run
                .chunks(BURST)
                .map(|part| self.send_by_bond(at, pool, part, device))
                .sum(),
            Exits::Bridge(_) | Exits::Rootless => None,
        };
        if let Some(refused) = sent {
            return (refused, 0);
        }
        let (mut refused, mut no_way, mut rest) = (0, 0, run);
        let mut places = [0; TURN];
        while !rest.is_empty() {
            let known = self.places(at, pool, rest, device, &mut places);
            let (part, after) = rest.split_at(known);
            refused += self.send_to_nics(at, pool, part, &places[..known]);
            // Flooded, or no way is known: looked at by itself.
            let (odd, after) = after.split_at(after.len().min(1));
            let (not_held, lost) = self.send_one_by_one(at, pool, odd, device);
            (refused, no_way, rest) = (refused + not_held, no_way + lost, after);
        }
        (refused, no_way)
    }

    /// For those packets at the front of a run that leave by one NIC each: which of `ports` it is.
    /// Returns how many they are.
    fn places(
        &mut self,
        at: usize,
        pool: usize,
        run: &[Returned],
        device: usize,
        places: &mut [usize; TURN],
    ) -> usize {
        for (known, (returned, place)) in run.iter().zip(&mut *places).enumerate() {
            let descriptor = &returned.read();
            let ledger = &self.parts.pools[pool].ledger;
            if !ledger.holds(descriptor.slot, descriptor.granule, descriptor.token) {
                // Refused, when its share is to be closed.
                continue;
            }
            let leaving = self.leaving(at, pool, descriptor, device);
            let Exit::Port(port) = self.exit(&leaving) else {
                return known;
            };
            let Some(served) = self.port_at[port as usize] else {
                return known;
            };
            *place = served;
        }
        run.len().min(TURN)
    }

    #[inline(always)]
    fn in_port(&self, pool: usize, descriptor: &Descriptor) -> u16 {
        if descriptor.offset == ANY_PORT {
            self.parts.pools[pool].record(descriptor.granule).in_port
        } else {
            descriptor.offset
        }
    }

    /// Returns how many were refused.
    fn send_to_nic(&mut self, at: usize, pool: usize, part: &[Returned], place: usize) -> u64 {
        let Descriptor { slot, arg, .. } = part[0].read();
        let departed = self.ports[place].send_run(&mut self.parts.pools[pool], slot, part);
        self.count_out_drops(at, arg, DropReason::NoBuffer, departed.no_buffer);
        departed.refused
    }

    /// The same, where each has a NIC of its own.
    fn send_to_nics(&mut self, at: usize, pool: usize, part: &[Returned], places: &[usize]) -> u64 {
        let Some(&first) = places.first() else {
            return 0;
        };
        if places.iter().all(|&place| place == first) {
            return self.send_to_nic(at, pool, part, first);
        }
        let Self { ports, parts, .. } = self;
        let Descriptor { slot, arg, .. } = part[0].read();
        let departed = parts.pools[pool].depart(slot, part, |n, outgoing| {
            ports[places[n]].send(outgoing);
        });
        self.count_out_drops(at, arg, DropReason::NoBuffer, departed.no_buffer);
        departed.refused
    }

    fn send_one_by_one(
        &mut self,
        at: usize,
        pool: usize,
        run: &[Returned],
        device: usize,
    ) -> (u64, u64) {
        let (mut refused, mut no_way) = (0, 0);
        for returned in run {
            let descriptor = &returned.read();
            let ledger = &self.parts.pools[pool].ledger;
            if !ledger.holds(descriptor.slot, descriptor.granule, descriptor.token) {
                refused += 1;
                continue;
            }
            let leaving = self.leaving(at, pool, descriptor, device);
            let exit = self.exit(&leaving);
            self.show_outward(&leaving, exit);
            let departing = close_for_sending(&mut self.parts.pools[pool], descriptor);
            no_way += u64::from(!self.leave(&leaving, exit, departing));
        }
        (refused, no_way)
    }

    /// Sends copies of what stays with the NF. The shares were found open.
    pub(super) fn mirror_out(&mut self, at: usize, pool: usize, part: &[Returned], device: usize) {
        for returned in part {
            let descriptor = &returned.read();
            let buffers = &mut self.parts.pools[pool];
            if !buffers
                .ledger
                .holds(descriptor.slot, descriptor.granule, descriptor.token)
            {
                continue;
            }
            let departing = buffers
                .leave_shared(descriptor.granule)
                .map_or(Departing::NoBuffer, Departing::Shared);
            let leaving = self.leaving(at, pool, descriptor, device);
            let exit = self.exit(&leaving);
            self.show_outward(&leaving, exit);
            self.leave(&leaving, exit, departing);
        }
    }

    #[inline(always)]
    fn leaving(&self, at: usize, pool: usize, descriptor: &Descriptor, device: usize) -> Leaving {
        let ledger = &self.parts.pools[pool].ledger;
        let sender = self.nfs[at].slots.get(descriptor.arg as usize);
        Leaving {
            pool,
            granule: descriptor.granule,
            device,
            in_port: self.in_port(pool, descriptor),
            view: ledger.view(descriptor.slot, descriptor.granule),
            sender: sender.copied().unwrap_or(NO_SLOT),
            hop: descriptor.hop,
        }
    }

    /// Where a packet leaves; a bond's turn is taken by asking.
    #[inline]
    pub(super) fn exit(&mut self, leaving: &Leaving) -> Exit {
        let buffers = &self.parts.pools[leaving.pool];
        let asked = Asked {
            in_port: leaving.in_port,
            destination: || {
                let record = buffers.record(leaving.granule);
                let part = leaving.view.sent(&record);
                match part.link {
                    Link::Ethernet => {
                        stations(buffers.frame(Item::part(leaving.granule, &record, part))).0
                    }
                    _ => 0,
                }
            },
            flow_hash: || buffers.record(leaving.granule).flow_hash,
        };
        let (index, links, places) = (self.parts.index, &self.links, &self.port_at);
        let owners = &self.parts.owner_of_port;
        // A port of this worker's own that it does not serve is on its way here, or gone.
        let up = |port: u16| {
            let elsewhere = owners[port as usize].is_some_and(|owner| owner != index);
            links[port as usize] && (places[port as usize].is_some() || elsewhere)
        };
        self.parts.devices[leaving.device].exit(asked, up)
    }

    /// How many packets of a device can leave without loss: by any of its ports, and to all who
    /// receive what leaves there but the sender, `except`. One that is flooded is shown to them once for each port.
    pub(super) fn room_of_exits(
        &mut self,
        pool: usize,
        device: usize,
        wanted: u32,
        except: Except,
    ) -> usize {
        let mut room = usize::MAX;
        let times = self.parts.devices[device].fan_out();
        let wanted = wanted.saturating_mul(times as u32);
        for at in 0..self.parts.devices[device].ports().len() {
            let port = self.parts.devices[device].ports()[at];
            room = room.min(self.room_of_port(device, port));
            let Some(place) = self.port_at[port as usize] else {
                continue;
            };
            room = room.min(self.room_outward(place, pool, wanted, except) / times);
        }
        room
    }

    /// How many packets all who receive what leaves by a port, but the sender, take without loss.
    pub(super) fn room_outward(
        &mut self,
        place: usize,
        pool: usize,
        wanted: u32,
        except: Except,
    ) -> usize {
        let mut room = u32::MAX;
        for face in 0..self.ports[place].outward.len() {
            for cell in 0..self.ports[place].outward[face].devices.len() {
                let receiving = self.ports[place].outward[face].devices[cell];
                room = room.min(self.room_of_receivers(pool, receiving, except, wanted));
            }
        }
        room as usize
    }

    fn room_of_port(&self, device: usize, number: u16) -> usize {
        if let Some(place) = self.port_at[number as usize] {
            return self.ports[place].lossless_room();
        }
        let owner_of = |port: u16| self.parts.owner_of_port[port as usize];
        let owner = owner_of(number);
        let ring = owner.and_then(|worker| self.parts.hand_over[worker].as_ref());
        let device = &self.parts.devices[device];
        // What is flooded takes a slot for each port, and those of one worker have one ring.
        let sharing = match device.fan_out() {
            1 => 1,
            _ => device
                .ports()
                .iter()
                .filter(|port| owner_of(**port) == owner)
                .count(),
        };
        ring.map_or(usize::MAX, |ring| ring.out.slots() / sharing.max(1))
    }

    /// Shows a packet that leaves to those who receive what leaves by its ports.
    pub(super) fn show_outward(&mut self, leaving: &Leaving, exit: Exit) {
        match exit {
            Exit::Port(port) => self.show_outward_at(leaving, port),
            Exit::Flood { except } => {
                for at in 0..self.parts.devices[leaving.device].ports().len() {
                    let port = self.parts.devices[leaving.device].ports()[at];
                    if port != except {
                        self.show_outward_at(leaving, port);
                    }
                }
            }
            Exit::Unknown => {}
        }
    }

    fn show_outward_at(&mut self, leaving: &Leaving, port: u16) {
        let place = self.port_at[port as usize];
        let Some(place) = place.filter(|&place| !self.ports[place].outward.is_empty()) else {
            return;
        };
        let record = self.parts.pools[leaving.pool].record(leaving.granule);
        let part = leaving.view.sent(&record);
        let shown = Shown {
            pool: leaving.pool,
            item: Item::part(leaving.granule, &record, part),
            part,
            sender: leaving.sender,
            hop: leaving.hop,
        };
        self.offer_outward(place, &shown);
    }
}

/// Closes the sender's share and yields what can be sent. The share was found open.
#[inline(always)]
fn close_for_sending(buffers: &mut Buffers, descriptor: &Descriptor) -> Departing {
    match buffers
        .ledger
        .close(descriptor.slot, descriptor.granule, descriptor.token)
    {
        Closed::Last => Departing::Last(buffers.leave(descriptor.granule)),
        Closed::Shared | Closed::Refused => buffers
            .leave_shared(descriptor.granule)
            .map_or(Departing::NoBuffer, Departing::Shared),
    }
}
