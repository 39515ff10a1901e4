//! The Internet checksum (RFC 1071).

/// A sum of 16-bit words that is not folded yet. Parts of even length can be added in any order.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds bytes; only the last part may have an odd number of them.
    #[inline]
    pub(super) fn add(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            self.0 += u64::from(u32::from_be_bytes(*word));
        }
        let (pairs, last) = rest.as_chunks::<2>();
        for pair in pairs {
            self.0 += u64::from(u16::from_be_bytes(*pair));
        }
        if let [last] = last {
            self.0 += u64::from(*last) << 8;
        }
        self
    }

    /// Adds a number.
    #[inline]
    pub(super) fn add_number(self, number: u32) -> Self {
        Self(self.0 + u64::from(number))
    }

    /// The checksum field.
    #[inline]
    pub(super) fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        !(sum as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sum_in_parts_is_the_sum_of_the_words(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..100) {
            let cut = (cut * 2).min(bytes.len() & !1);
            let mut plain = 0u64;
            for pair in bytes.chunks(2) {
                plain += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
            }
            // One's complement arithmetic is arithmetic modulo 0xffff.
            let folded = if plain == 0 { 0 } else { ((plain - 1) % 0xffff + 1) as u16 };
            let sum = Sum::default().add(&bytes[..cut]).add(&bytes[cut..]);
            prop_assert_eq!(sum.finish(), !folded);
        }
    }
}
