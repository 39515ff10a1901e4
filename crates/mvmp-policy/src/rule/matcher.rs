//! The form of a rule that workers evaluate.
//!
//! A burst of up to 64 packets is one bit mask: each test answers for the packets that are still
//! in question, `and` narrows the question, `or` leaves it as soon as all have said yes. There is
//! no allocation, no lock and no state, so one matcher serves all workers.

use mvmp_wire::packet::Headers;

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
}

impl Matcher {
    pub(super) fn new(root: Node) -> Self {
        Self { root }
    }

    /// Every packet matches: nothing need be parsed for it.
    pub fn is_all(&self) -> bool {
        matches!(self.root, Node::All)
    }

    /// No packet matches.
    pub fn is_none(&self) -> bool {
        matches!(self.root, Node::None)
    }

    /// Whether this packet matches. `headers` are those of `frame`.
    pub fn matches(&self, headers: &Headers, frame: &[u8]) -> bool {
        one(&self.root, headers, frame)
    }

    /// Which packets of a burst match: bit `i` is packet `i`. Only the first 64 are looked at.
    ///
    /// `headers[i]` are those of `frames[i]`; a packet that has only one of them does not match.
    pub fn match_burst(&self, headers: &[Headers], frames: &[&[u8]]) -> u64 {
        let packets = headers.len().min(frames.len()).min(64);
        if packets == 0 {
            return 0;
        }
        let live = u64::MAX >> (64 - packets);
        burst(&self.root, live, &headers[..packets], &frames[..packets])
    }
}

fn one(node: &Node, headers: &Headers, frame: &[u8]) -> bool {
    match node {
        Node::All => true,
        Node::None => false,
        Node::Test(test) => test.holds(headers, frame),
        Node::Not(inner) => !one(inner, headers, frame),
        Node::And(parts) => parts.iter().all(|part| one(part, headers, frame)),
        Node::Or(parts) => parts.iter().any(|part| one(part, headers, frame)),
    }
}

/// The packets of `live` that match. The depth is that of the rule, which the parser bounds.
fn burst(node: &Node, live: u64, headers: &[Headers], frames: &[&[u8]]) -> u64 {
    match node {
        Node::All => live,
        Node::None => 0,
        Node::Test(test) => test.select(live, headers, frames),
        Node::Not(inner) => live & !burst(inner, live, headers, frames),
        Node::And(parts) => {
            let mut left = live;
            for part in parts {
                left = burst(part, left, headers, frames);
                if left == 0 {
                    break;
                }
            }
            left
        }
        Node::Or(parts) => {
            let mut left = live;
            for part in parts {
                left &= !burst(part, left, headers, frames);
                if left == 0 {
                    break;
                }
            }
            live & !left
        }
    }
}
