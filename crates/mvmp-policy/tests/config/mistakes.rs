//! Mistakes of writing, and what each is answered with.

use mvmp_policy::Config;
use serde_json::json;

use crate::{device_refuses, refuses};

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
