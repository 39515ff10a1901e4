//! A packet in a worker's hands, as its rooms pass it on: where the frame is, not the frame.

use mvmp_wire::descriptor::{ARG_OUTBOUND, Words};
use mvmp_wire::packet::Link;
use mvmp_wire::record::Record;
use mvmp_wire::{Descriptor, Op};

use super::view::{Part, View};
use crate::counters::DropReason;

/// One packet in the worker's hands: where its frame is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Item {
    pub granule: u32,
    /// Offset, length, link and hop as they lie in its descriptor: each delivery copies them.
    word: u64,
    /// What of the buffer this is.
    pub view: View,
}

impl Item {
    /// A whole frame that came in, `offset` bytes into its granule.
    #[inline(always)]
    pub fn new(granule: u32, offset: u16, length: u16, link: Link) -> Self {
        let word = Descriptor {
            offset,
            length,
            op: Op::Deliver as u8,
            arg: link as u8,
            ..Descriptor::ZERO
        };
        Self {
            granule,
            word: word.to_words()[1],
            view: View::default(),
        }
    }

    /// Where its frame begins, in bytes from its granule.
    #[inline(always)]
    pub fn offset(&self) -> u16 {
        self.word as u16
    }

    /// Bytes of its frame.
    #[inline(always)]
    pub fn length(&self) -> u16 {
        (self.word >> 16) as u16
    }

    /// Its descriptor as a delivery to one slot.
    #[inline(always)]
    pub fn descriptor(&self, token: u32, pool: u8, slot: u8) -> Words {
        let [place, to] = Descriptor {
            token,
            pool,
            granule: self.granule,
            slot,
            ..Descriptor::ZERO
        }
        .to_words();
        [place, to | self.word]
    }

    /// The same in another buffer, where all lies so many bytes later (modulo 2^16).
    pub fn moved(self, granule: u32, later: u16) -> Self {
        let offset = self.offset().wrapping_add(later);
        Self {
            granule,
            word: self.word & !u64::from(u16::MAX) | u64::from(offset),
            ..self
        }
    }

    /// Has been handed on once more than the descriptor that it came by says.
    #[inline(always)]
    pub fn passed_on(self, hop: u8) -> Self {
        let word = Descriptor {
            hop: hop + 1,
            ..Descriptor::ZERO
        };
        Self {
            word: self.word | word.to_words()[1],
            ..self
        }
    }

    /// The same, on its way out.
    pub fn outbound(self) -> Self {
        let word = Descriptor {
            arg: ARG_OUTBOUND,
            ..Descriptor::ZERO
        };
        Self {
            word: self.word | word.to_words()[1],
            view: self.view.outbound(),
            ..self
        }
    }

    /// A part of the frame that was received, nothing of it shown yet.
    #[inline(always)]
    pub fn part(granule: u32, record: &Record, part: Part) -> Self {
        Self::new(
            granule,
            record.offset + part.start,
            part.length(),
            part.link,
        )
    }

    /// The part of the buffer that `view` shows.
    #[inline(always)]
    pub fn showing(granule: u32, view: View, record: &Record) -> Self {
        let item = Self {
            view,
            ..Self::part(granule, record, view.shown(record))
        };
        if view.is_outbound() {
            item.outbound()
        } else {
            item
        }
    }

    /// A part of the frame that this is, which `view` shows.
    #[inline(always)]
    pub fn shown(&self, part: Part, view: View) -> Self {
        Self {
            view,
            ..Self::new(
                self.granule,
                self.offset() + part.start,
                part.length(),
                part.link,
            )
        }
    }
}

/// What a frame is, apart from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub timestamp_ns: i64,
    pub wire_length: u32,
    pub in_port: u16,
    pub link: Link,
}

/// Why a frame found no buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoBuffer,
    TooLong,
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoBuffer => Self::NoBuffer,
            Refusal::TooLong => Self::TooLong,
        }
    }
}
