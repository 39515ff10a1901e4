//! What [`walk_stack`] says, on frames built layer by layer.

use super::LayerKind as K;
use super::nest::Nest;
use super::*;

fn walk(frame: &[u8]) -> Stack {
    let mut stack = Stack::default();
    walk_stack(frame, Link::Ethernet, &TunnelPorts::default(), &mut stack);
    stack
}

fn set(words: &str) -> LayerSet {
    words.split_whitespace().fold(LayerSet::EMPTY, |set, word| {
        set.union(LayerSet::from_word(word).expect("a word of ours"))
    })
}

fn kinds(stack: &Stack) -> Vec<K> {
    stack.layers().iter().map(|layer| layer.kind).collect()
}

fn ids(stack: &Stack) -> Vec<u32> {
    stack.layers().iter().filter_map(StackLayer::id).collect()
}

/// The user's packet: IPv4 with UDP of four bytes.
fn user() -> Nest {
    Nest::new(b"user").udp(53).ipv4(17)
}

fn user_frame() -> Nest {
    user().ethernet(0x0800)
}

#[test]
fn a_plain_frame_is_delivered_whole_whatever_is_named() {
    let mut frame = user_frame().bytes;
    frame.extend([0; 14]);
    let stack = walk(&frame);
    assert_eq!(kinds(&stack), [K::Ethernet, K::Ipv4, K::Udp]);
    let view = stack.view(LayerSet::AUTO);
    assert_eq!((view.start, view.end, view.link), (0, 60, Link::Ethernet));
    assert_eq!(
        stack.innermost_hash(),
        parse(&frame, Link::Ethernet).flow_hash
    );
}

#[test]
fn each_tunnel_is_walked_to_the_users_packet_and_jumped_by_its_own_word() {
    let around = |nest: Nest, port: u16| nest.udp(port).ipv4(17).ethernet(0x0800);
    let erspan2 = [0x10, 42, 0x03, 0xff, 0, 0, 0, 0];
    let erspan3 = [
        0x20, 42, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8,
    ];
    let gtpu_plain = [0x30, 255, 0, 32, 0, 0, 0, 9];
    // Sequence number, and two extension headers of 4 and 8 bytes.
    let gtpu_long = [
        0x36, 255, 0, 48, 0, 0, 0, 9, 0, 1, 0, 0x85, 1, 0, 0, 0xc0, 2, 1, 2, 3, 4, 5, 6, 0,
    ];
    let pppoe = [0x11, 0, 0, 0x2a, 0, 34, 0, 0x21];
    // (frame, words that jump, the id, offset and link of the user's packet)
    let cases: Vec<(Nest, &str, Option<u32>, Link)> = vec![
        (
            user().vlan(7, 0x0800).ethernet(0x8100),
            "vlan",
            Some(7),
            Link::Ipv4,
        ),
        (
            user().vlan(7, 0x0800).ethernet(0x9100),
            "vlan",
            Some(7),
            Link::Ipv4,
        ),
        (
            user().within(&[0, 0x02, 0xa1, 64]).ethernet(0x8847),
            "mpls",
            Some(42),
            Link::Ipv4,
        ),
        (
            user_frame()
                .within(&[0, 0x02, 0xa1, 64, 0, 0, 0, 1])
                .ethernet(0x8848),
            "mpls",
            Some(42),
            Link::Ethernet,
        ),
        (
            user().within(&pppoe).ethernet(0x8864),
            "pppoe",
            Some(42),
            Link::Ipv4,
        ),
        (
            user().gre(0, 0x0800, &[]).ipv4(47).ethernet(0x0800),
            "gre",
            None,
            Link::Ipv4,
        ),
        (
            user()
                .gre(0xb000, 0x0800, &[1, 42, 3])
                .ipv6(47)
                .ethernet(0x86dd),
            "gre",
            Some(42),
            Link::Ipv4,
        ),
        (
            user_frame().gre(0, 0x6558, &[]).ipv4(47).ethernet(0x0800),
            "gre",
            None,
            Link::Ethernet,
        ),
        (
            user_frame()
                .gre(0x2000, 0x6558, &[42 << 8 | 1])
                .ipv4(47)
                .ethernet(0x0800),
            "nvgre",
            Some(42),
            Link::Ethernet,
        ),
        (
            user_frame()
                .gre(0x2000, 0x6558, &[42 << 8 | 1])
                .ipv4(47)
                .ethernet(0x0800),
            "gre",
            Some(42),
            Link::Ethernet,
        ),
        (
            user_frame().gre(0, 0x88be, &[]).ipv4(47).ethernet(0x0800),
            "erspan",
            None,
            Link::Ethernet,
        ),
        (
            user_frame()
                .within(&erspan2)
                .gre(0x1000, 0x88be, &[5])
                .ipv4(47)
                .ethernet(0x0800),
            "erspan",
            Some(0x3ff),
            Link::Ethernet,
        ),
        (
            user_frame()
                .within(&erspan3)
                .gre(0x1000, 0x22eb, &[5])
                .ipv4(47)
                .ethernet(0x0800),
            "erspan",
            Some(7),
            Link::Ethernet,
        ),
        (
            around(user_frame().vxlan(42), 4789),
            "vxlan",
            Some(42),
            Link::Ethernet,
        ),
        (
            around(user_frame().vxlan(42), 8472),
            "vxlan",
            Some(42),
            Link::Ethernet,
        ),
        (
            around(user_frame().geneve(42, 0x6558, 3), 6081),
            "geneve",
            Some(42),
            Link::Ethernet,
        ),
        (
            around(user().geneve(42, 0x0800, 0), 6081),
            "geneve",
            Some(42),
            Link::Ipv4,
        ),
        (user().ipv4(4).ethernet(0x0800), "ipip", None, Link::Ipv4),
        (user().ipv6(4).ethernet(0x86dd), "ipip", None, Link::Ipv4),
        (
            around(user().within(&gtpu_plain), 2152),
            "gtp",
            Some(9),
            Link::Ipv4,
        ),
        (
            around(user().within(&gtpu_long), 2152),
            "gtp",
            Some(9),
            Link::Ipv4,
        ),
    ];
    let inner = parse(&user().bytes, Link::Ipv4).flow_hash;
    for (frame, word, id, link) in cases {
        let length = frame.bytes.len();
        let stack = walk(&frame.bytes);
        assert_eq!(stack.stop(), Stop::Whole, "{word} {:?}", kinds(&stack));
        assert_eq!(ids(&stack), id.into_iter().collect::<Vec<_>>(), "{word}");
        assert_eq!(stack.innermost_hash(), inner, "{word}");
        let users = if link == Link::Ipv4 {
            user()
        } else {
            user_frame()
        };
        for jump in [set(word), LayerSet::AUTO] {
            let view = stack.view(jump);
            assert_eq!(view.of(&frame.bytes), users.bytes, "{word}");
            assert_eq!(view.link, link, "{word}");
        }
        let mut others = LayerSet::EMPTY;
        for other in LayerSet::AUTO
            .words()
            .filter(|other| *other != word && (word, *other) != ("nvgre", "gre"))
        {
            if (word, other) != ("gre", "nvgre") {
                others = others.union(set(other));
            }
        }
        assert_eq!(stack.view(others).of(&frame.bytes).len(), length, "{word}");
    }
}

#[test]
fn an_id_of_32_ones_is_an_id() {
    let key = user().gre(0x2000, 0x0800, &[u32::MAX]).ipv4(47);
    let teid = [0x30, 255, 0, 32, 0xff, 0xff, 0xff, 0xff];
    let teid = user().within(&teid).udp(2152).ipv4(17);
    for nest in [key, teid] {
        assert_eq!(ids(&walk(&nest.ethernet(0x0800).bytes)), [u32::MAX]);
    }
}

#[test]
fn six_in_four_and_six_in_six_are_ipip() {
    let six = Nest::new(b"user").udp(53).ipv6(17);
    for frame in [
        six.clone().ipv4(41).ethernet(0x0800),
        six.clone().ipv6(41).ethernet(0x86dd),
    ] {
        let view = walk(&frame.bytes).view(set("ipip"));
        assert_eq!(
            (view.of(&frame.bytes), view.link),
            (&six.bytes[..], Link::Ipv6)
        );
    }
}

#[test]
fn tags_stand_in_nobodys_way_and_tunnels_do() {
    let frame = user_frame()
        .vxlan(42)
        .udp(4789)
        .ipv4(17)
        .vlan(7, 0x0800)
        .ethernet(0x88a8);
    let stack = walk(&frame.bytes);
    let start = |words: &str| stack.view(set(words)).start;
    assert_eq!(start("vxlan"), 54);
    assert_eq!(start("vlan vxlan"), 54);
    assert_eq!(start("vlan"), 18);
    assert_eq!(start("gre geneve"), 0);
    let frame = user_frame()
        .vxlan(42)
        .udp(4789)
        .ipv4(17)
        .gre(0, 0x0800, &[])
        .ipv4(47)
        .ethernet(0x0800);
    assert_eq!(
        walk(&frame.bytes).view(set("vxlan")).start,
        0,
        "GRE is not named"
    );
    assert_eq!(walk(&frame.bytes).view(set("gre")).start, 38);
    assert_eq!(walk(&frame.bytes).view(set("gre vxlan")).start, 74);
}

#[test]
fn a_layer_occurs_as_often_as_it_likes() {
    let mut frame = user();
    for _ in 0..3 {
        frame = frame.ipv4(4);
    }
    let frame = frame.vlan(8, 0x0800).vlan(7, 0x8100).ethernet(0x8100);
    let stack = walk(&frame.bytes);
    assert_eq!(stack.view(set("vlan ipip")).of(&frame.bytes), user().bytes);
    assert_eq!(stack.view(set("vlan")).start, 22);
}

#[test]
fn what_has_no_start_behind_it_is_not_jumped_over() {
    let arp = [0, 1, 8, 0, 6, 4, 0, 1];
    let frame = Nest::new(&[1; 20])
        .within(&arp)
        .vlan(7, 0x0806)
        .ethernet(0x8100);
    let stack = walk(&frame.bytes);
    assert_eq!(kinds(&stack), [K::Ethernet, K::Vlan, K::Arp]);
    assert_eq!(stack.view(set("vlan")).start, 0);
    let frame = frame.vxlan(42).udp(4789).ipv4(17).ethernet(0x0800);
    assert_eq!(
        walk(&frame.bytes).view(set("vxlan vlan")).start,
        50,
        "the tunnel, not the tag"
    );
}

#[test]
fn outer_padding_is_left_out_once_something_was_jumped_over() {
    let mut frame = user().vlan(7, 0x0800).ethernet(0x8100).bytes;
    frame.resize(100, 0xee);
    let stack = walk(&frame);
    assert_eq!(stack.view(set("vlan")).of(&frame), user().bytes);
    assert_eq!(stack.view(LayerSet::EMPTY).of(&frame).len(), 100);
    let mut inner = user_frame();
    inner.bytes.extend([0; 9]);
    let mut outer = inner
        .clone()
        .vxlan(1)
        .udp(4789)
        .ipv4(17)
        .ethernet(0x0800)
        .bytes;
    outer.extend([0xee; 30]);
    assert_eq!(
        walk(&outer).view(set("vxlan")).of(&outer),
        inner.bytes,
        "the inner frame's own padding stays"
    );
}

#[test]
fn fragments_are_not_jumped_over_but_may_be_what_is_delivered() {
    for word in [0x2000u16, 0x2001, 1] {
        let mut frame = user_frame()
            .vxlan(42)
            .udp(4789)
            .ipv4(17)
            .ethernet(0x0800)
            .bytes;
        frame[20..22].copy_from_slice(&word.to_be_bytes());
        let stack = walk(&frame);
        assert_eq!(
            (stack.stop(), stack.view(LayerSet::AUTO).start),
            (Stop::Fragment, 0)
        );
        assert_eq!(stack.has(K::Udp), word == 0x2000);
        let mut frame = user_frame()
            .vxlan(42)
            .udp(4789)
            .ipv4(17)
            .ethernet(0x0800)
            .bytes;
        frame[70..72].copy_from_slice(&word.to_be_bytes());
        let stack = walk(&frame);
        assert_eq!(
            (stack.stop(), stack.view(LayerSet::AUTO).start),
            (Stop::Fragment, 50)
        );
        assert_eq!(
            stack.innermost_hash(),
            parse(&frame[50..], Link::Ethernet).flow_hash
        );
    }
}

#[test]
fn lengths_that_lie_end_the_walk_or_are_clipped() {
    let frame = user_frame()
        .vxlan(42)
        .udp(4789)
        .ipv4(17)
        .ethernet(0x0800)
        .bytes;
    let with = |at: usize, value: u16| {
        let mut frame = frame.clone();
        frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        walk(&frame)
    };
    let length = frame.len() as u16;
    // The outer IP total length at 16, the outer UDP length at 38.
    for (at, value, stop, start, end) in [
        (16, 0, Stop::Whole, 50, length),
        (16, u16::MAX, Stop::Whole, 50, length),
        (16, 20 + 8 + 8 + 13, Stop::Truncated, 0, length),
        (16, 20 + 8 + 8 + 14, Stop::Truncated, 50, 64),
        (38, 0, Stop::Whole, 50, length),
        (38, 7, Stop::Truncated, 0, length),
        (38, 8, Stop::Truncated, 0, length),
        (38, u16::MAX, Stop::Whole, 50, length),
    ] {
        let stack = with(at, value);
        let view = stack.view(set("vxlan"));
        assert_eq!(
            (stack.stop(), view.start, view.end),
            (stop, start, end),
            "{at} {value}"
        );
    }
}

/// Found by fuzzing: the layer began where the frame ended.
#[test]
fn erspan_without_a_header_of_its_own_is_no_layer_without_a_frame() {
    for length in 0..14 {
        let carried = Nest::new(&vec![2; length]);
        let frame = carried.gre(0, 0x88be, &[]).ipv4(47).ethernet(0x0800);
        let stack = walk(&frame.bytes);
        assert_eq!(kinds(&stack), [K::Ethernet, K::Ipv4, K::Gre]);
        assert_eq!(stack.stop(), Stop::Truncated);
    }
}

#[test]
fn a_stack_deeper_than_it_may_be_is_walked_as_far_as_it_may() {
    let mut frame = user();
    for _ in 0..100 {
        frame = frame.ipv4(4);
    }
    let stack = walk(&frame.ethernet(0x0800).bytes);
    assert_eq!(
        (stack.stop(), stack.layers().len()),
        (Stop::TooDeep, DEPTH_MAX)
    );
}
