//! Any bytes are encapsulated within bounds, or refused; what is put around them is jumped over again.
//!
//! Input: the numbers of up to three layers, flags, then the packet.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use mvmp_wire::packet::encap::{ENCAP_BYTES_MAX, Encap, EncapLayer, EncapSpec, Tunnel};
use mvmp_wire::packet::{LayerSet, Link, Stack, TunnelPorts, parse, walk_stack};

fn layer(choice: u8) -> EncapLayer {
    let tunnel = Tunnel {
        local: if choice & 0x80 == 0 { IpAddr::from([10, 0, 0, choice]) } else { IpAddr::from([choice; 16]) },
        remote: if choice & 0x80 == 0 { IpAddr::from([10, 0, 1, choice]) } else { IpAddr::from([1; 16]) },
        ttl: 64,
    };
    let number = u32::from(choice) << 8;
    match choice & 7 {
        0 => EncapLayer::PopVlan,
        1 => EncapLayer::Vlan { tpid: 0x8100, id: choice.into(), pcp: choice & 7 },
        2 => EncapLayer::Gre { key: None, tunnel },
        3 => EncapLayer::Gre { key: Some(number), tunnel },
        4 | 5 => EncapLayer::Vxlan { vni: number, port: 4789, tunnel },
        6 => EncapLayer::Geneve { vni: number, port: 6081, tunnel },
        _ => EncapLayer::IpIp { tunnel },
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((choices, frame)) = input.split_first_chunk::<5>() else { return };
    let count = usize::from(choices[3] & 3);
    let layers: Vec<_> = choices[..count].iter().map(|choice| layer(*choice)).collect();
    let changes_tags = layers.iter().any(|layer| matches!(layer, EncapLayer::PopVlan | EncapLayer::Vlan { .. }));
    let ethernet = (choices[3] & 4 != 0).then_some([2; 12]);
    let Ok(encap) = Encap::new(&EncapSpec { layers }, ethernet) else { return };
    let link = [Link::Ethernet, Link::Ipv4, Link::Ipv6][usize::from(choices[4] % 3)];
    let mut out = [0; ENCAP_BYTES_MAX];
    let Ok(built) = encap.build(frame, link, parse(frame, link).flow_hash, &mut out) else { return };
    let packet = [&out[..built.headers], &frame[built.skip..]].concat();
    assert!(packet.len() <= frame.len() + encap.overhead());
    if changes_tags || frame.len() < 40 || built.headers == 0 {
        return;
    }
    // The view may go deeper, into the packet itself: it then ends where the packet's own lengths say.
    let mut stack = Stack::default();
    walk_stack(&packet, built.link, &TunnelPorts::default(), &mut stack);
    let view = stack.view(LayerSet::AUTO);
    let sound = match link {
        Link::Ethernet => true,
        Link::Ipv4 => frame[0] >> 4 == 4 && frame[0] & 15 >= 5,
        Link::Ipv6 => frame[0] >> 4 == 6,
    };
    if sound && count > 0 {
        assert!(usize::from(view.start) >= built.headers - if link == Link::Ethernet { 0 } else { 14 });
    }
});
