//! One tunnel's headers, laid out once; what differs from packet to packet is filled in.

use std::net::IpAddr;

use super::super::checksum::Sum;
use super::spec::{EncapError, EncapLayer, Tunnel};
use crate::packet::Link;

pub(super) const ETHER_IPV4: u16 = 0x0800;
pub(super) const ETHER_IPV6: u16 = 0x86dd;
const ETHER_BRIDGED: u16 = 0x6558;

const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_GRE: u8 = 47;
const DONT_FRAGMENT: u8 = 0x40;
const GRE_KEY: u8 = 0x20;
const VXLAN_I: u8 = 0x08;
/// The dynamic ports (RFC 6335).
const SOURCE_PORT_FIRST: u16 = 49_152;
/// IPv6, UDP and VXLAN or GENEVE.
const TEMPLATE_BYTES_MAX: usize = IPV6_BYTES + UDP_BYTES + 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gre,
    Vxlan,
    Geneve,
    IpIp,
}

/// An IP header and what follows it, up to what is carried.
#[derive(Clone, Debug)]
pub(super) struct Template {
    bytes: [u8; TEMPLATE_BYTES_MAX],
    length: usize,
    kind: Kind,
    six: bool,
}

/// What one packet brings to a template.
pub(super) struct Inner<'a> {
    /// What the carried packet begins with.
    pub(super) link: Link,
    /// All bytes carried: first those before `rest`, which lie behind the template already.
    pub(super) length: usize,
    /// Those bytes that are not in the header buffer.
    pub(super) rest: &'a [u8],
    pub(super) flow_hash: u32,
    /// The TOS or traffic class of the outer packet.
    pub(super) tos: u8,
}

/// Why a template cannot carry a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    NoEthernet,
    NotIp,
    TooLong,
}

impl Template {
    /// The template of a tunnel layer; none for layers that are no tunnel.
    pub(super) fn new(layer: &EncapLayer) -> Result<Option<Self>, EncapError> {
        let (kind, tunnel) = match layer {
            EncapLayer::PopVlan | EncapLayer::Vlan { .. } => return Ok(None),
            EncapLayer::Gre { tunnel, .. } => (Kind::Gre, tunnel),
            EncapLayer::Vxlan { tunnel, .. } => (Kind::Vxlan, tunnel),
            EncapLayer::Geneve { tunnel, .. } => (Kind::Geneve, tunnel),
            EncapLayer::IpIp { tunnel } => (Kind::IpIp, tunnel),
        };
        let mut template = Self {
            bytes: [0; TEMPLATE_BYTES_MAX],
            length: 0,
            kind,
            six: false,
        };
        template.ip(tunnel)?;
        match layer {
            EncapLayer::Gre { key, .. } => template.gre(*key),
            EncapLayer::Vxlan { vni, port, .. } => template.udp(*port, [VXLAN_I, 0, 0, 0], *vni)?,
            EncapLayer::Geneve { vni, port, .. } => template.udp(*port, [0; 4], *vni)?,
            _ => {}
        }
        Ok(Some(template))
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn link(&self) -> Link {
        if self.six { Link::Ipv6 } else { Link::Ipv4 }
    }

    /// Whether it can carry what begins with IP.
    pub(super) fn carries_ip(&self) -> bool {
        self.kind != Kind::Vxlan
    }

    /// Whether it can carry what begins with Ethernet.
    pub(super) fn carries_ethernet(&self) -> bool {
        self.kind != Kind::IpIp
    }

    fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn ip(&mut self, tunnel: &Tunnel) -> Result<(), EncapError> {
        if tunnel.ttl == 0 {
            return Err(EncapError::Ttl);
        }
        let protocol = match self.kind {
            Kind::Gre => PROTOCOL_GRE,
            Kind::Vxlan | Kind::Geneve => PROTOCOL_UDP,
            Kind::IpIp => 0,
        };
        match (tunnel.local, tunnel.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                self.append(&[
                    0x45,
                    0,
                    0,
                    0,
                    0,
                    0,
                    DONT_FRAGMENT,
                    0,
                    tunnel.ttl,
                    protocol,
                    0,
                    0,
                ]);
                self.append(&local.octets());
                self.append(&remote.octets());
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                self.six = true;
                self.append(&[0x60, 0, 0, 0, 0, 0, protocol, tunnel.ttl]);
                self.append(&local.octets());
                self.append(&remote.octets());
            }
            _ => return Err(EncapError::Families),
        }
        Ok(())
    }

    fn gre(&mut self, key: Option<u32>) {
        match key {
            Some(key) => {
                self.append(&[GRE_KEY, 0, 0, 0]);
                self.append(&key.to_be_bytes());
            }
            None => self.append(&[0; 4]),
        }
    }

    fn udp(&mut self, port: u16, first: [u8; 4], vni: u32) -> Result<(), EncapError> {
        if vni >> 24 != 0 {
            return Err(EncapError::Vni(vni));
        }
        let [high, low] = port.to_be_bytes();
        self.append(&[0, 0, high, low, 0, 0, 0, 0]);
        self.append(&first);
        self.append(&(vni << 8).to_be_bytes());
        Ok(())
    }

    /// Writes the headers to `out[at..]`, behind which the beginning of what is carried lies
    /// already, up to `out`'s end.
    #[inline]
    pub(super) fn write(&self, out: &mut [u8], at: usize, inner: &Inner<'_>) -> Result<(), Misfit> {
        let ip_bytes = if self.six { IPV6_BYTES } else { IPV4_BYTES };
        let total = self.length + inner.length;
        // What both versions' length fields can say: IPv6 does not count its own header.
        let counted = if self.six { total - IPV6_BYTES } else { total };
        let counted = u16::try_from(counted).map_err(|_| Misfit::TooLong)?;
        out[at..at + self.length].copy_from_slice(&self.bytes[..self.length]);
        let (ip, upper) = out[at..].split_at_mut(ip_bytes);
        match self.kind {
            Kind::IpIp => {
                let protocol = match inner.link {
                    Link::Ethernet => return Err(Misfit::NotIp),
                    Link::Ipv4 => 4,
                    Link::Ipv6 => 41,
                };
                ip[if self.six { 6 } else { 9 }] = protocol;
            }
            Kind::Gre => upper[2..4].copy_from_slice(&ether_type(inner.link).to_be_bytes()),
            Kind::Vxlan if inner.link != Link::Ethernet => return Err(Misfit::NoEthernet),
            Kind::Vxlan => {}
            Kind::Geneve => upper[10..12].copy_from_slice(&ether_type(inner.link).to_be_bytes()),
        }
        if self.six {
            let word = 0x6000_0000 | u32::from(inner.tos) << 20 | inner.flow_hash & 0x000f_ffff;
            ip[..4].copy_from_slice(&word.to_be_bytes());
            ip[4..6].copy_from_slice(&counted.to_be_bytes());
        } else {
            ip[1] = inner.tos;
            ip[2..4].copy_from_slice(&counted.to_be_bytes());
            let checksum = Sum::default().add(ip).finish();
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        if matches!(self.kind, Kind::Vxlan | Kind::Geneve) {
            self.fill_udp(ip, upper, inner, total - ip_bytes);
        }
        Ok(())
    }

    fn fill_udp(&self, ip: &[u8], upper: &mut [u8], inner: &Inner<'_>, length: usize) {
        let entropy = (inner.flow_hash ^ inner.flow_hash >> 16) as u16 & 0x3fff;
        upper[..2].copy_from_slice(&(SOURCE_PORT_FIRST | entropy).to_be_bytes());
        // Fits: the IP length, which includes it, did.
        upper[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        if self.six {
            let sum = Sum::default()
                .add(&ip[8..IPV6_BYTES])
                .add_number(length as u32)
                .add_number(u32::from(PROTOCOL_UDP))
                .add(upper)
                .add(inner.rest);
            let checksum = match sum.finish() {
                0 => 0xffff,
                checksum => checksum,
            };
            upper[6..8].copy_from_slice(&checksum.to_be_bytes());
        }
    }
}

pub(super) const fn ether_type(link: Link) -> u16 {
    match link {
        Link::Ethernet => ETHER_BRIDGED,
        Link::Ipv4 => ETHER_IPV4,
        Link::Ipv6 => ETHER_IPV6,
    }
}
