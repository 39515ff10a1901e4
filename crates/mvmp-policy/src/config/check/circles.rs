//! Circles of roles that send to each other over rootless devices: without loss they can wait for
//! each other for ever.

use super::{Warnings, names};
use crate::config::Config;
use crate::config::spec::{Mode, NfSpec};

pub(super) fn check(config: &Config, warnings: &mut Warnings) {
    if !config.is_lossless() || config.platform.open {
        return;
    }
    let roles = config.nfs.len();
    let mut reaches = vec![vec![false; roles]; roles];
    for (from, row) in reaches.iter_mut().enumerate() {
        for (to, reached) in row.iter_mut().enumerate() {
            *reached = sends_to(config, from, to);
        }
    }
    for over in 0..roles {
        for from in 0..roles {
            for to in 0..roles {
                reaches[from][to] |= reaches[from][over] && reaches[over][to];
            }
        }
    }
    let fed = config.reach();
    let mut told = vec![false; roles];
    for first in 0..roles {
        let circle: Vec<_> = (0..roles)
            .filter(|&other| reaches[first][other] && reaches[other][first])
            .collect();
        if told[first] || circle.is_empty() || fed[first].is_empty() {
            continue;
        }
        for &role in &circle {
            told[role] = true;
        }
        warnings.add("nfs", &config.nfs[first].name, message(config, &circle));
    }
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

fn message(config: &Config, circle: &[usize]) -> String {
    let others = circle.iter().map(|&role| &config.nfs[role].name);
    let who = match circle {
        [_] => "its instances send to each other".to_string(),
        _ => format!("{} send to each other", names(others)),
    };
    format!(
        "{who} without loss: if the rings of all are full they wait for each other, and `stall_s` later the platform says so"
    )
}
