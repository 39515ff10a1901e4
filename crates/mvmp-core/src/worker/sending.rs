//! Out of the ports: which port a packet leaves by, who else is shown it on the way, and how it is
//! made ready.
//!
//! Called for what NFs send (`returns`), for frames they built (`built`), and for what the worker
//! itself sends on (`receive`). Runs that leave by one NIC as they came go in one go; all else
//! goes packet by packet: cut to what is sent, shown to those who receive what leaves, encapsulated,
//! and given to a driver, a file, or the worker that owns the port.

use std::sync::atomic::Ordering;

use mvmp_wire::Descriptor;
use mvmp_wire::descriptor::ANY_PORT;
use mvmp_wire::packet::Link;
use mvmp_wire::packet::encap::{Built, ENCAP_BYTES_MAX, NoEncap};
use mvmp_wire::record::Record;

use super::Worker;
use super::buffers::{Buffers, Item};
use super::delivery::Except;
use super::device::{Asked, Exit, Exits, stations};
use super::lane::NO_SLOT;
use super::outgoing::Outgoing;
use super::port::SENT_BYTES_MAX;
use super::view::{Part, View};
use crate::counters::DropReason;
use crate::ledger::Closed;

/// Bytes of an Ethernet header: no NIC takes less.
const ETHERNET_BYTES: usize = 14;

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
}

/// A buffer that leaves.
pub(super) enum Departing {
    /// Nobody holds it any more.
    Last(Outgoing),
    /// Others do: an indirect mbuf.
    Shared(Outgoing),
    /// There was no mbuf for a clone.
    NoBuffer,
}

/// Where headers are built, reused by each packet.
pub(super) struct Workbench {
    header: [u8; ENCAP_BYTES_MAX],
    frame: Vec<u8>,
}

impl Default for Workbench {
    fn default() -> Self {
        Self {
            header: [0; ENCAP_BYTES_MAX],
            frame: Vec::with_capacity(SENT_BYTES_MAX),
        }
    }
}

impl Worker {
    /// Whether what this device sends leaves as it came, by NICs of this worker, unseen by others.
    pub(super) fn is_plain(&self, device: usize) -> bool {
        let device = &self.parts.devices[device];
        let own_nic = |&port: &u16| {
            self.port_at[port as usize].is_some_and(|place| {
                let port = &self.ports[place];
                !port.is_capture() && port.outward.is_empty()
            })
        };
        let shapes = match &device.exits {
            Exits::Direct(_) => true,
            Exits::Bridge(_) => device.ports().len() == 2,
            Exits::Bond(_) | Exits::Rootless => false,
        };
        shapes && device.shapes.is_empty() && device.ports().iter().all(own_nic)
    }

    /// Sends a run of descriptors over a device with ports, and closes their shares. Returns how
    /// many were refused, and how many no way was known for.
    pub(super) fn send_run(
        &mut self,
        at: usize,
        pool: usize,
        run: &[Descriptor],
        device: usize,
    ) -> (u64, u64) {
        let buffers = &self.parts.pools[pool];
        if buffers.ledger.has_views() || buffers.bare || !self.is_plain(device) {
            return self.send_one_by_one(at, pool, run, device);
        }
        if let Exits::Direct(port) = self.parts.devices[device].exits {
            return (self.send_to_nic(at, pool, run, port), 0);
        }
        let (mut refused, mut no_way, mut rest) = (0, 0, run);
        while let Some(first) = rest.first() {
            let exit = self.way_through(pool, first, device);
            let length = rest
                .iter()
                .take_while(|next| self.way_through(pool, next, device) == exit)
                .count();
            let (part, after) = rest.split_at(length);
            rest = after;
            let (not_held, lost) = match exit {
                Some(port) => (self.send_to_nic(at, pool, part, port), 0),
                // Built by an NF, or of another device: looked up one by one.
                None => self.send_one_by_one(at, pool, part, device),
            };
            refused += not_held;
            no_way += lost;
        }
        (refused, no_way)
    }

    /// The other port of a bridge over two.
    #[inline(always)]
    fn way_through(&self, pool: usize, descriptor: &Descriptor, device: usize) -> Option<u16> {
        let &[one, other] = self.parts.devices[device].ports() else {
            return None;
        };
        match self.in_port(pool, descriptor) {
            port if port == one => Some(other),
            port if port == other => Some(one),
            _ => None,
        }
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
    fn send_to_nic(&mut self, at: usize, pool: usize, part: &[Descriptor], port: u16) -> u64 {
        let Some(place) = self.port_at[port as usize] else {
            return 0;
        };
        let (slot, arg) = (part[0].slot, part[0].arg);
        let departed = self.ports[place].send_run(&mut self.parts.pools[pool], slot, part);
        self.count_out_drops(at, arg, DropReason::NoBuffer, departed.no_buffer);
        departed.refused
    }

    fn send_one_by_one(
        &mut self,
        at: usize,
        pool: usize,
        run: &[Descriptor],
        device: usize,
    ) -> (u64, u64) {
        let (mut refused, mut no_way) = (0, 0);
        for descriptor in run {
            let ledger = &self.parts.pools[pool].ledger;
            if !ledger.holds(descriptor.slot, descriptor.granule, descriptor.token) {
                refused += 1;
                continue;
            }
            let leaving = self.leaving(at, pool, descriptor, device);
            let exit = self.exit(&leaving);
            self.show_outward(&leaving, exit);
            let departing = close_for_sending(&mut self.parts.pools[pool], descriptor);
            if let Err(reason) = self.leave(&leaving, exit, departing) {
                no_way += u64::from(reason == DropReason::NoRoute);
                self.count_out_drop(at, descriptor.arg, reason);
            }
        }
        (refused, no_way)
    }

    /// Sends copies of what stays with the NF. The shares were found open.
    pub(super) fn mirror_out(
        &mut self,
        at: usize,
        pool: usize,
        part: &[Descriptor],
        device: usize,
    ) {
        for descriptor in part {
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
            if let Err(reason) = self.leave(&leaving, exit, departing) {
                self.count_out_drop(at, descriptor.arg, reason);
            }
        }
    }

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
        }
    }

    /// Where a packet leaves; a bond's turn is taken by asking.
    pub(super) fn exit(&mut self, leaving: &Leaving) -> Exit {
        let buffers = &self.parts.pools[leaving.pool];
        let record = buffers.record(leaving.granule);
        let part = leaving.view.sent(&record);
        let destination = match part.link {
            Link::Ethernet => stations(buffers.frame(item_of(leaving.granule, &record, part))).0,
            _ => 0,
        };
        let asked = Asked {
            in_port: leaving.in_port,
            destination,
            flow_hash: record.flow_hash,
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

    /// Sends a buffer out by one port, or by several.
    pub(super) fn leave(
        &mut self,
        leaving: &Leaving,
        exit: Exit,
        departing: Departing,
    ) -> Result<(), DropReason> {
        let outgoing = match departing {
            Departing::Last(outgoing) | Departing::Shared(outgoing) => outgoing,
            Departing::NoBuffer => return Err(DropReason::NoBuffer),
        };
        match exit {
            Exit::Port(port) => self.put_out(leaving, port, outgoing),
            Exit::Flood { except } => self.flood(leaving, except, outgoing),
            Exit::Unknown => {
                outgoing.discard();
                Err(DropReason::NoRoute)
            }
        }
    }

    fn flood(
        &mut self,
        leaving: &Leaving,
        except: u16,
        outgoing: Outgoing,
    ) -> Result<(), DropReason> {
        let mut outcome = Ok(());
        for at in 0..self.parts.devices[leaving.device].ports().len() {
            let port = self.parts.devices[leaving.device].ports()[at];
            if port == except {
                continue;
            }
            let sent = match self.parts.pools[leaving.pool].leave_shared(leaving.granule) {
                Some(clone) => self.put_out(leaving, port, clone),
                None => Err(DropReason::NoBuffer),
            };
            outcome = outcome.and(sent);
        }
        outgoing.discard();
        outcome
    }

    /// Makes a packet ready for a port and gives it there.
    fn put_out(
        &mut self,
        leaving: &Leaving,
        port: u16,
        outgoing: Outgoing,
    ) -> Result<(), DropReason> {
        let buffers = &self.parts.pools[leaving.pool];
        let record = buffers.record(leaving.granule);
        let mut part = leaving.view.sent(&record);
        let frame = buffers.frame(item_of(leaving.granule, &record, part));
        let mut built = Built {
            headers: 0,
            skip: 0,
            link: part.link,
        };
        if let Some(encap) = self.parts.devices[leaving.device].shape(port) {
            match encap.build(frame, part.link, record.flow_hash, &mut self.bench.header) {
                Ok(done) => built = done,
                Err(error) => {
                    outgoing.discard();
                    return Err(match error {
                        NoEncap::NoEthernet => DropReason::NoEthernet,
                        NoEncap::TooLong => DropReason::MtuExceeded,
                        _ => DropReason::NoEncap,
                    });
                }
            }
        }
        part.start += built.skip as u16;
        let length = built.headers + usize::from(part.length());
        let owner = self
            .parts
            .owner_of_port
            .get(port as usize)
            .copied()
            .flatten();
        let facts = self.parts.port_facts[port as usize];
        let refusal = if owner.is_none() {
            Some(DropReason::PortGone)
        } else if facts.is_ethernet && built.link != Link::Ethernet {
            Some(DropReason::NoEthernet)
        } else if built.headers != 0 && length > facts.max_frame as usize {
            Some(DropReason::MtuExceeded)
        } else if facts.is_ethernet && length < ETHERNET_BYTES {
            // Some NICs stop for good at what is no frame.
            Some(DropReason::BadFrame)
        } else {
            None
        };
        if let Some(reason) = refusal {
            outgoing.discard();
            return Err(reason);
        }
        let whole = length == usize::from(record.length) && built.headers == 0;
        let wire_length = if whole {
            record.wire_length
        } else {
            // What a capture had cut off is missing at the end of the part, too. It may say anything.
            let cut_off = record.wire_length.saturating_sub(u32::from(record.length));
            cut_off.saturating_add(length as u32)
        };
        if let Some(place) = self.port_at[port as usize]
            && self.ports[place].is_capture()
        {
            let bytes = buffers.frame(item_of(leaving.granule, &record, part));
            let port = &mut self.ports[place];
            if built.headers == 0 {
                port.write(bytes, record.timestamp_ns, wire_length, built.link);
            } else {
                let whole = &mut self.bench.frame;
                whole.clear();
                whole.extend_from_slice(&self.bench.header[..built.headers]);
                whole.extend_from_slice(bytes);
                port.write(whole, record.timestamp_ns, wire_length, built.link);
            }
            outgoing.discard();
            return Ok(());
        }
        let outgoing = if whole {
            outgoing
        } else {
            self.parts.pools[leaving.pool]
                .ready(
                    outgoing,
                    leaving.granule,
                    usize::from(part.start)..usize::from(part.end),
                    &self.bench.header[..built.headers],
                )
                .ok_or(DropReason::NoBuffer)?
        };
        match self.port_at[port as usize] {
            Some(place) => {
                self.ports[place].send(outgoing);
                Ok(())
            }
            None => self.hand_over(port, outgoing, &record, wire_length, built.link),
        }
    }

    fn hand_over(
        &mut self,
        port: u16,
        outgoing: Outgoing,
        record: &Record,
        wire_length: u32,
        link: Link,
    ) -> Result<(), DropReason> {
        let owner = self.parts.owner_of_port[port as usize];
        let ring = owner
            .and_then(|worker| self.parts.hand_over.get_mut(worker))
            .and_then(Option::as_mut);
        let Some(ring) = ring else {
            outgoing.discard();
            return Err(DropReason::PortGone);
        };
        // ORDERING: counted before it can be taken out and discounted.
        ring.in_transit.fetch_add(1, Ordering::AcqRel);
        let parcel = outgoing.into_parcel(port, record.timestamp_ns, wire_length, link);
        if let Err(rtrb::PushError::Full(parcel)) = ring.out.push(parcel) {
            ring.in_transit.fetch_sub(1, Ordering::AcqRel);
            parcel.open().discard();
            return Err(DropReason::HandOverFull);
        }
        Ok(())
    }

    /// How many packets of a device can leave without loss: by any of its ports, and to all who
    /// receive what leaves there. One that is flooded is shown to them once for each port.
    pub(super) fn room_of_exits(&mut self, pool: usize, device: usize, wanted: u32) -> usize {
        let mut room = usize::MAX;
        let times = self.parts.devices[device].fan_out();
        let wanted = wanted.saturating_mul(times as u32);
        for at in 0..self.parts.devices[device].ports().len() {
            let port = self.parts.devices[device].ports()[at];
            room = room.min(self.room_of_port(port));
            let Some(place) = self.port_at[port as usize] else {
                continue;
            };
            for face in 0..self.ports[place].outward.len() {
                for cell in 0..self.ports[place].outward[face].devices.len() {
                    let receiving = self.ports[place].outward[face].devices[cell];
                    let least = self.room_of_receivers(pool, receiving, Except::Nobody, wanted);
                    room = room.min(least as usize / times);
                }
            }
        }
        room
    }

    fn room_of_port(&self, number: u16) -> usize {
        if let Some(place) = self.port_at[number as usize] {
            return self.ports[place].lossless_room();
        }
        let owner = self.parts.owner_of_port[number as usize];
        let ring = owner.and_then(|worker| self.parts.hand_over[worker].as_ref());
        ring.map_or(usize::MAX, |ring| ring.out.slots())
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
        let item = item_of(leaving.granule, &record, part);
        self.offer_outward(place, leaving.pool, item, part, leaving.sender);
    }
}

/// A part of a frame that was received.
#[inline(always)]
pub(super) fn item_of(granule: u32, record: &Record, part: Part) -> Item {
    Item {
        granule,
        offset: record.offset + part.start,
        length: part.length(),
        link: part.link as u8,
        hop: 0,
        view: View::default(),
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
