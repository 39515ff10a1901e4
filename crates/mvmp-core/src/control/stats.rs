//! The books as one tree: what `mvmp status -o json` prints and `Platform.stats()` returns.

use serde_json::{Map, Value, json};

use super::session::{Handle, HandlePhase, Session};
use super::state::{Control, PoolEntry, PortEntry};
use crate::capture::Fault;
use crate::counters::{DropReason, Drops, HandleCounters};

fn drops(of: &[&Drops]) -> Value {
    let mut sum = Map::new();
    for (reason, n) in of.iter().flat_map(|drops| drops.iter()) {
        let entry = sum.entry(reason.as_str()).or_insert(json!(0));
        *entry = json!(entry.as_u64().unwrap_or(0) + n);
    }
    Value::Object(sum)
}

type Pick = fn(&HandleCounters) -> u64;

impl Control {
    /// Everything.
    pub fn stats(&self) -> Value {
        let sessions = || self.sessions.values().filter(|session| session.is_named());
        let handles: Vec<Value> = sessions()
            .flat_map(|session| {
                session
                    .handles
                    .values()
                    .map(|handle| self.handle_stats(session, handle))
            })
            .collect();
        let nfs: Map<String, Value> = sessions()
            .map(|session| (session.name(), nf_stats(session)))
            .collect();
        json!({
            "platform": {
                "version": env!("CARGO_PKG_VERSION"),
                "uptime_s": self.started.elapsed().as_secs_f64(),
                "lossless": self.lossless,
                "pages": if self.facts["page_bytes"].as_u64() > Some(4096) { "huge" } else { "plain" },
                "facts": self.facts,
                "connections": {
                    "hung_up": self.connections.hung_up,
                    "put_off": self.connections.put_off,
                },
            },
            "workers": self.workers.iter().map(|worker| json!({
                "cpu": worker.cpu,
                "loops": worker.counters.loops.get(),
                "busy_loops": worker.counters.busy_loops.get(),
                "naps": worker.counters.naps.get(),
                "wakes": worker.counters.wakes.get(),
            })).collect::<Vec<_>>(),
            "pools": self.pools.iter().map(|pool| self.pool_stats(pool)).collect::<Vec<_>>(),
            "ports": self.ports.iter().enumerate().map(|(number, port)| (port.spec.name.clone(), self.port_stats(number, port))).collect::<Map<_, _>>(),
            "devices": self.devices.iter().filter(|device| !device.gone).map(|device| (device.name.clone(), json!({
                "mode": self.config.device(&device.name).map(|device| device.mode.as_str()),
                "ports": device.ports.iter().map(|&port| self.ports[port].spec.name.clone()).collect::<Vec<_>>(),
            }))).collect::<Map<_, _>>(),
            "handles": handles,
            "nfs": nfs,
            "closed_handles": self.closed.values().collect::<Vec<_>>(),
            "reclaims": {
                "count": self.reclaims.count,
                "buffers": self.reclaims.buffers,
                "last_us": self.reclaims.last_nanos as f64 / 1e3,
                "max_us": self.reclaims.max_nanos as f64 / 1e3,
            },
        })
    }

    fn port_stats(&self, number: usize, port: &PortEntry) -> Value {
        let counters = &port.counters;
        let failed = counters.write_failed.get();
        let mut tx_drops = drops(&[&counters.tx_drops]);
        if failed != 0 {
            tx_drops[DropReason::WriteFailed.as_str()] = json!(failed);
        }
        let waits_for = match port.plays() && !port.started {
            true => self.awaited(number),
            false => Vec::new(),
        };
        json!({
            "number": number,
            "present": port.present,
            "received": counters.received.get(),
            "bytes": counters.bytes.get(),
            "dispatched": counters.dispatched.get(),
            "bypassed": counters.bypassed.get(),
            "drops": drops(&[&counters.drops]),
            "started": counters.started.get() == 1,
            "ended": port.ended(),
            "waits_for": waits_for,
            "mtu": port.mtu,
            "link": port.link_up,
            "notes": port.notes,
            "faults": port.faults.iter().filter_map(Fault::get).map(ToString::to_string).collect::<Vec<_>>(),
            "tx": {
                "accepted": counters.accepted.get(),
                "transmitted": counters.transmitted.get().saturating_sub(failed),
                "bytes": counters.transmitted_bytes.get(),
                "unwritten": counters.unwritten.get(),
                "drops": tx_drops,
            },
        })
    }

    fn pool_stats(&self, pool: &PoolEntry) -> Value {
        let (free, kept, lent) = (
            u64::from(pool.pool.available()),
            pool.counters.kept.get(),
            pool.counters.lent.get(),
        );
        let buffers = u64::from(pool.pool.buffers());
        json!({
            "pool": pool.id,
            "name": pool.pool.name(),
            "worker": pool.worker,
            "buffers": buffers,
            "free": free + kept,
            "held": lent,
            "shares": pool.counters.shares.get(),
            "in_pmd": buffers.saturating_sub(free + kept + lent),
            "data_room": pool.pool.data_room_bytes(),
            "page_bytes": pool.pool.page_bytes(),
        })
    }

    /// One handle, summed over its workers.
    pub fn handle_stats(&self, session: &Session, handle: &Handle) -> Value {
        let mut stats = books(handle);
        stats["nf"] = json!(session.name());
        stats["role"] = json!(session.role);
        stats["device"] = json!(self.devices[handle.device].name);
        stats["slot"] = json!(handle.slot);
        stats["rx"] = json!(handle.rx);
        stats["tx"] = json!(handle.tx);
        stats["ended"] = json!(handle.ended);
        stats["stuck"] = json!(handle.stuck);
        stats["ring"] = json!(
            handle
                .lanes
                .first()
                .map_or(0, |lane| lane.down.rx_capacity())
        );
        stats["state"] = json!(match handle.phase {
            HandlePhase::Mapping(_) => "mapping",
            HandlePhase::Attaching { .. } => "attaching",
            HandlePhase::Open => "open",
            HandlePhase::Closing { .. } => "closing",
        });
        stats
    }

    /// Adds a closed handle's books to those of its role and device.
    pub(super) fn keep_books(&mut self, (role, device): (String, String), handle: &Handle) {
        let mut latest = books(handle);
        latest["nf"] = json!(role);
        latest["role"] = json!(role);
        latest["device"] = json!(device);
        latest["closed"] = json!(1);
        match self.closed.entry((role, device)) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(latest)),
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                add(entry.get_mut(), &latest)
            }
        }
    }
}

/// Adds numbers to numbers, tree by tree.
fn add(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                add(into.entry(key).or_insert(json!(0)), value);
            }
        }
        (into, Value::Number(n)) if into.is_number() => {
            *into = json!(into.as_u64().unwrap_or(0) + n.as_u64().unwrap_or(0));
        }
        (into @ Value::Number(_), Value::Object(_)) => *into = from.clone(),
        _ => {}
    }
}

fn books(handle: &Handle) -> Value {
    let lanes: Vec<&HandleCounters> = handle.lanes.iter().map(|lane| &*lane.counters).collect();
    let sum = |pick: Pick| json!(lanes.iter().map(|counters| pick(counters)).sum::<u64>());
    json!({
        "offered": sum(|c| c.offered.get()),
        "delivered": sum(|c| c.delivered.get()),
        "copied": sum(|c| c.copied.get()),
        "drops": drops(&lanes.iter().map(|c| &c.drops).collect::<Vec<_>>()),
        "held": sum(|c| c.held.get()),
        "limit": sum(|c| c.limit.get()),
        "out": {
            "sent": sum(|c| c.sent.get()),
            "forwarded": sum(|c| c.forwarded.get()),
            "mirrored": sum(|c| c.mirrored.get()),
            "released": sum(|c| c.released.get()),
            "built": sum(|c| c.built.get()),
            "tx_ring_full": sum(|c| c.tx_ring_full.get()),
            "no_way": sum(|c| c.no_way.get()),
            "nf_died": sum(|c| c.died.get()),
            "drops": drops(&lanes.iter().map(|c| &c.out_drops).collect::<Vec<_>>()),
        },
    })
}

fn nf_stats(session: &Session) -> Value {
    json!({
        "role": session.role,
        "pid": session.pid,
        "uid": session.uid,
        "alive": !session.is_leaving(),
        "stuck": session.handles.values().any(|handle| handle.stuck),
        "refused": session.shares.iter().map(|share| share.counters.refused.get()).sum::<u64>(),
        "quarantined": session.quarantined,
    })
}
