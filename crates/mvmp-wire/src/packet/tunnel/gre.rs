//! GRE of version 0 (RFC 2784, RFC 2890), NVGRE (RFC 7637) and ERSPAN types I to III.
//!
//! GRE of version 1 (PPTP, RFC 2637) is noted, and what it carries is left alone; so is what
//! comes with source routes (RFC 1701).

use super::super::parse::ETHERNET_BYTES;
use super::super::{LayerKind, Link};
use super::link::ETHER_BRIDGED;
use super::{Header, Next, TOO_DEEP, TRUNCATED, WHOLE, Walker};

const CHECKSUM: u16 = 0x8000;
const ROUTING: u16 = 0x4000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
const VERSION: u16 = 0x0007;

const PROTO_ERSPAN: u16 = 0x88be;
const PROTO_ERSPAN_3: u16 = 0x22eb;
const ERSPAN_2_BYTES: usize = 8;
const ERSPAN_3_BYTES: usize = 12;
/// ERSPAN III: the platform's own header follows.
const PLATFORM: u16 = 0x0001;
const PLATFORM_BYTES: usize = 8;

impl Walker<'_> {
    pub(super) fn gre(&mut self, offset: usize) -> Next {
        let Some(header) = self.at::<4>(offset) else {
            return TRUNCATED;
        };
        let flags = u16::from_be_bytes([header[0], header[1]]);
        let proto = u16::from_be_bytes([header[2], header[3]]);
        if flags & VERSION > 1 {
            return WHOLE;
        }
        if flags & VERSION == 1 || flags & ROUTING != 0 {
            return self.note(LayerKind::Gre, offset, WHOLE);
        }
        let field = |flag: u16| if flags & flag != 0 { 4 } else { 0 };
        let key_at = offset + 4 + field(CHECKSUM);
        let behind = key_at + field(KEY) + field(SEQUENCE);
        if behind > self.end {
            return TRUNCATED;
        }
        let key = match self.at::<4>(key_at) {
            Some(key) if flags & KEY != 0 => Some(u32::from_be_bytes(*key)),
            _ => None,
        };
        let (kind, id) = match key {
            Some(key) if proto == ETHER_BRIDGED => (LayerKind::Nvgre, Some(key >> 8)),
            key => (LayerKind::Gre, key),
        };
        if !self.layer(kind, offset, id) {
            return TOO_DEEP;
        }
        match proto {
            ETHER_BRIDGED => Next::start(Link::Ethernet, behind),
            PROTO_ERSPAN if flags & SEQUENCE != 0 => self.erspan_2(behind),
            PROTO_ERSPAN => self.erspan_1(behind),
            PROTO_ERSPAN_3 => self.erspan_3(behind),
            _ => Next::new(Header::EtherType, proto, behind),
        }
    }

    /// Type I has no header: it is there if a frame is.
    fn erspan_1(&mut self, offset: usize) -> Next {
        if self.has(offset, ETHERNET_BYTES) {
            self.note(
                LayerKind::Erspan,
                offset,
                Next::start(Link::Ethernet, offset),
            )
        } else {
            TRUNCATED
        }
    }

    fn erspan_2(&mut self, offset: usize) -> Next {
        let Some(header) = self.at::<ERSPAN_2_BYTES>(offset) else {
            return TRUNCATED;
        };
        let session = u16::from_be_bytes([header[2], header[3]]) & 0x03ff;
        let next = Next::start(Link::Ethernet, offset + ERSPAN_2_BYTES);
        self.note_id(LayerKind::Erspan, offset, u32::from(session), next)
    }

    fn erspan_3(&mut self, offset: usize) -> Next {
        let Some(header) = self.at::<ERSPAN_3_BYTES>(offset) else {
            return TRUNCATED;
        };
        let session = u16::from_be_bytes([header[2], header[3]]) & 0x03ff;
        let last = u16::from_be_bytes([header[10], header[11]]);
        let platform = if last & PLATFORM != 0 {
            PLATFORM_BYTES
        } else {
            0
        };
        let behind = offset + ERSPAN_3_BYTES + platform;
        let next = match last >> 10 & 0x1f {
            0 => Next::start(Link::Ethernet, behind),
            2 => self.ip_by_nibble(behind),
            _ => WHOLE,
        };
        self.note_id(LayerKind::Erspan, offset, u32::from(session), next)
    }
}
