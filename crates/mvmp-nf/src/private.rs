//! The byte ring in the private region: room for frames that the NF builds.
//!
//! ```text
//!        oldest piece                     next piece
//!          │                                │
//!   … free │ pieces, in the order of sending │ free …      a piece never wraps: it skips to the start
//! ```
//!
//! A piece is 64-byte aligned and comes free when the worker's return head has passed its descriptor.

use std::collections::VecDeque;

const ALIGN: u32 = 64;

/// One frame's room, from its start to the start of the next piece.
#[derive(Debug)]
struct Piece {
    bytes: u32,
    worker: u8,
    index: u32,
}

/// The allocator. It knows offsets alone, no memory.
#[derive(Debug)]
pub(crate) struct PrivateRing {
    bytes: u32,
    next: u32,
    used: u32,
    pieces: VecDeque<Piece>,
}

impl PrivateRing {
    /// Over a region of so many bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX) / ALIGN * ALIGN;
        Self {
            bytes,
            next: 0,
            used: 0,
            pieces: VecDeque::new(),
        }
    }

    /// Room for a frame of `length` bytes whose descriptor will be number `index` of `worker`'s
    /// return ring: its offset in the region, or `None` while there is none.
    pub(crate) fn take(&mut self, length: u16, worker: u8, index: u32) -> Option<u32> {
        let wanted = u32::from(length).max(1).next_multiple_of(ALIGN);
        let to_end = self.bytes - self.next;
        let skipped = if wanted > to_end { to_end } else { 0 };
        if wanted > self.bytes
            || u64::from(self.used) + u64::from(skipped) + u64::from(wanted) > u64::from(self.bytes)
        {
            return None;
        }
        let at = if skipped > 0 { 0 } else { self.next };
        self.next = (at + wanted) % self.bytes;
        self.used += skipped + wanted;
        self.pieces.push_back(Piece {
            bytes: skipped + wanted,
            worker,
            index,
        });
        Some(at)
    }

    /// Frees the oldest pieces whose descriptors `passed` (worker, index) says have been read.
    pub(crate) fn reclaim(&mut self, mut passed: impl FnMut(u8, u32) -> bool) {
        while let Some(piece) = self.pieces.front() {
            if !passed(piece.worker, piece.index) {
                return;
            }
            self.used -= piece.bytes;
            self.pieces.pop_front();
        }
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_that_does_not_fit_before_the_end_skips_to_the_start() {
        let mut ring = PrivateRing::new(256);
        assert_eq!(ring.take(128, 0, 0), Some(0));
        assert_eq!(ring.take(64, 0, 1), Some(128));
        ring.reclaim(|_, index| index == 0);
        assert_eq!(
            ring.take(100, 0, 2),
            Some(0),
            "64 bytes are left before the end, 128 are wanted"
        );
        assert_eq!(
            ring.take(1, 0, 3),
            None,
            "the skipped bytes come free with the frame that skipped them"
        );
    }

    #[test]
    fn a_frame_larger_than_the_region_never_fits() {
        let mut ring = PrivateRing::new(4096);
        assert_eq!(ring.take(5000, 0, 0), None);
        assert_eq!(ring.take(4096, 0, 0), Some(0));
        assert_eq!(ring.take(0, 0, 1), None);
    }

    proptest! {
        #[test]
        fn live_pieces_never_overlap(frames in proptest::collection::vec((0_u16..900, 0_u8..3), 1..300)) {
            let mut ring = PrivateRing::new(4096);
            let mut live: VecDeque<(u32, u32, u32)> = VecDeque::new();
            let mut read = 0_u32;
            for (index, (length, step)) in frames.into_iter().enumerate() {
                let index = index as u32;
                if let Some(at) = ring.take(length, 0, index) {
                    let end = at + u32::from(length);
                    prop_assert!(end <= 4096 && at % ALIGN == 0);
                    for &(other, other_end, _) in &live {
                        prop_assert!(end <= other || at >= other_end || at == end || other == other_end);
                    }
                    live.push_back((at, end, index));
                }
                read = (read + u32::from(step)).min(index + 1);
                ring.reclaim(|_, piece| piece < read);
                live.retain(|&(_, _, piece)| piece >= read);
            }
            ring.reclaim(|_, _| true);
            prop_assert_eq!(ring.used, 0);
        }
    }
}
