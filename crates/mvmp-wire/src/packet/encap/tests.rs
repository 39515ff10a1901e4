//! What is put around a packet is jumped over again, and nothing of the packet is lost.

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::checksum::Sum;
use super::super::{LayerSet, Stop, TunnelPorts, parse, walk_stack};
use super::*;
use crate::packet::{Link, Stack};

fn addresses(six: bool) -> impl Strategy<Value = IpAddr> {
    any::<[u8; 16]>().prop_map(move |bytes| {
        if six {
            IpAddr::from(bytes)
        } else {
            IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
        }
    })
}

fn tunnels() -> impl Strategy<Value = Tunnel> {
    any::<bool>().prop_flat_map(|six| {
        (addresses(six), addresses(six), 1u8..).prop_map(|(local, remote, ttl)| Tunnel {
            local,
            remote,
            ttl,
        })
    })
}

fn ip_carriers() -> impl Strategy<Value = EncapLayer> {
    prop_oneof![
        (any::<Option<u32>>(), tunnels()).prop_map(|(key, tunnel)| EncapLayer::Gre { key, tunnel }),
        (0u32..1 << 24, tunnels()).prop_map(|(vni, tunnel)| EncapLayer::Geneve {
            vni,
            port: 6081,
            tunnel
        }),
        tunnels().prop_map(|tunnel| EncapLayer::IpIp { tunnel }),
    ]
}

fn tags() -> impl Strategy<Value = EncapLayer> {
    (
        prop_oneof![Just(0x8100u16), Just(0x88a8)],
        0u16..4095,
        0u8..8,
    )
        .prop_map(|(tpid, id, pcp)| EncapLayer::Vlan { tpid, id, pcp })
}

/// Layers of which the first must carry `ethernet` or IP; with at most two tunnels they have room.
fn specs(ethernet: bool) -> impl Strategy<Value = EncapSpec> {
    let first = if ethernet {
        prop_oneof![
            (any::<Option<u32>>(), tunnels())
                .prop_map(|(key, tunnel)| EncapLayer::Gre { key, tunnel }),
            (0u32..1 << 24, tunnels()).prop_map(|(vni, tunnel)| EncapLayer::Vxlan {
                vni,
                port: 4789,
                tunnel
            }),
            (0u32..1 << 24, tunnels()).prop_map(|(vni, tunnel)| EncapLayer::Geneve {
                vni,
                port: 6081,
                tunnel
            }),
        ]
        .boxed()
    } else {
        ip_carriers().boxed()
    };
    let more = proptest::option::of(ip_carriers());
    (first, more, proptest::collection::vec(tags(), 0..2)).prop_map(|(first, more, tags)| {
        let mut layers = vec![first];
        layers.extend(more);
        layers.extend(tags);
        EncapSpec { layers }
    })
}

/// A sound packet that begins with this: IPv4 or IPv6 with UDP.
fn packets() -> impl Strategy<Value = (Vec<u8>, Link)> {
    (
        any::<bool>(),
        any::<bool>(),
        any::<[u8; 16]>(),
        any::<u8>(),
        proptest::collection::vec(any::<u8>(), 0..100),
    )
        .prop_map(|(ethernet, six, seed, tos, payload)| {
            let mut bytes = Vec::new();
            let length = payload.len() as u16 + 8;
            if ethernet {
                bytes.extend(&seed[..12]);
                bytes.extend(if six { [0x86, 0xdd] } else { [8, 0] });
            }
            if six {
                bytes.extend([0x60 | tos >> 4, tos << 4, 0, 0]);
                bytes.extend(length.to_be_bytes());
                bytes.extend([17, 9]);
                bytes.extend(seed);
                bytes.extend(seed.map(|byte| !byte));
            } else {
                bytes.extend([0x45, tos]);
                bytes.extend((length + 20).to_be_bytes());
                bytes.extend([0, 0, 0, 0, 9, 17, 0, 0]);
                bytes.extend(&seed[..8]);
            }
            // To a port that is no tunnel's.
            bytes.extend([seed[0], seed[1], 0, 53]);
            bytes.extend(length.to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(payload);
            let link = match (ethernet, six) {
                (true, _) => Link::Ethernet,
                (false, false) => Link::Ipv4,
                (false, true) => Link::Ipv6,
            };
            (bytes, link)
        })
}

fn put_on(encap: &Encap, frame: &[u8], link: Link) -> Result<(Vec<u8>, Link), NoEncap> {
    let hash = parse(frame, link).flow_hash;
    let mut out = [0xee; ENCAP_BYTES_MAX];
    let built = encap.build(frame, link, hash, &mut out)?;
    Ok((
        [&out[..built.headers], &frame[built.skip..]].concat(),
        built.link,
    ))
}

fn stack_of(frame: &[u8], link: Link) -> Stack {
    let mut stack = Stack::default();
    walk_stack(frame, link, &TunnelPorts::default(), &mut stack);
    stack
}

const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

proptest! {
    #[test]
    fn what_is_put_on_is_jumped_over_again(
        ((frame, link), spec) in packets().prop_flat_map(|packet| {
            let spec = specs(packet.1 == Link::Ethernet);
            (Just(packet), spec)
        }),
        addressed: bool,
    ) {
        let ethernet = addressed.then_some(ETHERNET);
        let encap = match Encap::new(&spec, ethernet) {
            Ok(encap) => encap,
            Err(EncapError::NoEthernet) => {
                prop_assert!(!addressed);
                return Ok(());
            }
            Err(error) => {
                prop_assert!(matches!(error, EncapError::TooLong(_)), "{error}");
                return Ok(());
            }
        };
        let (packet, begins) = put_on(&encap, &frame, link).expect("each layer can carry what is in it");
        prop_assert_eq!(packet.len(), frame.len() + encap.overhead());
        prop_assert_eq!(begins == Link::Ethernet, addressed);
        let stack = stack_of(&packet, begins);
        prop_assert_eq!(stack.stop(), Stop::Whole);
        let view = stack.view(LayerSet::AUTO);
        prop_assert_eq!(view.of(&packet), &frame[..]);
        prop_assert_eq!(view.link, link);
        prop_assert_eq!(stack.innermost_hash(), parse(&frame, link).flow_hash);
    }

    #[test]
    fn tags_are_put_on_and_taken_off_again((frame, link) in packets(), list in proptest::collection::vec(tags(), 1..4)) {
        let on = Encap::new(&EncapSpec { layers: list.clone() }, None).expect("a few tags have room");
        if link != Link::Ethernet {
            prop_assert_eq!(put_on(&on, &frame, link), Err(NoEncap::NoEthernet));
            return Ok(());
        }
        let (tagged, _) = put_on(&on, &frame, link).expect("Ethernet takes tags");
        let ids: Vec<_> = stack_of(&tagged, link).layers().iter().filter_map(|layer| layer.id()).map(|id| id as u16).collect();
        let expected: Vec<_> = list.iter().rev().map(|layer| match layer { EncapLayer::Vlan { id, .. } => *id, _ => 0 }).collect();
        prop_assert_eq!(ids, expected);
        let off = EncapSpec { layers: vec![EncapLayer::PopVlan; list.len() + 1] };
        let off = Encap::new(&off, None).expect("pops have no size");
        prop_assert_eq!(put_on(&off, &tagged, link), Ok((frame.clone(), link)));
        let both = EncapSpec { layers: [list.clone(), vec![EncapLayer::PopVlan; list.len()]].concat() };
        prop_assert!(Encap::new(&both, None).expect("they cancel").is_empty());
    }

    #[test]
    fn any_bytes_are_built_or_refused_within_bounds(
        frame in proptest::collection::vec(any::<u8>(), 0..80),
        link in prop_oneof![Just(Link::Ethernet), Just(Link::Ipv4), Just(Link::Ipv6)],
        layers in proptest::collection::vec(prop_oneof![ip_carriers(), tags(), Just(EncapLayer::PopVlan)], 0..4),
        addressed: bool,
    ) {
        if let Ok(encap) = Encap::new(&EncapSpec { layers }, addressed.then_some(ETHERNET))
            && let Ok((packet, _)) = put_on(&encap, &frame, link) {
            prop_assert!(packet.len() <= frame.len() + encap.overhead());
        }
    }
}

fn vxlan(vni: u32) -> EncapLayer {
    EncapLayer::Vxlan {
        vni,
        port: 4789,
        tunnel: tunnel4(),
    }
}

fn tag(id: u16, pcp: u8, tpid: u16) -> EncapLayer {
    EncapLayer::Vlan { tpid, id, pcp }
}

fn tunnel4() -> Tunnel {
    Tunnel {
        local: IpAddr::from([192, 0, 2, 1]),
        remote: IpAddr::from([192, 0, 2, 7]),
        ttl: 64,
    }
}

#[test]
fn what_cannot_be_is_refused_when_it_is_compiled() {
    let new = |layers: Vec<EncapLayer>| Encap::new(&EncapSpec { layers }, None).map(|_| ());
    let mixed = Tunnel {
        remote: IpAddr::from([0; 16]),
        ..tunnel4()
    };
    let unborn = Tunnel {
        ttl: 0,
        ..tunnel4()
    };
    let six = EncapLayer::IpIp {
        tunnel: Tunnel {
            local: IpAddr::from([1; 16]),
            remote: IpAddr::from([2; 16]),
            ttl: 1,
        },
    };
    assert_eq!(new(vec![vxlan(1 << 24)]), Err(EncapError::Vni(1 << 24)));
    assert_eq!(
        new(vec![tag(4095, 0, 0x8100)]),
        Err(EncapError::VlanId(4095))
    );
    assert_eq!(new(vec![tag(1, 8, 0x8100)]), Err(EncapError::Priority(8)));
    assert_eq!(new(vec![tag(1, 1, 0x0800)]), Err(EncapError::Tpid(0x0800)));
    assert_eq!(
        new(vec![EncapLayer::IpIp { tunnel: mixed }]),
        Err(EncapError::Families)
    );
    assert_eq!(
        new(vec![EncapLayer::IpIp { tunnel: unborn }]),
        Err(EncapError::Ttl)
    );
    assert_eq!(new(vec![vxlan(1), vxlan(2)]), Err(EncapError::NotEthernet));
    assert_eq!(
        new(vec![vxlan(1), tag(1, 1, 0x8100)]),
        Err(EncapError::NoEthernet)
    );
    assert_eq!(
        new(vec![vxlan(1), EncapLayer::PopVlan]),
        Err(EncapError::NothingToPop)
    );
    assert_eq!(new(vec![six; 3]), Err(EncapError::TooLong(132)));
    let between = vec![
        vxlan(1),
        tag(1, 1, 0x8100),
        EncapLayer::IpIp { tunnel: tunnel4() },
    ];
    let between = Encap::new(&EncapSpec { layers: between }, Some(ETHERNET)).map(|_| ());
    assert_eq!(between, Err(EncapError::TagBetween));
}

#[test]
fn what_a_packet_cannot_leave_with_is_refused_by_name() {
    let of = |layer: EncapLayer| {
        Encap::new(
            &EncapSpec {
                layers: vec![layer],
            },
            None,
        )
        .expect("sound")
    };
    let vxlan = of(vxlan(1));
    let ipip = of(EncapLayer::IpIp { tunnel: tunnel4() });
    assert_eq!(
        put_on(&vxlan, &[0x45; 40], Link::Ipv4),
        Err(NoEncap::NoEthernet)
    );
    assert_eq!(put_on(&ipip, &[0; 40], Link::Ethernet), Err(NoEncap::NotIp));
    assert_eq!(
        put_on(&vxlan, &[0; 13], Link::Ethernet),
        Err(NoEncap::Short)
    );
    assert_eq!(
        put_on(&vxlan, &[0; 65_500], Link::Ethernet),
        Err(NoEncap::TooLong)
    );
}

#[test]
fn the_outer_packet_says_what_it_should() {
    let spec = EncapSpec {
        layers: vec![
            EncapLayer::Vxlan {
                vni: 42,
                port: 4789,
                tunnel: tunnel4(),
            },
            EncapLayer::Vlan {
                tpid: 0x8100,
                id: 7,
                pcp: 5,
            },
        ],
    };
    let encap = Encap::new(&spec, Some(ETHERNET)).expect("sound");
    let mut frame = vec![0; 60];
    frame[12..14].copy_from_slice(&[8, 0]);
    // DSCP 46 and a congestion mark, of which the outer packet takes the first.
    frame[14..16].copy_from_slice(&[0x45, 46 << 2 | 3]);
    let mut out = [0; ENCAP_BYTES_MAX];
    let built = encap
        .build(&frame, Link::Ethernet, 0x0001_0003, &mut out)
        .expect("Ethernet");
    assert_eq!(
        (built.headers, built.skip, built.link),
        (68 - 14, 0, Link::Ethernet)
    );
    let out = &out[..built.headers];
    assert_eq!(out[..12], ETHERNET);
    assert_eq!(out[12..18], [0x81, 0, 0xa0, 7, 8, 0]);
    assert_eq!(
        out[18..30],
        [
            0x45,
            46 << 2,
            0,
            96,
            0,
            0,
            0x40,
            0,
            64,
            17,
            out[28],
            out[29]
        ]
    );
    assert_eq!(Sum::default().add(&out[18..38]).finish(), 0);
    assert_eq!(out[38..46], [0xc0, 2, 0x12, 0xb5, 0, 76, 0, 0]);
    assert_eq!(out[46..54], [8, 0, 0, 0, 0, 0, 42, 0]);
}

#[test]
fn udp_over_ipv6_has_a_checksum_over_headers_and_packet() {
    let tunnel = Tunnel {
        local: IpAddr::from([0x20; 16]),
        remote: IpAddr::from([0x30; 16]),
        ttl: 1,
    };
    let spec = EncapSpec {
        layers: vec![
            EncapLayer::Vlan {
                tpid: 0x8100,
                id: 7,
                pcp: 0,
            },
            EncapLayer::Vxlan {
                vni: 42,
                port: 4789,
                tunnel,
            },
        ],
    };
    let encap = Encap::new(&spec, None).expect("sound");
    let frame: Vec<u8> = (0..101).collect();
    let (packet, link) = put_on(&encap, &frame, Link::Ethernet).expect("Ethernet");
    assert_eq!((packet.len(), link), (101 + 4 + 56, Link::Ipv6));
    let length = packet.len() as u32 - 40;
    let sum = Sum::default().add(&packet[8..40]).add_number(length + 17);
    assert_eq!(sum.add(&packet[40..]).finish(), 0);
}

#[test]
fn no_more_tags_come_off_than_a_packet_may_have() {
    let off = |count| {
        let layers = vec![EncapLayer::PopVlan; count];
        Encap::new(&EncapSpec { layers }, None)
    };
    assert!(off(8).is_ok());
    assert_eq!(off(9).err(), Some(EncapError::TooManyPops { most: 8 }));
}

#[test]
fn what_is_put_on_is_missing_in_the_mtu_apart_from_one_tag_on_top() {
    let of = |layers: Vec<EncapLayer>| {
        let encap = Encap::new(&EncapSpec { layers }, Some(ETHERNET));
        encap.expect("layers that fit").mtu_bytes()
    };
    let ipip = || EncapLayer::IpIp { tunnel: tunnel4() };
    assert_eq!(of(vec![]), 0);
    assert_eq!(of(vec![EncapLayer::PopVlan]), 0);
    assert_eq!(of(vec![tag(1, 1, 0x8100)]), 0);
    assert_eq!(of(vec![tag(1, 1, 0x88a8)]), 4);
    assert_eq!(of(vec![tag(1, 1, 0x88a8), tag(2, 1, 0x8100)]), 4);
    assert_eq!(of(vec![tag(1, 1, 0x8100), tag(2, 1, 0x88a8)]), 8);
    assert_eq!(of(vec![ipip()]), 20, "it carries IP alone");
    assert_eq!(of(vec![vxlan(1)]), 50);
    assert_eq!(of(vec![vxlan(1), tag(1, 1, 0x8100)]), 50);
    assert_eq!(of(vec![tag(1, 1, 0x8100), vxlan(1)]), 54);
    assert_eq!(of(vec![vxlan(1), ipip()]), 70);
}
