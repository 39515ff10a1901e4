//! What is left to be asked most often, a range of ports or a protocol, asked of a key alone.

use super::key;
use crate::rule::ast::Direction;
use crate::rule::matcher::Node;
use crate::rule::test::Test;

/// Whether some bits of the fields are, or are not, between two numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    shift: u32,
    mask: u64,
    low: u64,
    span: u64,
    negated: bool,
}

impl Range {
    fn of(shift: u32, mask: u64, low: u64, high: u64) -> Self {
        Self {
            shift,
            mask,
            low,
            span: high - low,
            negated: false,
        }
    }

    /// What a node asks, if that is all.
    pub(super) fn of_node(node: &Node) -> Option<Self> {
        match *node {
            Node::Not(ref inner) => Self::of_node(inner).map(|range| Self {
                negated: !range.negated,
                ..range
            }),
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
        let value = fields >> self.shift & self.mask;
        (value.wrapping_sub(self.low) <= self.span) != self.negated
    }
}
