//! Ports: their kinds, and those that an argument of the command line replaces.

use mvmp_policy::Config;
use mvmp_policy::config::*;

use crate::{WHOLE, read, refuses};

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
