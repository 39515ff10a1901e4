//! What holds of [`walk_stack`] on every frame: sound ones of random layers, broken ones, noise.

use etherparse::LaxSlicedPacket;
use proptest::prelude::*;

use super::nest::Nest;
use super::tunnel::walk_slowly;
use super::*;

/// One layer to put around what is there; `ether` says whether that begins with Ethernet.
fn around(nest: Nest, choice: u8, number: u32) -> Nest {
    let ethernet = is_ethernet(&nest);
    let six = !ethernet && nest.bytes[0] >> 4 == 6;
    let kind = if six { 0x86dd } else { 0x0800 };
    let proto = if ethernet { 0x6558 } else { kind };
    let outer = |nest: Nest, protocol: u8| {
        if number.is_multiple_of(3) {
            nest.ipv6(protocol)
        } else {
            nest.ipv4(protocol)
        }
    };
    match choice % 8 {
        0 if !ethernet => nest.ethernet(kind),
        0 | 1 if !ethernet => nest.vlan(number as u16 & 0xfff, kind).ethernet(0x8100),
        2 if !ethernet => nest.ipv4(if six { 41 } else { 4 }),
        3 if !ethernet => nest
            .within(&(number << 12 | 0x140).to_be_bytes())
            .ethernet(0x8847),
        4 if !ethernet => {
            let length = nest.bytes.len() as u16;
            let mut header = vec![0x30, 255];
            header.extend(length.to_be_bytes());
            header.extend(number.to_be_bytes());
            outer(nest.within(&header).udp(2152), 17)
        }
        5 => outer(nest.gre(0, proto, &[]), 47),
        6 => outer(nest.gre(0x2000, proto, &[number]), 47),
        7 => outer(
            nest.geneve(number & 0x00ff_ffff, proto, number as u8 & 7)
                .udp(6081),
            17,
        ),
        _ if ethernet => outer(nest.vxlan(number & 0x00ff_ffff).udp(4789), 17),
        _ => nest.ethernet(kind),
    }
}

fn is_ethernet(nest: &Nest) -> bool {
    nest.bytes[0] == 2
}

/// A sound frame, with the number of layers put around a user's IPv4 packet.
fn frames() -> impl Strategy<Value = (Vec<u8>, usize)> {
    (
        any::<bool>(),
        proptest::collection::vec((any::<u8>(), any::<u32>()), 0..5),
        proptest::collection::vec(any::<u8>(), 20..60),
        0usize..30,
    )
        .prop_map(|(tcp, choices, mut payload, padding)| {
            let user = if tcp {
                payload[12] = 0x50;
                Nest::new(&payload).ipv4(6)
            } else {
                Nest::new(&payload).udp(53).ipv4(17)
            };
            let count = choices.len();
            let mut nest = choices
                .into_iter()
                .fold(user, |nest, (choice, number)| around(nest, choice, number));
            if !is_ethernet(&nest) {
                let kind = if nest.bytes[0] >> 4 == 6 {
                    0x86dd
                } else {
                    0x0800
                };
                nest = nest.ethernet(kind);
            }
            nest.bytes.extend(std::iter::repeat_n(0xee, padding));
            (nest.bytes, count)
        })
}

fn both(frame: &[u8], link: Link) -> Stack {
    let ports = TunnelPorts::default();
    let (mut stack, mut slow) = (used(), Stack::default());
    let (outer, mut inner) = (parse(frame, link), Headers::default());
    walk_on(frame, &outer, &ports, &mut stack, &mut inner);
    walk_slowly(frame, link, &ports, &mut slow);
    assert_eq!(stack, slow, "the fast way says the same");
    let level = stack.level();
    assert_eq!(inner, parse(level.of(frame), level.link), "parsed once");
    if stack.level() == slow.level() {
        assert_eq!(inner.flow_hash, stack.innermost_hash());
    }
    stack
}

/// A stack in which something of everything was left behind by another frame.
fn used() -> Stack {
    let mut stack = Stack::default();
    let user = Nest::new(&[0; 8]).udp(53).ipv4(17).ethernet(0x0800);
    let frame = user.vxlan(7).udp(4789).ipv6(17).vlan(3, 0x86dd);
    let frame = frame.ethernet(0x8100).bytes;
    walk_stack(&frame, Link::Ethernet, &TunnelPorts::default(), &mut stack);
    stack
}

/// Headers of another frame are a bug, but must not bring the worker down.
fn survives(frame: &[u8], other: &[u8]) {
    let (mut stack, mut inner) = (Stack::default(), Headers::default());
    for link in [Link::Ethernet, Link::Ipv4, Link::Ipv6] {
        let outer = parse(other, link);
        walk_on(
            frame,
            &outer,
            &TunnelPorts::default(),
            &mut stack,
            &mut inner,
        );
        let mut offsets = stack.layers().iter().map(|layer| layer.offset);
        assert!(offsets.all(|offset| usize::from(offset) < frame.len()));
        for word in LayerSet::AUTO.words() {
            let jump = LayerSet::from_word(word).expect("its own word");
            assert!(stack.view(jump).of(frame).len() <= frame.len());
        }
    }
}

/// Everything that holds whatever the bytes are.
fn is_sound(stack: &Stack, frame: &[u8], link: Link) {
    let layers = stack.layers();
    assert!(layers.len() <= DEPTH_MAX && layers.is_sorted_by_key(|layer| layer.offset));
    assert!(
        layers
            .iter()
            .all(|layer| usize::from(layer.offset) < frame.len())
    );
    assert!(layers.iter().all(|layer| stack.has(layer.kind)));
    let words: Vec<_> = LayerSet::AUTO.words().collect();
    for set in 0u32..1 << words.len() {
        // All sets of one or two words, and those that leave one or two out.
        if (3..=words.len() as u32 - 3).contains(&set.count_ones()) {
            continue;
        }
        let named = (0..words.len()).filter(|bit| set >> bit & 1 == 1);
        let jump = named.fold(LayerSet::EMPTY, |jump, bit| {
            jump.union(LayerSet::from_word(words[bit]).expect("its own word"))
        });
        let view = stack.view(jump);
        assert_eq!(view, stack.view_within(jump), "the short way says the same");
        assert!(view.start <= view.end && usize::from(view.end) <= frame.len());
        if view.start == 0 {
            assert_eq!((view.link, view.of(frame)), (link, frame));
        } else {
            // What is delivered can be parsed as what it says it is.
            let found = parse(view.of(frame), view.link);
            let first = found.layers().next().map(Layer::kind);
            assert!(matches!(
                (view.link, first),
                (Link::Ethernet, Some(LayerKind::Ethernet))
                    | (Link::Ipv4, Some(LayerKind::Ipv4))
                    | (Link::Ipv6, Some(LayerKind::Ipv6))
            ));
        }
    }
    agrees_with_parse(stack, frame, link);
}

/// Up to the first IP packet, and for the innermost one alone, a stack says what `parse` says.
fn agrees_with_parse(stack: &Stack, frame: &[u8], link: Link) {
    let found = parse(frame, link);
    let layers = stack.layers();
    for (layer, known) in found.layers().zip(layers) {
        assert_eq!((layer.kind(), layer.offset()), (known.kind, known.offset));
    }
    assert!(found.layers().count() <= layers.len());
    let tag = layers.iter().find(|layer| layer.kind == LayerKind::Vlan);
    if found.vlan >= 0 {
        assert_eq!(tag.and_then(StackLayer::id), Some(found.vlan as u32));
    }
    let ip = |layer: &&StackLayer| matches!(layer.kind, LayerKind::Ipv4 | LayerKind::Ipv6);
    if let Some(innermost) = layers.iter().rfind(ip) {
        let link = if innermost.kind == LayerKind::Ipv4 {
            Link::Ipv4
        } else {
            Link::Ipv6
        };
        let alone = parse(&frame[usize::from(innermost.offset)..], link);
        // Lengths around it may cut what its own length would allow: then only the hash's ports differ.
        if stack.stop() == Stop::Whole {
            assert_eq!(stack.innermost_hash(), alone.flow_hash);
        }
    } else {
        assert_eq!(stack.innermost_hash(), 0);
    }
}

#[test]
fn each_usual_level_is_walked_alike_outside_and_inside() {
    for (six, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        let upper = if tcp {
            Nest::new(&[
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0, 1,
            ])
        } else {
            Nest::new(&[0; 8]).udp(53)
        };
        let protocol = if tcp { 6 } else { 17 };
        let user = if six {
            upper.ipv6(protocol).ethernet(0x86dd)
        } else {
            upper.ipv4(protocol).ethernet(0x0800)
        };
        let plain = both(&user.bytes, Link::Ethernet);
        let inside = user.vxlan(7).udp(4789).ipv6(17).ethernet(0x86dd);
        let inside = both(&inside.bytes, Link::Ethernet);
        assert_eq!((plain.layers().len(), inside.layers().len()), (3, 7));
        let (last, kind) = (plain.layers()[2].kind, inside.layers()[6].kind);
        assert_eq!((last == LayerKind::Tcp, last), (tcp, kind));
    }
}

#[test]
fn a_usual_level_in_vxlan_is_walked_alike_whole_and_broken() {
    let tcp = [
        0, 80, 0, 81, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0, 1,
    ];
    // To nothing, and to other tunnels: GENEVE with IPv4 in it, VXLAN with too little.
    let udp =
        [53, 6081, 4789].map(|port| Nest::new(&[0; 30]).ipv4(1).geneve(9, 0x0800, 0).udp(port));
    for upper in [Nest::new(&tcp)].into_iter().chain(udp) {
        let protocol = if upper.bytes[1] == 80 { 6 } else { 17 };
        for user in [
            upper.clone().ipv4(protocol).ethernet(0x0800),
            upper.ipv6(protocol).ethernet(0x86dd),
        ] {
            let mut frame = user.vxlan(7).udp(4789).ipv4(17).ethernet(0x0800).bytes;
            frame.extend([0xee; 5]);
            let stack = both(&frame, Link::Ethernet);
            is_sound(&stack, &frame, Link::Ethernet);
            assert_eq!(stack.layers()[3].id(), Some(7));
            for length in 0..frame.len() {
                both(&frame[..length], Link::Ethernet);
            }
            for at in 0..frame.len() {
                for byte in [0, 1, 6, 17, 0x46, 0x7f, 0xff] {
                    let mut broken = frame.clone();
                    broken[at] = byte;
                    both(&broken, Link::Ethernet);
                }
            }
        }
    }
}

#[test]
fn more_tags_than_headers_hold_are_walked_alike() {
    for tags in 0..6 {
        let tagged = |nest: Nest| (0..tags).fold(nest, |nest, _| nest.vlan(tags, 0x8100));
        let user = tagged(Nest::new(&[0; 8]).udp(53).ipv4(17).vlan(9, 0x0800)).ethernet(0x8100);
        both(&user.bytes, Link::Ethernet);
        let around = tagged(user.vxlan(7).udp(4789).ipv4(17).vlan(8, 0x0800));
        let stack = both(&around.ethernet(0x8100).bytes, Link::Ethernet);
        assert_eq!(stack.layers().len(), 9 + 2 * usize::from(tags));
    }
}

#[test]
fn a_stack_that_is_full_at_any_layer_is_walked_alike() {
    for depth in 15..30 {
        let user = Nest::new(&[0; 8]).udp(53).ipv4(17);
        let nest = (0..depth).fold(user, |nest, _| nest.ipv4(4));
        let mut stop = both(&nest.clone().ethernet(0x0800).bytes, Link::Ethernet).stop();
        assert_eq!(stop == Stop::TooDeep, depth + 3 > DEPTH_MAX);
        let inner = nest.ethernet(0x0800).vxlan(7).udp(4789).ipv4(17);
        stop = both(&inner.ethernet(0x0800).bytes, Link::Ethernet).stop();
        assert_eq!(stop == Stop::TooDeep, depth + 7 > DEPTH_MAX);
    }
}

proptest! {
    #[test]
    fn a_sound_frame_is_walked_to_its_end((frame, count) in frames()) {
        let stack = both(&frame, Link::Ethernet);
        is_sound(&stack, &frame, Link::Ethernet);
        prop_assert_eq!(stack.stop(), Stop::Whole);
        prop_assert!(stack.layers().len() >= count + 2);
        let innermost = stack.layers().last().expect("there are some").kind;
        prop_assert!(matches!(innermost, LayerKind::Tcp | LayerKind::Udp));
        let user = parse(stack.view(LayerSet::AUTO).of(&frame), stack.view(LayerSet::AUTO).link);
        prop_assert!(matches!(user.protocol, 6 | 17));
        prop_assert_eq!(user.src & 0xffff_ff00, 0x0a00_0000);
        prop_assert_eq!(user.flow_hash, stack.innermost_hash());
    }

    #[test]
    fn a_frame_cut_anywhere_is_walked_as_far_as_it_goes((frame, _) in frames()) {
        let whole = both(&frame, Link::Ethernet);
        for length in 0..frame.len() {
            let cut = &frame[..length];
            let stack = both(cut, Link::Ethernet);
            is_sound_quickly(&stack, cut);
            prop_assert!(stack.layers().len() <= whole.layers().len());
            prop_assert!(stack.layers().iter().eq(&whole.layers()[..stack.layers().len()]));
        }
    }

    #[test]
    fn a_frame_with_bytes_changed_is_walked_within_bounds(
        (mut frame, _) in frames(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        for link in [Link::Ethernet, Link::Ipv4, Link::Ipv6] {
            is_sound(&both(&frame, link), &frame, link);
        }
    }

    #[test]
    fn noise_is_walked_within_bounds(frame in proptest::collection::vec(any::<u8>(), 0..120)) {
        for link in [Link::Ethernet, Link::Ipv4, Link::Ipv6] {
            is_sound(&both(&frame, link), &frame, link);
        }
    }

    #[test]
    fn headers_of_another_frame_do_no_harm((frame, _) in frames(), (other, _) in frames(), cut: prop::sample::Index) {
        survives(&frame, &other);
        survives(&frame[..cut.index(frame.len())], &frame);
    }

    #[test]
    fn the_outermost_packet_is_where_etherparse_sees_it((frame, _) in frames()) {
        let stack = both(&frame, Link::Ethernet);
        let oracle = LaxSlicedPacket::from_ethernet(&frame).expect("sound frames");
        let ip = stack.layers().iter().find(|layer| matches!(layer.kind, LayerKind::Ipv4 | LayerKind::Ipv6));
        let Some(net) = oracle.net else {
            // MPLS, which etherparse does not read.
            prop_assert!(stack.has(LayerKind::Mpls));
            return Ok(());
        };
        let bytes = match &net {
            etherparse::LaxNetSlice::Ipv4(four) => four.header().slice(),
            etherparse::LaxNetSlice::Ipv6(six) => six.header().slice(),
            etherparse::LaxNetSlice::Arp(_) => return Ok(()),
        };
        let at = bytes.as_ptr() as usize - frame.as_ptr() as usize;
        prop_assert_eq!(ip.map(|layer| usize::from(layer.offset)), Some(at));
    }
}

fn is_sound_quickly(stack: &Stack, frame: &[u8]) {
    let view = stack.view(LayerSet::AUTO);
    assert!(view.start <= view.end && usize::from(view.end) <= frame.len());
    agrees_with_parse(stack, frame, Link::Ethernet);
}
