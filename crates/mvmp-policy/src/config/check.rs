//! What is allowed but perhaps not meant: `mvmp check` prints it, `mvmp up` logs it.

mod circles;
mod groups;
mod sending;

use mvmp_wire::packet::LayerSet;

use super::reader::dotted;
use super::spec::{Cell, Mode, NfSpec, PortSpec, Rate, Receive, Toward};
use super::{Config, Warning};

pub(super) fn check(config: &Config) -> Vec<Warning> {
    let mut warnings = Warnings(Vec::new());
    platform(config, &mut warnings);
    captures(config, &mut warnings);
    files(config, &mut warnings);
    unused(config, &mut warnings);
    cells(config, &mut warnings);
    readers(config, &mut warnings);
    readers_without_ports(config, &mut warnings);
    sending::check(config, &mut warnings);
    groups::check(config, &mut warnings);
    circles::check(config, &mut warnings);
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

/// Files that one port writes and another reads or writes, as far as their names say it: no platform starts so.
fn files(config: &Config, warnings: &mut Warnings) {
    for (at, port) in config.ports.iter().enumerate() {
        let Some(out) = port.capture().and_then(|capture| capture.out.as_ref()) else {
            continue;
        };
        let reads = |other: &&PortSpec| {
            let capture = other.capture();
            capture.is_some_and(|capture| capture.pcap.as_ref() == Some(out))
        };
        let writes = |other: &&PortSpec| {
            let capture = other.capture();
            capture.is_some_and(|capture| capture.out.as_ref() == Some(out))
        };
        let device = out.starts_with("/dev");
        if let Some(other) = config.ports.iter().find(reads) {
            let message = format!("writes {}, which `{}` reads", out.display(), other.name);
            warnings.add("ports", &port.name, message);
        }
        if let Some(other) = config.ports[..at].iter().find(writes).filter(|_| !device) {
            let message = format!("writes {}, as `{}` does", out.display(), other.name);
            warnings.add("ports", &port.name, message);
        }
    }
}

fn unused(config: &Config, warnings: &mut Warnings) {
    let is_used = |port: &PortSpec| {
        let mut devices = config.devices.iter();
        let mut roles = config.nfs.iter();
        devices.any(|device| device.ports().any(|name| name == port.name))
            || roles.any(|role| role.may_define.contains(&port.name))
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
            for message in cell_faults(config, cell) {
                warnings.add("devices", &device.name, message);
            }
        }
    }
}

fn cell_faults(config: &Config, cell: &Cell) -> Vec<String> {
    let port = &cell.port;
    let Some(receive) = &cell.receive else {
        return vec![format!(
            "nothing is received from `{port}`: its cell is empty"
        )];
    };
    if receive.rule.compile().is_none() {
        let rule = &receive.rule;
        return vec![format!(
            "nothing is received from `{port}`: no packet matches `{rule}`"
        )];
    }
    let mut faults = Vec::new();
    if let Some((word, number)) = jumped_over(config, receive) {
        faults.push(format!(
            "the rule for `{port}` is asked of what is inside: port {number} is jumped over with `{word}`, write `{word}` instead"
        ));
    }
    if receive.direction != Toward::In && !sending::anyone_sends(config, port) {
        let direction = receive.direction.as_str();
        faults.push(format!(
            "direction = \"{direction}\" at `{port}`, and no role may send there"
        ));
    }
    faults
}

/// A tunnel's own UDP port in a rule that is asked behind that tunnel.
fn jumped_over(config: &Config, receive: &Receive) -> Option<(&'static str, u16)> {
    let jumped = receive.decap.union(receive.strip);
    let ports = &config.platform.tunnel_ports;
    let tunnels = [
        (LayerSet::VXLAN, "vxlan", &ports.vxlan),
        (LayerSet::GENEVE, "geneve", &ports.geneve),
        (LayerSet::GTP, "gtp", &ports.gtpu),
    ];
    let text = receive.rule.to_string();
    let words: Vec<_> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let asks = |number: u16| {
        let number = number.to_string();
        words.windows(2).any(|pair| pair == ["port", &number])
    };
    let inside = tunnels
        .into_iter()
        .filter(|(set, ..)| jumped.contains(*set));
    // What asks `outer` is answered on the outside.
    if text.contains("outer") {
        return None;
    }
    inside
        .flat_map(|(_, word, ports)| ports.iter().map(move |&port| (word, port)))
        .find(|&(_, port)| asks(port))
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

/// "`a`, `b` and `c`".
fn names<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let mut quoted: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match (quoted.pop(), quoted.is_empty()) {
        (None, _) => "none".into(),
        (Some(last), true) => last,
        (Some(last), false) => format!("{} and {last}", quoted.join(", ")),
    }
}
