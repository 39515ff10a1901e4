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
/// Most UDP is no tunnel, so a look-up first asks a 256-bit filter over the port's low byte, and
/// only then the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelPorts {
    filter: [u64; 4],
    ports: Box<[(u16, UdpTunnel)]>,
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
        let mut filter = [0; 4];
        for (port, _) in &ports {
            filter[usize::from(port >> 6 & 3)] |= 1 << (port & 63);
        }
        Self {
            filter,
            ports: ports.into(),
        }
    }

    #[inline(always)]
    pub(super) fn tunnel(&self, port: u16) -> Option<UdpTunnel> {
        if self.filter[usize::from(port >> 6 & 3)] >> (port & 63) & 1 == 0 {
            return None;
        }
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
        let ports = TunnelPorts::new(&[4789, 8472, 77], &[6081, 77], &[2152, 0, 65535]);
        for port in 0..=u16::MAX {
            let expected = match port {
                4789 | 8472 | 77 => Some(UdpTunnel::Vxlan),
                6081 => Some(UdpTunnel::Geneve),
                2152 | 0 | 65535 => Some(UdpTunnel::Gtpu),
                _ => None,
            };
            assert_eq!(ports.tunnel(port), expected);
        }
    }
}
