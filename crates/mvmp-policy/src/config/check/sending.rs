//! What is sent twice, back to where it came from, or cannot leave.

use mvmp_wire::packet::LayerSet;
use mvmp_wire::packet::encap::EncapLayer;

use super::{Warnings, names};
use crate::config::Config;
use crate::config::spec::{Absent, Cell, DeviceSpec, Mode, NfSpec, Toward};

pub(super) fn check(config: &Config, warnings: &mut Warnings) {
    let with_ports = |device: &&DeviceSpec| device.mode != Mode::Rootless;
    for (number, device) in config.devices.iter().filter(with_ports).enumerate() {
        let later = config.devices.iter().filter(with_ports).skip(number + 1);
        for message in later.filter_map(|other| twice_over(config, device, other)) {
            warnings.add("devices", &device.name, message);
        }
        let messages = [
            twice(config, device),
            reflected(device),
            without_ethernet(config, device),
        ];
        for message in messages.into_iter().flatten() {
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

/// What begins with IP cannot leave by an Ethernet port without addresses.
fn without_ethernet(config: &Config, device: &DeviceSpec) -> Option<String> {
    if device.absent == Absent::Drop && !has_sender(config, device) {
        return None;
    }
    let is_bare = |cell: &&Cell| cell.send.ethernet.is_none();
    let tunnels = |cell: &&Cell| {
        let layers = cell.send.encap.iter().flat_map(|encap| &encap.layers);
        let mut layers =
            layers.filter(|layer| !matches!(layer, EncapLayer::Vlan { .. } | EncapLayer::PopVlan));
        layers.next().is_some()
    };
    if let Some(cell) = device.cells.iter().filter(is_bare).find(tunnels) {
        return Some(format!(
            "what leaves by `{0}` begins with IP, and without send.{0}.ethernet it is the drop no_ethernet",
            cell.port
        ));
    }
    // These can carry IP with nothing in between.
    let carriers = [
        LayerSet::VLAN,
        LayerSet::MPLS,
        LayerSet::PPPOE,
        LayerSet::GRE,
        LayerSet::IPIP,
        LayerSet::GTP,
    ];
    let strips = |cell: &&Cell| {
        let receive = cell.receive.iter();
        let mut strips = receive.map(|receive| receive.strip);
        strips.any(|strip| carriers.iter().any(|layer| strip.contains(*layer)))
    };
    let stripped = device.cells.iter().find(strips)?;
    let exit = device
        .cells
        .iter()
        .filter(is_bare)
        .find(|cell| !tunnels(cell))?;
    Some(format!(
        "what is left of packets from `{}` can begin with IP, and leaves by `{1}` only with send.{1}.ethernet; else it is the drop no_ethernet",
        stripped.port, exit.port
    ))
}
