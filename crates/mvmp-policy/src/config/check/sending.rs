//! What is sent twice, back to where it came from, or cannot leave.

use mvmp_wire::packet::LayerSet;
use mvmp_wire::packet::encap::EncapLayer;

use super::{Warnings, names};
use crate::config::Config;
use crate::config::spec::{Absent, Cell, DeviceSpec, Mode, NfSpec};

pub(super) fn check(config: &Config, warnings: &mut Warnings) {
    let with_ports = |device: &&DeviceSpec| device.mode != Mode::Rootless;
    for device in config.devices.iter().filter(with_ports) {
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
