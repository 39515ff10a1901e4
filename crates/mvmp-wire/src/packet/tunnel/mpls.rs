//! MPLS labels (RFC 3032), and what follows the last one. No field names it: it is IP if the first
//! nibble says so, or Ethernet over a pseudowire, with a control word (RFC 4385) or without (RFC 4448).
//!
//! A MAC address may begin with any nibble, those of IP and of a control word included. So
//! Ethernet is known by what it announces, wherever that is something that we read. IP addresses may
//! look like that in turn, so that a sound IP header is IP. Its length says so only of a frame that
//! is whole and has no trailer.

use super::super::checksum::Sum;
use super::super::network::{ETHER_IPV4, ETHER_IPV6};
use super::super::parse::{ETHER_ARP, TAG_BYTES, is_tag};
use super::super::{LayerKind, Link};
use super::link::{ETHER_MPLS, ETHER_MPLS_UPSTREAM, ETHER_PPPOE_SESSION, PPPOE_SESSION_DATA};
use super::{Header, Next, TRUNCATED, Walker};

const LABEL_BYTES: usize = 4;
const CONTROL_WORD_BYTES: usize = 4;
const ETHER_TYPE: usize = 12;
/// Tags that are looked through for what an Ethernet header announces.
const TAGS: usize = 2;
/// ARP between Ethernet and IPv4 addresses.
const ARP_OVER_ETHERNET: [u8; 6] = [0, 1, 8, 0, 6, 4];
const IMPLICIT_NULL: u32 = 3;
/// More labels than these are not looked through.
const LABELS: usize = 16;
/// A frame is padded to 60 bytes, of which it may have kept the check sequence.
const SHORTEST: usize = 60;
const CHECK_SEQUENCE: usize = 4;

impl Walker<'_> {
    /// One label.
    pub(super) fn mpls(&mut self, offset: usize) -> Next {
        let Some(entry) = self.at::<LABEL_BYTES>(offset) else {
            return TRUNCATED;
        };
        let entry = u32::from_be_bytes(*entry);
        let behind = offset + LABEL_BYTES;
        let next = if entry >> 8 & 1 == 0 {
            Next::new(Header::Mpls, 0, behind)
        } else {
            self.behind_labels(behind)
        };
        self.note_id(LayerKind::Mpls, offset, entry >> 12, next)
    }

    fn behind_labels(&self, offset: usize) -> Next {
        if self.shows_ethernet(offset) && !self.is_ip(offset) {
            return Next::start(Link::Ethernet, offset);
        }
        let framed = offset + CONTROL_WORD_BYTES;
        match self.at::<2>(offset) {
            // The bits behind the nibble are sent as zeros, and ignored when received.
            Some([first, second])
                if first >> 4 == 0
                    && ((*first, *second) == (0, 0) || self.shows_ethernet(framed)) =>
            {
                Next::start(Link::Ethernet, framed)
            }
            _ => self.ip_by_nibble(offset),
        }
    }

    /// Whether an Ethernet header here announces something that we read, and that begins behind it.
    fn shows_ethernet(&self, offset: usize) -> bool {
        let Some((ether_type, at)) = self.announced(offset) else {
            return false;
        };
        match ether_type {
            ETHER_IPV4 => matches!(self.at(at), Some([0x45..=0x4f])),
            ETHER_IPV6 => matches!(self.at(at), Some([0x60..=0x6f])),
            ETHER_ARP => self.at(at) == Some(&ARP_OVER_ETHERNET),
            ETHER_PPPOE_SESSION => self.at(at) == Some(&PPPOE_SESSION_DATA),
            ETHER_MPLS | ETHER_MPLS_UPSTREAM => self.is_label_stack(at),
            _ => false,
        }
    }

    /// [`Self::shows_ethernet`], and if that announces IP, then a header that is sound.
    fn shows_sound_ethernet(&self, offset: usize) -> bool {
        match self.announced(offset) {
            Some((ETHER_IPV4, at)) => self.is_sound_ipv4(at),
            Some((ETHER_IPV6, at)) => self.is_sound_ipv6(at),
            _ => self.shows_ethernet(offset),
        }
    }

    /// The EtherType of an Ethernet header here, behind its tags, and where what it announces begins.
    fn announced(&self, offset: usize) -> Option<(u16, usize)> {
        let mut types = (offset + ETHER_TYPE..).step_by(TAG_BYTES).take(TAGS + 1);
        types.find_map(|at| {
            let ether_type = self.at(at).copied().map(u16::from_be_bytes);
            match ether_type {
                Some(tag) if is_tag(tag) => None,
                other => Some(other.map(|ether_type| (ether_type, at + 2))),
            }
        })?
    }

    /// Whether labels here, all alive and none of them the implicit null, come to a last one.
    fn is_label_stack(&self, offset: usize) -> bool {
        for at in (offset..).step_by(LABEL_BYTES).take(LABELS) {
            let Some(entry) = self.at(at).copied().map(u32::from_be_bytes) else {
                return false;
            };
            if entry as u8 == 0 || entry >> 12 == IMPLICIT_NULL {
                return false;
            }
            if entry >> 8 & 1 == 1 {
                return true;
            }
        }
        false
    }

    /// Whether this is IP although it looks like Ethernet too.
    fn is_ip(&self, offset: usize) -> bool {
        // What no checksum confirms may be Ethernet between addresses that look so.
        let is_ipv6 = || self.is_sound_ipv6(offset) && !self.shows_sound_ethernet(offset);
        self.is_sound_ipv4(offset) || is_ipv6() || self.ends_as_ip(offset)
    }

    /// Whether a whole IPv4 header with the right checksum is here.
    fn is_sound_ipv4(&self, offset: usize) -> bool {
        let Some([first @ 0x45..=0x4f]) = self.at(offset) else {
            return false;
        };
        let bytes = usize::from(first & 0x0f) * 4;
        let header = self.frame[..self.end].get(offset..offset + bytes);
        header.is_some_and(|header| Sum::default().add(header).finish() == 0)
    }

    /// Whether IPv6 with a next header that is usual is here. Hop-by-hop options (0) are not: they
    /// are rare, and zeros are everywhere.
    fn is_sound_ipv6(&self, offset: usize) -> bool {
        let Some([0x60..=0x6f, .., next]) = self.at::<7>(offset) else {
            return false;
        };
        matches!(
            next,
            4 | 6 | 17 | 41 | 43 | 44 | 47 | 50 | 51 | 58 | 60 | 132
        )
    }

    /// Whether an IP packet that begins here would end where the frame does, but for padding.
    fn ends_as_ip(&self, offset: usize) -> bool {
        let Some(header) = self.at::<6>(offset) else {
            return false;
        };
        let number = |i: usize| usize::from(u16::from_be_bytes([header[i], header[i + 1]]));
        let length = match (header[0] >> 4, header[0] & 0x0f) {
            (4, words @ 5..) if number(2) >= usize::from(words) * 4 => number(2),
            (6, _) => 40 + number(4),
            _ => return false,
        };
        let last = (offset + length).max(SHORTEST) + CHECK_SEQUENCE;
        (offset + length..=last).contains(&self.end)
    }
}
