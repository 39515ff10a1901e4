//! Which packets of a burst: a bit for each.

/// The numbers of the packets that a mask names, from the first on.
#[inline(always)]
pub fn ones(mask: u64) -> Ones {
    Ones(mask)
}

/// What [`ones`] yields from.
#[derive(Clone)]
pub struct Ones(u64);

impl Iterator for Ones {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let at = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mask_is_the_set_of_its_bits(mask: u64) {
            let bits: Vec<usize> = (0..64).filter(|at| mask >> at & 1 == 1).collect();
            prop_assert_eq!(ones(mask).collect::<Vec<_>>(), bits);
        }
    }
}
