//! Groups that share nothing, and who may define devices.

use super::{Warnings, names};
use crate::config::Config;

pub(super) fn check(config: &Config, warnings: &mut Warnings) {
    for nf in &config.nfs {
        for (device, group) in &nf.groups {
            if members(config, device, group) == 1 {
                let message = format!(
                    "it is alone in the group `{group}` of `{device}`: it gets every packet, as it would without"
                );
                warnings.add("nfs", &nf.name, message);
            }
        }
        if !nf.may_define.is_empty() {
            let message = format!(
                "may define devices over {}: it can read and send everything there",
                names(&nf.may_define)
            );
            warnings.add("nfs", &nf.name, message);
        }
    }
    divided(config, warnings);
}

/// Instances that share the packets of a device.
fn members(config: &Config, device: &str, group: &str) -> u32 {
    let inside = config
        .nfs
        .iter()
        .filter(|nf| nf.group(device) == Some(group));
    inside.map(|nf| nf.instances).sum()
}

/// Instances of one role that each get every packet, while the role is in a group elsewhere.
fn divided(config: &Config, warnings: &mut Warnings) {
    for nf in config
        .nfs
        .iter()
        .filter(|nf| nf.instances > 1 && !nf.groups.is_empty())
    {
        let whole = nf
            .devices
            .iter()
            .filter(|right| right.rx && nf.group(&right.device).is_none());
        let whole: Vec<_> = whole.map(|right| &right.device).collect();
        if !whole.is_empty() {
            let message = format!(
                "its instances share flows, but from {} each of them gets every packet",
                names(whole)
            );
            warnings.add("nfs", &nf.name, message);
        }
    }
}
