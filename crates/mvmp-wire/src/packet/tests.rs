//! What [`parse`] says, held against etherparse and against its own slow way.

use etherparse::{
    LaxSlicedPacket, LinkExtSlice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
};
use proptest::prelude::*;

use super::parse::walk;
use super::*;

/// One frame built from a seed of choices; everything that a builder of etherparse can vary here.
#[derive(Debug, Clone)]
struct Shape {
    tags: u8,
    vlan: u16,
    six: bool,
    options: u8,
    fragment: (bool, u16),
    transport: u8,
    ports: (u16, u16),
    flags: u16,
    src: [u8; 16],
    dst: [u8; 16],
    payload: Vec<u8>,
    padding: u8,
}

fn shapes() -> impl Strategy<Value = Shape> {
    (
        (0u8..3, 0u16..4096, any::<bool>(), 0u8..4),
        prop_oneof![3 => Just((false, 0u16)), 1 => (any::<bool>(), 0u16..0x1fff)],
        (0u8..5, any::<(u16, u16)>(), 0u16..512),
        any::<[u8; 16]>(),
        any::<[u8; 16]>(),
        proptest::collection::vec(any::<u8>(), 0..80),
        0u8..20,
    )
        .prop_map(
            |(
                (tags, vlan, six, options),
                fragment,
                (transport, ports, flags),
                src,
                dst,
                payload,
                padding,
            )| {
                Shape {
                    tags,
                    vlan,
                    six,
                    options,
                    fragment,
                    transport,
                    ports,
                    flags,
                    src,
                    dst,
                    payload,
                    padding,
                }
            },
        )
}

impl Shape {
    fn protocol(&self) -> u8 {
        [6, 17, 1, 58, 132][usize::from(self.transport)]
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for tag in 0..self.tags {
            frame.extend([0x81, 0x00]);
            frame.extend((self.vlan.wrapping_add(u16::from(tag)) & 0x0fff).to_be_bytes());
        }
        let upper = self.upper();
        if self.six {
            self.ipv6(&mut frame, &upper)
        } else {
            self.ipv4(&mut frame, &upper)
        }
        frame.extend(std::iter::repeat_n(0xee, usize::from(self.padding)));
        frame
    }

    fn upper(&self) -> Vec<u8> {
        let mut upper = Vec::new();
        match self.transport {
            0 => {
                let mut tcp = etherparse::TcpHeader::new(self.ports.0, self.ports.1, 7, 8);
                tcp.set_options_raw(&vec![1; usize::from(self.options) * 4])
                    .expect("whole words");
                let mut bytes = tcp.to_bytes().to_vec();
                bytes[12] |= (self.flags >> 8) as u8;
                bytes[13] = self.flags as u8;
                upper.extend(bytes);
            }
            4 => {
                upper.extend(self.ports.0.to_be_bytes());
                upper.extend(self.ports.1.to_be_bytes());
                upper.extend([0; 8]);
            }
            1 => {
                upper.extend(self.ports.0.to_be_bytes());
                upper.extend(self.ports.1.to_be_bytes());
                upper.extend((self.payload.len() as u16 + 8).to_be_bytes());
                upper.extend([0; 2]);
            }
            _ => upper.extend([128, 0, 0, 0, 0, 1, 0, 2]),
        }
        upper.extend(&self.payload);
        upper
    }

    fn ipv4(&self, frame: &mut Vec<u8>, upper: &[u8]) {
        frame.extend([0x08, 0x00]);
        let mut header = etherparse::Ipv4Header::new(
            upper.len() as u16,
            64,
            etherparse::IpNumber(self.protocol()),
            self.src[..4].try_into().expect("four bytes"),
            self.dst[..4].try_into().expect("four bytes"),
        )
        .expect("short payload");
        header.options = vec![1; usize::from(self.options) * 4]
            .as_slice()
            .try_into()
            .expect("whole words");
        header.set_payload_len(upper.len()).expect("short payload");
        header.more_fragments = self.fragment.0;
        header.fragment_offset = self.fragment.1.try_into().expect("13 bits");
        frame.extend(header.to_bytes());
        frame.extend(upper);
    }

    fn ipv6(&self, frame: &mut Vec<u8>, upper: &[u8]) {
        frame.extend([0x86, 0xdd]);
        let mut chain: Vec<(u8, Vec<u8>)> = Vec::new();
        let with = |number: u8| (number, vec![0, 0, 1, 4, 0, 0, 0, 0]);
        if self.options > 0 {
            chain.push(with(0));
        }
        if self.options > 1 {
            chain.push(with(60));
        }
        if self.options > 2 {
            chain.push((43, [vec![0, 1], vec![0; 14]].concat()));
        }
        if self.fragment != (false, 0) {
            let word = self.fragment.1 << 3 | u16::from(self.fragment.0);
            let [high, low] = word.to_be_bytes();
            chain.push((44, vec![0, 0, high, low, 0, 0, 0, 9]));
        }
        if self.options > 2 && self.fragment.1 == 0 {
            chain.push((51, [vec![0, 4], vec![0; 22]].concat()));
        }
        let mut next = self.protocol();
        let mut bytes = Vec::new();
        for (number, mut header) in chain.into_iter().rev() {
            header[0] = next;
            next = number;
            bytes.splice(0..0, header);
        }
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(((bytes.len() + upper.len()) as u16).to_be_bytes());
        frame.extend([next, 64]);
        frame.extend(self.src);
        frame.extend(self.dst);
        frame.extend(bytes);
        frame.extend(upper);
    }
}

/// Everything that etherparse says of a frame, it and we say alike.
fn agree(found: &Headers, frame: &[u8], oracle: &LaxSlicedPacket<'_>) {
    let vlans: Vec<_> = oracle
        .link_exts
        .iter()
        .filter_map(|ext| match ext {
            etherparse::LaxLinkExtSlice::Vlan(vlan) => Some(vlan.vlan_identifier().value()),
            _ => None,
        })
        .collect();
    assert_eq!(found.vlan, vlans.first().map_or(-1, |&id| id as i16));
    match &oracle.net {
        Some(etherparse::LaxNetSlice::Ipv4(ip)) => {
            assert_eq!(found.ip_version, 4);
            assert_eq!(found.src.to_be_bytes(), ip.header().source());
            assert_eq!(found.dst.to_be_bytes(), ip.header().destination());
            assert_eq!(found.fragment, ip.header().is_fragmenting_payload());
            assert_eq!(found.protocol, i16::from(ip.payload().ip_number.0));
        }
        Some(etherparse::LaxNetSlice::Ipv6(ip)) => {
            assert_eq!(found.ip_version, 6);
            assert_eq!(found.src6(frame), Some(ip.header().source()));
            assert_eq!(found.dst6(frame), Some(ip.header().destination()));
            assert_eq!(found.protocol, i16::from(ip.payload().ip_number.0));
            assert_eq!(found.fragment, ip.is_payload_fragmented());
            assert_eq!((found.src, found.dst), (0, 0));
        }
        _ => {}
    }
    if let Some(transport) = &oracle.transport {
        let (ports, payload) = match transport {
            TransportSlice::Tcp(tcp) => {
                let flags = u16::from(tcp.slice()[12] & 1) << 8 | u16::from(tcp.slice()[13]);
                assert_eq!(found.tcp_flags, flags);
                (
                    Some((tcp.source_port(), tcp.destination_port())),
                    Some(tcp.payload()),
                )
            }
            TransportSlice::Udp(udp) => (Some((udp.source_port(), udp.destination_port())), None),
            TransportSlice::Icmpv4(icmp) => (None, Some(&icmp.slice()[8..])),
            TransportSlice::Icmpv6(icmp) => (None, Some(&icmp.slice()[8..])),
            TransportSlice::Igmp(_) => (None, None),
        };
        let (src_port, dst_port) = ports.map_or((-1, -1), |(s, d)| (i32::from(s), i32::from(d)));
        assert_eq!((found.src_port, found.dst_port), (src_port, dst_port));
        if let Some(payload) = payload {
            let start = usize::from(found.payload_offset);
            assert_eq!(
                &frame[start..start + usize::from(found.payload_length)],
                payload
            );
        }
    }
}

/// The slices lie in the frame, in order, and nothing claims a byte that is not there.
fn is_sound(found: &Headers, frame: &[u8]) {
    let length = frame.len().min(usize::from(u16::MAX));
    assert!(usize::from(found.payload_offset) + usize::from(found.payload_length) <= length);
    for offset in [found.l3_offset, found.l4_offset] {
        assert!(offset == NONE_OFFSET || usize::from(offset) < length);
    }
    let layers: Vec<_> = found.layers().collect();
    assert!(layers.is_sorted_by_key(|layer| layer.offset()));
    assert!(
        layers
            .iter()
            .all(|layer| usize::from(layer.offset()) < length)
    );
    assert_eq!(found.src6(frame).is_some(), found.ip_version == 6);
}

proptest! {
    #[test]
    fn a_whole_frame_is_seen_as_etherparse_sees_it(shape in shapes()) {
        let frame = shape.frame();
        let found = parse(&frame, Link::Ethernet);
        let strict = SlicedPacket::from_ethernet(&frame).expect("our builder makes sound frames");
        let oracle = LaxSlicedPacket::from_ethernet(&frame).expect("sound frames");
        agree(&found, &frame, &oracle);
        is_sound(&found, &frame);
        prop_assert_eq!(strict.link_exts.iter().filter(|ext| matches!(ext, LinkExtSlice::Vlan(_))).count(), usize::from(shape.tags));
        let six = matches!(strict.net, Some(NetSlice::Ipv6(_)));
        prop_assert_eq!(found.ether_type, if six { 0x86dd } else { 0x0800 });
        let later = shape.fragment.1 != 0;
        prop_assert_eq!(found.l4_offset == NONE_OFFSET, later);
        if !later {
            prop_assert_eq!(usize::from(found.payload_length), shape.payload.len());
        }
        let kinds = 2 + usize::from(shape.tags) + usize::from(!later);
        prop_assert_eq!(found.layers().count(), kinds.min(4));
        prop_assert_eq!(found.more, kinds > 4);
    }

    #[test]
    fn a_frame_cut_at_any_length_yields_what_is_left_of_it(shape in shapes()) {
        let frame = shape.frame();
        let whole = parse(&frame, Link::Ethernet);
        for length in 0..frame.len() {
            let cut = &frame[..length];
            let found = parse(cut, Link::Ethernet);
            is_sound(&found, cut);
            prop_assert_eq!(found, walk(cut, Link::Ethernet));
            if let Ok(oracle) = LaxSlicedPacket::from_ethernet(cut)
                && oracle.stop_err.is_none() {
                agree(&found, cut, &oracle);
            }
            // What is found in a part is what is found in the whole.
            prop_assert!(found.layers().eq(whole.layers().take(found.layers().count())));
            prop_assert!(found.src_port == -1 || found.src_port == whole.src_port);
            prop_assert!(found.ip_version == 0 || (found.src, found.dst) == (whole.src, whole.dst));
            prop_assert!(whole.fragment || !found.fragment);
            prop_assert!(found.tcp_flags == 0 || found.tcp_flags == whole.tcp_flags);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_both_ways_agree(
        mut frame in proptest::collection::vec(any::<u8>(), 0..200),
        ether_type in prop_oneof![Just(0x0800u16), Just(0x86dd), Just(0x8100), Just(0x0806), any::<u16>()],
        first in prop_oneof![Just(0x45u8), Just(0x60), Just(0x4f), any::<u8>()],
    ) {
        if frame.len() > 14 {
            frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
            frame[14] = first;
        }
        let mut reused = Headers::default();
        for link in [Link::Ethernet, Link::Ipv4, Link::Ipv6] {
            let found = parse(&frame, link);
            parse_into(&frame, link, &mut reused);
            prop_assert_eq!(found, reused);
            is_sound(&found, &frame);
            prop_assert_eq!(found, walk(&frame, link));
        }
    }

    #[test]
    fn a_sound_frame_with_a_byte_changed_is_seen_alike_by_both_ways(shape in shapes(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut frame = shape.frame();
        let at = at.index(frame.len());
        frame[at] = byte;
        let found = parse(&frame, Link::Ethernet);
        is_sound(&found, &frame);
        prop_assert_eq!(found, walk(&frame, Link::Ethernet));
        for link in [Link::Ipv4, Link::Ipv6] {
            let bare = &frame[14.min(frame.len())..];
            prop_assert_eq!(parse(bare, link), walk(bare, link));
        }
    }

    #[test]
    fn both_directions_of_a_flow_hash_alike(shape in shapes()) {
        let back = Shape { src: shape.dst, dst: shape.src, ports: (shape.ports.1, shape.ports.0), ..shape.clone() };
        let (there, back) = (parse(&shape.frame(), Link::Ethernet), parse(&back.frame(), Link::Ethernet));
        prop_assert_eq!(there.flow_hash, back.flow_hash);
    }

    #[test]
    fn all_fragments_of_a_datagram_hash_alike(shape in shapes(), offset in 1u16..0x1fff, other: (u16, u16)) {
        let first = Shape { fragment: (true, 0), ..shape.clone() };
        let later = Shape { fragment: (true, offset), ports: other, ..shape };
        let (first, later) = (parse(&first.frame(), Link::Ethernet), parse(&later.frame(), Link::Ethernet));
        prop_assert!(first.fragment && later.fragment);
        prop_assert_eq!(first.flow_hash, later.flow_hash);
    }

    #[test]
    fn bare_ip_is_the_same_packet_without_its_ethernet(shape in shapes()) {
        let shape = Shape { tags: 0, ..shape };
        let frame = shape.frame();
        let framed = parse(&frame, Link::Ethernet);
        let link = if shape.six { Link::Ipv6 } else { Link::Ipv4 };
        let bare = parse(&frame[14..], link);
        prop_assert_eq!(bare.link, link);
        prop_assert_eq!(bare.l3_offset, 0);
        prop_assert_eq!((bare.ether_type, bare.flow_hash, bare.protocol), (framed.ether_type, framed.flow_hash, framed.protocol));
        prop_assert_eq!(bare.payload_offset + 14, framed.payload_offset);
        prop_assert_eq!(bare.payload_length, framed.payload_length);
        for length in 14..frame.len() {
            let cut = &frame[14..length];
            prop_assert_eq!(parse(cut, link), walk(cut, link));
        }
    }
}

fn tcp4() -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1234, 80, 1, 512)
        .syn()
        .write(&mut frame, b"GET /")
        .expect("writes to memory");
    frame
}

#[test]
fn a_tcp_frame_has_all_its_fields() {
    let mut frame = tcp4();
    frame.extend([0; 3]);
    let found = parse(&frame, Link::Ethernet);
    let kinds: Vec<_> = found
        .layers()
        .map(|layer| (layer.kind(), layer.offset()))
        .collect();
    assert_eq!(
        kinds,
        [
            (LayerKind::Ethernet, 0),
            (LayerKind::Ipv4, 14),
            (LayerKind::Tcp, 34)
        ]
    );
    assert_eq!((found.src, found.dst), (0x0a00_0001, 0x0a00_0002));
    assert_eq!(
        (found.src_port, found.dst_port, found.protocol),
        (1234, 80, 6)
    );
    assert_eq!(
        (found.tcp_flags, found.ether_type, found.vlan),
        (2, 0x0800, -1)
    );
    assert_eq!((found.payload_offset, found.payload_length), (54, 5));
}

#[test]
fn a_length_that_cannot_be_means_to_the_end_of_the_frame() {
    for total in [0u16, 19] {
        let mut frame = tcp4();
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        let found = parse(&frame, Link::Ethernet);
        assert_eq!((found.src_port, found.payload_length), (1234, 5));
    }
}

#[test]
fn a_total_length_that_cuts_the_transport_header_hides_it() {
    let mut frame = tcp4();
    frame[16..18].copy_from_slice(&22u16.to_be_bytes());
    let found = parse(&frame, Link::Ethernet);
    assert_eq!((found.src_port, found.l4_offset), (-1, NONE_OFFSET));
    assert_eq!((found.payload_offset, found.payload_length), (34, 2));
}

#[test]
fn any_number_of_tags_is_walked_and_the_outermost_id_is_kept() {
    let mut frame = vec![0; 12];
    for (tag, id) in [
        (0x88a8u16, 7u16),
        (0x9100, 8),
        (0x8100, 9),
        (0x8100, 10),
        (0x8100, 11),
    ] {
        frame.extend(tag.to_be_bytes());
        frame.extend((id | 0xe000).to_be_bytes());
    }
    frame.extend(&tcp4()[12..]);
    let found = parse(&frame, Link::Ethernet);
    assert_eq!(
        (found.vlan, found.ether_type, found.l3_offset),
        (7, 0x0800, 34)
    );
    assert!(found.more);
    assert_eq!(found.src_port, 1234);
    assert!(
        found
            .layers()
            .skip(1)
            .all(|layer| layer.kind() == LayerKind::Vlan)
    );
}

#[test]
fn a_tag_cut_short_leaves_its_own_ether_type() {
    let mut frame = vec![0; 12];
    frame.extend([0x81, 0x00, 0x00]);
    let found = parse(&frame, Link::Ethernet);
    assert_eq!(
        (found.ether_type, found.vlan, found.payload_offset),
        (0x8100, -1, 14)
    );
}

#[test]
fn arp_is_a_layer_when_its_addresses_are_there() {
    let mut frame = vec![0xff; 12];
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([1; 20]);
    let found = parse(&frame, Link::Ethernet);
    assert_eq!(found.layers[1], Layer::new(LayerKind::Arp, 14));
    assert_eq!(
        (found.payload_offset, found.ip_version, found.protocol),
        (42, 0, -1)
    );
    let cut = parse(&frame[..41], Link::Ethernet);
    assert_eq!((cut.layers[1], cut.payload_offset), (Layer(0), 14));
}

#[test]
fn an_802_3_length_is_no_ether_type() {
    let mut frame = vec![0; 12];
    frame.extend([0x05, 0xdc, 0x42, 0x42, 0x03]);
    let found = parse(&frame, Link::Ethernet);
    assert_eq!(
        (found.ether_type, found.payload_offset, found.payload_length),
        (0, 14, 3)
    );
}

#[test]
fn every_ether_type_is_seen_alike_by_both_ways_at_any_length() {
    let mut frame = [0x45; 70];
    for ether_type in 0..=u16::MAX {
        frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
        for length in [13, 14, 41, 42, 60] {
            let cut = &frame[..length];
            assert_eq!(parse(cut, Link::Ethernet), walk(cut, Link::Ethernet));
        }
    }
}

#[test]
fn frames_under_fourteen_bytes_have_no_layer() {
    for length in 0..14 {
        let found = parse(&[0x45; 13][..length.min(13)], Link::Ethernet);
        assert_eq!(found.layers().count(), 0);
        assert_eq!(usize::from(found.payload_length), length.min(13));
    }
}

#[test]
fn a_frame_longer_than_64_kib_is_parsed_as_far_as_offsets_reach() {
    let mut frame = tcp4();
    frame[16..18].copy_from_slice(&u16::MAX.to_be_bytes());
    frame.resize(100_000, 0);
    let found = parse(&frame, Link::Ethernet);
    is_sound(&found, &frame);
    assert_eq!(found, walk(&frame, Link::Ethernet));
}

#[test]
fn an_endless_chain_of_extension_headers_is_given_up() {
    let mut frame = vec![0; 12];
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0x40, 0, 60, 64]);
    frame.extend([0; 32]);
    for _ in 0..2048 {
        frame.extend([60, 0, 1, 4, 0, 0, 0, 0]);
    }
    let found = parse(&frame, Link::Ethernet);
    assert_eq!((found.protocol, found.l4_offset), (60, NONE_OFFSET));
}

#[test]
fn an_ipv4_header_with_options_cut_off_keeps_its_addresses() {
    let mut frame = tcp4();
    frame[14] = 0x4f;
    frame.truncate(60);
    let found = parse(&frame, Link::Ethernet);
    assert_eq!(
        (found.src, found.protocol, found.src_port),
        (0x0a00_0001, 6, -1)
    );
    assert_eq!(found.payload_offset, 14);
}

/// Chi-squared over 256 buckets of neighbouring flows, for the low, middle and high bits: with
/// 255 degrees of freedom, 400 is exceeded by chance about once in 10⁸ tries.
#[test]
fn neighbouring_flows_spread_evenly_over_all_bits() {
    let flows = |by_port: bool| {
        (0u32..1 << 16).map(move |i| {
            if by_port {
                hash::ipv4(
                    0x0a00_0001,
                    0x0a00_0002,
                    6,
                    Some((1024 + (i / 4) as u16, 80 + (i % 4) as u16)),
                )
            } else {
                hash::ipv4(
                    0x0a00_0000 + i / 256,
                    0x0a00_0000 + (i % 256) + 0x1_0000,
                    17,
                    Some((5000, 5000)),
                )
            }
        })
    };
    let six = (0u32..1 << 16).map(|i| {
        let mut src = [0x20; 16];
        src[12..].copy_from_slice(&i.to_be_bytes());
        hash::ipv6(&src, &[0x30; 16], 6, Some((1, 2)))
    });
    let all: [Vec<u32>; 3] = [flows(true).collect(), flows(false).collect(), six.collect()];
    for (shift, hashes) in [0, 12, 24]
        .iter()
        .flat_map(|shift| all.iter().map(move |h| (*shift, h)))
    {
        let mut buckets = [0u32; 256];
        for hash in hashes {
            buckets[(hash >> shift & 0xff) as usize] += 1;
        }
        let expected = hashes.len() as f64 / 256.0;
        let chi: f64 = buckets
            .iter()
            .map(|&n| (f64::from(n) - expected).powi(2) / expected)
            .sum();
        assert!(chi < 400.0, "chi-squared {chi:.0} at bit {shift}");
    }
}
