//! The 32-byte record: what the platform found out about a buffer at reception.
//!
//! Records lie in a region beside the pool, one per granule, written by the platform once per
//! reception and read by every NF that holds a share. Four 64-bit words:
//!
//! ```text
//! word 0:  timestamp, ns since the epoch (64, signed)
//! word 1:  wire length (32) | flow hash (32)
//! word 2:  in_port (16) | frame offset from the granule (16) | frame length (16) | link (8) | flags (8)
//! word 3:  layer 0 (16) | layer 1 (16) | layer 2 (16) | layer 3 (16)         each kind << 11 | offset
//! ```

use crate::packet::{Layer, Link};
use crate::sync::{AtomicU64, Ordering};

/// Words of a record.
pub const RECORD_WORDS: usize = 4;
/// Bytes of a record.
pub const RECORD_BYTES: usize = RECORD_WORDS * 8;

/// Flag: the frame goes out of a port (0: it came in).
pub const FLAG_OUTBOUND: u8 = 1;
/// Flag: there are more layers than the four recorded; parse on.
pub const FLAG_MORE: u8 = 2;

/// What is known of one buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When the frame was received, ns since the epoch.
    pub timestamp_ns: i64,
    /// Length on the wire; more than `length` where a capture had cut the frame.
    pub wire_length: u32,
    /// Symmetric flow hash.
    pub flow_hash: u32,
    /// Number of the port that received it.
    pub in_port: u16,
    /// Where the frame begins, in bytes from the granule.
    pub offset: u16,
    /// Bytes of the frame that are there.
    pub length: u16,
    /// What the first byte is.
    pub link: Link,
    /// [`FLAG_OUTBOUND`], [`FLAG_MORE`].
    pub flags: u8,
    /// The first four layers.
    pub layers: [Layer; 4],
}

impl Record {
    /// Writes it to record number `granule` of a record region's words.
    #[inline(always)]
    pub fn store(&self, words: &[AtomicU64], granule: u32) {
        let at = granule as usize * RECORD_WORDS;
        let Some(slot) = words.get(at..at + RECORD_WORDS) else {
            return;
        };
        // ORDERING: relaxed throughout; the ring's publish carries the record to whoever gets a share.
        slot[0].store(self.timestamp_ns as u64, Ordering::Relaxed);
        slot[1].store(
            self.wire_length as u64 | (self.flow_hash as u64) << 32,
            Ordering::Relaxed,
        );
        slot[2].store(
            self.in_port as u64
                | (self.offset as u64) << 16
                | (self.length as u64) << 32
                | (self.link as u64) << 48
                | (self.flags as u64) << 56,
            Ordering::Relaxed,
        );
        let [a, b, c, d] = self.layers.map(|layer| layer.0 as u64);
        slot[3].store(a | b << 16 | c << 32 | d << 48, Ordering::Relaxed);
    }

    /// Reads offset, length and link of record number `granule` alone; beyond the region they are the default's.
    #[inline(always)]
    pub fn bounds(words: &[AtomicU64], granule: u32) -> (u16, u16, Link) {
        let word = words.get(granule as usize * RECORD_WORDS + 2);
        let word = word.map_or(0, |word| word.load(Ordering::Relaxed));
        let [offset, length] = [16, 32].map(|low| (word >> low) as u16);
        (offset, length, Link::from_bits((word >> 48) as u8))
    }

    /// Writes no more than the flow hash of record number `granule`; returns its wire length. Beyond
    /// the region there is nothing to write, and the length is 0.
    #[inline(always)]
    pub fn note_flow(words: &[AtomicU64], granule: u32, flow_hash: u32) -> u32 {
        let Some(word) = words.get(granule as usize * RECORD_WORDS + 1) else {
            return 0;
        };
        // ORDERING: relaxed, as in `store`.
        let known = word.load(Ordering::Relaxed);
        if (known >> 32) as u32 != flow_hash {
            let noted = u64::from(known as u32) | u64::from(flow_hash) << 32;
            word.store(noted, Ordering::Relaxed);
        }
        known as u32
    }

    /// Reads record number `granule`; beyond the region it is the default.
    #[inline(always)]
    pub fn load(words: &[AtomicU64], granule: u32) -> Self {
        let at = granule as usize * RECORD_WORDS;
        let Some(slot) = words.get(at..at + RECORD_WORDS) else {
            return Self::default();
        };
        let [w0, w1, w2, w3] = [0, 1, 2, 3].map(|i| slot[i].load(Ordering::Relaxed));
        Self {
            timestamp_ns: w0 as i64,
            wire_length: w1 as u32,
            flow_hash: (w1 >> 32) as u32,
            in_port: w2 as u16,
            offset: (w2 >> 16) as u16,
            length: (w2 >> 32) as u16,
            link: Link::from_bits((w2 >> 48) as u8),
            flags: (w2 >> 56) as u8,
            layers: [
                Layer(w3 as u16),
                Layer((w3 >> 16) as u16),
                Layer((w3 >> 32) as u16),
                Layer((w3 >> 48) as u16),
            ],
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_stored_is_read(
            numbers: [u32; 2], timestamp_ns: i64, shorts: [u16; 3], flags: u8, layers: [u16; 4],
            link in prop::sample::select(&[Link::Ethernet, Link::Ipv4, Link::Ipv6]), granule in 0u32..4,
        ) {
            let words: Vec<AtomicU64> = (0..4 * RECORD_WORDS).map(|_| AtomicU64::new(0)).collect();
            let [wire_length, flow_hash] = numbers;
            let [in_port, offset, length] = shorts;
            let layers = layers.map(Layer);
            let record = Record { timestamp_ns, wire_length, flow_hash, in_port, offset, length, link, flags, layers };
            record.store(&words, granule);
            prop_assert_eq!(Record::load(&words, granule), record);
            prop_assert_eq!(Record::bounds(&words, granule), (offset, length, link));
            for other in (0..5).filter(|&other| other != granule) {
                prop_assert_eq!(Record::load(&words, other), Record::default());
                let Record { offset, length, link, .. } = Record::default();
                prop_assert_eq!(Record::bounds(&words, other), (offset, length, link));
            }
        }
    }

    #[test]
    fn a_flow_is_noted_in_one_record_and_nothing_else_is_touched() {
        let words: Vec<AtomicU64> = (0..3 * RECORD_WORDS).map(|_| AtomicU64::new(0)).collect();
        let record = Record {
            timestamp_ns: -1,
            wire_length: 9_000,
            flow_hash: 7,
            in_port: 3,
            layers: [Layer(1), Layer(2), Layer(3), Layer(4)],
            ..Record::default()
        };
        record.store(&words, 1);
        assert_eq!(Record::note_flow(&words, 1, 0x8000_0001), 9_000);
        let noted = Record {
            flow_hash: 0x8000_0001,
            ..record
        };
        assert_eq!(Record::load(&words, 1), noted);
        assert_eq!(Record::load(&words, 0), Record::default());
        assert_eq!(Record::load(&words, 2), Record::default());
        assert_eq!(Record::note_flow(&words, 3, 1), 0, "beyond the region");
    }
}
