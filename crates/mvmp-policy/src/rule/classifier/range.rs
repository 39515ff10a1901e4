//! What is left to be asked most often, a range of ports or a protocol, asked of a key alone.

use super::key;
use crate::rule::ast::Direction;
use crate::rule::matcher::Node;
use crate::rule::test::Test;

/// Whether some bits of the fields are between two numbers, taken in place: a range that is negated
/// begins behind the other's end, and goes round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    mask: u64,
    low: u64,
    span: u64,
}

impl Range {
    fn of(shift: u32, mask: u64, low: u64, high: u64) -> Self {
        Self {
            mask: mask << shift,
            low: low << shift,
            span: (high - low) << shift,
        }
    }

    fn negated(self) -> Self {
        Self {
            low: self.low.wrapping_add(self.span).wrapping_add(1),
            span: (!self.span).wrapping_sub(1),
            ..self
        }
    }

    /// What a node asks, if that is all.
    pub(super) fn of_node(node: &Node) -> Option<Self> {
        match *node {
            Node::Not(ref inner) => Self::of_node(inner).map(Self::negated),
            Node::Test(Test::Protocol { version: 0, number }) => {
                let number = u64::try_from(number).ok()?;
                Some(Self::of(key::PROTOCOL, key::PROTOCOL_MASK, number, number))
            }
            Node::Test(Test::Port {
                protocol: ..=-1,
                direction,
                low,
                high,
            }) => {
                let shift = match direction {
                    Direction::Src => key::SRC_PORT,
                    Direction::Dst => key::DST_PORT,
                    Direction::Either | Direction::Both => return None,
                };
                let (low, high) = (u64::try_from(low).ok()?, u64::try_from(high).ok()?);
                (low <= high).then(|| Self::of(shift, key::PORT_MASK, low, high))
            }
            _ => None,
        }
    }

    #[inline(always)]
    pub(super) fn has(&self, fields: u64) -> bool {
        (fields & self.mask).wrapping_sub(self.low) <= self.span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_what_is_between_its_ends_and_its_negation_all_else() {
        let last = key::PORT_MASK;
        for (low, high) in [(0, 0), (0, 80), (80, 80), (80, 90), (1, 65_535)] {
            let range = Range::of(key::SRC_PORT, key::PORT_MASK, low, high);
            for port in [0, 1, 79, 80, 81, 90, 91, 65_534, 65_535, last] {
                let fields = port << key::SRC_PORT | !(key::PORT_MASK << key::SRC_PORT);
                let between = (low..=high).contains(&port);
                assert_eq!(range.has(fields), between, "{port} of {low} to {high}");
                assert_eq!(range.negated().has(fields), !between);
                assert_eq!(range.negated().negated(), range);
            }
        }
    }
}
