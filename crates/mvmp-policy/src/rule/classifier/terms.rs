//! From one test to what it asks of a key: which words, which of their bits.

use super::conjunction::{
    ALTERNATIVES_MAX, Conjunction, Masked, Part, Place, alternatives, v4_or_arp,
};
use super::key;
use crate::rule::ast::{Direction, LayerWord};
use crate::rule::layers::kind_of;
use crate::rule::matcher::Node;
use crate::rule::test::{Side, Test};

/// A range of addresses becomes at most this many networks.
const NETWORKS_MAX: usize = 8;
/// A range of ports becomes at most this many ports.
const PORTS_MAX: i32 = 8;

/// `None` if they are too many.
pub(super) fn alternatives_of_one(part: &Part<'_>) -> Option<Vec<Conjunction>> {
    let node = match *part {
        Part::V4OrArp(direction, low, high) => {
            let flags = (key::IS_V4, key::V4_OR_ARP_MASK);
            return Some(v4(direction, low, high, flags, v4_or_arp));
        }
        Part::Node(node) => node,
    };
    match node {
        Node::And(_) | Node::Or(_) => alternatives(node),
        Node::Test(test) => Some(of_test(test, node)),
        // That a bit is not set is as good to look up as that it is.
        Node::Not(inner) if matches!(**inner, Node::Test(Test::Fragment)) => {
            Some(vec![field(node, 0, key::IS_FRAGMENT)])
        }
        _ => Some(vec![Conjunction::left(node)]),
    }
}

fn of_test(test: &Test, node: &Node) -> Vec<Conjunction> {
    match *test {
        Test::EtherType(ether_type) => {
            let value = u64::from(ether_type) << key::ETHER_TYPE;
            vec![field(node, value, 0xffff << key::ETHER_TYPE)]
        }
        Test::Fragment => vec![field(node, key::IS_FRAGMENT, key::IS_FRAGMENT)],
        Test::Protocol { version, number } => {
            let (value, mask) = protocol(number);
            let (is, versions) = match version {
                4 => (key::IS_V4, key::VERSION_MASK),
                6 => (key::IS_V6, key::VERSION_MASK),
                _ => (0, 0),
            };
            vec![field(node, value | is, mask | versions)]
        }
        Test::Port {
            protocol,
            direction,
            low,
            high,
        } if high - low < PORTS_MAX => {
            let all: Vec<i32> = (low..=high).collect();
            ports(protocol, direction, &all, node)
        }
        Test::Ports {
            protocol,
            direction,
            ref ports,
        } if ports.len() <= ALTERNATIVES_MAX => self::ports(protocol, direction, ports, node),
        Test::Ip4 {
            direction,
            low,
            high,
        } => {
            let flags = (key::IS_V4, key::VERSION_MASK);
            v4(direction, low, high, flags, |direction, low, high| {
                Node::Test(Test::Ip4 {
                    direction,
                    low,
                    high,
                })
            })
        }
        Test::Arp {
            direction,
            low,
            high,
        } => {
            let flags = (key::IS_ARP, key::VERSION_MASK);
            v4(direction, low, high, flags, |direction, low, high| {
                Node::Test(Test::Arp {
                    direction,
                    low,
                    high,
                })
            })
        }
        Test::Ip6 {
            direction,
            low,
            high,
        } => v6(direction, low, high, node),
        Test::Mac { direction, mac } => sided(direction, |side| {
            let asked = Test::Mac {
                direction: side.direction(),
                mac,
            };
            let key = Masked::word(key::OWN, key::mac_word(mac), u64::MAX >> 16);
            Conjunction::of(Place::Mac(side), key, Node::Test(asked))
        }),
        Test::Layer {
            word,
            ids: Some((low, high)),
        } if low == high && !matches!(word, LayerWord::Gre | LayerWord::Ipip) => {
            let own = key::layer_word(kind_of(word), Some(low));
            let key = Masked::word(key::OWN, own, u64::MAX);
            vec![Conjunction::of(Place::Layer, key, node.clone())]
        }
        _ => vec![Conjunction::left(node)],
    }
}

fn field(node: &Node, value: u64, mask: u64) -> Conjunction {
    let key = Masked::word(key::FIELDS, value, mask);
    Conjunction::of(Place::Fields, key, node.clone())
}

fn protocol(number: i16) -> (u64, u64) {
    (
        u64::from(number as u8) << key::PROTOCOL,
        key::PROTOCOL_MASK << key::PROTOCOL,
    )
}

/// One alternative for either side; both sides are one alternative.
fn sided(direction: Direction, one: impl Fn(Side) -> Conjunction) -> Vec<Conjunction> {
    match direction {
        Direction::Src => vec![one(Side::Src)],
        Direction::Dst => vec![one(Side::Dst)],
        Direction::Either => vec![one(Side::Src), one(Side::Dst)],
        Direction::Both => vec![one(Side::Src).and(&one(Side::Dst))],
    }
}

fn ports(protocol: i16, direction: Direction, ports: &[i32], node: &Node) -> Vec<Conjunction> {
    if direction == Direction::Both && ports.len() > 1 {
        // Any of them on either side: pairs.
        return vec![Conjunction::left(node)];
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
            value |= u64::from(port as u16) << at;
            mask |= key::PORT_MASK << at;
            let asked = Test::Port {
                protocol,
                direction: side.direction(),
                low: port,
                high: port,
            };
            field(&Node::Test(asked), value, mask)
        })
    };
    ports.iter().copied().flat_map(one).collect()
}

fn v4(
    direction: Direction,
    low: u32,
    high: u32,
    flags: (u64, u64),
    asked: impl Fn(Direction, u32, u32) -> Node,
) -> Vec<Conjunction> {
    let networks = networks(low, high);
    if networks.len() > NETWORKS_MAX || direction == Direction::Both && networks.len() > 1 {
        return vec![Conjunction::left(&asked(direction, low, high))];
    }
    let one = |&(net, mask): &(u32, u32)| {
        sided(direction, |side| {
            let shift = if side == Side::Src { 32 } else { 0 };
            let mut key = Masked::word(key::FIELDS, flags.0, flags.1);
            key.value[key::OWN] = u64::from(net) << shift;
            key.mask[key::OWN] = u64::from(mask) << shift;
            let asked = asked(side.direction(), net, net | !mask);
            Conjunction::of(Place::Addresses, key, asked)
        })
    };
    networks.iter().flat_map(one).collect()
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

fn v6(direction: Direction, low: u128, high: u128, node: &Node) -> Vec<Conjunction> {
    let differs = low ^ high;
    let is_network = differs & differs.wrapping_add(1) == 0 && low & differs == 0;
    if !is_network {
        return vec![Conjunction::left(node)];
    }
    let mask = !differs;
    sided(direction, |side| {
        let mut key = Masked::default();
        (key.value[key::OWN], key.value[key::OWN_LOW]) = ((low >> 64) as u64, low as u64);
        (key.mask[key::OWN], key.mask[key::OWN_LOW]) = ((mask >> 64) as u64, mask as u64);
        let asked = Test::Ip6 {
            direction: side.direction(),
            low,
            high,
        };
        Conjunction::of(Place::V6(side), key, Node::Test(asked))
    })
}

impl Side {
    fn direction(self) -> Direction {
        match self {
            Self::Src => Direction::Src,
            Self::Dst => Direction::Dst,
        }
    }
}
