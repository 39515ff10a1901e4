//! What a configuration becomes.

use mvmp_policy::config::*;
use mvmp_policy::{Config, Rule};
use serde_json::json;

use crate::{WHOLE, read};

#[test]
fn a_whole_configuration_is_read_in_the_order_of_the_file() {
    let config = read(WHOLE);
    assert_eq!(config.platform.workers, Some(vec![2]));
    assert_eq!(
        (config.platform.buffers, config.platform.ring_slots),
        (8192, 1024)
    );
    assert_eq!(
        (config.platform.stall_s, config.platform.on_stall),
        (2.0, OnStall::Detach)
    );
    let names: Vec<_> = config.ports.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["span", "up", "NIC5", "file"]);
    assert_eq!(config.ports[0].max_frame, Some(9000));
    assert_eq!(
        config.ports[2].kind,
        PortKind::Devargs {
            devargs: "net_null0".into()
        }
    );
    let capture = config.ports[3].capture().unwrap();
    assert_eq!((capture.loop_count, capture.rate), (3, Rate::Pps(1000.0)));
    assert_eq!(capture.wait_for, Some(WaitFor::Roles(vec!["ids".into()])));
    assert_eq!(config.ports[3].max_frame, Some(9600));
    let gateway = config.device("gateway").unwrap();
    assert_eq!(gateway.mode, Mode::Bridge);
    assert_eq!(
        gateway.receive("up"),
        None,
        "a port that is left out is an empty cell"
    );
    assert_eq!(
        gateway.receive("NIC5"),
        Some(&Receive {
            rule: Rule::parse("net 192.168.0.0/16").unwrap(),
            ..Receive::all()
        })
    );
    let play = config.device("play").unwrap();
    assert_eq!(
        play.receive("file"),
        Some(&Receive::all()),
        "without `receive`: all"
    );
    let ids = config.nf("ids").unwrap();
    assert_eq!(
        (ids.instances, ids.memory_bytes, ids.uid),
        (2, 16 << 20, Some(1000))
    );
    assert_eq!(
        ids.right("span0"),
        Some(&Right {
            device: "span0".into(),
            rx: true,
            tx: false
        })
    );
    assert_eq!(
        ids.right("virt0"),
        Some(&Right {
            device: "virt0".into(),
            rx: true,
            tx: true
        })
    );
    assert_eq!(ids.right("play"), None);
}

#[test]
fn an_empty_file_has_all_defaults() {
    let config = read("");
    assert_eq!(config, Config::default());
    assert_eq!(
        (config.platform.buffers, config.platform.ring_slots),
        (16_384, 2_048)
    );
    assert!(!config.platform.open && config.platform.workers.is_none());
}

#[test]
fn the_same_as_json_is_the_same_configuration() {
    let value = json!({
        "ports": { "z": "net_null0", "a": { "pcap": "in.pcap" } },
        "devices": { "d": { "mode": "direct", "ports": ["a"], "receive": { "a": "udp" } } },
        "nfs": { "n": { "devices": ["d"] } },
    });
    let toml = r#"
        ports = { z = "net_null0", a = { pcap = "in.pcap" } }
        devices.d = { mode = "direct", ports = ["a"], receive = { a = "match: (udp)" } }
        nfs.n.devices = ["d"]
    "#;
    let config = Config::from_json(&value).unwrap();
    assert_eq!(config, read(toml));
    assert_eq!(config.ports[0].name, "z");
}

#[test]
fn ports_that_share_a_device_are_one_domain() {
    let config = read(
        r#"
        ports = { a = "net_null0", b = "net_null1", c = "net_null2", d = "net_null3" }
        devices.x = { mode = "bridge", ports = ["d", "b"] }
        devices.y = { mode = "direct", ports = ["c"] }
        devices.z = { mode = "direct", ports = ["b"] }
        devices.v = { mode = "rootless" }
        "#,
    );
    assert_eq!(
        config.domains(),
        [
            Domain {
                ports: vec![0],
                devices: vec![]
            },
            Domain {
                ports: vec![1, 3],
                devices: vec![0, 2]
            },
            Domain {
                ports: vec![2],
                devices: vec![1]
            },
        ]
    );
}

#[test]
fn packets_reach_roles_over_rootless_devices() {
    let config = read(
        r#"
        ports = { a = "net_null0", b = "net_null1" }
        devices.x = { mode = "direct", ports = ["a"] }
        devices.y = { mode = "direct", ports = ["b"] }
        devices.v = { mode = "rootless" }
        devices.w = { mode = "rootless" }
        nfs.last = { devices = ["w:rx"] }
        nfs.middle = { devices = ["v", "w:tx"] }
        nfs.first = { devices = ["x:rx", "v:tx"] }
        nfs.sender = { devices = ["y:tx"] }
        "#,
    );
    assert_eq!(config.reach(), [vec![0], vec![0], vec![0], vec![]]);
}

#[test]
fn packets_reach_who_receives_what_leaves() {
    let config = read(
        r#"
        ports = { a = "net_null0", b = "net_null1" }
        devices.x = { mode = "direct", ports = ["a"] }
        devices.y = { mode = "direct", ports = ["b"] }
        devices.out = { mode = "direct", ports = ["b"], receive = { b = { match = "all", direction = "out" } } }
        devices.in = { mode = "direct", ports = ["b"] }
        nfs.wire = { devices = ["x:rx", "y:tx"] }
        nfs.watcher = { devices = ["out:rx"] }
        nfs.other = { devices = ["in:rx"] }
        nfs.own = { devices = [], may_define = ["b"] }
        "#,
    );
    assert_eq!(config.reach(), [vec![0], vec![0, 1], vec![1], vec![0, 1]]);
}

#[test]
fn a_platform_is_lossless_as_a_whole() {
    let capture = "ports = { a = { pcap = \"a.pcap\" }, b = { out = \"b.pcap\" } }";
    assert!(read(capture).is_lossless());
    assert!(!read(&capture.replace("{ out = \"b.pcap\" }", "\"net_null0\"")).is_lossless());
    assert!(!read("").is_lossless());
}

#[test]
fn the_schema_knows_the_sections_and_what_comes_later() {
    let schema = Config::schema();
    assert_eq!(schema["additionalProperties"], false);
    let device = &schema["$defs"]["device"]["properties"];
    assert_eq!(
        device["mode"]["enum"],
        json!(["direct", "bond", "bridge", "rootless"])
    );
    assert_eq!(device["addresses"]["not"], json!({}));
    assert_eq!(
        schema["$defs"]["platform"]["properties"]["buffers"]["default"],
        BUFFERS_DEFAULT
    );
}
