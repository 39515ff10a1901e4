//! What a share shows of its buffer: where the delivered bytes lie, and what goes out of a port.
//!
//! Several handles can hold one buffer and see different parts of it: one the frame as it came,
//! another what is inside of the tunnel. The platform remembers the part with the share, in the
//! ledger; what an NF says of bounds is never believed.

use mvmp_wire::packet::{self, Link};
use mvmp_wire::record::Record;

/// A part of a frame: bytes from its first, and what the first byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub start: u16,
    pub end: u16,
    pub link: Link,
}

impl Part {
    /// The whole frame.
    pub fn whole(record: &Record) -> Self {
        Self {
            start: 0,
            end: record.length,
            link: record.link,
        }
    }

    /// The same part of a frame that begins `base` bytes later.
    pub fn after(self, base: u16) -> Self {
        Self {
            start: self.start + base,
            end: self.end + base,
            ..self
        }
    }

    /// Its number of bytes.
    pub fn length(&self) -> u16 {
        self.end - self.start
    }
}

impl From<packet::View> for Part {
    fn from(view: packet::View) -> Self {
        Self {
            start: view.start,
            end: view.end,
            link: view.link,
        }
    }
}

/// What a share shows and sends, in one word; the default is the whole frame, inbound.
///
/// ```text
/// shown: start (14) | end (14) | link (2)     sent: start (14) | end (14) | link (2)     unused (1) | cut (1) | parts (1) | outbound (1)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View(u64);

const OUTBOUND: u64 = 1 << 63;
/// It shows a part.
const PARTS: u64 = 1 << 62;
/// It sends a part.
const CUT: u64 = 1 << 61;
/// Bits of an offset: frames have at most 9,600 bytes.
const BITS: u32 = 14;

impl View {
    /// A share that shows one part and sends another.
    pub fn new(shown: Part, sent: Part) -> Self {
        Self(packed(shown) | packed(sent) << 30 | PARTS | CUT)
    }

    /// A share that shows a part and sends the frame as it came.
    pub fn showing(shown: Part) -> Self {
        Self(packed(shown) | PARTS)
    }

    /// What leaves by a port is a part of the frame.
    #[inline(always)]
    pub fn is_cut(self) -> bool {
        self.0 & CUT != 0
    }

    /// The same, of a packet on its way out.
    pub fn outbound(self) -> Self {
        Self(self.0 | OUTBOUND)
    }

    /// The packet was on its way out of a port.
    #[inline(always)]
    pub fn is_outbound(self) -> bool {
        self.0 & OUTBOUND != 0
    }

    /// What the NF sees.
    pub fn shown(self, record: &Record) -> Part {
        if self.0 & PARTS == 0 {
            Part::whole(record)
        } else {
            unpacked(self.0)
        }
    }

    /// What leaves by a port when the NF sends it.
    pub fn sent(self, record: &Record) -> Part {
        if self.0 & CUT == 0 {
            Part::whole(record)
        } else {
            unpacked(self.0 >> 30)
        }
    }
}

fn packed(part: Part) -> u64 {
    let link = match part.link {
        Link::Ethernet => 0,
        Link::Ipv4 => 1,
        Link::Ipv6 => 2,
    };
    u64::from(part.start) | u64::from(part.end) << BITS | link << (2 * BITS)
}

fn unpacked(bits: u64) -> Part {
    let mask = (1 << BITS) - 1;
    Part {
        start: (bits & mask) as u16,
        end: (bits >> BITS & mask) as u16,
        link: match bits >> (2 * BITS) & 3 {
            1 => Link::Ipv4,
            2 => Link::Ipv6,
            _ => Link::Ethernet,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_and_the_direction_survive() {
        let part = |start, end, link| Part { start, end, link };
        let shown = part(9_600, 16_383, Link::Ipv6);
        let sent = part(14, 9_600, Link::Ipv4);
        let record = Record {
            length: 60,
            ..Record::default()
        };
        let view = View::new(shown, sent);
        assert_eq!((view.shown(&record), view.sent(&record)), (shown, sent));
        assert!(!view.is_outbound() && view.outbound().is_outbound());
        assert_eq!(view.outbound().sent(&record), sent);
        assert_eq!(View::default().sent(&record), part(0, 60, Link::Ethernet));
        assert!(View::default().outbound().is_outbound());
    }
}
