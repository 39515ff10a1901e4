//! From the configuration to what workers act on: devices, and the faces of each port.

use std::sync::Arc;

use mvmp_policy::Config;
use mvmp_policy::config::{
    Absent, DeviceSpec, Mode, PortKind, PortSpec, Receive, SendPolicy, Toward,
};
use mvmp_policy::rule::{Classifier, Rule};
use mvmp_wire::packet::TunnelPorts;
use mvmp_wire::packet::encap::{Encap, EncapLayer, EncapSpec};

use super::ports::{longest_sent, max_frame};
use crate::worker::PortFacts;
use crate::worker::device::{Bond, Bridge, Device, Exits, Spread};
use crate::worker::face::{Face, asks_deeper};

/// A device that nobody has open yet; `ports` are the numbers of its ports.
///
/// # Errors
/// Headers that cannot be put in front of anything.
pub fn device(spec: &DeviceSpec, ports: &[u16]) -> Result<Device, String> {
    let exits = match spec.mode {
        Mode::Rootless => Exits::Rootless,
        Mode::Direct => Exits::Direct(ports[0]),
        Mode::Bridge => Exits::Bridge(Bridge::new(ports)),
        Mode::Bond => Exits::Bond(Bond::new(
            ports,
            match spec.send {
                Some(SendPolicy::Hash) => Spread::Hash,
                Some(SendPolicy::ActiveBackup) => Spread::ActiveBackup,
                _ => Spread::RoundRobin,
            },
        )),
    };
    let mut device = Device::new(exits);
    device.bypass = spec.absent == Absent::Bypass;
    for (cell, &port) in spec.cells.iter().zip(ports) {
        if cell.send.encap.is_none() && cell.send.ethernet.is_none() {
            continue;
        }
        let layers = cell.send.encap.as_ref().map(|encap| encap.layers.clone());
        let encap = EncapSpec {
            layers: layers.unwrap_or_default(),
        };
        let addresses = cell.send.ethernet.as_ref().map(|ethernet| {
            let mut addresses = [0; 12];
            addresses[..6].copy_from_slice(&ethernet.dst);
            addresses[6..].copy_from_slice(&ethernet.src);
            addresses
        });
        let encap = Encap::new(&encap, addresses)
            .map_err(|error| format!("device {}, port {}: {error}", spec.name, cell.port))?;
        device.shapes.push((port, encap));
    }
    Ok(device)
}

/// The faces of a port: for what comes in, and for what leaves. `number` knows the devices' numbers.
pub fn faces(
    config: &Config,
    port: &str,
    number: impl Fn(&str) -> Option<usize>,
) -> (Vec<Face>, Vec<Face>) {
    let cells: Vec<(usize, &Receive)> = config
        .devices
        .iter()
        .filter_map(|device| {
            let cell = device.cells.iter().find(|cell| cell.port == port)?;
            Some((number(&device.name)?, cell.receive.as_ref()?))
        })
        .collect();
    let toward = |wanted: &dyn Fn(Toward) -> bool| {
        let cells = cells
            .iter()
            .filter(|(_, receive)| wanted(receive.direction));
        together(cells.copied())
    };
    (
        toward(&|direction| direction != Toward::Out),
        toward(&|direction| direction != Toward::In),
    )
}

/// Puts cells that jump over the same layers together.
fn together<'a>(cells: impl Iterator<Item = (usize, &'a Receive)>) -> Vec<Face> {
    let mut groups: Vec<Vec<(usize, &Receive)>> = Vec::new();
    for cell in cells {
        let alike = |group: &&mut Vec<(usize, &Receive)>| {
            let other = group[0].1;
            (other.decap, other.strip) == (cell.1.decap, cell.1.strip)
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(cell),
            None => groups.push(vec![cell]),
        }
    }
    let face = |group: Vec<(usize, &Receive)>| {
        let rules: Vec<&Rule> = group.iter().map(|(_, receive)| &receive.rule).collect();
        Face {
            decap: group[0].1.decap,
            strip: group[0].1.strip,
            classifier: Arc::new(Classifier::new(&rules)),
            devices: group.iter().map(|(device, _)| *device).collect(),
        }
    };
    groups.into_iter().map(face).collect()
}

/// What a port takes.
pub fn port_facts(spec: &PortSpec) -> PortFacts {
    let max_frame = max_frame(spec);
    let (longest, longest_tagged) = longest_sent(&spec.kind).unwrap_or((max_frame, max_frame));
    PortFacts {
        longest: longest.min(max_frame),
        longest_tagged: longest_tagged.min(max_frame),
        is_ethernet: !matches!(spec.kind, PortKind::Capture(_)),
    }
}

/// The UDP ports that announce tunnels.
pub fn tunnel_ports(config: &Config) -> TunnelPorts {
    let ports = &config.platform.tunnel_ports;
    TunnelPorts::new(&ports.vxlan, &ports.geneve, &ports.gtpu)
}

fn receives(config: &Config) -> impl Iterator<Item = &Receive> {
    config
        .devices
        .iter()
        .flat_map(|device| &device.cells)
        .filter_map(|cell| cell.receive.as_ref())
}

/// Some policy asks for more than the first headers, or for the innermost flow.
pub fn looks_deep(config: &Config) -> bool {
    receives(config).any(|receive| {
        receive.direction != Toward::In
            || !receive.decap.is_empty()
            || !receive.strip.is_empty()
            || asks_deeper(receive.rule.compile().needs())
    }) || config.nfs.iter().any(|nf| !nf.groups.is_empty())
        || config.devices.iter().any(sends_by_flow)
}

/// What a packet's flow is decides by which port it leaves, or what its outer headers say.
fn sends_by_flow(device: &DeviceSpec) -> bool {
    let mut encaps = device
        .cells
        .iter()
        .filter_map(|cell| cell.send.encap.as_ref());
    device.send == Some(SendPolicy::Hash)
        || encaps.any(|encap| encap.layers.iter().any(EncapLayer::is_tunnel))
}

/// Some handle sees parts of frames, or packets on their way out.
pub fn shows_parts(config: &Config) -> bool {
    receives(config).any(|receive| {
        receive.direction != Toward::In || !receive.decap.is_empty() || !receive.strip.is_empty()
    })
}
