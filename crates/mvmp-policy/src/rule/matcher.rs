//! The form of a rule that workers evaluate.
//!
//! A burst of up to 64 packets is one bit mask: each test answers for the packets that are still
//! in question, `and` narrows the question, `or` leaves it as soon as all have said yes. There is
//! no allocation, no lock and no state, so one matcher serves all workers.

use mvmp_wire::packet::Headers;

use super::packets::{Needs, Packets};
use super::test::Test;

/// A compiled rule. Immutable; share it freely.
#[derive(Clone, Debug)]
pub struct Matcher {
    root: Node,
}

/// Constants appear at the root alone: `compile` folds them.
#[derive(Clone, Debug)]
pub(super) enum Node {
    All,
    None,
    Test(Test),
    Not(Box<Node>),
    And(Box<[Node]>),
    Or(Box<[Node]>),
    /// Asked of the frame as received.
    Outer(Box<Node>),
}

impl Matcher {
    pub(super) fn new(root: Node) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// Every packet matches: nothing need be parsed for it.
    pub fn is_all(&self) -> bool {
        matches!(self.root, Node::All)
    }

    /// No packet matches.
    pub fn is_none(&self) -> bool {
        matches!(self.root, Node::None)
    }

    /// What [`Self::match_packets`] has to be given.
    pub fn needs(&self) -> Needs {
        self.root.needs()
    }

    /// Which packets match: bit `i` is packet `i`. Only the first 64 are looked at.
    pub fn match_packets(&self, packets: &Packets<'_>) -> u64 {
        let count = packets.count();
        if count == 0 {
            return 0;
        }
        let live = u64::MAX >> (64 - count);
        self.root.select(live, &packets.first(count))
    }

    /// As [`Self::match_packets`], of packets of which nothing is jumped over.
    pub fn match_burst(&self, headers: &[Headers], frames: &[&[u8]]) -> u64 {
        self.match_packets(&Packets::plain(headers, frames))
    }

    /// Whether this packet matches, nothing of it jumped over. `headers` are those of `frame`.
    pub fn matches(&self, headers: &Headers, frame: &[u8]) -> bool {
        self.match_burst(std::slice::from_ref(headers), &[frame]) == 1
    }
}

impl Node {
    /// The packets of `live` that match. The depth is that of the rule, which the parser bounds.
    pub(super) fn select(&self, live: u64, packets: &Packets<'_>) -> u64 {
        match self {
            Node::All => live,
            Node::None => 0,
            Node::Test(test) => test.select(live, packets),
            Node::Not(inner) => live & !inner.select(live, packets),
            Node::And(parts) => {
                let mut left = live;
                for part in parts {
                    left = part.select(left, packets);
                    if left == 0 {
                        break;
                    }
                }
                left
            }
            Node::Or(parts) => {
                let mut left = live;
                for part in parts {
                    left &= !part.select(left, packets);
                    if left == 0 {
                        break;
                    }
                }
                live & !left
            }
            Node::Outer(inner) => inner.select(live, &packets.as_received()),
        }
    }

    pub(super) fn needs(&self) -> Needs {
        match self {
            Node::All | Node::None => Needs::default(),
            Node::Test(test) => test.needs(),
            Node::Not(inner) => inner.needs(),
            Node::And(parts) | Node::Or(parts) => parts
                .iter()
                .map(Node::needs)
                .fold(Needs::default(), Needs::union),
            Node::Outer(inner) => Needs {
                outer: true,
                ..inner.needs()
            },
        }
    }
}
