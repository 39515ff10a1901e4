//! What is written is read; what others write is read, in both byte orders.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pcapng_gives_back_what_was_written(frames in frames(prop_oneof![Just(Link::Ethernet), Just(Link::Ipv4), Just(Link::Ipv6)])) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.pcapng");
        write_all(&path, &frames);
        prop_assert_eq!(read_whole(&path), frames);
    }

    #[test]
    fn pcap_gives_back_ethernet_frames(frames in frames(Just(Link::Ethernet))) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.pcap");
        write_all(&path, &frames);
        prop_assert_eq!(read_whole(&path), frames);
    }

    #[test]
    fn pcap_gives_back_raw_ip_frames_of_both_versions(frames in frames(prop_oneof![Just(Link::Ipv4), Just(Link::Ipv6)])) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.pcap");
        write_all(&path, &frames);
        prop_assert_eq!(read_whole(&path), frames);
    }

    #[test]
    fn both_byte_orders_and_resolutions_of_pcap_are_read(frames in frames(Just(Link::Ethernet)), big: bool, nano: bool) {
        let u32 = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let u16 = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let unit = if nano { 1 } else { 1000 };
        let mut file = u32(if nano { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }).to_vec();
        file.extend([u16(2), u16(4)].concat());
        // A check-sequence length in the upper bits of the link type changes nothing.
        file.extend([u32(0), u32(0), u32(100), u32(0x4400_0001)].concat());
        for frame in &frames {
            let (seconds, fraction) = (frame.timestamp_ns / 1_000_000_000, frame.timestamp_ns % 1_000_000_000);
            file.extend([u32(seconds as u32), u32(fraction as u32 / unit)].concat());
            file.extend([u32(frame.bytes.len() as u32), u32(frame.wire_length)].concat());
            file.extend(&frame.bytes);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("in.pcap");
        std::fs::write(&path, file).expect("written");
        let unit = i64::from(unit);
        let expected: Vec<_> = frames
            .into_iter()
            .map(|frame| Written { timestamp_ns: frame.timestamp_ns / unit * unit, ..frame })
            .collect();
        prop_assert_eq!(read_whole(&path), expected);
    }
}

/// Blocks of a pcapng file in a byte order of one's choice.
struct Blocks {
    big: bool,
    file: Vec<u8>,
}

impl Blocks {
    fn new(big: bool) -> Self {
        let mut blocks = Self {
            big,
            file: Vec::new(),
        };
        let body = [
            &blocks.u32(0x1a2b_3c4d)[..],
            &blocks.u16(1),
            &blocks.u16(0),
            &[0xff; 8],
        ]
        .concat();
        blocks.block(0x0a0d_0d0a, &body);
        blocks
    }

    fn u32(&self, value: u32) -> [u8; 4] {
        if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    fn u16(&self, value: u16) -> [u8; 2] {
        if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    fn block(&mut self, kind: u32, body: &[u8]) {
        let padded = body.len().next_multiple_of(4);
        let length = self.u32(padded as u32 + 12);
        self.file.extend([self.u32(kind), length].concat());
        self.file.extend(body);
        self.file.resize(self.file.len() + padded - body.len(), 0);
        self.file.extend(length);
    }

    fn interface(&mut self, link: u16, snap: u32, options: &[u8]) {
        let body = [&self.u16(link)[..], &[0; 2], &self.u32(snap), options].concat();
        self.block(1, &body);
    }

    fn tsresol(&self, value: u8) -> Vec<u8> {
        [&self.u16(9)[..], &self.u16(1), &[value, 0, 0, 0]].concat()
    }

    fn enhanced(&mut self, interface: u32, units: u64, data: &[u8]) {
        let words = [
            interface,
            (units >> 32) as u32,
            units as u32,
            data.len() as u32,
            1000,
        ];
        let mut body: Vec<u8> = words.iter().flat_map(|&word| self.u32(word)).collect();
        body.extend(data);
        self.block(6, &body);
    }

    fn read(&self) -> Vec<Written> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("in.pcapng");
        std::fs::write(&path, &self.file).expect("written");
        read_whole(&path)
    }
}

#[test]
fn each_interface_has_its_own_resolution_and_offset() {
    for big in [false, true] {
        let mut blocks = Blocks::new(big);
        blocks.interface(1, 0, &[]);
        let nano = blocks.tsresol(9);
        blocks.interface(1, 0, &nano);
        let binary = blocks.tsresol(0x80 | 10);
        blocks.interface(101, 0, &binary);
        let pico = blocks.tsresol(12);
        blocks.interface(229, 0, &pico);
        let seconds: i64 = 100;
        let mut offset = [&blocks.u16(14)[..], &blocks.u16(8)].concat();
        offset.extend(if big {
            seconds.to_be_bytes()
        } else {
            seconds.to_le_bytes()
        });
        blocks.interface(1, 0, &offset);
        for interface in 0..5 {
            blocks.enhanced(interface, 5_000_000_512, &[0x60, 1, 2]);
        }
        let read = blocks.read();
        let times: Vec<_> = read.iter().map(|frame| frame.timestamp_ns).collect();
        let binary = (5_000_000_512_i128 * 1_000_000_000 / 1024) as i64;
        assert_eq!(
            times,
            [
                5_000_000_512_000,
                5_000_000_512,
                binary,
                5_000_000,
                5_100_000_512_000
            ]
        );
        let links: Vec<_> = read.iter().map(|frame| frame.link).collect();
        assert_eq!(
            links,
            [
                Link::Ethernet,
                Link::Ethernet,
                Link::Ipv6,
                Link::Ipv6,
                Link::Ethernet
            ]
        );
        assert!(
            read.iter()
                .all(|frame| frame.bytes == [0x60, 1, 2] && frame.wire_length == 1000)
        );
    }
}

#[test]
fn simple_and_old_packet_blocks_are_read_and_unknown_ones_passed_over() {
    for big in [false, true] {
        let mut blocks = Blocks::new(big);
        blocks.interface(1, 5, &[]);
        blocks.block(0x0bad, &[7; 9]);
        let simple = [&blocks.u32(9)[..], &[1, 2, 3, 4, 5]].concat();
        blocks.block(3, &simple);
        let head = [blocks.u16(0), blocks.u16(3)].concat();
        let words: Vec<u8> = [0, 7, 4, 60]
            .iter()
            .flat_map(|&word| blocks.u32(word))
            .collect();
        blocks.block(2, &[&head[..], &words, &[9, 8, 7, 6]].concat());
        let read = blocks.read();
        assert_eq!(read.len(), 2);
        assert_eq!(
            (
                &read[0].bytes[..],
                read[0].wire_length,
                read[0].timestamp_ns
            ),
            (&[1, 2, 3, 4, 5][..], 9, 0)
        );
        assert_eq!(
            (
                &read[1].bytes[..],
                read[1].wire_length,
                read[1].timestamp_ns
            ),
            (&[9, 8, 7, 6][..], 60, 7000)
        );
    }
}

#[test]
fn a_new_section_numbers_its_interfaces_anew_and_may_turn_the_byte_order() {
    let mut blocks = Blocks::new(false);
    blocks.interface(1, 0, &[]);
    blocks.enhanced(0, 1, &[1]);
    let mut second = Blocks::new(true);
    second.interface(228, 0, &[]);
    second.enhanced(0, 2, &[2]);
    blocks.file.extend(second.file);
    let links: Vec<_> = blocks
        .read()
        .iter()
        .map(|frame| (frame.link, frame.timestamp_ns))
        .collect();
    assert_eq!(links, [(Link::Ethernet, 1000), (Link::Ipv4, 2000)]);
}

#[test]
fn frames_of_an_unsupported_interface_are_told_of_and_the_rest_is_read() {
    let mut blocks = Blocks::new(false);
    blocks.interface(1, 0, &[]);
    blocks.interface(113, 0, &[]);
    blocks.enhanced(0, 1, &[1; 5]);
    blocks.enhanced(1, 2, &[2; 6]);
    blocks.enhanced(1, 3, &[]);
    blocks.enhanced(0, 4, &[4; 7]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("in.pcapng");
    std::fs::write(&path, &blocks.file).expect("written");
    let mut reader = CaptureReader::open(&path, 9600).expect("a capture");
    let mut chunk = Chunk::default();
    while reader.read_chunk_frame(&mut chunk).expect("a whole file") {}
    let seen: Vec<_> = chunk
        .iter()
        .map(|frame| {
            let meta = frame.meta;
            (
                frame.bytes,
                meta.captured_length,
                meta.unsupported,
                meta.is_too_long(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (&[1; 5][..], 5, false, false),
            (&[], 6, true, false),
            (&[], 0, true, false),
            (&[4; 7], 7, false, false),
        ]
    );
}

#[test]
fn a_frame_over_the_limit_is_reported_with_its_lengths_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["long.pcap", "long.pcapng"] {
        let path = folder.path().join(name);
        let long = Written {
            bytes: vec![7; 700_000],
            wire_length: 700_000,
            ..Written::numbered(1)
        };
        write_all(&path, &[Written::numbered(0), long, Written::numbered(2)]);
        let mut reader = CaptureReader::open(&path, 9600).expect("a capture");
        let mut chunk = Chunk::default();
        while reader.read_chunk_frame(&mut chunk).expect("a whole file") {}
        let lengths: Vec<_> = chunk
            .iter()
            .map(|frame| {
                (
                    frame.meta.is_too_long(),
                    frame.bytes.len(),
                    frame.meta.captured_length,
                )
            })
            .collect();
        assert_eq!(
            lengths,
            [(false, 60, 60), (true, 0, 700_000), (false, 60, 60)]
        );
    }
}

#[test]
fn a_pcap_file_refuses_a_second_link_type_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = CaptureWriter::create(folder.path().join("out.pcap")).expect("a file");
    writer
        .write(&[0; 60], 0, 60, Link::Ethernet)
        .expect("the first");
    let error = writer
        .write(&[0x45; 60], 0, 60, Link::Ipv4)
        .expect_err("another link type");
    assert!(
        error.to_string().contains("name the output .pcapng"),
        "{error}"
    );
}

#[test]
fn a_full_disk_is_an_error_of_the_file() {
    if !Path::new("/dev/full").exists() {
        return skip("no /dev/full");
    }
    let mut writer = CaptureWriter::create("/dev/full").expect("opens");
    writer
        .write(&[0; 60], 0, 60, Link::Ethernet)
        .expect("is buffered");
    let error = writer.finish().expect_err("nothing can be written");
    assert!(
        error.to_string().starts_with("cannot write /dev/full"),
        "{error}"
    );
}
