//! From a rule to the keys under which the index finds it.
//!
//! A rule that is an `or` of parts is taken part by part. A part becomes alternatives, each an
//! `and` of fields with masks ("source port 80") and of tests that are left to be asked when the
//! fields are found: ranges, negations, what belongs to another key. A part that has an
//! alternative without any field that tells packets apart is not for the index at all.

use std::collections::HashSet;
use std::sync::Arc;

use super::key::{self, Class, Key};
use super::terms::alternatives_of_one;
use crate::rule::ast::Direction;
use crate::rule::matcher::Node;
use crate::rule::test::{Side, Test};

/// A part of a rule becomes at most this many alternatives.
pub(super) const ALTERNATIVES_MAX: usize = 1 << 12;

/// A key of which some bits count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Masked {
    pub(super) value: Key,
    pub(super) mask: Key,
}

/// Which part of a key a test has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Addresses,
    Fields,
    V6(Side),
    Mac(Side),
    Layer,
    /// None: it has to be asked.
    Left,
}

/// One alternative: all of these.
#[derive(Clone, Debug, Default)]
pub(super) struct Conjunction {
    /// Each test, as it would be asked, and what it asks of a key.
    terms: Vec<(Place, Masked, Arc<Node>)>,
}

/// An alternative under its key.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub(super) class: Class,
    pub(super) key: Masked,
    /// What remains to be asked of a packet that has this key: all of these.
    pub(super) left: Vec<Arc<Node>>,
}

/// A part of a rule as alternatives with keys; `None` if it is not for the index.
pub(super) fn keyed(part: &Node) -> Option<Vec<Keyed>> {
    let mut all = Vec::new();
    for alternative in alternatives(part)? {
        // An alternative that contradicts itself matches nothing.
        if let Some(keyed) = alternative.keyed()? {
            all.push(keyed);
        }
    }
    Some(all)
}

impl Conjunction {
    pub(super) fn of(place: Place, key: Masked, node: Node) -> Self {
        Self {
            terms: vec![(place, key, Arc::new(node))],
        }
    }

    /// What is no field at all, and remains to be asked.
    pub(super) fn left(node: &Node) -> Self {
        Self::of(Place::Left, Masked::default(), node.clone())
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        Self {
            terms: [self.terms.as_slice(), &other.terms].concat(),
        }
    }

    /// Outer `None`: no field tells packets apart. Inner `None`: a contradiction.
    #[expect(
        clippy::option_option,
        reason = "two answers that mean different things"
    )]
    fn keyed(&self) -> Option<Option<Keyed>> {
        let has = |wanted: Place| self.terms.iter().any(|(place, _, _)| *place == wanted);
        let ports = key::PORT_MASK << key::SRC_PORT | key::PORT_MASK << key::DST_PORT;
        let by_port = self
            .terms
            .iter()
            .any(|(place, key, _)| *place == Place::Fields && key.mask[key::FIELDS] & ports != 0);
        let (class, place) = if has(Place::Layer) {
            (Class::Layer, Place::Layer)
        } else if has(Place::Addresses) {
            (Class::V4, Place::Addresses)
        } else if let Some(side) = [Side::Src, Side::Dst]
            .into_iter()
            .find(|side| has(Place::V6(*side)))
        {
            (Class::V6(side), Place::V6(side))
        } else if let Some(side) = [Side::Src, Side::Dst]
            .into_iter()
            .find(|side| has(Place::Mac(*side)))
        {
            (Class::Mac(side), Place::Mac(side))
        } else if by_port {
            (Class::V4, Place::Addresses)
        } else {
            return None;
        };
        Some(self.under(class, place))
    }

    fn under(&self, class: Class, own: Place) -> Option<Keyed> {
        let mut key = Masked::default();
        let mut left = Vec::new();
        let mut layer_taken = false;
        for (place, term, node) in &self.terms {
            // A packet has several layers: one is looked up, the others are asked for.
            let again = *place == Place::Layer && layer_taken;
            if *place == Place::Fields || *place == own && !again {
                layer_taken |= *place == Place::Layer;
                key = key.and(term)?;
            } else {
                left.push(node.clone());
            }
        }
        Some(Keyed { class, key, left })
    }
}

impl Masked {
    /// A value of which the bits of `mask` count, in one word of a key.
    pub(super) fn word(at: usize, value: u64, mask: u64) -> Self {
        let mut key = Self::default();
        (key.value[at], key.mask[at]) = (value, mask);
        key
    }

    /// `None` if a bit would have to have two values.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        let mut both = *self;
        for at in 0..both.value.len() {
            let common = self.mask[at] & other.mask[at];
            if (self.value[at] ^ other.value[at]) & common != 0 {
                return None;
            }
            both.value[at] |= other.value[at];
            both.mask[at] |= other.mask[at];
        }
        Some(both)
    }
}

pub(super) fn alternatives(node: &Node) -> Option<Vec<Conjunction>> {
    match node {
        Node::And(parts) => {
            let mut all = vec![Conjunction::default()];
            for part in parts {
                let some = alternatives(part).unwrap_or_else(|| vec![Conjunction::left(part)]);
                let fits = all.len().saturating_mul(some.len()) <= ALTERNATIVES_MAX;
                let some = if fits {
                    some
                } else {
                    vec![Conjunction::left(part)]
                };
                all = all
                    .iter()
                    .flat_map(|one| some.iter().map(move |other| one.and(other)))
                    .collect();
            }
            Some(all)
        }
        Node::Or(parts) => {
            let mut all = Vec::new();
            for part in merged_with_arp(parts) {
                all.extend(alternatives_of_one(&part)?);
                if all.len() > ALTERNATIVES_MAX {
                    return None;
                }
            }
            Some(all)
        }
        other => alternatives_of_one(&Part::Node(other)),
    }
}

/// A part of an `or`.
pub(super) enum Part<'a> {
    Node(&'a Node),
    /// The addresses in IPv4 and in ARP alike: what `host` without a family has become.
    V4OrArp(Direction, u32, u32),
}

fn merged_with_arp(parts: &[Node]) -> Vec<Part<'_>> {
    let arp = |node: &Node| match *node {
        Node::Test(Test::Arp {
            direction,
            low,
            high,
        }) => Some((direction, low, high)),
        _ => None,
    };
    let ip = |node: &Node| match *node {
        Node::Test(Test::Ip4 {
            direction,
            low,
            high,
        }) => Some((direction, low, high)),
        _ => None,
    };
    let in_arp: HashSet<_> = parts.iter().filter_map(arp).collect();
    let in_both: HashSet<_> = parts
        .iter()
        .filter_map(ip)
        .filter(|found| in_arp.contains(found))
        .collect();
    parts
        .iter()
        .filter(|part| arp(part).is_none_or(|found| !in_both.contains(&found)))
        .map(|part| match ip(part) {
            Some(found) if in_both.contains(&found) => Part::V4OrArp(found.0, found.1, found.2),
            _ => Part::Node(part),
        })
        .collect()
}

/// The parts of a rule that may be in the index or not, each for itself.
pub(super) fn parts_of(root: &Node) -> Vec<Node> {
    match root {
        Node::Or(parts) => merged_with_arp(parts)
            .iter()
            .map(|part| match *part {
                Part::Node(node) => node.clone(),
                Part::V4OrArp(direction, low, high) => v4_or_arp(direction, low, high),
            })
            .collect(),
        other => vec![other.clone()],
    }
}

pub(super) fn v4_or_arp(direction: Direction, low: u32, high: u32) -> Node {
    let ip = Test::Ip4 {
        direction,
        low,
        high,
    };
    let arp = Test::Arp {
        direction,
        low,
        high,
    };
    Node::Or([Node::Test(ip), Node::Test(arp)].into())
}
