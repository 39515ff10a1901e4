//! `[platform]`.

use super::keys;
use super::reader::{Place, Result};
use super::spec::{NFS_MAX, OnStall, PlatformSpec, TunnelPorts};

const CPU_MAX: i64 = 1_023;
const BUFFERS: std::ops::RangeInclusive<i64> = 256..=8_388_608;
const RING_SLOTS: std::ops::RangeInclusive<i64> = 64..=32_768;

pub(super) fn read(place: &Place<'_>) -> Result<PlatformSpec> {
    let fields = place.fields(keys::PLATFORM)?;
    let default = PlatformSpec::default();
    let on_stall = |place: &Place<'_>| {
        place.choose(&[
            ("log", Some(OnStall::Log)),
            ("detach", Some(OnStall::Detach)),
        ])
    };
    let count = |place: &Place<'_>, range| place.integer(range).map(|number| number as u32);
    Ok(PlatformSpec {
        workers: fields.read("workers", workers)?,
        buffers: fields
            .read("buffers", |p| count(p, BUFFERS))?
            .unwrap_or(default.buffers),
        open: fields.read("open", Place::bool)?.unwrap_or(default.open),
        tunnel_ports: fields
            .read("tunnel_ports", tunnel_ports)?
            .unwrap_or_default(),
        stall_s: fields
            .read("stall_s", |p| p.number(0.01..=86_400.0))?
            .unwrap_or(default.stall_s),
        on_stall: fields
            .read("on_stall", on_stall)?
            .unwrap_or(default.on_stall),
        alive_s: fields
            .read("alive_s", |p| p.number(0.5..=3_600.0))?
            .unwrap_or(default.alive_s),
        idle_nap_us: fields.read("idle_nap_us", |p| count(p, 0..=1_000_000))?,
        ring_slots: fields.read("ring", ring)?.unwrap_or(default.ring_slots),
        max_nfs: fields
            .read("max_nfs", |p| count(p, 1..=i64::from(NFS_MAX)))?
            .unwrap_or(default.max_nfs),
    })
}

fn workers(place: &Place<'_>) -> Result<Vec<usize>> {
    let mut cpus = Vec::new();
    for item in place.list()? {
        let cpu = item.integer(0..=CPU_MAX)? as usize;
        if cpus.contains(&cpu) {
            return Err(item.fail(format!("CPU {cpu} is listed twice")));
        }
        cpus.push(cpu);
    }
    if cpus.is_empty() {
        return Err(place
            .fail("a platform needs at least one worker")
            .with_hint("leave `workers` away for the last allowed CPU"));
    }
    Ok(cpus)
}

fn ring(place: &Place<'_>) -> Result<u32> {
    let slots = place.integer(RING_SLOTS)? as u32;
    if slots.is_power_of_two() {
        return Ok(slots);
    }
    let above = slots.next_power_of_two();
    Err(place
        .fail(format!("{slots} is not a power of two"))
        .with_hint(format!("write {} or {above}", above / 2)))
}

fn tunnel_ports(place: &Place<'_>) -> Result<TunnelPorts> {
    let fields = place.fields(keys::TUNNEL_PORTS)?;
    let default = TunnelPorts::default();
    let ports = |place: &Place<'_>| -> Result<Vec<u16>> {
        let items = place.list()?;
        items
            .iter()
            .map(|item| item.integer(1..=65_535).map(|port| port as u16))
            .collect()
    };
    Ok(TunnelPorts {
        vxlan: fields.read("vxlan", ports)?.unwrap_or(default.vxlan),
        geneve: fields.read("geneve", ports)?.unwrap_or(default.geneve),
        gtpu: fields.read("gtpu", ports)?.unwrap_or(default.gtpu),
    })
}
