//! The last step out: a packet is given to the port that was chosen for it.
//!
//! Called by `sending`, once for each port that the packet leaves by. It is cut to what is sent,
//! encapsulated where the device says so, refused by name where the port could not take it, and
//! given to a driver, a file, or the worker that owns the port.

use std::sync::atomic::Ordering;

use mvmp_wire::packet::Link;
use mvmp_wire::packet::encap::{Built, ENCAP_BYTES_MAX, NoEncap};

use super::device::Exit;
use super::item::{Arrival, Item};
use super::outgoing::{BeforeEncap, Outgoing};
use super::port::SENT_BYTES_MAX;
use super::sending::Leaving;
use super::{Worker, lane_at};
use crate::counters::DropReason;

/// Bytes of an Ethernet header: no NIC takes less.
pub(super) const ETHERNET_BYTES: usize = 14;

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
    /// Sends a buffer out by one port, or by several, and counts each copy that is lost. False: no way is known.
    pub(super) fn leave(&mut self, leaving: &Leaving, exit: Exit, departing: Departing) -> bool {
        let outgoing = match departing {
            Departing::Last(outgoing) | Departing::Shared(outgoing) => outgoing,
            Departing::NoBuffer => {
                self.count_unsent(leaving, exit, DropReason::NoBuffer);
                return true;
            }
        };
        match exit {
            Exit::Port(port) => {
                if let Err(reason) = self.put_out(leaving, port, outgoing) {
                    self.count_unsent(leaving, exit, reason);
                }
            }
            Exit::Flood { except } => self.flood(leaving, except, outgoing),
            Exit::Unknown => {
                outgoing.discard();
                self.count_unsent(leaving, exit, DropReason::NoRoute);
                return false;
            }
        }
        true
    }

    fn flood(&mut self, leaving: &Leaving, except: u16, outgoing: Outgoing) {
        for at in 0..self.parts.devices[leaving.device].ports().len() {
            let port = self.parts.devices[leaving.device].ports()[at];
            if port == except {
                continue;
            }
            let sent = match self.parts.pools[leaving.pool].leave_shared(leaving.granule) {
                Some(clone) => self.put_out(leaving, port, clone),
                None => Err(DropReason::NoBuffer),
            };
            if let Err(reason) = sent {
                self.count_unsent(leaving, Exit::Port(port), reason);
            }
        }
        outgoing.discard();
    }

    /// A packet that did not leave: counted at the handle that it was sent over, or, where the worker itself
    /// sends it on, at the port that it was to leave by.
    fn count_unsent(&mut self, leaving: &Leaving, exit: Exit, reason: DropReason) {
        if let Some(lane) = lane_at(&mut self.lanes, leaving.sender) {
            return lane.counters.out_drops.add(reason, 1);
        }
        let ports = self.parts.devices[leaving.device].ports();
        let port = match exit {
            Exit::Port(port) => Some(port),
            // By which of them is not known: the first stands for all.
            Exit::Flood { .. } | Exit::Unknown => ports.first().copied(),
        };
        // One of this worker's, or gone: nobody else writes its books.
        if let Some(books) = port.and_then(|port| self.parts.port_books.get(port as usize)) {
            books.accepted.add(1);
            books.tx_drops.add(reason, 1);
        }
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
        let frame = buffers.frame(Item::part(leaving.granule, &record, part));
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
        let before = BeforeEncap::of(
            (frame, part.link, record.wire_length),
            &built,
            (leaving.sender, leaving.hop),
        );
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
        } else if (facts.is_ethernet || built.headers != 0)
            && !facts.sends(
                length,
                &self.bench.header[..built.headers],
                &frame[built.skip..],
            )
        {
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
            let bytes = buffers.frame(Item::part(leaving.granule, &record, part));
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
            None => {
                let sent = Arrival {
                    timestamp_ns: record.timestamp_ns,
                    wire_length,
                    in_port: record.in_port,
                    link: built.link,
                };
                self.hand_over(port, outgoing, sent, before)
            }
        }
    }

    fn hand_over(
        &mut self,
        port: u16,
        outgoing: Outgoing,
        sent: Arrival,
        before: BeforeEncap,
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
        let parcel = outgoing.into_parcel((port, self.changes), sent, before);
        if let Err(rtrb::PushError::Full(parcel)) = ring.out.push(parcel) {
            ring.in_transit.fetch_sub(1, Ordering::AcqRel);
            parcel.open().discard();
            return Err(DropReason::HandOverFull);
        }
        Ok(())
    }
}
