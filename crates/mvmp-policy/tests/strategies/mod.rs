//! Random packets and random rules that have a fair chance to meet: both draw from small pools.

mod labels;
mod tunnels;

pub use labels::labelled;

use mvmp_policy::rule::{
    Comparison, Direction, Expr, Family, LayerWord, Net, Primitive, Protocol, Transport,
};
use mvmp_wire::packet::{LayerSet, Link};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const V4: [[u8; 4]; 4] = [[10, 0, 0, 1], [10, 1, 2, 3], [192, 0, 2, 7], [0, 0, 0, 0]];
const PORTS: [u16; 5] = [0, 53, 80, 443, 65_535];
const PROTOCOLS: [u8; 8] = [6, 17, 132, 1, 58, 47, 44, 0];
const MACS: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [0xff; 6]];
const VLANS: [u16; 4] = [0, 1, 42, 4_095];

fn v6() -> impl Strategy<Value = [u8; 16]> {
    select(vec!["2001:db8::1", "2001:db8::2", "fe80::7", "::"])
        .prop_map(|text| text.parse::<Ipv6Addr>().unwrap().octets())
}

/// A frame and what its first byte is: mostly sound, sometimes cut short or with bytes changed.
pub fn packet() -> impl Strategy<Value = (Vec<u8>, Link)> {
    let sound = prop_oneof![
        4 => ethernet().prop_map(|frame| (frame, Link::Ethernet)),
        1 => ipv4().prop_map(|frame| (frame, Link::Ipv4)),
        1 => ipv6().prop_map(|frame| (frame, Link::Ipv6)),
        1 => vec(any::<u8>(), 0..80).prop_map(|frame| (frame, Link::Ethernet)),
        1 => labelled(),
        5 => tunnels::wrapped(prop_oneof![
            ethernet().prop_map(|frame| (frame, Link::Ethernet)),
            ipv4().prop_map(|frame| (frame, Link::Ipv4)),
            ipv6().prop_map(|frame| (frame, Link::Ipv6)),
        ]),
    ];
    let cut = prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    let changes =
        prop_oneof![3 => Just(vec![]), 1 => vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)];
    (sound, cut, changes).prop_map(|((mut frame, link), cut, changes)| {
        for (place, byte) in changes {
            if !frame.is_empty() {
                let place = place.index(frame.len());
                frame[place] = byte;
            }
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len() + 1));
        }
        (frame, link)
    })
}

fn ethernet() -> impl Strategy<Value = Vec<u8>> {
    let tag = (
        select(vec![0x8100u16, 0x88a8, 0x9100]),
        select(VLANS.to_vec()),
        0..16u16,
    );
    let body = prop_oneof![
        3 => ipv4().prop_map(|body| (0x0800u16, body)),
        2 => ipv6().prop_map(|body| (0x86dd, body)),
        1 => arp().prop_map(|body| (0x0806, body)),
        1 => (any::<u16>(), vec(any::<u8>(), 0..60)),
    ];
    (
        select(MACS.to_vec()),
        select(MACS.to_vec()),
        vec(tag, 0..5),
        body,
    )
        .prop_map(|(dst, src, tags, (ether_type, body))| {
            let mut frame = [dst, src].concat();
            for (tpid, id, above) in tags {
                frame.extend(tpid.to_be_bytes());
                frame.extend((id | above << 12).to_be_bytes());
            }
            frame.extend(ether_type.to_be_bytes());
            frame.extend(body);
            frame
        })
}

fn arp() -> impl Strategy<Value = Vec<u8>> {
    (select(V4.to_vec()), select(V4.to_vec()), 0..4u8).prop_map(|(sender, target, padding)| {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
        arp.extend(sender);
        arp.extend([0; 6]);
        arp.extend(target);
        arp.extend(vec![0; usize::from(padding)]);
        arp
    })
}

fn upper() -> impl Strategy<Value = Vec<u8>> {
    (
        select(PORTS.to_vec()),
        select(PORTS.to_vec()),
        vec(any::<u8>(), 0..24),
    )
        .prop_map(|(src, dst, rest)| [&src.to_be_bytes()[..], &dst.to_be_bytes(), &rest].concat())
}

fn ipv4() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![4 => Just(0u16), 1 => Just(0x4000), 1 => Just(0x2000), 1 => Just(0x2005), 1 => Just(7)];
    let length_error = prop_oneof![6 => Just(0i32), 1 => -40..40i32];
    (
        select(V4.to_vec()),
        select(V4.to_vec()),
        select(PROTOCOLS.to_vec()),
        5..8u8,
        fragment,
        length_error,
        upper(),
    )
        .prop_map(
            |(src, dst, protocol, words, fragment, length_error, upper)| {
                let header = usize::from(words) * 4;
                let mut ip = vec![0; header];
                ip[0] = 0x40 | words;
                let total = (header + upper.len()) as i32 + length_error;
                ip[2..4].copy_from_slice(&(total.max(0) as u16).to_be_bytes());
                ip[6..8].copy_from_slice(&fragment.to_be_bytes());
                ip[9] = protocol;
                ip[12..16].copy_from_slice(&src);
                ip[16..20].copy_from_slice(&dst);
                ip.extend(upper);
                ip
            },
        )
}

fn ipv6() -> impl Strategy<Value = Vec<u8>> {
    let extension = (
        select(vec![0u8, 43, 44, 51, 60]),
        0..2u8,
        select(vec![0u16, 1, 8, 0x6]),
    );
    let length_error = prop_oneof![6 => Just(0i32), 1 => -40..40i32];
    (
        v6(),
        v6(),
        select(PROTOCOLS.to_vec()),
        vec(extension, 0..3),
        length_error,
        upper(),
    )
        .prop_map(|(src, dst, protocol, extensions, length_error, upper)| {
            let mut kinds: Vec<u8> = extensions.iter().map(|(kind, _, _)| *kind).collect();
            kinds.push(protocol);
            let mut rest = Vec::new();
            for (i, (kind, length, word)) in extensions.iter().enumerate() {
                let bytes = match kind {
                    44 => 8,
                    51 => 8 + 4 * usize::from(*length),
                    _ => 8 + 8 * usize::from(*length),
                };
                let mut header = vec![0; bytes];
                header[0] = kinds[i + 1];
                header[1] = if *kind == 44 { 0 } else { *length };
                header[2..4].copy_from_slice(&word.to_be_bytes());
                rest.extend(header);
            }
            rest.extend(upper);
            let length = (rest.len() as i32 + length_error).max(0) as u16;
            let mut ip = vec![0x60, 0, 0, 0];
            ip.extend(length.to_be_bytes());
            ip.extend([kinds[0], 64]);
            ip.extend(src);
            ip.extend(dst);
            ip.extend(rest);
            ip
        })
}

fn direction() -> impl Strategy<Value = Direction> {
    select(vec![
        Direction::Either,
        Direction::Src,
        Direction::Dst,
        Direction::Both,
    ])
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        2 => select(V4.to_vec()).prop_map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
        1 => v6().prop_map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
    ]
}

/// A family that such an address can have.
fn family(address: IpAddr) -> impl Strategy<Value = Option<Family>> {
    select(match address {
        IpAddr::V4(_) => vec![None, None, Some(Family::Ip), Some(Family::Arp)],
        IpAddr::V6(_) => vec![None, Some(Family::Ip6)],
    })
}

pub fn primitive() -> impl Strategy<Value = Primitive> {
    let protocol = select(vec![
        Protocol::Ip,
        Protocol::Ip6,
        Protocol::Arp,
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Icmp,
        Protocol::Icmp6,
        Protocol::Sctp,
    ]);
    let host = (address(), direction()).prop_flat_map(|(address, direction)| {
        family(address).prop_map(move |family| Primitive::Host {
            family,
            direction,
            address,
        })
    });
    let net = (address(), direction(), 0..=128u8).prop_flat_map(|(address, direction, prefix)| {
        let prefix = if address.is_ipv4() {
            prefix % 33
        } else {
            prefix
        };
        let net = Net::of(address, prefix);
        family(address).prop_map(move |family| Primitive::Net {
            family,
            direction,
            net,
        })
    });
    let transport = select(vec![
        None,
        None,
        Some(Transport::Tcp),
        Some(Transport::Udp),
        Some(Transport::Sctp),
    ]);
    let port = (
        transport,
        direction(),
        select(PORTS.to_vec()),
        select(PORTS.to_vec()),
        any::<bool>(),
    )
        .prop_map(|(transport, direction, a, b, single)| {
            let (low, high) = if single { (a, a) } else { (a.min(b), a.max(b)) };
            Primitive::Port {
                transport,
                direction,
                low,
                high,
            }
        });
    let proto_family = select(vec![None, Some(Family::Ip), Some(Family::Ip6)]);
    let ether_type = prop_oneof![select(vec![0x0800u16, 0x0806, 0x86dd]), 0x0600..=0x80ffu16];
    let layer = (
        select(LayerWord::ALL.to_vec()),
        any::<bool>(),
        select(tunnels::IDS.to_vec()),
        select(tunnels::IDS.to_vec()),
    )
        .prop_map(|(word, any, a, b)| {
            let is_long = matches!(word, LayerWord::Gre | LayerWord::Gtp);
            let (a, b) = if is_long {
                (a, b)
            } else {
                (a.min(1_023), b.min(1_023))
            };
            let ids = (!any && word != LayerWord::Ipip).then_some((a.min(b), a.max(b)));
            Primitive::Layer { word, ids }
        });
    let range = (address(), address(), direction()).prop_flat_map(|(a, b, direction)| {
        let (low, high) = match (a, b) {
            (a, b) if a < b && a.is_ipv4() == b.is_ipv4() => (a, b),
            (IpAddr::V4(_), _) => (
                Ipv4Addr::new(10, 0, 0, 1).into(),
                Ipv4Addr::new(10, 1, 0, 0).into(),
            ),
            (IpAddr::V6(_), _) => (
                Ipv6Addr::LOCALHOST.into(),
                Ipv6Addr::from([0x20; 16]).into(),
            ),
        };
        family(low).prop_map(move |family| Primitive::HostRange {
            family,
            direction,
            low,
            high,
        })
    });
    let flags = (0..512u16, 0..512u16)
        .prop_filter("flags of either kind", |(set, clear)| set | clear != 0)
        .prop_map(|(set, clear)| Primitive::TcpFlags {
            set: set & !clear & 0x13,
            clear: clear & 0x1ff,
        })
        .prop_filter("flags", |flags| {
            !matches!(flags, Primitive::TcpFlags { set: 0, clear: 0 })
        });
    let icmp = (any::<bool>(), any::<(u8, u8)>(), any::<Option<(u8, u8)>>()).prop_map(
        |(six, types, codes)| {
            let ordered = |(a, b): (u8, u8)| (a.min(b), a.max(b));
            Primitive::Icmp {
                six,
                types: ordered(types),
                codes: codes.map(ordered),
            }
        },
    );
    let comparison = select(vec![
        Comparison::Less,
        Comparison::AtMost,
        Comparison::Equal,
        Comparison::Unequal,
        Comparison::AtLeast,
        Comparison::Greater,
    ]);
    let length = (comparison, prop_oneof![0..150u32, Just(u32::MAX)])
        .prop_map(|(comparison, bytes)| Primitive::Length(comparison, bytes));
    prop_oneof![
        3 => layer,
        1 => range,
        1 => flags,
        1 => icmp,
        1 => length,
        1 => Just(Primitive::Fragment),
        3 => protocol.prop_map(Primitive::Protocol),
        1 => (proto_family, select(PROTOCOLS.to_vec())).prop_map(|(family, number)| Primitive::IpProto { family, number }),
        1 => ether_type.prop_map(Primitive::EtherProto),
        1 => (direction(), select(MACS.to_vec())).prop_map(|(direction, mac)| Primitive::EtherHost { direction, mac }),
        3 => host,
        3 => net,
        4 => port,
    ]
}

/// An expression as the parser would build it: `and` and `or` do not nest in themselves.
pub fn expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        1 => Just(Expr::All),
        1 => Just(Expr::None),
        12 => primitive().prop_map(Expr::Is),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Expr::Not(Box::new(inner))),
            inner.clone().prop_map(|inner| Expr::Outer(Box::new(inner))),
            vec(inner.clone(), 2..5).prop_map(|parts| {
                Expr::And(
                    parts
                        .into_iter()
                        .flat_map(|part| match part {
                            Expr::And(inner) => inner,
                            other => vec![other],
                        })
                        .collect(),
                )
            }),
            vec(inner, 2..5).prop_map(|parts| {
                Expr::Or(
                    parts
                        .into_iter()
                        .flat_map(|part| match part {
                            Expr::Or(inner) => inner,
                            other => vec![other],
                        })
                        .collect(),
                )
            }),
        ]
    })
}

/// What `decap` and `strip` may name together.
pub fn jump() -> impl Strategy<Value = LayerSet> {
    let some = vec(select(LayerSet::AUTO.words().collect::<Vec<_>>()), 1..4).prop_map(|words| {
        let sets = words.into_iter().filter_map(LayerSet::from_word);
        sets.fold(LayerSet::default(), LayerSet::union)
    });
    prop_oneof![
        2 => Just(LayerSet::default()),
        2 => Just(LayerSet::AUTO),
        3 => some,
    ]
}
