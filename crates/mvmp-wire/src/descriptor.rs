//! The 16-byte descriptor: one packet's claim, on its way down to an NF or up to the platform.
//!
//! ```text
//! word 0:  token (32) | granule (26) | pool (6)          low bits first
//! word 1:  offset (16) | length (16) | slot (8) | hop (8) | op (8) | arg (8)
//! ```
//!
//! On the way down the platform fills everything. On the way up it believes `token`, `pool`,
//! `granule`, `slot` only as far as its ledger agrees; bounds always come from the record.

/// No particular input port: the record's own counts.
pub const ANY_PORT: u16 = u16::MAX;

/// Bit of `arg` on the way down: the packet goes out of a port (0: it came in). The other seven are the `Link`.
pub const ARG_OUTBOUND: u8 = 0x80;

/// What an NF asks for with a descriptor that it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// On the way down: a delivery. Never accepted on the way up.
    Deliver = 0,
    /// The share ends; `arg` is a [`ReleaseReason`].
    Release = 1,
    /// Send over the NF's handle `arg`; the share ends.
    Forward = 2,
    /// Send over the NF's handle `arg`; the share stays.
    Mirror = 3,
}

impl Op {
    /// The operation with this number, if there is one.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Deliver),
            1 => Some(Self::Release),
            2 => Some(Self::Forward),
            3 => Some(Self::Mirror),
            _ => None,
        }
    }
}

/// Why a share was released; travels in `arg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReleaseReason {
    /// The NF was done with it.
    Done = 0,
    /// The NF wanted to send it, but its return ring had no room.
    TxRingFull = 1,
}

/// A descriptor as it lies in a ring.
pub type Words = [u64; 2];

/// One packet. See the module's drawing for the layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Descriptor {
    /// The share's secret. From private memory, in the low 8 bits: `Link` of the first byte (0: Ethernet).
    pub token: u32,
    /// Which pool (0–62), or [`crate::PRIVATE_POOL`].
    pub pool: u8,
    /// Which granule of the pool (26 bits).
    pub granule: u32,
    /// Down: where the frame as delivered begins, in bytes from the granule. Up, from a pool: the
    /// port number to assume as the input, or [`ANY_PORT`]. Up, from private memory: as down.
    pub offset: u16,
    /// Length in bytes of the frame as delivered.
    pub length: u16,
    /// The handle's number within the platform.
    pub slot: u8,
    /// How many NFs have passed this packet on.
    pub hop: u8,
    /// An [`Op`], raw: the peer may have written anything.
    pub op: u8,
    /// On the way up: the sender's handle number, or the release reason. Down: `Link` of the
    /// first byte, and [`ARG_OUTBOUND`].
    pub arg: u8,
}

impl Descriptor {
    /// All fields 0.
    pub const ZERO: Self = Self::from_words([0; 2]);

    /// Granules that a pool can have.
    pub const MAX_GRANULES: u32 = 1 << 26;

    /// The two words as they lie in a ring slot.
    #[inline(always)]
    pub const fn to_words(self) -> [u64; 2] {
        [
            self.token as u64
                | (self.granule as u64 & 0x03ff_ffff) << 32
                | (self.pool as u64 & 63) << 58,
            self.offset as u64
                | (self.length as u64) << 16
                | (self.slot as u64) << 32
                | (self.hop as u64) << 40
                | (self.op as u64) << 48
                | (self.arg as u64) << 56,
        ]
    }

    /// What the two words say; every bit pattern is a descriptor.
    #[inline(always)]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self {
            token: words[0] as u32,
            granule: (words[0] >> 32) as u32 & 0x03ff_ffff,
            pool: (words[0] >> 58) as u8,
            offset: words[1] as u16,
            length: (words[1] >> 16) as u16,
            slot: (words[1] >> 32) as u8,
            hop: (words[1] >> 40) as u8,
            op: (words[1] >> 48) as u8,
            arg: (words[1] >> 56) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_two_words_survive_the_round_trip(a: u64, b: u64) {
            prop_assert_eq!(Descriptor::from_words([a, b]).to_words(), [a, b]);
        }
    }
}
