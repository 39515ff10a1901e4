//! Several ports that lead to the same place, and which of them a packet leaves by.

use super::Exit;

/// How a bond spreads packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Packet by packet over all ports with a link.
    RoundRobin,
    /// Flow by flow, both directions of a flow by the same port.
    Hash,
    /// By the first port that has a link.
    ActiveBackup,
}

/// Several ports that lead to the same place.
#[derive(Clone, Debug)]
pub struct Bond {
    pub(super) ports: Box<[u16]>,
    spread: Spread,
    next: usize,
}

impl Bond {
    /// A bond over these ports; the first is preferred by active-backup.
    pub fn new(ports: &[u16], spread: Spread) -> Self {
        Self {
            ports: ports.into(),
            spread,
            next: 0,
        }
    }

    /// How it spreads packets.
    pub fn spread(&self) -> Spread {
        self.spread
    }

    #[inline(always)]
    pub(super) fn exit(
        &mut self,
        flow_hash: impl FnOnce() -> u32,
        up: impl Fn(u16) -> bool,
    ) -> Exit {
        let port = self.choose(flow_hash, |port| up(port).then_some(port));
        port.map_or(Exit::Unknown, Exit::Port)
    }

    /// What serves the port of one packet; `served` says it of each port that is up. Takes a turn.
    #[inline(always)]
    pub fn choose<T>(
        &mut self,
        flow_hash: impl FnOnce() -> u32,
        served: impl Fn(u16) -> Option<T>,
    ) -> Option<T> {
        let ports = self.ports.len();
        let mut at = match self.spread {
            Spread::RoundRobin => self.next,
            Spread::Hash => ((u64::from(flow_hash()) * ports as u64) >> 32) as usize,
            Spread::ActiveBackup => 0,
        };
        for _ in 0..ports {
            let next = if at + 1 == ports { 0 } else { at + 1 };
            if let Some(chosen) = served(self.ports[at]) {
                self.next = next;
                return Some(chosen);
            }
            at = next;
        }
        None
    }

    /// Some port is up.
    #[inline(always)]
    pub fn has_way<T>(&self, served: impl Fn(u16) -> Option<T>) -> bool {
        self.ports.iter().any(|&port| served(port).is_some())
    }

    /// Lets `packets` take their turns at once. Returns how many ports are up, and what serves them:
    /// of so many, the first has the first packet and each so many further on.
    #[inline(always)]
    pub fn take_turns<T>(
        &mut self,
        packets: usize,
        served: impl Fn(u16) -> Option<T>,
    ) -> (usize, impl Iterator<Item = T>) {
        let (ports, next) = (&self.ports, &mut self.next);
        let (first, count) = (*next, ports.len());
        let places = first..first + count;
        let places = places.map(move |at| if at < count { at } else { at - count });
        let mut up = places.clone().filter(|&at| served(ports[at]).is_some());
        let turns = up.clone().count();
        if let Some(at) = packets.checked_rem(turns).and_then(|over| up.nth(over)) {
            *next = at;
        }
        (turns, places.filter_map(move |at| served(ports[at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bond_spreads_by_turn_by_flow_or_by_link() {
        let exits = |spread, hash: u32, up: &dyn Fn(u16) -> bool| {
            let mut bond = Bond::new(&[4, 6], spread);
            [
                bond.exit(|| hash, up),
                bond.exit(|| hash, up),
                bond.exit(|| hash, up),
            ]
        };
        let (four, six) = (Exit::Port(4), Exit::Port(6));
        assert_eq!(exits(Spread::RoundRobin, 0, &|_| true), [four, six, four]);
        assert_eq!(exits(Spread::RoundRobin, 0, &|port| port == 6), [six; 3]);
        assert_eq!(exits(Spread::Hash, u32::MAX, &|_| true), [six; 3]);
        assert_eq!(exits(Spread::Hash, 1, &|_| true), [four; 3]);
        assert_eq!(exits(Spread::ActiveBackup, 9, &|_| true), [four; 3]);
        assert_eq!(exits(Spread::ActiveBackup, 9, &|port| port == 6), [six; 3]);
        assert_eq!(
            exits(Spread::ActiveBackup, 9, &|_| false),
            [Exit::Unknown; 3]
        );
    }

    #[test]
    fn turns_that_are_taken_at_once_are_those_taken_one_by_one() {
        for (ports, links, packets) in (1..5u16).flat_map(|ports| {
            (0..1 << ports)
                .flat_map(move |links| (0..9).map(move |packets| (ports, links, packets)))
        }) {
            let numbers: Vec<u16> = (0..ports).collect();
            let up = |port: u16| links >> port & 1 == 1;
            let mut alone = Bond::new(&numbers, Spread::RoundRobin);
            let mut together = alone.clone();
            for _ in 0..ports {
                let exits: Vec<Exit> = (0..packets).map(|_| alone.exit(|| 0, up)).collect();
                let mut taken = vec![Exit::Unknown; packets];
                let (turns, served) = together.take_turns(packets, |port| up(port).then_some(port));
                for (turn, port) in served.enumerate() {
                    let theirs = taken.iter_mut().skip(turn).step_by(turns);
                    theirs.for_each(|exit| *exit = Exit::Port(port));
                }
                assert_eq!(taken, exits, "{packets} over {ports}, links {links:b}");
            }
        }
    }
}
