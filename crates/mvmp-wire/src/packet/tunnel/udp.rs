//! Tunnels over UDP, known by the destination port: VXLAN (RFC 7348), GENEVE (RFC 8926) and
//! GTP-U (TS 29.281).

use super::super::LayerKind;
use super::super::tunnel_ports::UdpTunnel;
use super::{Next, TRUNCATED, WHOLE, Walker};

const UDP_BYTES: usize = 8;
pub(super) const VXLAN_BYTES: usize = 8;
/// VXLAN: the VNI is valid.
pub(super) const VXLAN_I: u8 = 0x08;
const GENEVE_BYTES: usize = 8;
const GTPU_BYTES: usize = 8;
/// Version 1, GTP and not GTP'.
const GTPU_VERSION: u8 = 0x30;
const GTPU_G_PDU: u8 = 255;
/// Any of: extension header, sequence number, N-PDU number.
const GTPU_OPTIONAL: u8 = 0x07;
const GTPU_EXTENSION: u8 = 0x04;
/// A hostile chain of extension headers ends here.
const GTPU_EXTENSIONS_MAX: usize = 16;

impl Walker<'_> {
    /// A UDP header that is noted already.
    #[inline(always)]
    pub(super) fn udp(&mut self, offset: usize) -> Next {
        let Some(header) = self.at::<UDP_BYTES>(offset) else {
            return TRUNCATED;
        };
        let Some(tunnel) = self
            .ports
            .tunnel(u16::from_be_bytes([header[2], header[3]]))
        else {
            return WHOLE;
        };
        match usize::from(u16::from_be_bytes([header[4], header[5]])) {
            // Jumbograms, and segmentation offload.
            0 => {}
            length if length < UDP_BYTES => return TRUNCATED,
            length => self.ends_by(offset + length),
        }
        match tunnel {
            UdpTunnel::Vxlan => self.vxlan(offset + UDP_BYTES),
            UdpTunnel::Geneve => self.geneve(offset + UDP_BYTES),
            UdpTunnel::Gtpu => self.gtpu(offset + UDP_BYTES),
        }
    }

    #[inline(always)]
    fn vxlan(&mut self, offset: usize) -> Next {
        let Some(header) = self.at::<VXLAN_BYTES>(offset) else {
            return TRUNCATED;
        };
        if header[0] & VXLAN_I == 0 {
            return WHOLE;
        }
        let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
        let next = Next::Ethernet(offset + VXLAN_BYTES);
        self.note_id(LayerKind::Vxlan, offset, vni, next)
    }

    fn geneve(&mut self, offset: usize) -> Next {
        let Some(header) = self.at::<GENEVE_BYTES>(offset) else {
            return TRUNCATED;
        };
        if header[0] >> 6 != 0 {
            return WHOLE;
        }
        let proto = u16::from_be_bytes([header[2], header[3]]);
        let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
        let behind = offset + GENEVE_BYTES + usize::from(header[0] & 0x3f) * 4;
        if behind > self.end {
            return TRUNCATED;
        }
        let next = match proto {
            super::link::ETHER_BRIDGED => Next::Ethernet(behind),
            proto => Next::EtherType(proto, behind),
        };
        self.note_id(LayerKind::Geneve, offset, vni, next)
    }

    fn gtpu(&mut self, offset: usize) -> Next {
        let Some(header) = self.at::<GTPU_BYTES>(offset) else {
            return TRUNCATED;
        };
        let [flags, kind, l0, l1, t0, t1, t2, t3] = *header;
        if flags & 0xf0 != GTPU_VERSION || kind != GTPU_G_PDU {
            return WHOLE;
        }
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        self.ends_by(offset + GTPU_BYTES + length);
        let Some(behind) = self.gtpu_payload(flags, offset + GTPU_BYTES) else {
            return TRUNCATED;
        };
        let next = self.ip_by_nibble(behind);
        let teid = u32::from_be_bytes([t0, t1, t2, t3]);
        self.note_id(LayerKind::Gtpu, offset, teid, next)
    }

    /// Where the user's packet begins, behind the optional fields and extension headers.
    fn gtpu_payload(&self, flags: u8, optional_at: usize) -> Option<usize> {
        if flags & GTPU_OPTIONAL == 0 {
            return Some(optional_at);
        }
        let optional = self.at::<4>(optional_at)?;
        let mut behind = optional_at + 4;
        let mut extension = optional[3];
        if flags & GTPU_EXTENSION == 0 {
            return Some(behind);
        }
        for _ in 0..GTPU_EXTENSIONS_MAX {
            if extension == 0 {
                return Some(behind);
            }
            let bytes = usize::from(self.at::<1>(behind)?[0]) * 4;
            if bytes == 0 {
                return None;
            }
            behind += bytes;
            extension = self.at::<1>(behind - 1)?[0];
        }
        None
    }
}
