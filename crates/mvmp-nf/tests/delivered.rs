//! Packets of which the platform delivers a part: what a policy has jumped over stays readable.

#[allow(dead_code, reason = "the stand-in serves other tests too")]
mod platform;

use mvmp_nf::{Burst, Descriptor, Link, NfError, Which};
use platform::{Platform, close, connected, opened};
use proptest::prelude::*;

/// IPv4 with UDP in a VXLAN of network 42, behind a tag with id 7; padded.
fn tunnelled() -> (Vec<u8>, usize, usize) {
    let mut inner = vec![2; 12];
    inner.extend([8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0]);
    inner.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 53, 0, 12, 0, 0]);
    inner.extend(b"user");
    let length = inner.len() as u8 + 16;
    let mut frame = vec![4; 12];
    frame.extend([0x81, 0, 0, 7, 8, 0, 0x45, 0, 0, 20 + length, 0, 0, 0, 0]);
    frame.extend([64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 7]);
    frame.extend([
        0xc0, 0, 0x12, 0xb5, 0, length, 0, 0, 8, 0, 0, 0, 0, 0, 42, 0,
    ]);
    let start = frame.len();
    frame.extend(&inner);
    let end = frame.len();
    frame.extend([0; 9]);
    (frame, start, end)
}

#[test]
fn what_was_jumped_over_stays_readable_as_the_frame_received() {
    let platform = Platform::new(64);
    let (nf, mut peer) = connected(&platform);
    let handle = opened(&nf, &mut peer, "span0");
    let (frame, start, end) = tunnelled();
    let whole = peer.place(0, &frame);
    let inner = Descriptor {
        offset: whole.offset + start as u16,
        length: (end - start) as u16,
        arg: 0x81,
        ..peer.place(1, &frame)
    };
    let ip = Descriptor {
        offset: inner.offset + 14,
        length: inner.length - 14,
        arg: 4,
        ..peer.place(2, &frame)
    };
    for descriptor in [whole, inner, ip] {
        peer.deliver_descriptor(0, descriptor);
    }
    let mut burst = Burst::new();
    assert_eq!(handle.rx_burst(32, &mut burst).unwrap(), 3);
    let readable = burst.readable().unwrap();
    let expected = [
        (&frame[..], Link::Ethernet, false, false, 4789),
        (&frame[start..end], Link::Ethernet, true, true, 53),
        (&frame[start + 14..end], Link::Ipv4, true, false, 53),
    ];
    for (index, (bytes, link, is_inner, is_outbound, port)) in expected.into_iter().enumerate() {
        assert_eq!(readable.packet(index).unwrap(), (bytes, link));
        assert_eq!(
            readable.received(index).unwrap(),
            (&frame[..], Link::Ethernet)
        );
        assert_eq!(readable.is_inner(index).unwrap(), is_inner);
        assert_eq!(readable.is_outbound(index).unwrap(), is_outbound);
        assert_eq!(burst.headers(index).unwrap().dst_port, port);
        assert_eq!(readable.vlan(index).unwrap(), 7);
        assert_eq!(readable.vni(index).unwrap(), 42);
    }
    drop(burst);
    close(nf, &peer);
}

#[test]
fn a_delivery_that_is_no_part_of_the_frame_received_gives_no_bytes() {
    let platform = Platform::new(64);
    let (nf, mut peer) = connected(&platform);
    let handle = opened(&nf, &mut peer, "span0");
    let lies = [
        (127, 60),
        (128, 61),
        (188, 1),
        (129, 60),
        (0, 128),
        (65535, 1),
    ];
    for (granule, (offset, length)) in lies.into_iter().enumerate() {
        let whole = peer.place(granule as u32, &[1; 60]);
        peer.deliver_descriptor(
            0,
            Descriptor {
                offset,
                length,
                ..whole
            },
        );
    }
    let mut burst = Burst::new();
    assert_eq!(handle.rx_burst(32, &mut burst).unwrap(), lies.len());
    for index in 0..lies.len() {
        assert!(matches!(burst.frame(index), Err(NfError::Closed(_))));
        assert!(burst.headers(index).is_err());
        assert_eq!(
            burst.readable().unwrap().received(index).unwrap().0,
            [1; 60]
        );
    }
    drop(burst);
    close(nf, &peer);
}

#[derive(Clone, Debug)]
enum Named {
    All,
    Range(std::ops::Range<usize>),
    Indices(Vec<u32>),
    Mask(Vec<bool>),
}

fn named() -> impl Strategy<Value = Named> {
    prop_oneof![
        Just(Named::All),
        (0..10_usize, 0..10_usize).prop_map(|(start, end)| Named::Range(start..end)),
        proptest::collection::vec(0..10_u32, 0..12).prop_map(Named::Indices),
        proptest::collection::vec(any::<bool>(), 0..10).prop_map(Named::Mask),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn many_packets_are_what_they_are_one_by_one(
        // What packet is wrong and how: in a pool that nobody knows, beyond its pool, longer than received; gone.
        wrong in proptest::option::of((0..8_usize, 0..4_u8)),
        named in named(),
    ) {
        let platform = Platform::new(64);
        let (nf, mut peer) = connected(&platform);
        let handle = opened(&nf, &mut peer, "span0");
        for number in 0..8 {
            let mut packet = peer.place(number, &vec![number as u8; 60 + number as usize]);
            match wrong {
                Some((at, 0)) if at == number as usize => packet.pool = 7,
                Some((at, 1)) if at == number as usize => packet.granule = platform::GRANULES,
                Some((at, 2)) if at == number as usize => packet.length += 1,
                _ => {}
            }
            peer.deliver_descriptor(0, packet);
        }
        let mut burst = Burst::new();
        prop_assert_eq!(handle.rx_burst(8, &mut burst).unwrap(), 8);
        if let Some((at, 3)) = wrong {
            burst.release_some(&Which::Range(at..at + 1));
        }
        let (which, numbers) = match &named {
            Named::All => (Which::All, (0..8).collect()),
            Named::Range(range) => (Which::Range(range.clone()), range.clone().collect()),
            Named::Indices(indices) => (Which::Indices(indices), indices.iter().map(|&index| index as usize).collect()),
            Named::Mask(mask) => (Which::Mask(mask), (0..mask.len()).filter(|&index| mask[index]).collect::<Vec<_>>()),
        };
        let numbers = numbers.into_iter().filter(|&number| number < 8);
        let readable = burst.readable().unwrap();
        readable.prefetch_some(&which);
        let mut packets = Vec::new();
        let one_by_one = numbers.clone().map(|number| readable.packet(number)).collect::<Result<Vec<_>, _>>();
        prop_assert_eq!(readable.packets(&which, &mut packets).map(|()| packets), one_by_one);
        let mut lengths = Vec::new();
        let one_by_one = numbers.map(|number| Ok(readable.record(number)?.length)).collect::<Result<Vec<_>, _>>();
        prop_assert_eq!(readable.records(&which, |record| record.length, &mut lengths).map(|()| lengths), one_by_one);
        drop(burst);
        close(nf, &peer);
    }
}
