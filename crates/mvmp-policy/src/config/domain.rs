//! Domains: ports that are joined by devices, and which roles can read whose packets.

use super::spec::Mode;
use super::{Config, DeviceSpec, NfSpec};

/// Ports that are joined by devices, directly or over others: one worker, one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Indices into [`Config::ports`], ascending.
    pub ports: Vec<usize>,
    /// Indices into [`Config::devices`], ascending; rootless devices are in no domain.
    pub devices: Vec<usize>,
}

pub(super) fn domains(config: &Config) -> Vec<Domain> {
    // `group[port]` is the lowest port that it is joined to; few ports, so relabelling is fine.
    let mut group: Vec<usize> = (0..config.ports.len()).collect();
    for device in &config.devices {
        let ports = indices(config, device);
        let Some(lowest) = ports.iter().map(|&port| group[port]).min() else {
            continue;
        };
        let joined: Vec<_> = ports.iter().map(|&port| group[port]).collect();
        for label in &mut group {
            if joined.contains(label) {
                *label = lowest;
            }
        }
    }
    let firsts = (0..group.len()).filter(|&port| group[port] == port);
    firsts.map(|first| domain(config, &group, first)).collect()
}

fn domain(config: &Config, group: &[usize], first: usize) -> Domain {
    let devices = config.devices.iter().enumerate();
    let inside = |device: &DeviceSpec| {
        indices(config, device)
            .first()
            .is_some_and(|&port| group[port] == first)
    };
    Domain {
        ports: (0..group.len())
            .filter(|&port| group[port] == first)
            .collect(),
        devices: devices
            .filter(|(_, device)| inside(device))
            .map(|(i, _)| i)
            .collect(),
    }
}

fn indices(config: &Config, device: &DeviceSpec) -> Vec<usize> {
    device
        .ports()
        .filter_map(|port| config.port_index(port))
        .collect()
}

/// For each role, in the order of [`Config::nfs`]: the domains whose packets it can be handed,
/// as indices into [`domains`], ascending. It maps their pools, and can read all that is in them.
pub(super) fn reach(config: &Config) -> Vec<Vec<usize>> {
    let domains = domains(config);
    if config.platform.open {
        return vec![(0..domains.len()).collect(); config.nfs.len()];
    }
    let mut reach: Vec<Vec<usize>> = vec![Vec::new(); config.nfs.len()];
    for (role, nf) in config.nfs.iter().enumerate() {
        for (place, domain) in domains.iter().enumerate() {
            let receives = |&device: &usize| {
                nf.right(&config.devices[device].name)
                    .is_some_and(|right| right.rx)
            };
            // What it defines over a port it can receive, too.
            let defines = |&port: &usize| nf.may_define.contains(&config.ports[port].name);
            if domain.devices.iter().any(receives) || domain.ports.iter().any(defines) {
                reach[role].push(place);
            }
        }
    }
    // What one sends goes on to others, until nothing is new.
    let passages = passages(config);
    loop {
        let mut grew = false;
        for passage in &passages {
            grew |= passage.spread(&mut reach);
        }
        if !grew {
            return reach;
        }
    }
}

/// Where packets of some roles are handed to others; roles as places in [`Config::nfs`].
struct Passage {
    senders: Vec<usize>,
    receivers: Vec<usize>,
}

/// The rootless devices, and the ports of which somebody receives what leaves.
fn passages(config: &Config) -> Vec<Passage> {
    let roles = |may: &dyn Fn(&NfSpec) -> bool| -> Vec<usize> {
        let all = config.nfs.iter().enumerate();
        all.filter(|(_, nf)| may(nf))
            .map(|(role, _)| role)
            .collect()
    };
    let sends =
        |nf: &NfSpec, device: &DeviceSpec| nf.right(&device.name).is_some_and(|right| right.tx);
    let receives =
        |nf: &NfSpec, device: &DeviceSpec| nf.right(&device.name).is_some_and(|right| right.rx);
    let rootless = config
        .devices
        .iter()
        .filter(|device| device.mode == Mode::Rootless)
        .map(|device| Passage {
            senders: roles(&|nf| sends(nf, device)),
            receivers: roles(&|nf| receives(nf, device)),
        });
    let ports = config.ports.iter().map(|port| {
        let behind = |device: &&DeviceSpec| device.ports().any(|name| name == port.name);
        let devices: Vec<&DeviceSpec> = config.devices.iter().filter(behind).collect();
        // What it defines over a port can send there, and receive what leaves.
        let defines = |nf: &NfSpec| nf.may_define.contains(&port.name);
        Passage {
            senders: roles(&|nf| defines(nf) || devices.iter().any(|device| sends(nf, device))),
            receivers: roles(&|nf| {
                let shows = |device: &&DeviceSpec| {
                    receives(nf, device) && device.receives_outbound(&port.name)
                };
                defines(nf) || devices.iter().any(shows)
            }),
        }
    });
    rootless.chain(ports).collect()
}

impl Passage {
    /// Hands on all that the senders are handed; whether any of it was new to a receiver.
    fn spread(&self, reach: &mut [Vec<usize>]) -> bool {
        let senders = self.senders.iter();
        let sent: Vec<usize> = senders.flat_map(|&role| reach[role].clone()).collect();
        let mut grew = false;
        for &role in &self.receivers {
            let before = reach[role].len();
            reach[role].extend(&sent);
            reach[role].sort_unstable();
            reach[role].dedup();
            grew |= reach[role].len() > before;
        }
        grew
    }
}
