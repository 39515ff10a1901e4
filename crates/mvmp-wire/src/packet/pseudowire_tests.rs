//! What follows the last MPLS label says nowhere what it is: what [`walk_stack`] takes it for.

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
