//! What is allowed but perhaps not meant: `mvmp check` prints it, `mvmp up` logs it.

use super::reader::dotted;
use super::spec::{Mode, NfSpec, PortSpec, Rate, TunnelPorts};
use super::{Config, Warning};

pub(super) fn check(config: &Config) -> Vec<Warning> {
    let mut warnings = Warnings(Vec::new());
    platform(config, &mut warnings);
    captures(config, &mut warnings);
    unused(config, &mut warnings);
    cells(config, &mut warnings);
    readers(config, &mut warnings);
    readers_without_ports(config, &mut warnings);
    senders(config, &mut warnings);
    warnings.0
}

struct Warnings(Vec<Warning>);

impl Warnings {
    fn add(&mut self, section: &str, name: &str, message: String) {
        let key = if name.is_empty() {
            section.into()
        } else {
            dotted(section, name)
        };
        self.0.push(Warning { key, message });
    }
}

fn platform(config: &Config, warnings: &mut Warnings) {
    let platform = &config.platform;
    if !platform.buffers.is_power_of_two() {
        let above = platform.buffers.next_power_of_two();
        let message = format!(
            "{} is not a power of two; {above} needs the same bookkeeping",
            platform.buffers
        );
        warnings.add("platform", "buffers", message);
    }
    if platform.tunnel_ports != TunnelPorts::default() {
        warnings.add(
            "platform",
            "tunnel_ports",
            "has no effect yet: tunnels are not supported yet".into(),
        );
    }
    let instances: u32 = config.nfs.iter().map(|nf| nf.instances).sum();
    if instances > platform.max_nfs {
        let message = format!(
            "the roles allow {instances} instances, but at most {} can be connected at a time",
            platform.max_nfs
        );
        warnings.add("nfs", "", message);
    }
    if config.devices.is_empty() {
        warnings.add(
            "devices",
            "",
            "there are none: nothing can be opened".into(),
        );
    }
    if config.nfs.is_empty() && !platform.open {
        warnings.add(
            "nfs",
            "",
            "there are none and platform.open is false: no NF may connect".into(),
        );
    }
}

fn captures(config: &Config, warnings: &mut Warnings) {
    let lossless = config.is_lossless();
    for port in &config.ports {
        let Some(capture) = port.capture().filter(|capture| capture.pcap.is_some()) else {
            continue;
        };
        if capture.rate != Rate::Lossless {
            continue;
        }
        if capture.loop_count == 0 {
            warnings.add(
                "ports",
                &port.name,
                "plays for ever without loss: the platform never drains".into(),
            );
        }
        if !lossless {
            let others: Vec<_> = config
                .ports
                .iter()
                .filter(|port| !port.is_lossless())
                .collect();
            let verb = if others.len() == 1 { "is" } else { "are" };
            let others = names(others.iter().map(|port| &port.name));
            let message =
                format!("is lossless only if all ports are lossless captures; {others} {verb} not");
            warnings.add("ports", &port.name, message);
        }
    }
}

fn unused(config: &Config, warnings: &mut Warnings) {
    let is_used = |port: &PortSpec| {
        config
            .devices
            .iter()
            .any(|device| device.ports().any(|name| name == port.name))
    };
    for port in config.ports.iter().filter(|port| !is_used(port)) {
        warnings.add("ports", &port.name, "no device uses it".into());
    }
    if config.platform.open {
        return;
    }
    for device in &config.devices {
        let rights: Vec<_> = config
            .nfs
            .iter()
            .filter_map(|nf| nf.right(&device.name))
            .collect();
        let message = match (
            rights.iter().any(|right| right.rx),
            rights.iter().any(|right| right.tx),
        ) {
            (false, false) => "no role may open it",
            (true, false) if device.mode == Mode::Rootless => "no role may send to it",
            (false, true) => "no role may receive from it",
            _ => continue,
        };
        warnings.add("devices", &device.name, message.into());
    }
}

fn cells(config: &Config, warnings: &mut Warnings) {
    for device in &config.devices {
        for cell in &device.cells {
            let message = match &cell.receive {
                None => format!(
                    "nothing is received from `{}`: its cell is empty",
                    cell.port
                ),
                Some(rule) if rule.compile().is_none() => {
                    format!(
                        "nothing is received from `{}`: no packet matches `{rule}`",
                        cell.port
                    )
                }
                Some(_) => continue,
            };
            warnings.add("devices", &device.name, message);
        }
    }
}

/// Whoever maps a pool can read all packets in it, whatever its rules say.
fn readers(config: &Config, warnings: &mut Warnings) {
    let reach = config.reach();
    for (place, domain) in config.domains().iter().enumerate() {
        let readers: Vec<_> = config
            .nfs
            .iter()
            .zip(&reach)
            .filter(|(_, domains)| domains.contains(&place))
            .map(|(nf, _)| &nf.name)
            .collect();
        let ports = names(domain.ports.iter().map(|&port| &config.ports[port].name));
        let message = match readers.len() {
            _ if config.platform.open => {
                format!("every NF that connects can read all packets of {ports}")
            }
            0 | 1 => continue,
            _ => format!(
                "{} share one pool: each can read all packets of {ports}, whatever its rules say",
                names(readers)
            ),
        };
        warnings.add("ports", &config.ports[domain.ports[0]].name, message);
    }
}

/// Without ports there is one pool, for what NFs send each other.
fn readers_without_ports(config: &Config, warnings: &mut Warnings) {
    let receives = |nf: &&NfSpec| nf.devices.iter().any(|right| right.rx);
    let readers: Vec<_> = config
        .nfs
        .iter()
        .filter(receives)
        .map(|nf| &nf.name)
        .collect();
    if config.ports.is_empty() && readers.len() > 1 {
        let message = format!(
            "{} share one pool: each can read all packets in it",
            names(readers)
        );
        warnings.add("devices", "", message);
    }
}

/// Two that get the same packets and may both send them.
fn senders(config: &Config, warnings: &mut Warnings) {
    for device in config
        .devices
        .iter()
        .filter(|device| device.mode != Mode::Rootless)
    {
        let both = |nf: &&NfSpec| {
            nf.right(&device.name)
                .is_some_and(|right| right.rx && right.tx)
        };
        let roles: Vec<_> = config.nfs.iter().filter(both).collect();
        let message = match roles.as_slice() {
            [] => continue,
            [role] if role.instances == 1 => continue,
            [role] => format!(
                "{} instances of `{}` each get every packet and may send it: it can leave more than once",
                role.instances, role.name
            ),
            _ => format!(
                "{} each get every packet and may send it: it can leave more than once",
                names(roles.iter().map(|nf| &nf.name))
            ),
        };
        warnings.add("devices", &device.name, message);
    }
}

/// "`a`, `b` and `c`".
fn names<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let mut quoted: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match (quoted.pop(), quoted.is_empty()) {
        (None, _) => "none".into(),
        (Some(last), true) => last,
        (Some(last), false) => format!("{} and {last}", quoted.join(", ")),
    }
}
