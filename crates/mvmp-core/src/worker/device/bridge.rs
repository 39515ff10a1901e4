//! Ports between which packets pass, and what is known of the stations behind them.

use super::Exit;

/// Stations that a bridge remembers at a time; a station hashes to one place.
const STATIONS: usize = 4096;
/// An Ethernet address with the group bit: broadcast or multicast.
const GROUP_BIT: u64 = 1 << 40;

/// Ports between which packets pass. Over two ports what came by one leaves by the other. Over
/// more, as in a switch, the destination decides: a station that was heard is behind the port that
/// it was heard on, any other is asked for on every port but the one that the packet came by. What
/// came by the port that its destination is behind goes nowhere.
#[derive(Clone, Debug)]
pub struct Bridge {
    pub(super) ports: Box<[u16]>,
    /// `address << 16 | port + 1`, 0: nobody.
    stations: Box<[u64]>,
}

impl Bridge {
    /// A bridge over these ports that has heard nobody.
    pub fn new(ports: &[u16]) -> Self {
        Self {
            ports: ports.into(),
            stations: vec![0; STATIONS].into_boxed_slice(),
        }
    }

    /// Notes that `source` was heard on `port`.
    #[inline(always)]
    pub fn learn(&mut self, source: u64, port: u16) {
        if source & GROUP_BIT == 0 && source != 0 {
            self.stations[station(source)] = source << 16 | u64::from(port + 1);
        }
    }

    /// Forgets who was heard on a port that is gone.
    pub fn forget(&mut self, port: u16) {
        let behind = u64::from(port + 1);
        self.stations
            .iter_mut()
            .filter(|known| **known & 0xffff == behind)
            .for_each(|known| *known = 0);
    }

    #[inline(always)]
    fn behind(&self, destination: u64) -> Option<u16> {
        let known = self.stations[station(destination)];
        (known >> 16 == destination && known != 0).then(|| (known & 0xffff) as u16 - 1)
    }

    #[inline(always)]
    pub(super) fn exit(&self, in_port: u16, destination: impl FnOnce() -> u64) -> Exit {
        let own = self.ports.contains(&in_port);
        if let (true, &[one, other]) = (own, &*self.ports) {
            return Exit::Port(if in_port == one { other } else { one });
        }
        match self.behind(destination()) {
            // Who is behind the port that it came by has it already (IEEE 802.1Q, 8.6.1).
            Some(port) if own && port == in_port => Exit::Unknown,
            Some(port) if self.ports.contains(&port) => Exit::Port(port),
            _ if own => Exit::Flood { except: in_port },
            _ => Exit::Unknown,
        }
    }
}

#[inline(always)]
fn station(address: u64) -> usize {
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize % STATIONS
}

/// The destination and source addresses of an Ethernet frame, 0 where it is too short.
#[inline(always)]
pub fn stations(frame: &[u8]) -> (u64, u64) {
    let Some(head) = frame.first_chunk::<16>() else {
        return (0, 0);
    };
    let word = |at: usize| {
        u64::from_be_bytes([
            0,
            0,
            head[at],
            head[at + 1],
            head[at + 2],
            head[at + 3],
            head[at + 4],
            head[at + 5],
        ])
    };
    (word(0), word(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_over_two_ports_takes_the_other_one() {
        let bridge = Bridge::new(&[3, 5]);
        assert_eq!(bridge.exit(3, || 7), Exit::Port(5));
        assert_eq!(bridge.exit(5, || 7), Exit::Port(3));
        assert_eq!(bridge.exit(4, || 7), Exit::Unknown);
    }

    #[test]
    fn a_bridge_over_three_ports_learns_and_floods() {
        let mut bridge = Bridge::new(&[0, 1, 2]);
        assert_eq!(bridge.exit(0, || 7), Exit::Flood { except: 0 });
        bridge.learn(7, 2);
        assert_eq!(bridge.exit(0, || 7), Exit::Port(2));
        assert_eq!(
            bridge.exit(2, || 7),
            Exit::Unknown,
            "it is behind that port"
        );
        assert_eq!(bridge.exit(9, || 7), Exit::Port(2), "built by an NF");
        assert_eq!(bridge.exit(9, || 8), Exit::Unknown);
        bridge.learn(GROUP_BIT | 1, 1);
        assert_eq!(bridge.exit(0, || GROUP_BIT | 1), Exit::Flood { except: 0 });
        bridge.forget(2);
        assert_eq!(bridge.exit(0, || 7), Exit::Flood { except: 0 });
    }
}
