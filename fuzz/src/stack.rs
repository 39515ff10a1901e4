//! Any bytes are walked within their bounds; each view is part of the frame and begins with what
//! it says; the headers of the last level are those that parsing it yields.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mvmp_wire::packet::{
    DEPTH_MAX, Headers, LayerKind, LayerSet, Link, Stack, TunnelPorts, parse, walk_on,
};

fuzz_target!(|frame: &[u8]| {
    let ports = TunnelPorts::default();
    let (mut stack, mut inner) = (Stack::default(), Headers::default());
    for link in [Link::Ethernet, Link::Ipv4, Link::Ipv6] {
        walk_on(frame, &parse(frame, link), &ports, &mut stack, &mut inner);
        let level = stack.level();
        assert_eq!(inner, parse(level.of(frame), level.link));
        let layers = stack.layers();
        assert!(layers.len() <= DEPTH_MAX);
        assert!(layers.is_sorted_by_key(|layer| layer.offset));
        assert!(layers.iter().all(|layer| usize::from(layer.offset) < frame.len()));
        for word in LayerSet::AUTO.words().chain(["auto"]) {
            let Some(jump) = LayerSet::from_word(word) else { continue };
            let view = stack.view(jump);
            assert!(view.start <= view.end && usize::from(view.end) <= frame.len());
            if view.start > 0 {
                let found = parse(view.of(frame), view.link);
                let first = found.layers().next().map(|layer| layer.kind());
                let expected = match view.link {
                    Link::Ethernet => LayerKind::Ethernet,
                    Link::Ipv4 => LayerKind::Ipv4,
                    Link::Ipv6 => LayerKind::Ipv6,
                };
                assert_eq!(first, Some(expected));
            }
        }
    }
});
