//! A packet in a worker's hands, as its rooms pass it on: where the frame is, not the frame.

use mvmp_wire::descriptor::ARG_OUTBOUND;
use mvmp_wire::packet::Link;
use mvmp_wire::record::Record;

use super::view::{Part, View};

/// One packet in the worker's hands: where its frame is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Item {
    pub granule: u32,
    pub offset: u16,
    pub length: u16,
    pub link: u8,
    pub hop: u8,
    /// What of the buffer this is.
    pub view: View,
}

impl Item {
    /// `arg` of a descriptor on its way down.
    #[inline(always)]
    pub fn arg(&self) -> u8 {
        self.link
            | if self.view.is_outbound() {
                ARG_OUTBOUND
            } else {
                0
            }
    }

    /// Of this buffer, nothing of it shown yet.
    pub fn default_at(granule: u32) -> Self {
        Self {
            granule,
            ..Self::default()
        }
    }

    /// A part of the frame that was received.
    #[inline(always)]
    pub fn part(self, record: &Record, part: Part) -> Self {
        Self {
            offset: record.offset + part.start,
            length: part.length(),
            link: part.link as u8,
            ..self
        }
    }

    /// The part of the buffer that `view` shows.
    pub fn showing(self, view: View, record: &Record) -> Self {
        Self {
            view,
            ..self.part(record, view.shown(record))
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
