//! A descriptor as an NF has returned it: copied out of its ring once, not yet believed.

use mvmp_wire::descriptor::Words;
use mvmp_wire::{Descriptor, Op};

/// A descriptor from a return ring, as its two words: most who look at one need few of its fields.
#[derive(Clone, Copy, Debug)]
pub struct Returned(Words);

impl Returned {
    /// What was copied out of a ring.
    #[inline(always)]
    pub fn new(words: Words) -> Self {
        Self(words)
    }

    /// Its fields.
    #[inline(always)]
    pub fn read(&self) -> Descriptor {
        Descriptor::from_words(self.0)
    }

    /// What it asks for, if that is anything.
    #[inline(always)]
    pub fn asked(&self) -> Option<Op> {
        match Op::from_bits(self.read().op) {
            Some(Op::Deliver) | None => None,
            op => op,
        }
    }

    /// How many descriptors at the front of a batch ask for the same thing in the same pool.
    #[inline(always)]
    pub fn run_length(batch: &[Self]) -> usize {
        let Some(first) = batch.first() else {
            return 0;
        };
        let same = |next: &&Self| {
            let [a, b] = [next.0[0] ^ first.0[0], next.0[1] ^ first.0[1]];
            a & KEY[0] | b & KEY[1] == 0
        };
        batch.iter().take_while(same).count()
    }
}

/// The bits that make a run: pool; slot, op and arg.
const KEY: Words = Descriptor {
    token: 0,
    pool: 0x3f,
    granule: 0,
    offset: 0,
    length: 0,
    slot: u8::MAX,
    hop: 0,
    op: u8::MAX,
    arg: u8::MAX,
}
.to_words();

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_run_asks_for_one_thing(words in proptest::collection::vec([0u64..4, 0u64..4], 0..9), shifts in [0u32..62, 0u32..62]) {
            let batch: Vec<Returned> = words
                .iter()
                .map(|[a, b]| Returned::new([a << shifts[0], b << shifts[1]]))
                .collect();
            let key = |returned: &Returned| {
                let Descriptor { pool, slot, op, arg, .. } = returned.read();
                (pool, slot, op, arg)
            };
            let like_first = batch.iter().take_while(|next| key(next) == key(&batch[0])).count();
            prop_assert_eq!(Returned::run_length(&batch), like_first);
        }
    }
}
