//! What a running platform cannot do, as far as configurations can tell.

use super::{Change, Detail, Item, Kind, Section};
use crate::config::spec::{PortKind, PortSpec};
use crate::config::{CAPTURE_FRAME_BYTES_DEFAULT, Config, Domain};

/// Frames that every pool has room for, whatever its ports have.
const FRAME_BYTES_ALWAYS: u32 = 2_048;
/// The longest frame of a DPDK device that names no `max_frame`.
const DEVARGS_FRAME_BYTES: u32 = 1_522;

pub(super) fn mark(change: &mut Change, old: &Config, new: &Config) {
    for item in &mut change.items {
        if item.section == Section::Platform {
            item.refused = platform_key(&item.name).map(String::from);
        }
    }
    lossless(change, old, new);
    let domains = old.domains();
    for device in &new.devices {
        let ports: Vec<&str> = device.ports().collect();
        if let Some((one, other)) = two_pools(old, &domains, &ports) {
            let reason = format!(
                "`{one}` and `{other}` have had pools of their own since the start: stop the platform and start it with the new file"
            );
            change.refuse(Section::Devices, &device.name, reason);
        }
    }
    for port in &new.ports {
        if let Some(reason) = too_long(old, new, &domains, port) {
            change.refuse(Section::Ports, &port.name, reason);
        }
    }
}

/// Why a key of `[platform]` is fixed at the start; `None`: it is not.
fn platform_key(key: &str) -> Option<&'static str> {
    match key {
        "workers" => Some("workers are started and pinned once"),
        "buffers" => Some("pools are made once"),
        "tunnel_ports" => Some("packets that NFs hold were read with the old ones"),
        "idle_nap_us" => Some("workers are told once"),
        _ => None,
    }
}

/// A platform is lossless as a whole, from its start on.
fn lossless(change: &mut Change, old: &Config, new: &Config) {
    if old.is_lossless() == new.is_lossless() {
        return;
    }
    let reason = match old.is_lossless() {
        true => {
            "its ports are lossless captures and stay such: lossless holds as a whole, from the start on"
        }
        false => {
            "it was started with ports that can lose packets: lossless holds as a whole, from the start on"
        }
    };
    change.items.push(Item {
        section: Section::Platform,
        name: "lossless".into(),
        kind: Kind::Changed,
        summary: String::new(),
        details: vec![Detail {
            key: String::new(),
            from: Some(old.is_lossless().into()),
            to: Some(new.is_lossless().into()),
        }],
        refused: Some(reason.into()),
    });
}

/// Two of these ports that were in different domains.
fn two_pools<'a>(
    old: &Config,
    domains: &[Domain],
    ports: &[&'a str],
) -> Option<(&'a str, &'a str)> {
    let domain = |name: &str| {
        let number = old.port_index(name)?;
        domains.iter().position(|d| d.ports.contains(&number))
    };
    let known = ports.iter().filter_map(|&name| Some((name, domain(name)?)));
    let known: Vec<_> = known.collect();
    let (first, pool) = *known.first()?;
    let (other, _) = known.iter().find(|(_, other)| *other != pool)?;
    Some((first, other))
}

/// Why the frames of a port do not fit the pool of the ports that it is joined to.
fn too_long(old: &Config, new: &Config, domains: &[Domain], port: &PortSpec) -> Option<String> {
    let number = new.port_index(&port.name)?;
    let joined = new
        .domains()
        .into_iter()
        .find(|d| d.ports.contains(&number))?;
    let mut names = joined.ports.iter().map(|&number| &new.ports[number].name);
    let pool = names.find_map(|name| {
        let number = old.port_index(name)?;
        domains.iter().find(|d| d.ports.contains(&number))
    })?;
    let frames = pool
        .ports
        .iter()
        .map(|&number| frame_bytes(&old.ports[number]));
    let room = frames
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .max()?
        .max(FRAME_BYTES_ALWAYS);
    let wanted = frame_bytes(port)?;
    (wanted > room).then(|| {
        format!("frames of {wanted} bytes do not fit the buffers of its pool, which were made for {room}")
    })
}

/// The longest frame of a port, as far as its configuration says.
fn frame_bytes(port: &PortSpec) -> Option<u32> {
    port.max_frame.or(match port.kind {
        PortKind::Capture(_) => Some(CAPTURE_FRAME_BYTES_DEFAULT),
        PortKind::Devargs { .. } => Some(DEVARGS_FRAME_BYTES),
        PortKind::Interface { .. } => None,
    })
}
