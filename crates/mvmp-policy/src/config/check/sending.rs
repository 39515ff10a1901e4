//! What is sent twice, back to where it came from, or cannot leave.

use mvmp_wire::packet::LayerSet;
use mvmp_wire::packet::encap::EncapLayer;

use super::{Warnings, names};
use crate::config::Config;
use crate::config::spec::{Absent, Cell, DeviceSpec, Mode, NfSpec, PortSpec, Toward};

pub(super) fn check(config: &Config, warnings: &mut Warnings) {
    let with_ports = |device: &&DeviceSpec| device.mode != Mode::Rootless;
    for (number, device) in config.devices.iter().filter(with_ports).enumerate() {
        let later = config.devices.iter().filter(with_ports).skip(number + 1);
        for message in later.filter_map(|other| twice_over(config, device, other)) {
            warnings.add("devices", &device.name, message);
        }
        let messages = [twice(config, device), reflected(device)];
        let messages = messages.into_iter().flatten();
        for message in messages.chain(without_ethernet(config, device)) {
            warnings.add("devices", &device.name, message);
        }
    }
}

/// Some role may send by this port, over any device.
pub(super) fn anyone_sends(config: &Config, port: &str) -> bool {
    let by_it = |device: &&DeviceSpec| device.cell(port).is_some();
    let mut devices = config.devices.iter().filter(by_it);
    devices.any(|device| device.absent == Absent::Bypass || has_sender(config, device))
}

fn has_sender(config: &Config, device: &DeviceSpec) -> bool {
    let sends = |nf: &NfSpec| nf.right(&device.name).is_some_and(|right| right.tx);
    config.platform.open || config.nfs.iter().any(sends)
}

/// Two that get the same packets and may both send them. The members of one group do not.
fn twice(config: &Config, device: &DeviceSpec) -> Option<String> {
    let both = |nf: &&NfSpec| {
        nf.right(&device.name)
            .is_some_and(|right| right.rx && right.tx)
    };
    let roles: Vec<_> = config.nfs.iter().filter(both).collect();
    let group = |nf: &&NfSpec| nf.group(&device.name).map(String::from);
    let first = roles.first().and_then(group);
    if first.is_some() && roles.iter().all(|role| group(role) == first) {
        return None;
    }
    match roles.as_slice() {
        [] => None,
        [role] if role.instances == 1 => None,
        [role] => Some(format!(
            "{} instances of `{}` each get every packet and may send it: it can leave more than once",
            role.instances, role.name
        )),
        _ => Some(format!(
            "{} each get every packet and may send it: it can leave more than once",
            names(roles.iter().map(|nf| &nf.name))
        )),
    }
}

/// Two devices that get the same packets of a port, as far as can be told from their rules, and may both send
/// them by one port.
fn twice_over(config: &Config, one: &DeviceSpec, other: &DeviceSpec) -> Option<String> {
    let (first, second) = (senders(config, one)?, senders(config, other)?);
    for port in one.ports() {
        let (Some(rule), Some(same)) = (rule(one, port), rule(other, port)) else {
            continue;
        };
        let overlap = rule == same || [&rule, &same].into_iter().any(|rule| rule == "all");
        let mut exits = exits(one, port).into_iter();
        if let Some(exit) = exits
            .find(|exit| exits_by(other, port, exit))
            .filter(|_| overlap)
        {
            return Some(format!(
                "{first} and, over `{}`, {second} get the same packets of `{port}` and may send them by `{exit}`: they can leave more than once",
                other.name
            ));
        }
    }
    None
}

/// Who sends on what comes by a device: roles, or the worker; `None`: nobody.
fn senders(config: &Config, device: &DeviceSpec) -> Option<String> {
    let both = |nf: &&NfSpec| {
        nf.right(&device.name)
            .is_some_and(|right| right.rx && right.tx)
    };
    let roles: Vec<_> = config.nfs.iter().filter(both).map(|nf| &nf.name).collect();
    match (roles.is_empty(), device.absent) {
        (false, _) => Some(names(roles)),
        (true, Absent::Bypass) => Some("the worker (absent = \"bypass\")".into()),
        (true, Absent::Drop) => None,
    }
}

/// What of the packets that come by a port a device receives.
fn rule(device: &DeviceSpec, port: &str) -> Option<String> {
    let receive = device.receive(port)?;
    (receive.direction != Toward::Out).then(|| receive.rule.to_string())
}

/// By which ports what came by `port` leaves.
fn exits<'a>(device: &'a DeviceSpec, port: &'a str) -> Vec<&'a str> {
    match device.mode {
        Mode::Direct => vec![port],
        Mode::Bond => device.ports().collect(),
        Mode::Bridge => device.ports().filter(|other| *other != port).collect(),
        Mode::Rootless => Vec::new(),
    }
}

fn exits_by(device: &DeviceSpec, port: &str, exit: &str) -> bool {
    exits(device, port).contains(&exit)
}

/// Without an NF, what comes in goes out where it came from.
fn reflected(device: &DeviceSpec) -> Option<String> {
    let back = match device.mode {
        Mode::Direct => "by the port that they came by",
        Mode::Bond => "by the ports of the same bond",
        Mode::Bridge | Mode::Rootless => return None,
    };
    (device.absent == Absent::Bypass)
        .then(|| format!("absent = \"bypass\" sends packets back {back}"))
}

/// What begins with IP cannot leave by an Ethernet port without addresses, nor stand beside Ethernet in a pcap.
fn without_ethernet(config: &Config, device: &DeviceSpec) -> Vec<String> {
    if device.absent == Absent::Drop && !has_sender(config, device) {
        return Vec::new();
    }
    let is_bare = |cell: &&Cell| cell.send.ethernet.is_none();
    let exits = device.cells.iter().filter(is_bare);
    exits
        .filter_map(|exit| at_exit(config, device, exit))
        .collect()
}

fn at_exit(config: &Config, device: &DeviceSpec, exit: &Cell) -> Option<String> {
    let port = &exit.port;
    let capture = config.port(port).and_then(PortSpec::capture);
    if adds_tunnel(exit) {
        return capture.is_none().then(|| {
            format!("what leaves by `{port}` begins with IP, and without send.{port}.ethernet it is the drop no_ethernet")
        });
    }
    let leaves_here = |cell: &&Cell| match device.mode {
        Mode::Direct | Mode::Bond => true,
        Mode::Bridge | Mode::Rootless => cell.port != *port,
    };
    let stripped: Vec<_> = device
        .cells
        .iter()
        .filter(leaves_here)
        .filter(|cell| strips_to_ip(cell))
        .map(|cell| &cell.port)
        .collect();
    if stripped.is_empty() {
        return None;
    }
    let left = format!(
        "what is left of packets from {} can begin with IP",
        names(stripped)
    );
    match capture {
        None => Some(format!(
            "{left}, and leaves by `{port}` only with send.{port}.ethernet; else it is the drop no_ethernet"
        )),
        Some(capture) if capture.writes_pcap() => Some(format!(
            "{left}, and the .pcap that `{port}` writes holds frames of one link type: name its out .pcapng, or set send.{port}.ethernet"
        )),
        Some(_) => None,
    }
}

fn adds_tunnel(cell: &Cell) -> bool {
    let mut layers = cell.send.encap.iter().flat_map(|encap| &encap.layers);
    layers.any(EncapLayer::is_tunnel)
}

/// Something is removed that can carry IP with nothing in between.
fn strips_to_ip(cell: &Cell) -> bool {
    let carriers = [
        LayerSet::VLAN,
        LayerSet::MPLS,
        LayerSet::PPPOE,
        LayerSet::GRE,
        LayerSet::IPIP,
        LayerSet::GTP,
    ];
    let strip = cell.receive.as_ref().map(|receive| receive.strip);
    strip.is_some_and(|strip| carriers.iter().any(|layer| strip.contains(*layer)))
}
