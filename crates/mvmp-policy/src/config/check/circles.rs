//! Circles of roles that hand packets to each other: over rootless devices, where without loss they can wait
//! for each other for ever; and by receiving what the other sends out of a port, where packets go round.

use super::{Warnings, names};
use crate::config::Config;
use crate::config::spec::{DeviceSpec, Mode, NfSpec};

pub(super) fn check(config: &Config, warnings: &mut Warnings) {
    if config.platform.open {
        return;
    }
    if config.is_lossless() {
        let fed = config.reach();
        let circles = circles(config.nfs.len(), |from, to| sends_to(config, from, to));
        for circle in circles.iter().filter(|circle| !fed[circle[0]].is_empty()) {
            warnings.add("nfs", &config.nfs[circle[0]].name, waiting(config, circle));
        }
    }
    for circle in circles(config.nfs.len(), |from, to| is_shown(config, from, to)) {
        warnings.add("nfs", &config.nfs[circle[0]].name, round(config, &circle));
    }
}

/// Of so many roles those that are in one circle, for each circle, by who hands to whom.
fn circles(roles: usize, hands: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut reaches = vec![vec![false; roles]; roles];
    for (from, row) in reaches.iter_mut().enumerate() {
        for (to, reached) in row.iter_mut().enumerate() {
            *reached = hands(from, to);
        }
    }
    for over in 0..roles {
        for from in 0..roles {
            for to in 0..roles {
                reaches[from][to] |= reaches[from][over] && reaches[over][to];
            }
        }
    }
    let mut told = vec![false; roles];
    let mut circles = Vec::new();
    for first in 0..roles {
        let circle: Vec<_> = (0..roles)
            .filter(|&other| reaches[first][other] && reaches[other][first])
            .collect();
        if told[first] || circle.is_empty() {
            continue;
        }
        for &role in &circle {
            told[role] = true;
        }
        circles.push(circle);
    }
    circles
}

/// What one sends out of a port the other receives, by another handle.
fn is_shown(config: &Config, from: usize, to: usize) -> bool {
    let (sender, receiver) = (&config.nfs[from], &config.nfs[to]);
    let sends = |device: &&DeviceSpec| sender.right(&device.name).is_some_and(|right| right.tx);
    let receives =
        |device: &&DeviceSpec| receiver.right(&device.name).is_some_and(|right| right.rx);
    config.devices.iter().filter(sends).any(|over| {
        config.devices.iter().filter(receives).any(|device| {
            let same_handle = from == to && over.name == device.name && sender.instances == 1;
            !same_handle && over.ports().any(|port| device.receives_outbound(port))
        })
    })
}

/// Over some rootless device, directly; to itself if it has other instances.
fn sends_to(config: &Config, from: usize, to: usize) -> bool {
    let (sender, receiver) = (&config.nfs[from], &config.nfs[to]);
    let may = |nf: &NfSpec, device: &str, tx: bool| {
        nf.right(device)
            .is_some_and(|right| if tx { right.tx } else { right.rx })
    };
    let mut rootless = config
        .devices
        .iter()
        .filter(|device| device.mode == Mode::Rootless);
    (from != to || sender.instances > 1)
        && rootless
            .any(|device| may(sender, &device.name, true) && may(receiver, &device.name, false))
}

fn waiting(config: &Config, circle: &[usize]) -> String {
    let others = circle.iter().map(|&role| &config.nfs[role].name);
    let who = match circle {
        [_] => "its instances send to each other".to_string(),
        _ => format!("{} send to each other", names(others)),
    };
    format!(
        "{who} without loss: if the rings of all are full they wait for each other, and `stall_s` later the platform says so"
    )
}

fn round(config: &Config, circle: &[usize]) -> String {
    let others = circle.iter().map(|&role| &config.nfs[role].name);
    let who = match circle {
        [_] => "it receives by one handle what it sends by another".to_string(),
        _ => format!("{} receive what the others send", names(others)),
    };
    let still = match config.is_lossless() {
        true => {
            "; without loss it can stand still: what is to be sent waits for room at its own receivers, and what they release waits behind it"
        }
        false => "",
    };
    format!(
        "{who} (direction \"out\" or \"inout\") and may send it again: a packet can leave up to 256 times (hop_limit){still}"
    )
}
