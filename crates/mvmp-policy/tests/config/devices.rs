//! Devices: the ports that a mode needs, and rules that are wrong.

use crate::device_refuses;

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
