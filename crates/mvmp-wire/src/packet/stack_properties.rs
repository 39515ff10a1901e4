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
    let (mut stack, mut slow) = (Stack::default(), Stack::default());
    walk_stack(frame, link, &ports, &mut stack);
    walk_slowly(frame, link, &ports, &mut slow);
    assert_eq!(stack, slow, "the fast way says the same");
    stack
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
        assert_eq!(tag.map(|tag| tag.id), Some(found.vlan as u32));
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
