//! Runs over bonds whose ports are all NICs of this worker: what is the same for all packets of a
//! run, which ports have a link and whose turn it is, is found out once.

use mvmp_wire::Descriptor;

use super::super::Worker;
use super::super::buffers::BURST;
use super::super::device::{Exits, Spread};
use super::super::outgoing::Outgoing;
use super::super::port::Port;
use super::super::returned::Returned;
use crate::counters::DropReason;

impl Worker {
    /// Sends a burst at the most, and closes the shares. Returns how many were refused;
    /// `None`, and nothing done, where no port has a link.
    pub(super) fn send_by_bond(
        &mut self,
        at: usize,
        pool: usize,
        part: &[Returned],
        device: usize,
    ) -> Option<u64> {
        let Self {
            ports,
            parts,
            port_at,
            links,
            ..
        } = self;
        let Exits::Bond(bond) = &mut parts.devices[device].exits else {
            return None;
        };
        let served = |port: u16| port_at[port as usize].filter(|_| links[port as usize]);
        let buffers = &mut parts.pools[pool];
        match bond.spread() {
            Spread::RoundRobin => {
                if !bond.has_way(served) {
                    return None;
                }
                let Descriptor { slot, arg, .. } = part[0].read();
                let mut leaving = [const { None }; BURST];
                let mut left = leaving.iter_mut();
                let departed = buffers.depart(slot, part, |_, outgoing| {
                    if let Some(place) = left.next() {
                        *place = Some(outgoing);
                    }
                });
                // What was refused has no turn.
                let count = BURST - left.len();
                let (turns, places) = bond.take_turns(count, served);
                send_in_turn(ports, places, turns, &mut leaving[..count]);
                self.count_out_drops(at, arg, DropReason::NoBuffer, departed.no_buffer);
                Some(departed.refused)
            }
            Spread::ActiveBackup => {
                let place = bond.choose(|| 0, served)?;
                Some(self.send_to_nic(at, pool, part, place))
            }
            Spread::Hash => {
                let mut places = [0; BURST];
                for (place, returned) in places.iter_mut().zip(part) {
                    // One that is refused may ask for any buffer: it goes nowhere.
                    let flow_hash = || buffers.record(returned.read().granule).flow_hash;
                    *place = bond.choose(flow_hash, served)?;
                }
                Some(self.send_to_nics(at, pool, part, &places[..part.len()]))
            }
        }
    }
}

/// One packet to each of `turns` ports, over and over; all of a port go to it at once.
#[inline(never)]
fn send_in_turn(
    ports: &mut [Port],
    places: impl Iterator<Item = usize>,
    turns: usize,
    leaving: &mut [Option<Outgoing>],
) {
    for (turn, place) in places.enumerate() {
        let (port, mut n) = (&mut ports[place], turn);
        while n < leaving.len() {
            if let Some(outgoing) = leaving[n].take() {
                port.send(outgoing);
            }
            n += turns;
        }
    }
}
