//! What follows the last MPLS label says nowhere what it is: what [`walk_stack`] takes it for.

use super::checksum::Sum;
use super::nest::Nest;
use super::*;

const DST: usize = 14 + 4;

fn user() -> Nest {
    Nest::new(b"user's packet").udp(53).ipv4(17)
}

/// `carried` behind one label.
fn labelled(carried: &[u8]) -> Vec<u8> {
    let label = (42u32 << 12 | 0x140).to_be_bytes();
    Nest::new(carried).within(&label).ethernet(0x8847).bytes
}

/// A frame to this address.
fn to(mac: [u8; 6], mut nest: Nest) -> Vec<u8> {
    nest.bytes[..6].copy_from_slice(&mac);
    nest.bytes
}

/// What is delivered behind the labels, as an offset into what they carry, and what it begins with.
fn shown(carried: &[u8]) -> Option<(usize, Link)> {
    let mut stack = Stack::default();
    let frame = labelled(carried);
    walk_stack(&frame, Link::Ethernet, &TunnelPorts::default(), &mut stack);
    let view = stack.view(LayerSet::MPLS);
    (view.start > 0).then(|| (usize::from(view.start) - DST, view.link))
}

/// The same IPv4 packet, with a checksum that is right.
fn sound(mut packet: Vec<u8>) -> Vec<u8> {
    let bytes = usize::from(packet[0] & 0x0f) * 4;
    packet[10..12].fill(0);
    let sum = Sum::default().add(&packet[..bytes]).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The packet cut at each byte behind its first `header` ones, and with trailers.
fn cut_or_trailed(packet: &[u8], header: usize) -> impl Iterator<Item = Vec<u8>> {
    let cut = (header..=packet.len()).map(|length| packet[..length].to_vec());
    let trailed = [1, 4, 8, 32, 300].map(|bytes| [packet, &vec![0x5a; bytes]].concat());
    cut.chain(trailed)
}

const MACS: [[u8; 6]; 10] = [
    [0x00, 0x1b, 0x21, 0xaa, 0xbb, 0xcc],
    [0x02, 0, 0, 0, 0, 1],
    [0x00, 0x00, 0x5e, 0x00, 0x01, 0x01],
    [0x10, 0x00, 0x00, 0x07, 0x00, 0x01],
    [0x45, 0, 0, 0, 0, 1],
    [0x44, 0x07, 0, 0, 0, 1],
    [0x4c, 0xed, 0xfb, 0, 0, 1],
    [0x60, 0, 0, 0, 0, 1],
    [0x52, 0x54, 0x00, 0x12, 0x34, 0x56],
    [0xff; 6],
];

#[test]
fn ethernet_without_a_control_word_is_known_by_what_it_announces() {
    let arp = Nest::new(&[9; 38]).within(&[0, 1, 8, 0, 6, 4, 0, 1]);
    let six = Nest::new(b"user's packet").udp(53).ipv6(17);
    let pppoe = [0x11, 0, 0, 7, 0, 43, 0, 0x21];
    let frames = [
        user().ethernet(0x0800),
        six.ethernet(0x86dd),
        arp.ethernet(0x0806),
        user().vlan(7, 0x0800).ethernet(0x8100),
        user().vlan(7, 0x0800).vlan(8, 0x8100).ethernet(0x88a8),
        user().within(&pppoe).ethernet(0x8864),
    ];
    for mac in MACS {
        for frame in frames.clone() {
            let frame = to(mac, frame);
            assert_eq!(shown(&frame), Some((0, Link::Ethernet)), "{frame:02x?}");
        }
        // A pseudowire in a pseudowire: both are jumped over.
        let mut frame = to(mac, user().ethernet(0x0800));
        for _ in 0..2 {
            frame = to(
                mac,
                Nest::new(&frame).within(&[0, 0, 0x21, 64]).ethernet(0x8847),
            );
        }
        assert_eq!(shown(&frame), Some((36, Link::Ethernet)), "{frame:02x?}");
    }
}

#[test]
fn a_control_word_is_known_by_its_zeros_or_by_the_frame_behind_it() {
    let unknown = Nest::new(&[7; 30]).ethernet(0x88cc);
    for mac in MACS {
        let known = to(mac, user().ethernet(0x0800));
        let unknown = to(mac, unknown.clone());
        // RFC 4448, 4.6: twelve reserved bits, to be ignored when received, and a sequence number.
        for word in [
            [0u8; 4],
            [0, 0, 0x12, 0x34],
            [0x00, 0x40, 0, 0],
            [3, 0, 8, 0],
        ] {
            let carried = Nest::new(&known).within(&word).bytes;
            assert_eq!(shown(&carried), Some((4, Link::Ethernet)), "{carried:02x?}");
            let carried = Nest::new(&unknown).within(&word).bytes;
            let found = (word[..2] == [0, 0]).then_some((4, Link::Ethernet));
            assert_eq!(shown(&carried), found, "{carried:02x?}");
        }
    }
}

#[test]
fn ethernet_that_carries_what_we_do_not_read_is_left_alone() {
    for mac in MACS.into_iter().filter(|mac| !matches!(mac[0] >> 4, 4 | 6)) {
        // With two zero bytes before it, it cannot be told from a control word.
        if mac[..2] == [0, 0] {
            continue;
        }
        for ether_type in [0x88cc, 0x0026] {
            let frame = to(mac, Nest::new(&[7; 38]).ethernet(ether_type));
            assert_eq!(shown(&frame), None, "{frame:02x?}");
        }
        // Announced, but not there.
        for (ether_type, carried) in [(0x0800, 0x65), (0x86dd, 0x45), (0x0806, 7), (0x8864, 7)] {
            let frame = to(mac, Nest::new(&[carried; 46]).ethernet(ether_type));
            assert_eq!(shown(&frame), None, "{frame:02x?}");
        }
    }
}

/// IP whose addresses look like an EtherType and what it announces.
#[test]
fn ip_is_ip_where_its_length_says_so_whatever_its_addresses_are() {
    for source in [[8, 0, 0x45, 1], [0x81, 0, 8, 0]] {
        let mut four = user().bytes;
        four[12..16].copy_from_slice(&source);
        four[18..21].copy_from_slice(&[8, 0, 0x45]);
        let mut six = Nest::new(b"user's packet").udp(53).ipv6(17).bytes;
        six[12..16].copy_from_slice(&source);
        for (packet, link) in [(four, Link::Ipv4), (six, Link::Ipv6)] {
            assert_eq!(shown(&packet), Some((0, link)));
            // A frame check sequence, or the padding of a short frame.
            for trailer in [4, 60usize.saturating_sub(DST + packet.len())] {
                let padded = [&packet[..], &vec![0; trailer]].concat();
                assert_eq!(shown(&padded), Some((0, link)), "{trailer}");
            }
        }
    }
}

#[test]
fn ip_that_was_cut_short_or_has_no_length_is_ip_where_nothing_shows_ethernet() {
    let packet = user().bytes;
    assert_eq!(shown(&packet[..30]), Some((0, Link::Ipv4)));
    let mut offloaded = packet;
    offloaded[2..4].fill(0);
    assert_eq!(shown(&offloaded), Some((0, Link::Ipv4)));
    for bytes in 0..4 {
        assert_eq!(shown(&[0x45, 0, 0, 0][..bytes]), None);
        assert_eq!(shown(&[0; 4][..bytes]), None);
    }
}

/// Packet brokers append trailers, and captures are cut: then no length says where IP ends.
#[test]
fn ipv4_is_known_by_its_checksum_where_it_was_cut_or_has_a_trailer() {
    let addresses = [
        [136, 71, 1, 2, 11, 1, 0, 2],
        [136, 72, 9, 9, 11, 1, 0, 2],
        [8, 0, 65, 3, 10, 0, 0, 2],
        [8, 0, 69, 3, 10, 0, 0, 2],
        [0x86, 0xdd, 0x60, 0, 10, 0, 0, 2],
        [0x81, 0, 0, 7, 8, 0, 69, 2],
        [8, 6, 0, 1, 8, 0, 6, 4],
        [0x88, 0x64, 0x11, 0, 10, 0, 0, 2],
    ];
    for pair in addresses {
        for words in [5, 6, 15] {
            let bytes = usize::from(words) * 4;
            let mut packet = Nest::new(&[7; 200]).udp(53).ipv4(17).bytes;
            packet[0] = 0x40 | words;
            packet[12..20].copy_from_slice(&pair);
            packet.splice(20..20, vec![1; bytes - 20]);
            for packet in cut_or_trailed(&sound(packet), bytes) {
                let length = packet.len();
                let found = shown(&packet);
                assert_eq!(found, Some((0, Link::Ipv4)), "{pair:?} {words} {length}");
            }
        }
    }
}

#[test]
fn ipv6_is_known_by_its_next_header_unless_ethernet_is_certain() {
    let groups: [&[u8]; 7] = [
        &[0x88, 0x47],
        &[0x88, 0x48, 0, 1],
        &[8, 0, 0x40, 1],
        &[8, 0, 0x45, 1],
        &[0x86, 0xdd, 0x60, 1],
        &[0x81, 0, 0, 1, 8, 0, 0x45, 0],
        &[8, 6, 0, 1],
    ];
    for next in [6, 17, 44, 47, 58] {
        for group in groups {
            let mut packet = Nest::new(&[7; 200]).ipv6(next).bytes;
            packet[8..24]
                .copy_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            packet[12..12 + group.len()].copy_from_slice(group);
            for packet in cut_or_trailed(&packet, 40) {
                let length = packet.len();
                let found = shown(&packet);
                assert_eq!(found, Some((0, Link::Ipv6)), "{next} {group:02x?} {length}");
            }
        }
    }
}

#[test]
fn ethernet_between_addresses_that_look_like_ipv6_is_known_if_what_it_carries_is_sound() {
    let four = Nest::new(&sound(Nest::new(&[7; 200]).udp(53).ipv4(17).bytes));
    let six = Nest::new(&[7; 200]).udp(53).ipv6(17);
    let labels = [0, 1, 0x20, 2, 0, 0, 0x21, 255];
    let frames = [
        (four.clone().ethernet(0x0800), (0, Link::Ethernet)),
        (six.clone().ethernet(0x86dd), (0, Link::Ethernet)),
        (four.vlan(7, 0x0800).ethernet(0x8100), (0, Link::Ethernet)),
        // The labels are jumped over as well.
        (six.within(&labels).ethernet(0x8847), (22, Link::Ipv6)),
    ];
    for source in [0, 4, 6, 0x2c, 0x3a, 0x3c] {
        for (frame, found) in &frames {
            let mut frame = to([0x60, 0xa4, 0x4c, 0, 0x30, 1], frame.clone());
            frame[6] = source;
            for frame in cut_or_trailed(&frame, 62) {
                assert_eq!(shown(&frame), Some(*found), "{frame:02x?}");
            }
        }
    }
}

#[test]
fn mpls_is_announced_where_labels_are_that_can_be() {
    // Not: without a last one, the implicit null, one that has lived too long, and without end.
    let bottom = [0, 0, 0x21, 64];
    let stacks: [(&[u8], bool); 6] = [
        (&bottom, true),
        (&[0, 1, 0x20, 1, 0, 0, 0x21, 64], true),
        (&[0, 1, 0x20, 1, 0, 0, 0x21], false),
        (&[0, 0, 0x31, 64], false),
        (&[0, 1, 0x20, 0, 0, 0, 0x21, 64], false),
        (&[0, 1, 0x20, 64].repeat(64), false),
    ];
    let mac = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
    for (stack, can_be) in stacks {
        let frame = to(mac, Nest::new(stack).ethernet(0x8847));
        let found = can_be.then_some((0, Link::Ethernet));
        assert_eq!(shown(&frame), found, "{stack:02x?}");
    }
}

/// What docs/policies.md says of such frames: nothing tells them from Ethernet.
#[test]
fn ip_that_shows_ethernet_is_ethernet_if_neither_its_header_nor_its_length_says_otherwise() {
    let mut four = Nest::new(&[7; 200]).udp(53).ipv4(17).bytes;
    four[12..16].copy_from_slice(&[8, 0, 69, 3]);
    let mut six = Nest::new(&[7; 200]).ipv6(103).bytes;
    six[12..15].copy_from_slice(&[8, 0, 69]);
    for packet in [four, six] {
        let trailed = [&packet[..], &[0; 8]].concat();
        assert!(shown(&packet).is_some_and(|(_, link)| link != Link::Ethernet));
        for packet in [&packet[..80], &trailed] {
            assert_eq!(shown(packet), Some((0, Link::Ethernet)));
        }
    }
}
