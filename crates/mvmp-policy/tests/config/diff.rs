//! What an `apply` would change, by example.

use mvmp_policy::Config;
use mvmp_policy::config::{Change, Kind, Section};
use serde_json::json;

use crate::read;

const OLD: &str = r#"
[platform]
buffers = 8192

[ports]
span = { interface = "eth1" }
up = "net_null0"
down = { devargs = "net_null1", max_frame = 4000 }
far = "net_null2"

[devices.gateway]
mode = "bridge"
ports = ["up", "down"]
receive = { up = "tcp", down = { match = "udp", strip = ["vlan"] } }
send = { up = { encap = { vlan = 42 } } }

[devices.span0]
mode = "direct"
ports = ["span"]

[devices.far0]
mode = "direct"
ports = ["far"]

[nfs.ids]
devices = ["span0:rx", "gateway"]
instances = 2
"#;

/// The lines for what happens when some text is replaced by another.
fn change(replaced: &[(&str, &str)]) -> Change {
    let new = replaced.iter().fold(OLD.to_string(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    read(OLD).diff(&read(&new))
}

fn lines(replaced: &[(&str, &str)]) -> Vec<String> {
    change(replaced).lines()
}

#[test]
fn the_same_is_no_change_however_it_is_written() {
    assert!(change(&[]).is_empty());
    let other_words = [
        ("buffers = 8192", "buffers = 8192\nopen = false"),
        (
            "up = \"tcp\"",
            "up = { match = \"match: (tcp)\", direction = \"in\" }",
        ),
        (
            "\"span0:rx\", \"gateway\"",
            "\"gateway:rxtx\", \"span0:rx\"",
        ),
        ("\"net_null0\"", "{ devargs = \"net_null0\", queues = 1 }"),
        (
            "{ vlan = 42 }",
            "[{ vlan = { id = 42, pcp = 0, tpid = 0x8100 } }]",
        ),
    ];
    assert_eq!(lines(&other_words), [""; 0]);
}

#[test]
fn a_cell_is_told_by_its_keys() {
    let change = change(&[
        (
            "up = \"tcp\"",
            "up = { match = \"tcp port 80\", decap = \"auto\" }",
        ),
        (", strip = [\"vlan\"]", ""),
        ("{ vlan = 42 }", "{ vlan = 43 }"),
    ]);
    assert_eq!(
        change.lines(),
        [
            "~ devices.gateway: receive.up.match: \"tcp\" → \"tcp port 80\"",
            "~ devices.gateway: receive.up.decap: now \"auto\"",
            "~ devices.gateway: receive.down.strip: no longer [\"vlan\"]",
            "~ devices.gateway: send.up.encap.vlan.id: 42 → 43",
        ]
    );
    assert!(change.items[0].only(&["receive", "send.up"]));
    assert!(!change.items[0].only(&["receive", "send.u"]));
    assert_eq!(change.refused().count(), 0);
}

#[test]
fn an_empty_cell_and_a_full_one_are_different() {
    assert_eq!(
        lines(&[("up = \"tcp\", ", "")]),
        ["~ devices.gateway: receive.up: no longer { match = \"tcp\", direction = \"in\" }"]
    );
}

#[test]
fn what_is_gone_comes_before_what_is_new() {
    let change = change(&[
        (
            "[devices.far0]\nmode = \"direct\"\nports = [\"far\"]",
            "[devices.virt0]\nmode = \"rootless\"",
        ),
        (
            "far = \"net_null2\"",
            "near = { pcap = \"a.pcap\", out = \"b.pcap\" }",
        ),
        (
            "[nfs.ids]",
            "[nfs.dpi]\ndevices = [\"virt0:tx\"]\n[nfs.ids]",
        ),
        ("instances = 2", "instances = 3\nuid = 7"),
    ]);
    assert_eq!(
        change.lines(),
        [
            "- ports.far: devargs net_null2",
            "+ ports.near: pcap a.pcap, out b.pcap",
            "- devices.far0: direct over far",
            "+ devices.virt0: rootless",
            "+ nfs.dpi: may open virt0:tx",
            "~ nfs.ids: instances: 2 → 3",
            "~ nfs.ids: uid: now 7",
        ]
    );
    let kinds: Vec<_> = change.of(Section::Devices).map(|item| item.kind).collect();
    assert_eq!(kinds, [Kind::Removed, Kind::Added]);
}

#[test]
fn what_is_fixed_at_the_start_is_refused_with_the_reason() {
    let change = change(&[(
        "buffers = 8192",
        "buffers = 4096\nstall_s = 1\nworkers = [0]",
    )]);
    assert_eq!(
        change.lines(),
        [
            "~ platform.buffers: 8192 → 4096",
            "! platform.buffers: not while the platform runs: pools are made once",
            "~ platform.stall_s: 5.0 → 1.0",
            "~ platform.workers: now [0]",
            "! platform.workers: not while the platform runs: workers are started and pinned once",
        ]
    );
    assert_eq!(change.refused().count(), 2);
}

#[test]
fn pools_cannot_be_joined_and_have_the_room_that_they_have() {
    let joined = change(&[(
        "mode = \"direct\"\nports = [\"far\"]",
        "mode = \"bridge\"\nports = [\"far\", \"up\"]",
    )]);
    let reason = joined.items[0].refused.as_deref();
    assert_eq!(
        reason,
        Some(
            "`far` and `up` have had pools of their own since the start: stop the platform and start it with the new file"
        )
    );
    let fits = change(&[(
        "up = \"net_null0\"",
        "up = { devargs = \"net_null0\", max_frame = 4000 }",
    )]);
    assert_eq!(fits.lines(), ["~ ports.up: max_frame: now 4000"]);
    let too_long = change(&[(
        "up = \"net_null0\"",
        "up = { devargs = \"net_null0\", max_frame = 4001 }",
    )]);
    assert_eq!(
        too_long.items[0].refused.as_deref(),
        Some("frames of 4001 bytes do not fit the buffers of its pool, which were made for 4000")
    );
    let unknown = change(&[("\"eth1\"", "\"eth1\", max_frame = 9000")]);
    assert_eq!(
        unknown.refused().count(),
        0,
        "only the platform knows eth1's MTU"
    );
}

#[test]
fn a_platform_does_not_become_lossless() {
    let old =
        read("ports.a = { pcap = \"a.pcap\" }\ndevices.d = { mode = \"direct\", ports = [\"a\"] }");
    let new = read(
        "ports.a = { pcap = \"a.pcap\", rate = \"max\" }\ndevices.d = { mode = \"direct\", ports = [\"a\"] }",
    );
    let change = old.diff(&new);
    assert_eq!(change.items[1].name, "lossless");
    assert_eq!(change.refused().count(), 1);
    assert_eq!(new.diff(&old).refused().count(), 1);
}

#[test]
fn programs_get_the_same_as_json() {
    let mut change = change(&[("instances = 2", "instances = 1")]);
    change.refuse(Section::Nfs, "ids", "`ids/1` is connected");
    change.refuse(
        Section::Nfs,
        "ids",
        "a second reason does not hide the first",
    );
    change.refuse(Section::Nfs, "nobody", "no such item");
    assert_eq!(
        change.to_json(),
        json!([{
            "section": "nfs",
            "name": "ids",
            "change": "changed",
            "summary": "",
            "details": [{ "key": "instances", "from": 2, "to": 1 }],
            "refused": "`ids/1` is connected",
        }])
    );
}

#[test]
fn a_device_alone_is_read_like_one_in_the_file() {
    let config = read(OLD);
    let table = json!({ "mode": "bridge", "ports": ["up", "down"], "absent": "bypass" });
    let device = Config::from_device_json("mine", &table, &config.ports).unwrap();
    assert_eq!((device.name.as_str(), device.cells.len()), ("mine", 2));
    let refused = |name: &str, table| {
        let error = Config::from_device_json(name, &table, &config.ports).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        refused("mine", json!({ "mode": "direct", "ports": ["uo"] })),
        "device: mine.ports: unknown port `uo` (hint: did you mean `up`?)"
    );
    assert_eq!(
        refused(
            "mine",
            json!({ "mode": "direct", "ports": ["up"], "receive": { "up": { "match": "tpc" } } })
        ),
        "device: mine.receive.up.match: column 1 of the rule: `tpc` is an unknown word (hint: did you mean `tcp`?)"
    );
    assert_eq!(
        refused("a:b", json!({ "mode": "rootless" })),
        "device: \"a:b\": a device's name cannot contain ':' (hint: letters, digits, `_`, `.` and `-` are allowed)"
    );
}
