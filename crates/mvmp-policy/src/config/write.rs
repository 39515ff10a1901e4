//! A configuration as JSON: what holds, with all defaults, in the notation that is read.
//!
//! `mvmp status --policies` shows it, and the difference of two configurations is taken between
//! two of these.

use mvmp_wire::packet::LayerSet;
use mvmp_wire::packet::encap::{EncapLayer, EncapSpec, Tunnel};
use serde_json::{Map, Value, json};

use super::Config;
use super::spec::{
    CaptureSpec, CellSend, DeviceSpec, Ethernet, Mode, NfSpec, PlatformSpec, PortKind, PortSpec,
    Rate, Receive, WaitFor,
};

pub(super) fn config(config: &Config) -> Value {
    let named = |items: Vec<(&String, Value)>| -> Value {
        let items = items.into_iter().map(|(name, item)| (name.clone(), item));
        Value::Object(items.collect())
    };
    json!({
        "platform": platform(&config.platform),
        "ports": named(config.ports.iter().map(|item| (&item.name, port(item))).collect()),
        "devices": named(config.devices.iter().map(|item| (&item.name, device(item))).collect()),
        "nfs": named(config.nfs.iter().map(|item| (&item.name, nf(item))).collect()),
    })
}

pub(super) fn platform(platform: &PlatformSpec) -> Value {
    let mut table = json!({
        "buffers": platform.buffers,
        "open": platform.open,
        "ring": platform.ring_slots,
        "max_nfs": platform.max_nfs,
        "stall_s": platform.stall_s,
        "on_stall": platform.on_stall.as_str(),
        "alive_s": platform.alive_s,
        "tunnel_ports": {
            "vxlan": platform.tunnel_ports.vxlan,
            "geneve": platform.tunnel_ports.geneve,
            "gtpu": platform.tunnel_ports.gtpu,
        },
    });
    add(&mut table, "workers", platform.workers.as_deref());
    add(&mut table, "idle_nap_us", platform.idle_nap_us);
    table
}

pub(super) fn port(port: &PortSpec) -> Value {
    let mut table = match &port.kind {
        PortKind::Devargs { devargs } => json!({ "devargs": devargs }),
        PortKind::Interface { interface } => json!({ "interface": interface }),
        PortKind::Capture(spec) => capture(spec),
    };
    add(&mut table, "queues", Some(port.queues));
    add(&mut table, "max_frame", port.max_frame);
    table
}

fn capture(capture: &CaptureSpec) -> Value {
    let path = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
    let mut table = json!({});
    add(&mut table, "pcap", capture.pcap.as_ref().map(path));
    add(&mut table, "out", capture.out.as_ref().map(path));
    if capture.pcap.is_none() {
        return table;
    }
    let rate = match capture.rate {
        Rate::Recorded => json!("recorded"),
        Rate::Pps(packets) => json!(packets),
        Rate::Max => json!("max"),
        Rate::Lossless => json!("lossless"),
    };
    add(&mut table, "loop", Some(capture.loop_count));
    add(&mut table, "rate", Some(rate));
    let wait_for = capture.wait_for.as_ref().map(|wait_for| match wait_for {
        WaitFor::Roles(roles) => json!(roles),
        WaitFor::Count(handles) => json!(handles),
    });
    add(&mut table, "wait_for", wait_for);
    table
}

pub(super) fn device(device: &DeviceSpec) -> Value {
    let mut table = json!({ "mode": device.mode.as_str() });
    if device.mode == Mode::Rootless {
        return table;
    }
    let ports: Vec<_> = device.ports().collect();
    let cells = device.cells.iter();
    let receive = cells.filter_map(|cell| {
        let cell_receive = cell.receive.as_ref()?;
        Some((cell.port.clone(), receive(cell_receive)))
    });
    let policy = device.send.map(|policy| ("policy", json!(policy.as_str())));
    let ways = device.cells.iter().filter(|cell| !cell.send.is_plain());
    let ways = ways.map(|cell| (cell.port.as_str(), send(&cell.send)));
    let send: Map<_, _> = policy
        .into_iter()
        .chain(ways)
        .map(|(key, value)| (key.to_string(), value))
        .collect();
    add(&mut table, "ports", Some(ports));
    add(
        &mut table,
        "receive",
        Some(Value::Object(receive.collect())),
    );
    if !send.is_empty() {
        add(&mut table, "send", Some(Value::Object(send)));
    }
    add(&mut table, "absent", Some(device.absent.as_str()));
    table
}

fn receive(receive: &Receive) -> Value {
    let mut table = json!({ "match": receive.rule.to_string() });
    add(&mut table, "decap", layers(receive.decap));
    add(&mut table, "strip", layers(receive.strip));
    add(&mut table, "direction", Some(receive.direction.as_str()));
    table
}

fn layers(set: LayerSet) -> Option<Value> {
    if set == LayerSet::AUTO {
        return Some(json!("auto"));
    }
    (!set.is_empty()).then(|| set.words().collect())
}

fn send(send: &CellSend) -> Value {
    let mut table = json!({});
    add(&mut table, "encap", send.encap.as_ref().map(encap));
    let ethernet = send.ethernet.map(
        |Ethernet { src, dst }| json!({ "src": Ethernet::text(src), "dst": Ethernet::text(dst) }),
    );
    add(&mut table, "ethernet", ethernet);
    table
}

fn encap(encap: &EncapSpec) -> Value {
    match encap.layers.as_slice() {
        [layer] => encap_layer(layer),
        layers => layers.iter().map(encap_layer).collect(),
    }
}

fn encap_layer(layer: &EncapLayer) -> Value {
    match layer {
        EncapLayer::PopVlan => json!({ "vlan": "pop" }),
        EncapLayer::Vlan { tpid, id, pcp } => {
            json!({ "vlan": { "id": id, "pcp": pcp, "tpid": tpid } })
        }
        EncapLayer::Gre { key, tunnel: ends } => {
            let mut table = tunnel(ends, json!({}));
            add(&mut table, "key", *key);
            json!({ "gre": table })
        }
        EncapLayer::Vxlan {
            vni,
            port,
            tunnel: ends,
        } => {
            json!({ "vxlan": tunnel(ends, json!({ "vni": vni, "port": port })) })
        }
        EncapLayer::Geneve {
            vni,
            port,
            tunnel: ends,
        } => {
            json!({ "geneve": tunnel(ends, json!({ "vni": vni, "port": port })) })
        }
        EncapLayer::IpIp { tunnel: ends } => json!({ "ipip": tunnel(ends, json!({})) }),
    }
}

fn tunnel(tunnel: &Tunnel, mut table: Value) -> Value {
    add(&mut table, "local", Some(tunnel.local.to_string()));
    add(&mut table, "remote", Some(tunnel.remote.to_string()));
    add(&mut table, "ttl", Some(tunnel.ttl));
    table
}

pub(super) fn nf(nf: &NfSpec) -> Value {
    let rights: Vec<_> = nf.devices.iter().map(ToString::to_string).collect();
    let mut table = json!({
        "devices": rights,
        "instances": nf.instances,
        "memory": nf.memory_bytes,
    });
    add(&mut table, "uid", nf.uid);
    if !nf.groups.is_empty() {
        let groups = nf.groups.iter().cloned();
        let groups = groups.map(|(device, group)| (device, Value::String(group)));
        add(&mut table, "groups", Some(Value::Object(groups.collect())));
    }
    if !nf.may_define.is_empty() {
        add(&mut table, "may_define", Some(nf.may_define.as_slice()));
    }
    table
}

/// Adds a key that has a value.
fn add(table: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let (Value::Object(table), Some(value)) = (table, value) {
        table.insert(key.into(), value.into());
    }
}
