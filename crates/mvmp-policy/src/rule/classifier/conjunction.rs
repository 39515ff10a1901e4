//! From a rule to the keys under which the index finds it.
//!
//! A rule that is an `or` of parts is taken part by part. A part becomes alternatives, each an
//! `and` of fields with masks ("source port 80") and of tests that are left to be asked when the
//! fields are found: ranges, negations, what belongs to another key. A part that has an
//! alternative without any field that tells packets apart is not for the index at all.

use std::collections::HashSet;

use super::key::{self, Class, Key};
use crate::rule::ast::{Direction, LayerWord};
use crate::rule::layers::kind_of;
use crate::rule::matcher::Node;
use crate::rule::test::{Side, Test};

/// A part of a rule becomes at most this many alternatives.
const ALTERNATIVES_MAX: usize = 64;
/// A range of addresses becomes at most this many networks.
const NETWORKS_MAX: usize = 8;
/// A range of ports becomes at most this many ports.
const PORTS_MAX: i32 = 8;

/// A value of which some bits count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Masked {
    value: u64,
    mask: u64,
}

/// Which word of a key a test has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
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
struct Conjunction {
    /// Each test, as it would be asked, and its value and mask in up to two words.
    terms: Vec<(Place, [Masked; 2], Node)>,
}

/// An alternative under its key.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub(super) class: Class,
    pub(super) value: Key,
    pub(super) mask: Key,
    /// What remains to be asked of a packet that has this key.
    pub(super) left: Option<Node>,
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
    fn of(place: Place, first: Masked, second: Masked, node: Node) -> Self {
        Self {
            terms: vec![(place, [first, second], node)],
        }
    }

    /// Outer `None`: no field tells packets apart. Inner `None`: a contradiction.
    #[expect(
        clippy::option_option,
        reason = "two answers that mean different things"
    )]
    fn keyed(&self) -> Option<Option<Keyed>> {
        let has = |wanted: Place| self.terms.iter().any(|(place, _, _)| *place == wanted);
        let ports = 0xffff_ffff_u64 << key::DST_PORT;
        let by_port = self
            .terms
            .iter()
            .any(|(place, [fields, _], _)| *place == Place::Fields && fields.mask & ports != 0);
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
        let (mut value, mut mask) = ([0; 3], [0; 3]);
        let mut left = Vec::new();
        let mut layer_taken = false;
        for (place, words, node) in &self.terms {
            // A packet has several layers: one is looked up, the others are asked for.
            let again = *place == Place::Layer && layer_taken;
            if *place == Place::Fields {
                merge(&mut value, &mut mask, class.fields_at(), words[0])?;
            } else if *place == own && !again {
                layer_taken |= own == Place::Layer;
                merge(&mut value, &mut mask, 0, words[0])?;
                let second = if class.fields_at() == 2 {
                    1
                } else {
                    class.fields_at()
                };
                merge(&mut value, &mut mask, second, words[1])?;
            } else {
                left.push(node.clone());
            }
        }
        let left = match left.len() {
            0 => None,
            1 => left.pop(),
            _ => Some(Node::And(left.into())),
        };
        Some(Keyed {
            class,
            value,
            mask,
            left,
        })
    }
}

/// `None` if a bit would have to have two values.
fn merge(value: &mut Key, mask: &mut Key, word: usize, more: Masked) -> Option<()> {
    let common = mask[word] & more.mask;
    if (value[word] ^ more.value) & common != 0 {
        return None;
    }
    value[word] |= more.value;
    mask[word] |= more.mask;
    Some(())
}

fn alternatives(node: &Node) -> Option<Vec<Conjunction>> {
    match node {
        Node::And(parts) => {
            let mut all = vec![Conjunction::default()];
            for part in parts {
                let some = alternatives(part).unwrap_or_else(|| vec![left(part)]);
                let fits = all.len().saturating_mul(some.len()) <= ALTERNATIVES_MAX;
                let some = if fits { some } else { vec![left(part)] };
                all = all
                    .iter()
                    .flat_map(|one| some.iter().map(move |other| both(one, other)))
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

fn left(node: &Node) -> Conjunction {
    Conjunction::of(
        Place::Left,
        Masked::default(),
        Masked::default(),
        node.clone(),
    )
}

fn both(one: &Conjunction, other: &Conjunction) -> Conjunction {
    Conjunction {
        terms: [one.terms.as_slice(), &other.terms].concat(),
    }
}

/// A part of an `or`.
enum Part<'a> {
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

fn v4_or_arp(direction: Direction, low: u32, high: u32) -> Node {
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

fn alternatives_of_one(part: &Part<'_>) -> Option<Vec<Conjunction>> {
    let test = match part {
        Part::V4OrArp(direction, low, high) => {
            let asked = |direction, low, high| v4_or_arp(direction, low, high);
            return v4(*direction, *low, *high, key::HAS_V4, asked);
        }
        Part::Node(Node::Test(test)) => test,
        Part::Node(node @ (Node::And(_) | Node::Or(_))) => return alternatives(node),
        Part::Node(node) => return Some(vec![left(node)]),
    };
    match *test {
        Test::EtherType(ether_type) => Some(vec![field(
            test,
            u64::from(ether_type) << key::ETHER_TYPE,
            0xffff << key::ETHER_TYPE,
        )]),
        Test::Fragment => Some(vec![field(test, key::IS_FRAGMENT, key::IS_FRAGMENT)]),
        Test::Protocol { version, number } => {
            let flag = match version {
                4 => key::IS_V4,
                6 => key::IS_V6,
                _ => 0,
            };
            let (value, mask) = protocol(number);
            Some(vec![field(test, value | flag, mask | flag)])
        }
        Test::Port {
            protocol,
            direction,
            low,
            high,
        } if high - low < PORTS_MAX => {
            ports(protocol, direction, &(low..=high).collect::<Vec<_>>())
        }
        Test::Ports {
            protocol,
            direction,
            ref ports,
        } if ports.len() <= ALTERNATIVES_MAX => self::ports(protocol, direction, ports),
        Test::Ip4 {
            direction,
            low,
            high,
        } => v4(direction, low, high, key::IS_V4, |direction, low, high| {
            Node::Test(Test::Ip4 {
                direction,
                low,
                high,
            })
        }),
        Test::Arp {
            direction,
            low,
            high,
        } => v4(
            direction,
            low,
            high,
            key::HAS_V4 | key::IS_ARP,
            |direction, low, high| {
                Node::Test(Test::Arp {
                    direction,
                    low,
                    high,
                })
            },
        ),
        Test::Ip6 {
            direction,
            low,
            high,
        } => v6(direction, low, high),
        Test::Mac { direction, mac } => {
            let one = |side: Side| {
                let word = Masked {
                    value: key::mac_word(mac),
                    mask: u64::MAX >> 16,
                };
                let asked = Test::Mac {
                    direction: side.direction(),
                    mac,
                };
                Conjunction::of(Place::Mac(side), word, Masked::default(), Node::Test(asked))
            };
            Some(sided(direction, one))
        }
        Test::Layer { word, low, high }
            if low == high && !matches!(word, LayerWord::Gre | LayerWord::Ipip) =>
        {
            let word = Masked {
                value: key::layer_word(kind_of(word), low),
                mask: u64::MAX,
            };
            Some(vec![Conjunction::of(
                Place::Layer,
                word,
                Masked::default(),
                Node::Test(test.clone()),
            )])
        }
        _ => Some(vec![left(&Node::Test(test.clone()))]),
    }
}

fn field(test: &Test, value: u64, mask: u64) -> Conjunction {
    let word = Masked { value, mask };
    Conjunction::of(
        Place::Fields,
        word,
        Masked::default(),
        Node::Test(test.clone()),
    )
}

fn protocol(number: i16) -> (u64, u64) {
    let value = u64::from(number as u8) << key::PROTOCOL | key::HAS_PROTOCOL;
    (value, 0xff << key::PROTOCOL | key::HAS_PROTOCOL)
}

/// One alternative for either side; both sides are one alternative.
fn sided(direction: Direction, one: impl Fn(Side) -> Conjunction) -> Vec<Conjunction> {
    match direction {
        Direction::Src => vec![one(Side::Src)],
        Direction::Dst => vec![one(Side::Dst)],
        Direction::Either => vec![one(Side::Src), one(Side::Dst)],
        Direction::Both => vec![both(&one(Side::Src), &one(Side::Dst))],
    }
}

fn ports(protocol: i16, direction: Direction, ports: &[i32]) -> Option<Vec<Conjunction>> {
    if direction == Direction::Both && ports.len() > 1 {
        // Any of them on either side: pairs.
        let test = Test::Ports {
            protocol,
            direction,
            ports: ports.into(),
        };
        return Some(vec![left(&Node::Test(test))]);
    }
    let one = |port: i32| {
        sided(direction, move |side| {
            let at = match side {
                Side::Src => key::SRC_PORT,
                Side::Dst => key::DST_PORT,
            };
            let (mut value, mut mask) = match protocol {
                0.. => self::protocol(protocol),
                _ => (0, 0),
            };
            value |= u64::from(port as u16) << at | key::HAS_PORTS;
            mask |= 0xffff << at | key::HAS_PORTS;
            let asked = Test::Port {
                protocol,
                direction: side.direction(),
                low: port,
                high: port,
            };
            field(&asked, value, mask)
        })
    };
    Some(ports.iter().copied().flat_map(one).collect())
}

fn v4(
    direction: Direction,
    low: u32,
    high: u32,
    flags: u64,
    asked: impl Fn(Direction, u32, u32) -> Node,
) -> Option<Vec<Conjunction>> {
    let networks = networks(low, high);
    if networks.len() > NETWORKS_MAX || direction == Direction::Both && networks.len() > 1 {
        return Some(vec![left(&asked(direction, low, high))]);
    }
    let one = |&(net, mask): &(u32, u32)| {
        // Everything is no field at all.
        sided(direction, |side| {
            let shift = if side == Side::Src { 32 } else { 0 };
            let word = Masked {
                value: u64::from(net) << shift,
                mask: u64::from(mask) << shift,
            };
            let flag = Masked {
                value: flags,
                mask: flags,
            };
            Conjunction::of(
                Place::Addresses,
                word,
                flag,
                asked(side.direction(), net, net | !mask),
            )
        })
    };
    Some(networks.iter().flat_map(one).collect())
}

/// The networks that make up a range, as address and mask; one too many where there are too many.
fn networks(low: u32, high: u32) -> Vec<(u32, u32)> {
    let mut all = Vec::new();
    let mut first = u64::from(low);
    while first <= u64::from(high) && all.len() <= NETWORKS_MAX {
        let mut bits = (first as u32).trailing_zeros();
        while first + (1u64 << bits) - 1 > u64::from(high) {
            bits -= 1;
        }
        all.push((first as u32, u32::MAX.checked_shl(bits).unwrap_or(0)));
        first += 1 << bits;
    }
    all
}

fn v6(direction: Direction, low: u128, high: u128) -> Option<Vec<Conjunction>> {
    let differs = low ^ high;
    let is_network = differs & differs.wrapping_add(1) == 0 && low & differs == 0;
    let asked = |direction| {
        Node::Test(Test::Ip6 {
            direction,
            low,
            high,
        })
    };
    if !is_network {
        return Some(vec![left(&asked(direction))]);
    }
    let mask = !differs;
    let one = |side: Side| {
        let word = |shift: u32| Masked {
            value: (low >> shift) as u64,
            mask: (mask >> shift) as u64,
        };
        Conjunction::of(Place::V6(side), word(64), word(0), asked(side.direction()))
    };
    Some(sided(direction, one))
}
