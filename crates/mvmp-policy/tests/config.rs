//! The configuration by example: what it becomes, and what each mistake is answered with.

use mvmp_policy::config::*;
use mvmp_policy::{Config, Rule};
use serde_json::json;

fn read(text: &str) -> Config {
    Config::from_toml(text, "t.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// The error, in one line, as the user sees it.
#[track_caller]
fn refuses(text: &str, shown: &str) {
    match Config::from_toml(text, "t.toml") {
        Ok(config) => panic!("read as {config:?}"),
        Err(error) => assert_eq!(error.to_string(), shown),
    }
}

const WHOLE: &str = r#"
[platform]
workers = [2]
buffers = 8192
ring = 1024
stall_s = 2
on_stall = "detach"

[ports]
span = { interface = "eth1", queues = 1, max_frame = 9000 }
up = { devargs = "0000:3b:00.0" }
NIC5 = "net_null0"
file = { pcap = "in.pcap", out = "out.pcap", loop = 3, rate = 1000, wait_for = ["ids"] }

[devices.span0]
mode = "direct"
ports = ["span"]
receive = { span = { match = "tcp port 80", direction = "in" } }

[devices.gateway]
mode = "bridge"
ports = ["up", "NIC5"]
receive = { NIC5 = "net 192.168.0.0/16" }
send = { policy = "opposite" }

[devices.play]
mode = "direct"
ports = ["file"]

[devices.virt0]
mode = "rootless"

[nfs.ids]
devices = ["span0:rx", "virt0"]
instances = 2
memory = "16M"
uid = 1000

[nfs.dpi]
devices = ["virt0:tx", "gateway", "play"]
"#;

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
fn json_errors_name_the_key() {
    let shown = |value| Config::from_json(&value).unwrap_err().to_string();
    assert_eq!(
        shown(json!({ "prots": {} })),
        "configuration: prots: unknown key `prots` (hint: did you mean `ports`?)"
    );
    assert_eq!(
        shown(
            json!({ "ports": { "a": "net_null0" }, "devices": { "d": { "mode": "direct", "ports": ["a"], "receive": { "a": "tcp 80" } } } })
        ),
        "configuration: devices.d.receive.a: column 5 of the rule: `80` cannot stand behind `tcp` (hint: did you mean `tcp port 80`?)"
    );
    assert_eq!(
        shown(json!([])),
        "configuration: expected a table, found a list"
    );
}

#[test]
fn unknown_keys_are_suggested() {
    refuses(
        "[plattform]",
        "t.toml:1:2: plattform: unknown key `plattform` (hint: did you mean `platform`?)",
    );
    refuses(
        "[platform]\nbufers = 1",
        "t.toml:2:1: platform.bufers: unknown key `bufers` (hint: did you mean `buffers`?)",
    );
    refuses(
        "[ports]\nx = { iface = \"eth0\" }",
        "t.toml:2:7: ports.x.iface: unknown key `iface` (hint: did you mean `interface`?)",
    );
    refuses(
        "[platform.tunnel_ports]\nfoobar = [1]",
        "t.toml:2:1: platform.tunnel_ports.foobar: unknown key `foobar` (hint: known here: `vxlan`, `geneve`, `gtpu`)",
    );
}

#[test]
fn wrong_types_are_told_in_plain_words() {
    refuses(
        "ports = 1",
        "t.toml:1:9: ports: expected a table, found an integer",
    );
    refuses(
        "[platform]\nworkers = 2",
        "t.toml:2:11: platform.workers: expected a list, found an integer",
    );
    refuses(
        "[platform]\nopen = \"yes\"",
        "t.toml:2:8: platform.open: expected true or false, found a string",
    );
    refuses(
        "[platform]\nbuffers = 1.5",
        "t.toml:2:11: platform.buffers: expected an integer, found a number with a point",
    );
    refuses(
        "[ports]\nx = 5",
        "t.toml:2:5: ports.x: expected a table or a string, found an integer (hint: write { interface = \"eth1\" }, or devargs as a string)",
    );
    refuses(
        "[nfs.x]\ndevices = \"d\"",
        "t.toml:2:11: nfs.x.devices: expected a list, found a string",
    );
}

#[test]
fn what_is_not_toml_is_told_with_its_place() {
    let error = Config::from_toml("[ports]\nx = \n", "t.toml").unwrap_err();
    assert_eq!((error.line, error.column), (2, 5));
    assert!(error.message.starts_with("not TOML: "), "{error}");
    let error = Config::from_toml("[ports]\nx = \"a\"\nx = \"b\"\n", "t.toml").unwrap_err();
    assert_eq!((error.line, error.column), (3, 1));
    assert!(error.message.contains("duplicate key"), "{error}");
}

#[test]
fn numbers_have_limits() {
    refuses(
        "[platform]\nbuffers = 100",
        "t.toml:2:11: platform.buffers: 100 is out of range: 256 to 8388608",
    );
    refuses(
        "[platform]\nring = 1000",
        "t.toml:2:8: platform.ring: 1000 is not a power of two (hint: write 512 or 1024)",
    );
    refuses(
        "[platform]\nstall_s = nan",
        "t.toml:2:11: platform.stall_s: NaN is out of range: 0.01 to 86400",
    );
    refuses(
        "[platform]\nmax_nfs = 64",
        "t.toml:2:11: platform.max_nfs: 64 is out of range: 1 to 63",
    );
    refuses(
        "[platform]\nworkers = [1, 1]",
        "t.toml:2:15: platform.workers: CPU 1 is listed twice",
    );
    refuses(
        "[platform]\nworkers = []",
        "t.toml:2:11: platform.workers: a platform needs at least one worker (hint: leave `workers` away for the last allowed CPU)",
    );
    refuses(
        "[platform]\non_stall = \"kill\"",
        "t.toml:2:12: platform.on_stall: unknown value \"kill\" (hint: it is one of \"log\", \"detach\")",
    );
    refuses(
        "[ports]\nx = { interface = \"eth0\", max_frame = 9601 }",
        "t.toml:2:39: ports.x.max_frame: 9601 is out of range: 64 to 9600",
    );
    refuses(
        "[ports]\nx = { interface = \"eth0\", queues = 2 }",
        "t.toml:2:36: ports.x.queues: more than one queue is not supported yet (hint: write 1, or leave it away)",
    );
}

#[test]
fn names_are_checked() {
    refuses(
        "[ports]\n\"a b\" = \"net_null0\"",
        "t.toml:2:1: ports.\"a b\": a port's name cannot contain ' ' (hint: letters, digits, `_`, `.` and `-` are allowed)",
    );
    refuses(
        "[devices.\"d:rx\"]\nmode = \"rootless\"",
        "t.toml:1:10: devices.\"d:rx\": a device's name cannot contain ':' (hint: letters, digits, `_`, `.` and `-` are allowed)",
    );
    refuses(
        "[nfs.\"..\"]\ndevices = []",
        "t.toml:1:6: nfs.\"..\": a role's name begins with a letter, a digit or `_`",
    );
    let long = "a".repeat(65);
    refuses(
        &format!("[ports]\n{long} = \"net_null0\""),
        &format!(
            "t.toml:2:1: ports.{}…: a port's name has at most 64 characters",
            "a".repeat(48)
        )
        .replace(
            &format!("ports.{}…", "a".repeat(48)),
            &format!("ports.{long}"),
        ),
    );
    let many: String = (0..33)
        .map(|i| format!("p{i} = \"net_null{i}\"\n"))
        .collect();
    refuses(
        &format!("[ports]\n{many}"),
        "t.toml:34:1: ports.p32: 33 ports: at most 32 are possible",
    );
}

#[test]
fn a_port_is_of_one_kind() {
    refuses(
        "[ports]\nx = {}",
        "t.toml:2:1: ports.x: does not say what kind of port it is (hint: give `devargs`, `interface`, `pcap` or `out`)",
    );
    refuses(
        "[ports]\nx = { pcap = \"a.pcap\", interface = \"eth0\" }",
        "t.toml:2:1: ports.x: `interface` and `pcap` exclude each other (hint: a port is of one kind)",
    );
    refuses(
        "[ports]\nx = { interface = \"eth0\", loop = 1 }",
        "t.toml:2:27: ports.x.loop: is for captures; this port has `interface`",
    );
    refuses(
        "[ports]\nx = { out = \"o.pcap\", rate = \"max\" }",
        "t.toml:2:23: ports.x.rate: there is nothing to play (hint: give `pcap` too)",
    );
    refuses(
        "[ports]\nx = \"in.pcap\"",
        "t.toml:2:5: ports.x: \"in.pcap\" is a capture file, not a DPDK device (hint: write { pcap = \"in.pcap\" })",
    );
    refuses(
        "[ports]\nx = \"a b\"",
        "t.toml:2:5: ports.x: \"a b\" is not a DPDK device (hint: devargs are a PCI address or `net_…`, without blanks)",
    );
    refuses(
        "[ports]\nx = { interface = \"a-name-that-is-too-long\" }",
        "t.toml:2:19: ports.x.interface: \"a-name-that-is-too-long\" is not the name of a kernel interface (hint: 1 to 15 characters, as in `ip link`)",
    );
    refuses(
        "[ports]\nx = { pcap = \"a.pcap\", rate = \"fast\" }",
        "t.toml:2:31: ports.x.rate: unknown value \"fast\" (hint: it is one of \"recorded\", \"max\", \"lossless\")",
    );
    refuses(
        "[ports]\nx = { pcap = \"a.pcap\", wait_for = \"ids\" }",
        "t.toml:2:35: ports.x.wait_for: expected a list of roles or a number of handles, found a string (hint: write [\"ids\"])",
    );
}

const TWO_PORTS: &str = "[ports]\na = \"net_null0\"\nb = \"net_null1\"\nc = \"net_null2\"\n";

#[track_caller]
fn device_refuses(device: &str, shown: &str) {
    refuses(&format!("{TWO_PORTS}[devices.d]\n{device}"), shown);
}

#[test]
fn a_device_has_the_ports_that_its_mode_needs() {
    device_refuses(
        "ports = [\"a\"]",
        "t.toml:5:10: devices.d: `mode` is missing (hint: write mode = \"direct\", \"bond\", \"bridge\" or \"rootless\")",
    );
    device_refuses(
        "mode = \"direkt\"",
        "t.toml:6:8: devices.d.mode: unknown value \"direkt\" (hint: did you mean `direct`?)",
    );
    device_refuses(
        "mode = \"direct\"",
        "t.toml:5:10: devices.d: a direct device has exactly one port, this one has 0",
    );
    device_refuses(
        "mode = \"direct\"\nports = [\"a\", \"b\"]",
        "t.toml:7:9: devices.d.ports: a direct device has exactly one port, this one has 2 (hint: over several ports a device is a \"bond\" or a \"bridge\")",
    );
    device_refuses(
        "mode = \"bridge\"\nports = [\"a\"]",
        "t.toml:7:9: devices.d.ports: a bridge has two ports or more, this one has 1 (hint: over one port a device is \"direct\")",
    );
    device_refuses(
        "mode = \"bond\"",
        "t.toml:5:10: devices.d: a bond has two ports or more, this one has 0",
    );
    device_refuses(
        "mode = \"rootless\"\nports = [\"a\"]",
        "t.toml:7:9: devices.d.ports: a rootless device has no ports (hint: leave `ports` away, or use mode = \"direct\")",
    );
    device_refuses(
        "mode = \"bridge\"\nports = [\"a\", \"a\"]",
        "t.toml:7:15: devices.d.ports: `a` is listed twice",
    );
    device_refuses(
        "mode = \"direct\"\nports = [\"x\"]",
        "t.toml:7:10: devices.d.ports: unknown port `x` (hint: did you mean `a`?)",
    );
    device_refuses(
        "mode = \"direct\"\nports = [\"uplink\"]",
        "t.toml:7:10: devices.d.ports: unknown port `uplink` (hint: ports are `a`, `b`, `c`)",
    );
}

#[test]
fn cells_belong_to_ports_of_the_device() {
    let direct = |rest: &str| format!("mode = \"direct\"\nports = [\"a\"]\n{rest}");
    device_refuses(
        &direct("receive = \"tcp\""),
        "t.toml:8:11: devices.d.receive: expected a table with a rule for each port, found a string (hint: write { a = \"…\" })",
    );
    device_refuses(
        &direct("receive = { b = \"tcp\" }"),
        "t.toml:8:13: devices.d.receive.b: `b` is not a port of this device (hint: did you mean `a`?)",
    );
    device_refuses(
        &direct("receive = { a = false }"),
        "t.toml:8:17: devices.d.receive.a: expected a rule or a table, found true or false (hint: write \"all\", or leave the port away to receive nothing)",
    );
    device_refuses(
        &direct("receive = { a = { mach = \"tcp\" } }"),
        "t.toml:8:19: devices.d.receive.a.mach: unknown key `mach` (hint: did you mean `match`?)",
    );
    device_refuses(
        "mode = \"rootless\"\nreceive = {}",
        "t.toml:7:1: devices.d.receive: a rootless device has no ports to receive from (hint: leave `receive` away)",
    );
    device_refuses(
        &direct("send = { policy = \"opposite\" }"),
        "t.toml:8:19: devices.d.send.policy: \"opposite\" is for bridges, this device is direct (hint: leave `policy` away)",
    );
    device_refuses(
        &direct("send = { polcy = \"opposite\" }"),
        "t.toml:8:10: devices.d.send.polcy: unknown key `polcy` (hint: did you mean `policy`?)",
    );
}

#[test]
fn a_wrong_rule_is_pointed_at_within_its_string() {
    let direct = |rest: &str| format!("mode = \"direct\"\nports = [\"a\"]\n{rest}");
    device_refuses(
        &direct("receive = { a = \"tcp prot 80\" }"),
        "t.toml:8:22: devices.d.receive.a: `prot` cannot stand behind `tcp` (hint: did you mean `port`?)",
    );
    device_refuses(
        &direct("receive = { a = { match = 'tcp and multicast' } }"),
        "t.toml:8:36: devices.d.receive.a.match: this dialect has no `multicast` (hint: write `net 224.0.0.0/4 or net ff00::/8`)",
    );
    device_refuses(
        &direct("receive.a = \"\"\"\ntcp and\n  multicast\"\"\""),
        "t.toml:10:3: devices.d.receive.a: this dialect has no `multicast` (hint: write `net 224.0.0.0/4 or net ff00::/8`)",
    );
    device_refuses(
        &direct("receive.a = \"\""),
        "t.toml:8:14: devices.d.receive.a: the rule is empty (hint: write `all` to receive everything, `none` for nothing)",
    );
}

#[test]
fn what_comes_later_is_refused_with_its_place() {
    let direct = |rest: &str| format!("mode = \"direct\"\nports = [\"a\"]\n{rest}");
    for key in ["addresses", "copy", "via"] {
        device_refuses(
            &direct(&format!("{key} = 1")),
            &format!("t.toml:8:1: devices.d.{key}: `{key}` is not supported yet"),
        );
    }
    refuses(
        "[nfs.n]\ndevices = []\ngrants = {}",
        "t.toml:3:1: nfs.n.grants: `grants` is not supported yet",
    );
}

#[test]
fn the_authorization_table_is_checked() {
    let nf = |nf: &str| format!("[devices.virt0]\nmode = \"rootless\"\n[nfs.n]\n{nf}");
    refuses(
        &nf(""),
        "t.toml:3:6: nfs.n: `devices` is missing (hint: write devices = [\"NAME:rx\"]: what this role may open)",
    );
    refuses(
        &nf("devices = [\"virt1\"]"),
        "t.toml:4:12: nfs.n.devices: unknown device `virt1` (hint: did you mean `virt0`?)",
    );
    refuses(
        &nf("devices = [\"virt0:rw\"]"),
        "t.toml:4:12: nfs.n.devices: `:rw` is not a right (hint: write \"virt0:rx\", \"virt0:tx\", or \"virt0\" for both)",
    );
    refuses(
        &nf("devices = [\"virt0:rx\", \"virt0:tx\"]"),
        "t.toml:4:24: nfs.n.devices: `virt0` is listed twice (hint: \"virt0\" without a suffix is for receiving and sending)",
    );
    refuses(
        &nf("devices = []\ninstances = 0"),
        "t.toml:5:13: nfs.n.instances: 0 is out of range: 1 to 63",
    );
    refuses(
        &nf("devices = []\nmemory = \"1T\""),
        "t.toml:5:10: nfs.n.memory: \"1T\" is not a size (hint: write it as \"512K\", \"16M\" or \"1G\")",
    );
    refuses(
        &nf("devices = []\nmemory = \"2G\""),
        "t.toml:5:10: nfs.n.memory: 2147483648 bytes are out of range: 64K to 1G",
    );
    refuses(
        &nf("devices = []\nuid = -1"),
        "t.toml:5:7: nfs.n.uid: -1 is out of range: 0 to 4294967294",
    );
    refuses(
        "[ports]\nf = { pcap = \"a.pcap\", wait_for = [\"idx\"] }\n[nfs.ids]\ndevices = []",
        "t.toml:2:36: ports.f.wait_for: unknown role `idx` (hint: did you mean `ids`?)",
    );
}

#[test]
fn columns_are_characters() {
    refuses(
        "x = { \"é\" = 1, y = 2 }",
        "t.toml:1:1: x: unknown key `x` (hint: known here: `platform`, `ports`, `devices`, `nfs`)",
    );
    refuses(
        "[ports]\na = { interface = \"é\", quues = 1 }",
        "t.toml:2:24: ports.a.quues: unknown key `quues` (hint: did you mean `queues`?)",
    );
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

fn warnings(text: &str) -> Vec<String> {
    read(text).check().iter().map(ToString::to_string).collect()
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
fn check_names_who_shares_a_platform_without_ports() {
    let text = "devices.v.mode = \"rootless\"\nnfs = { a = { devices = [\"v\"] }, b = { devices = [\"v\"] } }";
    assert_eq!(
        warnings(text),
        ["devices: `a` and `b` share one pool: each can read all packets in it"]
    );
}

#[test]
fn a_platform_is_lossless_as_a_whole() {
    let capture = "ports = { a = { pcap = \"a.pcap\" }, b = { out = \"b.pcap\" } }";
    assert!(read(capture).is_lossless());
    assert!(!read(&capture.replace("{ out = \"b.pcap\" }", "\"net_null0\"")).is_lossless());
    assert!(!read("").is_lossless());
}

#[test]
fn a_port_can_be_replaced_by_an_argument() {
    let mut config = read(WHOLE);
    let port =
        PortSpec::from_argument("up=in.pcap,out=o.pcap,rate=max,loop=0,wait_for=ids+dpi").unwrap();
    config.replace_port(port).unwrap();
    let capture = config.port("up").unwrap().capture().unwrap();
    assert_eq!(
        *capture,
        CaptureSpec {
            pcap: Some("in.pcap".into()),
            out: Some("o.pcap".into()),
            loop_count: 0,
            rate: Rate::Max,
            wait_for: Some(WaitFor::Roles(vec!["ids".into(), "dpi".into()])),
        }
    );
    assert_eq!(config.port_index("up"), Some(1), "it keeps its place");
}

#[test]
fn arguments_tell_captures_interfaces_and_devargs_apart() {
    let kind = |argument: &str| {
        PortSpec::from_argument(argument)
            .unwrap_or_else(|error| panic!("{error}"))
            .kind
    };
    let devargs = |devargs: &str| PortKind::Devargs {
        devargs: devargs.into(),
    };
    assert_eq!(kind("a=net_null0"), devargs("net_null0"));
    assert_eq!(
        kind("a=net_af_packet0,iface=eth0"),
        devargs("net_af_packet0,iface=eth0")
    );
    assert_eq!(kind("a=0000:3b:00.0"), devargs("0000:3b:00.0"));
    assert_eq!(kind("a=devargs=odd"), devargs("odd"));
    assert_eq!(
        kind("a=eth0"),
        PortKind::Interface {
            interface: "eth0".into()
        }
    );
    assert!(matches!(kind("a=dir/x.pcapng"), PortKind::Capture(c) if c.rate == Rate::Lossless));
    assert!(matches!(kind("a=out=o.pcap"), PortKind::Capture(c) if c.pcap.is_none()));
    assert!(
        matches!(kind("a=pcap=/dev/stdin,rate=5"), PortKind::Capture(c) if c.rate == Rate::Pps(5.0))
    );
}

#[test]
fn wrong_arguments_are_told_what_to_write() {
    let parse = |argument: &str| PortSpec::from_argument(argument).unwrap_err().to_string();
    assert_eq!(
        parse("in.pcap"),
        "--port: `in.pcap` has no `=` (hint: write NAME=in.pcap, NAME=eth1 or NAME=net_null0)"
    );
    assert_eq!(
        parse("a=dir/file"),
        "--port: `dir/file` is neither a capture, an interface nor a DPDK device (hint: captures end in .pcap, .pcapng or .cap; else write NAME=pcap=FILE)"
    );
    assert_eq!(
        parse("a=in.pcap,rat=max"),
        "--port: a.rat: unknown key `rat` (hint: did you mean `rate`?)"
    );
    assert_eq!(
        parse("a=in.pcap,lossless"),
        "--port: `lossless` has no `=` (hint: options are KEY=VALUE, with commas between)"
    );
    assert_eq!(
        parse("a b=eth0"),
        "--port: \"a b\": a port's name cannot contain ' ' (hint: letters, digits, `_`, `.` and `-` are allowed)"
    );
    let mut config = read(WHOLE);
    let replace = |config: &mut Config, argument| {
        config
            .replace_port(PortSpec::from_argument(argument).unwrap())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        replace(&mut config, "spam=eth0"),
        "--port: unknown port `spam` (hint: did you mean `span`?)"
    );
    assert_eq!(
        replace(&mut config, "span=a.pcap,wait_for=idz"),
        "--port: span: unknown role `idz` (hint: did you mean `ids`?)"
    );
    assert_eq!(config, read(WHOLE), "a wrong argument changes nothing");
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
