//! Any bytes are parsed within their bounds, as each kind of link.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mvmp_wire::packet::{Link, parse};

fuzz_target!(|frame: &[u8]| {
    for link in [Link::Ethernet, Link::Ipv4, Link::Ipv6] {
        let found = parse(frame, link);
        let end = usize::from(found.payload_offset) + usize::from(found.payload_length);
        assert!(end <= frame.len());
        assert!(found.layers().all(|layer| usize::from(layer.offset()) < frame.len()));
        assert_eq!(found.src6(frame).is_some(), found.ip_version == 6);
    }
});
