//! IP packets within a walk, whatever carries them, and the transport headers in them.

use super::super::network::{FRAGMENT_BITS, extensions};
use super::super::parse::at;
use super::super::stack::Stop;
use super::super::transport::{ICMP, ICMP6, SCTP, TCP, UDP};
use super::super::{LayerKind, Link, hash};
use super::{Header, Next, TOO_DEEP, TRUNCATED, WHOLE, Walker};

const IPV4_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;

/// The innermost IP packet of a walk: what its flow hash is made of.
pub(super) struct Packet {
    kind: LayerKind,
    offset: usize,
    protocol: u8,
    fragment: bool,
    ports: Option<(u16, u16)>,
    /// The hash, where it is known already.
    hash: u32,
}

impl Packet {
    /// One that was parsed.
    #[inline(always)]
    pub(super) const fn hashed(hash: u32) -> Self {
        Self {
            hash,
            ..Self::new(LayerKind::None, 0, 0, false)
        }
    }

    const fn new(kind: LayerKind, offset: usize, protocol: u8, fragment: bool) -> Self {
        Self {
            kind,
            offset,
            protocol,
            fragment,
            ports: None,
            hash: 0,
        }
    }

    /// What [`super::super::parse`] says of this packet alone.
    #[inline(always)]
    pub(super) fn hash(&self, frame: &[u8]) -> u32 {
        let ports = if self.fragment { None } else { self.ports };
        match self.kind {
            LayerKind::Ipv4 => at::<20>(frame, self.offset).map_or(0, |header| {
                let word = |i| {
                    u32::from_be_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]])
                };
                hash::ipv4(word(12), word(16), self.protocol, ports)
            }),
            LayerKind::Ipv6 => at::<40>(frame, self.offset).map_or(0, |header| {
                hash::ipv6(&header[8..24], &header[24..40], self.protocol, ports)
            }),
            _ => self.hash,
        }
    }
}

impl Walker<'_> {
    #[inline(always)]
    pub(super) fn ipv4(&mut self, offset: usize) -> Next {
        let Some(header) = self.at::<20>(offset) else {
            return TRUNCATED;
        };
        let bytes = usize::from(header[0] & 0x0f) * 4;
        if header[0] >> 4 != 4 || bytes < 20 {
            return TRUNCATED;
        }
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let fragment = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_BITS;
        let protocol = header[9];
        if total >= bytes {
            self.ends_by(offset + total);
        }
        if !self.stack.push_ip(LayerKind::Ipv4, offset, self.end) {
            return TOO_DEEP;
        }
        self.packet = Packet::new(LayerKind::Ipv4, offset, protocol, fragment != 0);
        if !self.has(offset, bytes) {
            TRUNCATED
        } else if fragment & 0x1fff != 0 {
            Next::end(Stop::Fragment)
        } else {
            Next::upper(protocol, offset + bytes)
        }
    }

    #[inline(always)]
    pub(super) fn ipv6(&mut self, offset: usize) -> Next {
        let Some(header) = self.at::<40>(offset) else {
            return TRUNCATED;
        };
        if header[0] >> 4 != 6 {
            return TRUNCATED;
        }
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let next = header[6];
        if length > 0 {
            self.ends_by(offset + 40 + length);
        }
        if !self.stack.push_ip(LayerKind::Ipv6, offset, self.end) {
            return TOO_DEEP;
        }
        let upper = extensions(&self.frame[..self.end], next, offset + 40);
        self.packet = Packet::new(LayerKind::Ipv6, offset, upper.protocol, upper.fragment);
        if upper.first {
            Next::upper(upper.protocol, upper.at)
        } else {
            Next::end(Stop::Fragment)
        }
    }

    /// What an IP packet carries. Of a first fragment the transport header is noted, and no more.
    #[inline(always)]
    pub(super) fn upper(&mut self, protocol: u8, offset: usize) -> Next {
        if matches!(protocol, TCP | UDP | SCTP) {
            self.packet.ports = self.at::<4>(offset).map(|ports| {
                let [s0, s1, d0, d1] = *ports;
                (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]))
            });
        }
        let next = match protocol {
            UDP => {
                let destination = self.packet.ports.map_or(0, |(_, destination)| destination);
                self.transport(
                    LayerKind::Udp,
                    offset,
                    8,
                    Next::new(Header::Udp, destination, offset),
                )
            }
            TCP => self.transport(LayerKind::Tcp, offset, 20, WHOLE),
            ICMP => self.transport(LayerKind::Icmp, offset, 8, WHOLE),
            ICMP6 => self.transport(LayerKind::Icmp6, offset, 8, WHOLE),
            SCTP => self.transport(LayerKind::Sctp, offset, 12, WHOLE),
            IPV4_IN_IP => Next::start(Link::Ipv4, offset),
            IPV6_IN_IP => Next::start(Link::Ipv6, offset),
            GRE => Next::new(Header::Gre, 0, offset),
            _ => WHOLE,
        };
        if self.packet.fragment {
            Next::end(Stop::Fragment)
        } else {
            next
        }
    }

    #[inline(always)]
    fn transport(&mut self, kind: LayerKind, offset: usize, bytes: usize, next: Next) -> Next {
        if self.has(offset, bytes) {
            self.note(kind, offset, next)
        } else {
            TRUNCATED
        }
    }
}
