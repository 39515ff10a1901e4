//! Which UDP destination ports mean a tunnel.

/// A tunnel that is known by its UDP destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UdpTunnel {
    Vxlan,
    Geneve,
    Gtpu,
}

/// UDP destination ports of tunnels. A port named for two kinds means the first of VXLAN, GENEVE, GTP-U.
///
/// Most UDP is no tunnel, and a tunnel's port is nearly always the only one at its place in a small
/// table, so a look-up is one comparison; ports that share a place are searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelPorts {
    table: [Slot; SLOTS],
    ports: Box<[(u16, UdpTunnel)]>,
}

const SLOTS: usize = 64;

/// The ports whose number ends alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    /// The first of them, if there is one.
    port: u16,
    tunnel: Option<UdpTunnel>,
    /// There are others.
    shared: bool,
}

impl TunnelPorts {
    /// VXLAN's port of RFC 7348 and the one that Linux took before it.
    pub const VXLAN: [u16; 2] = [4789, 8472];
    /// GENEVE's port of RFC 8926.
    pub const GENEVE: [u16; 1] = [6081];
    /// GTP-U's port of TS 29.281.
    pub const GTPU: [u16; 1] = [2152];

    /// These ports for VXLAN, GENEVE and GTP-U.
    pub fn new(vxlan: &[u16], geneve: &[u16], gtpu: &[u16]) -> Self {
        let mut ports = Vec::with_capacity(vxlan.len() + geneve.len() + gtpu.len());
        for (list, kind) in [
            (vxlan, UdpTunnel::Vxlan),
            (geneve, UdpTunnel::Geneve),
            (gtpu, UdpTunnel::Gtpu),
        ] {
            ports.extend(list.iter().map(|port| (*port, kind)));
        }
        let mut table = [Slot::default(); SLOTS];
        for &(port, tunnel) in &ports {
            let slot = &mut table[usize::from(port) % SLOTS];
            if slot.tunnel.is_some() {
                slot.shared = true;
            } else {
                (slot.port, slot.tunnel) = (port, Some(tunnel));
            }
        }
        Self {
            table,
            ports: ports.into(),
        }
    }

    #[inline(always)]
    pub(super) fn tunnel(&self, port: u16) -> Option<UdpTunnel> {
        self.at_once(port).unwrap_or_else(|| self.search(port))
    }

    /// The same, where it takes no search to tell.
    #[inline(always)]
    pub(super) fn at_once(&self, port: u16) -> Option<Option<UdpTunnel>> {
        let slot = &self.table[usize::from(port) % SLOTS];
        if slot.port == port {
            Some(slot.tunnel)
        } else if slot.shared {
            None
        } else {
            Some(None)
        }
    }

    #[cold]
    fn search(&self, port: u16) -> Option<UdpTunnel> {
        let found = self.ports.iter().find(|(known, _)| *known == port)?;
        Some(found.1)
    }
}

impl Default for TunnelPorts {
    fn default() -> Self {
        Self::new(&Self::VXLAN, &Self::GENEVE, &Self::GTPU)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_looked_up_as_in_the_lists() {
        let ports = TunnelPorts::new(&[4789, 8472, 77], &[6081, 77, 4853], &[2152, 0, 65535]);
        for port in 0..=u16::MAX {
            let expected = match port {
                4789 | 8472 | 77 => Some(UdpTunnel::Vxlan),
                6081 | 4853 => Some(UdpTunnel::Geneve),
                2152 | 0 | 65535 => Some(UdpTunnel::Gtpu),
                _ => None,
            };
            assert_eq!(ports.tunnel(port), expected);
        }
    }
}
