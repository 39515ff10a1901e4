//! Ethernet, 802.1Q/ad tags and PPPoE sessions (RFC 2516).

use super::super::network::{ETHER_IPV4, ETHER_IPV6};
use super::super::parse::{ETHER_ARP, ETHERNET_BYTES, TAG_BYTES, is_tag};
use super::super::{LayerKind, Link};
use super::{Header, Next, TRUNCATED, WHOLE, Walker};

pub(super) const ETHER_MPLS: u16 = 0x8847;
pub(super) const ETHER_MPLS_UPSTREAM: u16 = 0x8848;
pub(super) const ETHER_PPPOE_SESSION: u16 = 0x8864;
/// Transparent Ethernet bridging: an Ethernet frame within GRE or GENEVE.
pub(super) const ETHER_BRIDGED: u16 = 0x6558;

const PPPOE_BYTES: usize = 6;
/// Version, type and code of a session's data.
pub(super) const PPPOE_SESSION_DATA: [u8; 2] = [0x11, 0];
const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;

impl Walker<'_> {
    #[inline(always)]
    pub(super) fn ethernet(&mut self, offset: usize) -> Next {
        let Some(header) = self.at::<ETHERNET_BYTES>(offset) else {
            return TRUNCATED;
        };
        let ether_type = u16::from_be_bytes([header[12], header[13]]);
        let next = Next::new(Header::EtherType, ether_type, offset + ETHERNET_BYTES);
        self.note(LayerKind::Ethernet, offset, next)
    }

    /// What an EtherType announces, in Ethernet, GRE or GENEVE.
    #[inline(always)]
    pub(super) fn ether_type(&mut self, ether_type: u16, offset: usize) -> Next {
        match ether_type {
            ETHER_IPV4 => Next::start(Link::Ipv4, offset),
            ETHER_IPV6 => Next::start(Link::Ipv6, offset),
            ETHER_ARP => self.arp(offset),
            ETHER_MPLS | ETHER_MPLS_UPSTREAM => Next::new(Header::Mpls, 0, offset),
            ETHER_PPPOE_SESSION => self.pppoe(offset),
            tag if is_tag(tag) => self.vlan(offset),
            // Among them lengths of 802.3 frames.
            _ => WHOLE,
        }
    }

    fn vlan(&mut self, offset: usize) -> Next {
        let Some(tag) = self.at::<TAG_BYTES>(offset) else {
            return TRUNCATED;
        };
        let id = u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff;
        let ether_type = u16::from_be_bytes([tag[2], tag[3]]);
        let next = Next::new(Header::EtherType, ether_type, offset + TAG_BYTES);
        self.note_id(LayerKind::Vlan, offset, u32::from(id), next)
    }

    fn arp(&mut self, offset: usize) -> Next {
        let Some(header) = self.at::<8>(offset) else {
            return TRUNCATED;
        };
        let bytes = 8 + 2 * (usize::from(header[4]) + usize::from(header[5]));
        if self.has(offset, bytes) {
            self.note(LayerKind::Arp, offset, WHOLE)
        } else {
            TRUNCATED
        }
    }

    fn pppoe(&mut self, offset: usize) -> Next {
        let Some(header) = self.at::<{ PPPOE_BYTES + 2 }>(offset) else {
            return TRUNCATED;
        };
        let [version, code, session @ .., l0, l1, p0, p1] = *header;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if [version, code] != PPPOE_SESSION_DATA || length < 2 {
            return TRUNCATED;
        }
        self.ends_by(offset + PPPOE_BYTES + length);
        let behind = offset + PPPOE_BYTES + 2;
        let next = match u16::from_be_bytes([p0, p1]) {
            PPP_IPV4 => Next::start(Link::Ipv4, behind),
            PPP_IPV6 => Next::start(Link::Ipv6, behind),
            _ => WHOLE,
        };
        let id = u32::from(u16::from_be_bytes(session));
        self.note_id(LayerKind::Pppoe, offset, id, next)
    }
}
