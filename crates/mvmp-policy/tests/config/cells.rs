//! Devices and their cells by example: modes, layers, ways of sending, groups, and their mistakes.

use mvmp_policy::Config;
use mvmp_policy::config::*;
use mvmp_wire::packet::LayerSet;
use mvmp_wire::packet::encap::{EncapLayer, EncapSpec, Tunnel};

use crate::{PORTS, device_refuses, read, refuses};

/// A configuration with three ports and the device `d`.
fn device(text: &str) -> DeviceSpec {
    read(&format!("{PORTS}[devices.d]\n{text}")).devices[0].clone()
}

const DIRECT: &str = "mode = \"direct\"\nports = [\"a\"]\n";
const BOND: &str = "mode = \"bond\"\nports = [\"a\", \"b\"]\n";

#[test]
fn a_bond_sends_round_robin_unless_it_says_otherwise() {
    assert_eq!(device(BOND).send, Some(SendPolicy::RoundRobin));
    for (word, policy) in [
        ("round-robin", SendPolicy::RoundRobin),
        ("hash", SendPolicy::Hash),
        ("active-backup", SendPolicy::ActiveBackup),
    ] {
        let device = device(&format!("{BOND}send.policy = \"{word}\""));
        assert_eq!(
            (device.mode, device.send, policy.as_str()),
            (Mode::Bond, Some(policy), word)
        );
    }
}

#[test]
fn a_bridge_may_have_more_than_two_ports() {
    let bridge = device("mode = \"bridge\"\nports = [\"a\", \"b\", \"c\"]");
    assert_eq!(bridge.ports().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(bridge.send, Some(SendPolicy::Opposite));
    assert_eq!(device(DIRECT).send, None);
    assert_eq!(device("mode = \"rootless\"").send, None);
}

#[test]
fn a_send_policy_belongs_to_a_mode() {
    device_refuses(
        &format!("{BOND}send = {{ policy = \"opposite\" }}"),
        "t.toml:8:19: devices.d.send.policy: \"opposite\" is for bridges, this device is a bond (hint: write \"round-robin\", \"hash\" or \"active-backup\")",
    );
    device_refuses(
        "mode = \"bridge\"\nports = [\"a\", \"b\"]\nsend = { policy = \"hash\" }",
        "t.toml:8:19: devices.d.send.policy: \"hash\" is for bonds, this device is a bridge (hint: leave `policy` away, or use mode = \"bond\")",
    );
    device_refuses(
        &format!("{BOND}send = {{ policy = \"roundrobin\" }}"),
        "t.toml:8:19: devices.d.send.policy: unknown value \"roundrobin\" (hint: did you mean `round-robin`?)",
    );
}

#[test]
fn what_happens_without_an_nf_is_said_by_absent() {
    assert_eq!(device(DIRECT).absent, Absent::Drop);
    let bypass = device(&format!("{BOND}absent = \"bypass\""));
    assert_eq!(bypass.absent, Absent::Bypass);
    device_refuses(
        "mode = \"rootless\"\nabsent = \"bypass\"",
        "t.toml:7:10: devices.d.absent: a rootless device has no port to send on by (hint: leave `absent` away)",
    );
    device_refuses(
        &format!("{DIRECT}absent = \"pass\""),
        "t.toml:8:10: devices.d.absent: unknown value \"pass\" (hint: it is one of \"drop\", \"bypass\")",
    );
}

#[test]
fn a_cell_says_match_decap_strip_and_direction() {
    let device = device(&format!(
        "{BOND}receive.a = {{ match = \"tcp\", decap = [\"vlan\", \"vxlan\"], strip = [\"mpls\"], direction = \"inout\" }}\nreceive.b = {{ decap = \"auto\", direction = \"out\" }}"
    ));
    let a = device.receive("a").unwrap();
    assert_eq!(a.rule.to_string(), "tcp");
    assert_eq!(a.decap, LayerSet::VLAN.union(LayerSet::VXLAN));
    assert_eq!((a.strip, a.direction), (LayerSet::MPLS, Toward::InOut));
    let b = device.receive("b").unwrap();
    assert_eq!((b.decap, b.direction), (LayerSet::AUTO, Toward::Out));
    assert!(b.strip.is_empty());
}

#[test]
fn layers_are_words_that_are_known_and_named_once() {
    device_refuses(
        &format!("{DIRECT}receive.a = {{ decap = [\"vlan\", \"vxlam\"] }}"),
        "t.toml:8:32: devices.d.receive.a.decap: unknown layer \"vxlam\" (hint: did you mean `vxlan`?)",
    );
    device_refuses(
        &format!("{DIRECT}receive.a = {{ strip = [\"tls\"] }}"),
        "t.toml:8:24: devices.d.receive.a.strip: unknown layer \"tls\" (hint: layers are vlan, mpls, pppoe, gre, nvgre, erspan, vxlan, geneve, ipip, gtp, auto)",
    );
    device_refuses(
        &format!("{DIRECT}receive.a = {{ decap = \"vlan\" }}"),
        "t.toml:8:23: devices.d.receive.a.decap: expected a list of layers or \"auto\", found a string (hint: write [\"vlan\"])",
    );
    device_refuses(
        &format!("{DIRECT}receive.a = {{ decap = \"auto\", strip = [\"gre\"] }}"),
        "t.toml:8:39: devices.d.receive.a.strip: `gre` is in `decap` too (hint: `decap` jumps over a layer, `strip` removes it: name it in one of them)",
    );
}

fn encap(text: &str) -> EncapSpec {
    let device = device(&format!(
        "{DIRECT}send.a = {{ encap = {text}, ethernet = {{ src = \"02:00:00:00:00:01\", dst = \"02:00:00:00:00:02\" }} }}"
    ));
    device.cells[0].send.encap.clone().unwrap()
}

#[test]
fn encapsulations_are_read_innermost_first() {
    let tunnel = Tunnel {
        local: "192.0.2.1".parse().unwrap(),
        remote: "192.0.2.7".parse().unwrap(),
        ttl: 64,
    };
    let tag = |id| EncapLayer::Vlan {
        tpid: 0x8100,
        id,
        pcp: 0,
    };
    let cases = [
        ("{ vlan = 42 }", vec![tag(42)]),
        ("{ vlan = \"pop\" }", vec![EncapLayer::PopVlan]),
        (
            "{ vlan = { id = 1, pcp = 7, tpid = 0x88a8 } }",
            vec![EncapLayer::Vlan {
                tpid: 0x88a8,
                id: 1,
                pcp: 7,
            }],
        ),
        (
            "[{ vxlan = { vni = 42, local = \"192.0.2.1\", remote = \"192.0.2.7\" } }, { vlan = 7 }]",
            vec![
                EncapLayer::Vxlan {
                    vni: 42,
                    port: 4789,
                    tunnel,
                },
                tag(7),
            ],
        ),
        (
            "{ geneve = { vni = 1, local = \"192.0.2.1\", remote = \"192.0.2.7\", port = 1, ttl = 3 } }",
            vec![EncapLayer::Geneve {
                vni: 1,
                port: 1,
                tunnel: Tunnel { ttl: 3, ..tunnel },
            }],
        ),
        (
            "{ gre = { local = \"192.0.2.1\", remote = \"192.0.2.7\", key = 4294967295 } }",
            vec![EncapLayer::Gre {
                key: Some(u32::MAX),
                tunnel,
            }],
        ),
        (
            "{ ipip = { local = \"192.0.2.1\", remote = \"192.0.2.7\" } }",
            vec![EncapLayer::IpIp { tunnel }],
        ),
    ];
    for (text, layers) in cases {
        assert_eq!(encap(text), EncapSpec { layers }, "{text}");
    }
}

#[track_caller]
fn encap_refuses(text: &str, shown: &str) {
    device_refuses(&format!("{DIRECT}send.a.encap = {text}"), shown);
}

#[test]
fn an_encapsulation_that_no_packet_can_have_is_refused() {
    let ends = "local = \"192.0.2.1\", remote = \"192.0.2.7\"";
    let six = "local = \"2001:db8::1\", remote = \"2001:db8::7\"";
    let cases = [
        (
            "[]".into(),
            "8:16: devices.d.send.a.encap: names no layer (hint: leave `encap` away to send packets as they are)",
        ),
        (
            "{}".into(),
            "8:8: devices.d.send.a.encap: names no layer (hint: write { vlan = 42 } or { vxlan = { … } })",
        ),
        (
            "{ vlan = 1, gre = 2 }".into(),
            "8:28: devices.d.send.a.encap.gre: `gre` is a second layer in one table (hint: several layers are a list, innermost first: [{ … }, { … }])",
        ),
        (
            "{ vlan = 4095 }".into(),
            "8:25: devices.d.send.a.encap.vlan: 4095 is out of range: 0 to 4094",
        ),
        (
            "{ vlan = { id = 1, tpid = 0x0800 } }".into(),
            "8:42: devices.d.send.a.encap.vlan.tpid: 0x0800 does not announce a tag (hint: it is one of 0x8100, 0x88a8, 0x9100)",
        ),
        (
            "{ vlan = \"push\" }".into(),
            "8:25: devices.d.send.a.encap.vlan: \"push\" is not a VLAN id (hint: write a number, or \"pop\" to take the outermost tag off)",
        ),
        (
            format!("{{ vxlan = {{ {ends} }} }}"),
            "8:18: devices.d.send.a.encap.vxlan: `vni` is missing",
        ),
        (
            format!("{{ vxlan = {{ vni = 16777216, {ends} }} }}"),
            "8:34: devices.d.send.a.encap.vxlan.vni: 16777216 is out of range: 0 to 16777215",
        ),
        (
            "{ ipip = { local = \"192.0.2.1\", remote = \"2001:db8::1\" } }".into(),
            "8:57: devices.d.send.a.encap.ipip.remote: 2001:db8::1 is not of the same family as 192.0.2.1 (hint: both are IPv4, or both are IPv6)",
        ),
        (
            "{ ipip = { local = \"224.0.0.1\", remote = \"192.0.2.1\" } }".into(),
            "8:35: devices.d.send.a.encap.ipip.local: 224.0.0.1 cannot be a source address",
        ),
        (
            "{ ipip = { local = \"0.0.0.0\", remote = \"192.0.2.1\" } }".into(),
            "8:35: devices.d.send.a.encap.ipip.local: 0.0.0.0 is no machine's address",
        ),
        (
            "{ ipip = { local = \"gate\", remote = \"192.0.2.1\" } }".into(),
            "8:35: devices.d.send.a.encap.ipip.local: \"gate\" is not an IP address (hint: write it as \"192.0.2.1\" or \"2001:db8::1\")",
        ),
        (
            format!("[{{ vlan = 1 }}, {{ ipip = {{ {ends} }} }}]"),
            "8:31: devices.d.send.a.encap: IP-in-IP carries IP packets, and a tag is part of an Ethernet header",
        ),
        (
            format!("[{{ ipip = {{ {ends} }} }}, {{ vxlan = {{ vni = 1, {ends} }} }}]"),
            "8:16: devices.d.send.a.encap: vxlan carries Ethernet, and what the layer before it makes begins with IP: take geneve, gre or ipip",
        ),
        (
            format!("[{{ ipip = {{ {ends} }} }}, {{ vlan = \"pop\" }}]"),
            "8:16: devices.d.send.a.encap: vlan = \"pop\" after a tunnel finds no tag: put it first",
        ),
        (
            format!("[{{ ipip = {{ {ends} }} }}, {{ vlan = 7 }}]"),
            "8:16: devices.d.send.a.encap: a vlan tag around a tunnel needs an Ethernet header: say ethernet = { src = …, dst = … }",
        ),
        (
            format!(
                "[{{ ipip = {{ {six} }} }}, {{ ipip = {{ {six} }} }}, {{ ipip = {{ {six} }} }}]"
            ),
            "8:16: devices.d.send.a.encap: these layers have 132 bytes of headers; there is room for 128",
        ),
    ];
    for (text, shown) in cases {
        encap_refuses(&text, &format!("t.toml:{shown}"));
    }
}

#[test]
fn ethernet_addresses_are_two_and_the_source_is_one_machine() {
    let device = device(&format!(
        "{DIRECT}send.a.ethernet = {{ src = \"02:00:00:00:00:01\", dst = \"ff-ff-ff-ff-ff-ff\" }}"
    ));
    assert_eq!(
        device.cells[0].send.ethernet,
        Some(Ethernet {
            src: [2, 0, 0, 0, 0, 1],
            dst: [0xff; 6]
        })
    );
    let refused = |text: &str, shown: &str| {
        device_refuses(&format!("{DIRECT}send.a.ethernet = {text}"), shown);
    };
    refused(
        "{ src = \"02:00:00:00:00:01\" }",
        "t.toml:8:8: devices.d.send.a.ethernet: `dst` is missing (hint: write { src = \"02:00:00:00:00:01\", dst = \"02:00:00:00:00:02\" })",
    );
    refused(
        "{ src = \"01:00:00:00:00:01\", dst = \"02:00:00:00:00:02\" }",
        "t.toml:8:27: devices.d.send.a.ethernet.src: a source address cannot be a group's (hint: the lowest bit of its first byte is 0)",
    );
    refused(
        "{ src = \"02:00:00:00:01\", dst = \"02:00:00:00:00:02\" }",
        "t.toml:8:27: devices.d.send.a.ethernet.src: \"02:00:00:00:01\" is not a MAC address (hint: write it as \"02:00:00:00:00:01\")",
    );
}

#[test]
fn a_group_is_for_a_device_that_the_role_receives_from() {
    let nf = |nf: &str| format!("[devices.v]\nmode = \"rootless\"\n[nfs.n]\n{nf}");
    let config = Config::from_toml(&nf("devices = [\"v:rx\"]\ngroups = { v = \"dpi\" }"), "t");
    let role = config.unwrap().nfs[0].clone();
    assert_eq!((role.group("v"), role.group("w")), (Some("dpi"), None));
    refuses(
        &nf("devices = [\"v:tx\"]\ngroups = { v = \"dpi\" }"),
        "t.toml:5:12: nfs.n.groups.v: it may not receive from `v` (hint: add \"v:rx\" to its `devices`)",
    );
    refuses(
        &nf("devices = [\"v\"]\ngroups = { w = \"dpi\" }"),
        "t.toml:5:12: nfs.n.groups.w: unknown device `w` (hint: did you mean `v`?)",
    );
    refuses(
        &nf("devices = [\"v\"]\ngroups = { v = \"d p i\" }"),
        "t.toml:5:16: nfs.n.groups.v: a group's name cannot contain ' ' (hint: letters, digits, `_`, `.` and `-` are allowed)",
    );
    let open = format!(
        "platform.open = true\n{}",
        nf("devices = []\ngroups = { v = \"x\" }")
    );
    assert!(
        Config::from_toml(&open, "t").is_ok(),
        "where everything may be opened, a device need not be listed"
    );
}

#[test]
fn ports_over_which_devices_may_be_defined_exist() {
    let text = format!("{PORTS}[nfs.n]\ndevices = []\nmay_define = [\"b\", \"a\"]");
    let config = Config::from_toml(&text, "t").unwrap();
    assert_eq!(config.nfs[0].may_define, ["b", "a"]);
    refuses(
        &text.replace("\"b\"", "\"bb\""),
        "t.toml:7:15: nfs.n.may_define: unknown port `bb` (hint: did you mean `b`?)",
    );
}
