//! MPLS labels (RFC 3032), and what follows the last one. No field names it: it is IP if the first
//! nibble says so, or Ethernet over a pseudowire, with a control word (RFC 4385) or without (RFC 4448).
//!
//! A MAC address may begin with any nibble, those of IP and of a control word included. So
//! Ethernet is known by what it announces, wherever that is something that we read.

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
const ARP_OVER_ETHERNET: [u8; 2] = [0, 1];
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
        if self.shows_ethernet(offset) && !self.ends_as_ip(offset) {
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
        let types = (offset + ETHER_TYPE..).step_by(TAG_BYTES).take(TAGS + 1);
        for at in types {
            let Some(&[t0, t1, first, second]) = self.at::<4>(at) else {
                return false;
            };
            match u16::from_be_bytes([t0, t1]) {
                tag if is_tag(tag) => {}
                ETHER_IPV4 => return first >> 4 == 4,
                ETHER_IPV6 => return first >> 4 == 6,
                ETHER_ARP => return [first, second] == ARP_OVER_ETHERNET,
                ETHER_PPPOE_SESSION => return [first, second] == PPPOE_SESSION_DATA,
                other => return matches!(other, ETHER_MPLS | ETHER_MPLS_UPSTREAM),
            }
        }
        false
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
