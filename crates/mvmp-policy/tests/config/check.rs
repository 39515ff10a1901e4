//! What `check` says of configurations that are allowed but perhaps not meant: sending, layers,
//! groups, circles.

use crate::warnings;

/// Warnings of a configuration with the ports `a` and `b`, the device `d`, and the rest.
fn of_device(device: &str, rest: &str) -> Vec<String> {
    let text = format!(
        "ports = {{ a = \"net_null0\", b = \"net_null1\" }}\n{rest}\n[devices.d]\n{device}"
    );
    warnings(&text)
}

const BOND: &str = "mode = \"bond\"\nports = [\"a\", \"b\"]\n";
const BRIDGE: &str = "mode = \"bridge\"\nports = [\"a\", \"b\"]\n";
const ONE: &str = "nfs.n.devices = [\"d\"]";
const TUNNEL: &str = "local = \"192.0.2.1\", remote = \"192.0.2.7\"";

#[test]
fn bypass_that_reflects_is_told_and_a_bridge_does_not() {
    assert_eq!(
        of_device(&format!("{BOND}absent = \"bypass\""), ONE),
        ["devices.d: absent = \"bypass\" sends packets back by the ports of the same bond"]
    );
    assert_eq!(
        of_device(&format!("{BRIDGE}absent = \"bypass\""), ONE),
        [""; 0]
    );
}

#[test]
fn a_tunnel_without_ethernet_addresses_cannot_leave() {
    let send =
        |more: &str| format!("{BRIDGE}send.b = {{ encap = {{ gre = {{ {TUNNEL} }} }}{more} }}");
    assert_eq!(
        of_device(&send(""), ONE),
        [
            "devices.d: what leaves by `b` begins with IP, and without send.b.ethernet it is the drop no_ethernet"
        ]
    );
    let addresses = ", ethernet = { src = \"02:00:00:00:00:01\", dst = \"02:00:00:00:00:02\" }";
    assert_eq!(of_device(&send(addresses), ONE), [""; 0]);
    assert_eq!(
        of_device(&send(""), "nfs.n.devices = [\"d:rx\"]"),
        [""; 0],
        "nobody sends"
    );
}

#[test]
fn what_is_stripped_down_to_ip_cannot_leave_either() {
    let strip = |layer: &str| {
        format!("{BRIDGE}receive = {{ a = {{ strip = [\"{layer}\"] }}, b = \"all\" }}")
    };
    assert_eq!(
        of_device(&strip("mpls"), ONE),
        [
            "devices.d: what is left of packets from `a` can begin with IP, and leaves by `b` only with send.b.ethernet; else it is the drop no_ethernet"
        ]
    );
    assert_eq!(
        of_device(&strip("vxlan"), ONE),
        [""; 0],
        "VXLAN carries Ethernet"
    );
    assert_eq!(
        of_device(&strip("mpls").replace("strip", "decap"), ONE),
        [""; 0],
        "what is jumped over goes out again"
    );
}

#[test]
fn the_addresses_are_missed_where_packets_leave() {
    let ethernet = "ethernet = { src = \"02:00:00:00:00:01\", dst = \"02:00:00:00:00:02\" }";
    let missed = |from: &str, by: &str| {
        format!(
            "devices.d: what is left of packets from {from} can begin with IP, and leaves by `{by}` only with send.{by}.ethernet; else it is the drop no_ethernet"
        )
    };
    let at = |mode: &str, over: &str, receive: &str, send: &str| {
        let ports = "a = \"net_null0\", b = \"net_null1\", c = \"net_null2\"";
        warnings(&format!(
            "ports = {{ {ports} }}\n{ONE}\n[devices.d]\nmode = \"{mode}\"\nports = [{over}]\nreceive = {{ {receive} }}\nsend = {{ {send} }}"
        ))
        .into_iter()
        .filter(|warning| warning.contains("no_ethernet"))
        .collect::<Vec<_>>()
    };
    let (two, three) = ("\"a\", \"b\"", "\"a\", \"b\", \"c\"");
    let (of_a, of_both) = (
        "a = { strip = [\"vlan\"] }, b = \"all\"",
        "a = { strip = [\"vlan\"] }, b = { strip = [\"gre\"] }",
    );
    let (at_a, at_b) = (format!("a.{ethernet}"), format!("b.{ethernet}"));
    assert_eq!(at("bridge", two, of_a, ""), [missed("`a`", "b")]);
    assert_eq!(at("bridge", two, of_a, &at_a), [missed("`a`", "b")]);
    assert_eq!(at("bridge", two, of_a, &at_b), [""; 0]);
    assert_eq!(
        at("bridge", three, of_both, &at_b),
        [missed("`b`", "a"), missed("`a` and `b`", "c")]
    );
    assert_eq!(at("bond", two, of_a, &at_b), [missed("`a`", "a")]);
    assert_eq!(
        at("direct", "\"a\"", "a.strip = [\"vlan\"]", ""),
        [missed("`a`", "a")]
    );
    assert_eq!(
        at("direct", "\"a\"", "a.strip = [\"vlan\"]", &at_a),
        [""; 0]
    );
}

#[test]
fn a_capture_takes_what_begins_with_ip_but_a_pcap_not_beside_ethernet() {
    let to = |out: &str, device: &str| {
        warnings(&format!(
            "ports = {{ a.pcap = \"in.pcap\", b.out = \"{out}\" }}\n{ONE}\n[devices.d]\n{BRIDGE}{device}"
        ))
        .into_iter()
        .filter(|warning| warning.contains("begin"))
        .collect::<Vec<_>>()
    };
    let strip = "receive.a.strip = [\"vlan\"]";
    let mixed = "devices.d: what is left of packets from `a` can begin with IP, and the .pcap that `b` writes holds frames of one link type: name its out .pcapng, or set send.b.ethernet";
    assert_eq!(to("o.pcap", strip), [mixed]);
    assert_eq!(to("o.CAP", strip), [mixed]);
    assert_eq!(to("o.pcapng", strip), [""; 0]);
    let ethernet = "send.b.ethernet = { src = \"02:00:00:00:00:01\", dst = \"02:00:00:00:00:02\" }";
    assert_eq!(to("o.pcap", &format!("{strip}\n{ethernet}")), [""; 0]);
    let tunnel = format!("send.b.encap = {{ gre = {{ {TUNNEL} }} }}");
    assert_eq!(to("o.pcap", &tunnel), [""; 0], "all of it begins with IP");
}

#[test]
fn a_rule_that_asks_for_a_tunnel_behind_it_is_told() {
    let device = |cell: &str| format!("{BRIDGE}receive = {{ a = {{ {cell} }}, b = \"all\" }}");
    assert_eq!(
        of_device(
            &device("match = \"udp dst port 4789\", decap = [\"vxlan\"]"),
            ONE
        ),
        [
            "devices.d: the rule for `a` is asked of what is inside: port 4789 is jumped over with `vxlan`, write `vxlan` instead"
        ]
    );
    assert_eq!(
        of_device(&device("match = \"udp dst port 4789\""), ONE),
        [""; 0]
    );
    assert_eq!(
        of_device(&device("match = \"port 47890\", decap = \"auto\""), ONE),
        [""; 0]
    );
}

#[test]
fn looking_at_what_is_sent_where_nobody_sends_is_told() {
    let device = format!("{BRIDGE}receive = {{ a = {{ direction = \"out\" }}, b = \"all\" }}");
    assert_eq!(
        of_device(&device, "nfs.n.devices = [\"d:rx\"]"),
        ["devices.d: direction = \"out\" at `a`, and no role may send there"]
    );
    let other = "nfs.n.devices = [\"d:rx\", \"e:tx\"]\ndevices.e = { mode = \"direct\", ports = [\"a\"], receive = {} }";
    let told = of_device(&device, other);
    assert!(
        told.iter()
            .all(|warning| !warning.contains("no role may send")),
        "{told:?}"
    );
}

#[test]
fn members_of_one_group_do_not_send_twice_and_one_member_is_no_group() {
    let group = |one: &str, other: &str| {
        format!(
            "nfs.n = {{ devices = [\"d\"], instances = 2, groups = {{ d = \"{one}\" }} }}\nnfs.m = {{ devices = [\"d\"], groups = {{ d = \"{other}\" }} }}"
        )
    };
    let pool = "ports.a: `n` and `m` share one pool: each can read all packets of `a` and `b`, whatever its rules say";
    assert_eq!(of_device(BRIDGE, &group("g", "g")), [pool]);
    assert_eq!(
        of_device(BRIDGE, &group("g", "h")),
        [
            pool,
            "devices.d: `n` and `m` each get every packet and may send it: it can leave more than once",
            "nfs.m: it is alone in the group `h` of `d`: it gets every packet, as it would without",
        ]
    );
}

#[test]
fn instances_that_share_one_device_and_not_another_are_told() {
    let rest = "devices.v.mode = \"rootless\"\nnfs.n = { devices = [\"d:rx\", \"v:rx\"], instances = 2, groups = { d = \"g\" } }\nnfs.m.devices = [\"v:tx\"]";
    assert_eq!(
        of_device(BRIDGE, rest),
        ["nfs.n: its instances share flows, but from `v` each of them gets every packet"]
    );
}

#[test]
fn who_may_define_devices_reads_the_ports_pool() {
    let rest = "nfs.n.devices = [\"d\"]\nnfs.m = { devices = [], may_define = [\"a\"] }";
    assert_eq!(
        of_device(BRIDGE, rest),
        [
            "ports.a: `n` and `m` share one pool: each can read all packets of `a` and `b`, whatever its rules say",
            "nfs.m: may define devices over `a`: it can read and send everything there",
        ]
    );
}

#[test]
fn circles_wait_for_each_other_where_nothing_may_be_lost() {
    let text = |port: &str, first: &str| {
        format!(
            "ports.a = {port}\ndevices = {{ d = {{ mode = \"direct\", ports = [\"a\"] }}, v = {{ mode = \"rootless\" }} }}\nnfs.n.devices = [\"d\", \"{first}\"]\nnfs.m.devices = [\"v\"]"
        )
    };
    let circle = "nfs.n: `n` and `m` send to each other without loss: if the rings of all are full they wait for each other, and `stall_s` later the platform says so";
    let lossless = "{ pcap = \"a.pcap\" }";
    assert!(warnings(&text(lossless, "v")).contains(&circle.to_string()));
    for (port, first) in [(lossless, "v:tx"), ("\"net_null0\"", "v")] {
        let told = warnings(&text(port, first));
        assert!(
            told.iter().all(|warning| !warning.contains("each other")),
            "{told:?}"
        );
    }
}

/// Warnings of two bridges over the same ports, each with its cells and roles.
fn of_two(one: &str, other: &str, roles: &str) -> Vec<String> {
    let text = format!(
        "ports = {{ a = \"net_null0\", b = \"net_null1\" }}\n[devices.d]\n{BRIDGE}{one}\n[devices.e]\n{BRIDGE}{other}\n[nfs]\n{roles}"
    );
    let pool = "share one pool";
    let told = warnings(&text).into_iter();
    told.filter(|warning| !warning.contains(pool)).collect()
}

#[test]
fn two_devices_that_send_the_same_packets_are_told() {
    let roles = "n.devices = [\"d\"]\nm.devices = [\"e\"]";
    let warning = "devices.d: `n` and, over `e`, `m` get the same packets of `a` and may send them by `b`: they can leave more than once";
    assert_eq!(of_two("", "", roles), [warning]);
    let tcp = "receive = { a = \"tcp\", b = \"tcp\" }";
    assert_eq!(of_two(tcp, tcp, roles), [warning]);
    assert_eq!(of_two(tcp, &tcp.replace("tcp", "udp"), roles), [""; 0]);
    let watching = "n.devices = [\"d\"]\nm.devices = [\"e:rx\"]";
    assert_eq!(of_two("", "", watching), [""; 0]);
    let bypass = "absent = \"bypass\"";
    assert_eq!(
        of_two(bypass, bypass, watching),
        [
            "devices.d: `n` and, over `e`, the worker (absent = \"bypass\") get the same packets of `a` and may send them by `b`: they can leave more than once"
        ]
    );
}

#[test]
fn those_who_receive_what_the_other_sends_are_told() {
    let out = "receive = { a = { match = \"tcp\", direction = \"inout\" }, b = \"tcp\" }";
    let udp = out.replace("tcp", "udp");
    let roles = "n.devices = [\"d\"]\nm.devices = [\"e\"]";
    assert_eq!(
        of_two(out, &udp, roles),
        [
            "nfs.n: `n` and `m` receive what the others send (direction \"out\" or \"inout\") and may send it again: a packet can leave up to 256 times (hop_limit)"
        ]
    );
    let watching = "n.devices = [\"d\"]\nm.devices = [\"e:rx\"]";
    assert_eq!(of_two(out, &udp, watching), [""; 0]);
    let one = "n.devices = [\"d\", \"e\"]";
    assert_eq!(
        of_two(out, &udp, one),
        [
            "nfs.n: it receives by one handle what it sends by another (direction \"out\" or \"inout\") and may send it again: a packet can leave up to 256 times (hop_limit)"
        ]
    );
}

#[test]
fn check_warns_of_what_is_perhaps_not_meant() {
    assert_eq!(
        warnings(""),
        [
            "devices: there are none: nothing can be opened",
            "nfs: there are none and platform.open is false: no NF may connect"
        ]
    );
    let text = r#"
        platform = { buffers = 5000, max_nfs = 2 }
        ports = { a = { pcap = "a.pcap", loop = 0 }, b = "net_null0", c = "net_null1" }
        devices.d = { mode = "bridge", ports = ["a", "b"], receive = { b = "tcp and none" } }
        devices.e = { mode = "rootless" }
        nfs.n = { devices = ["d"], instances = 2 }
        nfs.m = { devices = ["d", "e:rx"] }
    "#;
    assert_eq!(
        warnings(text),
        [
            "platform.buffers: 5000 is not a power of two; 8192 needs the same bookkeeping",
            "nfs: the roles allow 3 instances, but at most 2 can be connected at a time",
            "ports.a: plays for ever without loss: the platform never drains",
            "ports.a: is lossless only if all ports are lossless captures; `b` and `c` are not",
            "ports.c: no device uses it",
            "devices.e: no role may send to it",
            "devices.d: nothing is received from `a`: its cell is empty",
            "devices.d: nothing is received from `b`: no packet matches `tcp and none`",
            "ports.a: `n` and `m` share one pool: each can read all packets of `a` and `b`, whatever its rules say",
            "devices.d: `n` and `m` each get every packet and may send it: it can leave more than once",
        ]
    );
}

#[test]
fn files_that_get_in_each_others_way_are_told() {
    let told = |ports: &str| -> Vec<String> {
        let warnings = warnings(&format!("[ports]\n{ports}")).into_iter();
        warnings
            .filter(|warning| warning.contains("writes"))
            .collect()
    };
    assert_eq!(
        told("a = { out = \"x.pcap\" }\nb = { out = \"x.pcap\" }\nc = { out = \"y.pcap\" }"),
        ["ports.b: writes x.pcap, as `a` does"]
    );
    assert_eq!(
        told("a = { pcap = \"x.pcap\" }\nb = { out = \"x.pcap\" }"),
        ["ports.b: writes x.pcap, which `a` reads"]
    );
    let null = "a = { out = \"/dev/null\" }\nb = { out = \"/dev/null\" }";
    assert_eq!(told(null), [""; 0]);
}

#[test]
fn check_names_who_shares_a_platform_without_ports() {
    let text = "devices.v.mode = \"rootless\"\nnfs = { a = { devices = [\"v\"] }, b = { devices = [\"v\"] } }";
    assert_eq!(
        warnings(text),
        ["devices: `a` and `b` share one pool: each can read all packets in it"]
    );
}

#[test]
fn a_port_over_which_a_role_may_define_devices_is_of_use() {
    let rest = "nfs.n = { devices = [\"d\"], may_define = [\"b\"] }";
    let over_a = "mode = \"direct\"\nports = [\"a\"]";
    let unused = "ports.b: no device uses it".to_string();
    assert!(!of_device(over_a, rest).contains(&unused));
    assert!(of_device(over_a, ONE).contains(&unused));
}
