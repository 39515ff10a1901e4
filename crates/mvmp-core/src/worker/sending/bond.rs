//! Runs over bonds whose ports are all NICs of this worker: what is the same for all packets of a
//! run, which ports have a link and whose turn it is, is found out once.

use mvmp_wire::Descriptor;

use super::super::Worker;
use super::super::buffers::BURST;
use super::super::device::{Exits, Spread};
use super::super::outgoing::Outgoing;
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
            parts,
            port_at,
            links,
            ..
        } = self;
        let Exits::Bond(bond) = &mut parts.devices[device].exits else {
            return None;
        };
        let served = |port: u16| port_at[port as usize].filter(|_| links[port as usize]);
        match bond.spread() {
            Spread::RoundRobin => self.send_in_turn(at, pool, part, device),
            Spread::ActiveBackup => {
                let place = bond.choose(|| 0, served)?;
                Some(self.send_to_nic(at, pool, part, place))
            }
            Spread::Hash => {
                let (buffers, mut places) = (&parts.pools[pool], [0; BURST]);
                for (place, returned) in places.iter_mut().zip(part) {
                    // One that is refused may ask for any buffer: it goes nowhere.
                    let flow_hash = || buffers.record(returned.read().granule).flow_hash;
                    *place = bond.choose(flow_hash, served)?;
                }
                Some(self.send_to_nics(at, pool, part, &places[..part.len()]))
            }
        }
    }

    /// One packet to each port, over and over; all of a port go to it at once.
    #[inline(never)]
    fn send_in_turn(
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
        if !bond.has_way(served) {
            return None;
        }
        let Descriptor { slot, arg, .. } = part[0].read();
        let mut leaving: [Option<Outgoing>; BURST] = [const { None }; BURST];
        let mut left = leaving.iter_mut();
        let departed = parts.pools[pool].depart(slot, part, |_, outgoing| {
            if let Some(place) = left.next() {
                *place = Some(outgoing);
            }
        });
        // What was refused has no turn.
        let count = BURST - left.len();
        let (turns, served) = bond.take_turns(count, served);
        for (turn, place) in served.enumerate() {
            let (port, mut n) = (&mut ports[place], turn);
            while n < count {
                if let Some(outgoing) = leaving[n].take() {
                    port.send(outgoing);
                }
                n += turns;
            }
        }
        self.count_out_drops(at, arg, DropReason::NoBuffer, departed.no_buffer);
        Some(departed.refused)
    }
}
