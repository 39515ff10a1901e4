//! What a rule is asked about: a burst of packets as one cell sees it.

use mvmp_wire::packet::{Headers, Link, Stack};

/// A burst; only its first 64 packets are looked at.
///
/// The slices are of one length but `stacks` and `wire_lengths`, which may be empty unless
/// [`Needs`] asks for them. A packet that lacks one of the others matches nothing.
#[derive(Clone, Copy, Debug)]
pub struct Packets<'a> {
    /// Of the packets as delivered, after `decap` and `strip`: parsed from `frames`.
    pub headers: &'a [Headers],
    /// Bytes as delivered.
    pub frames: &'a [&'a [u8]],
    /// Of the frames as received; the same slice where nothing is jumped over.
    pub outer: &'a [Headers],
    /// Bytes as received; the same slice where nothing is jumped over.
    pub outer_frames: &'a [&'a [u8]],
    /// Of the frames as received. If empty, a rule that asks walks the frames itself, with the usual tunnel ports.
    pub stacks: &'a [Stack],
    /// Bytes on the wire. If empty, the length of `outer_frames`.
    pub wire_lengths: &'a [u32],
}

impl<'a> Packets<'a> {
    /// Packets of which nothing is jumped over, walked only where a rule asks.
    pub fn plain(headers: &'a [Headers], frames: &'a [&'a [u8]]) -> Self {
        Self {
            headers,
            frames,
            outer: headers,
            outer_frames: frames,
            stacks: &[],
            wire_lengths: &[],
        }
    }

    /// How many there are, at most 64.
    pub(super) fn count(&self) -> usize {
        let shortest = self.headers.len().min(self.frames.len());
        let outer = self.outer.len().min(self.outer_frames.len());
        shortest.min(outer).min(64)
    }

    /// The first `count` of them, so that all slices are of one length.
    pub(super) fn first(&self, count: usize) -> Self {
        Self {
            headers: &self.headers[..count],
            frames: &self.frames[..count],
            outer: &self.outer[..count],
            outer_frames: &self.outer_frames[..count],
            stacks: self.stacks.get(..count).unwrap_or_default(),
            wire_lengths: self.wire_lengths.get(..count).unwrap_or_default(),
        }
    }

    /// The same packets as received: what `outer(…)` asks.
    pub(super) fn as_received(&self) -> Self {
        Self {
            headers: self.outer,
            frames: self.outer_frames,
            ..*self
        }
    }

    /// Bytes of packet `i` on the wire.
    pub(super) fn wire_length(&self, i: usize) -> u32 {
        match self.wire_lengths.get(i) {
            Some(length) => *length,
            None => self.outer_frames[i].len().try_into().unwrap_or(u32::MAX),
        }
    }

    /// What the first byte of frame `i` is, as received.
    pub(super) fn outer_link(&self, i: usize) -> Link {
        self.outer[i].link
    }
}

/// What has to be found out about packets before a rule is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// `stacks`, as the platform's tunnel ports make them.
    pub stack: bool,
    /// Headers of the frame as received, where they differ from those delivered.
    pub outer: bool,
    /// `wire_lengths`.
    pub wire_length: bool,
}

impl Needs {
    /// What either needs.
    pub fn union(self, other: Self) -> Self {
        Self {
            stack: self.stack | other.stack,
            outer: self.outer | other.outer,
            wire_length: self.wire_length | other.wire_length,
        }
    }
}
