//! The books of a platform: what its statistics say, and what must be true of them.

use serde_json::Value;

/// A counter in the statistics.
///
/// # Panics
/// When it is none.
pub fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("not a number: {value}"))
}

/// The accounts of a role's handle on a device: of one that is open, else of all that were closed.
///
/// # Panics
/// When there is none.
pub fn books<'a>(stats: &'a Value, role: &str, device: &str) -> &'a Value {
    all_handles(stats)
        .find(|handle| handle["role"] == role && handle["device"] == device)
        .unwrap_or_else(|| panic!("no handle of {role} on {device}: {stats:#}"))
}

/// The accounts of all handles, those that were closed last.
///
/// # Panics
/// When these are no statistics.
pub fn all_handles(stats: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["handles", "closed_handles"].map(|list| stats[list].as_array().unwrap());
    lists.into_iter().flatten()
}

fn sum(drops: &Value) -> u64 {
    drops.as_object().unwrap().values().map(number).sum()
}

/// received = dispatched + Σ drops; offered = delivered + Σ drops; delivered = what became of it; accepted = transmitted + Σ drops.
///
/// # Panics
/// When a sum is wrong.
pub fn books_are_right(stats: &Value) {
    for (name, port) in stats["ports"].as_object().unwrap() {
        assert_eq!(
            number(&port["received"]),
            number(&port["dispatched"]) + sum(&port["drops"]),
            "port {name}: {port}"
        );
        let tx = &port["tx"];
        assert_eq!(
            number(&tx["accepted"]),
            number(&tx["transmitted"]) + sum(&tx["drops"]),
            "port {name}: {port}"
        );
    }
    for handle in all_handles(stats) {
        assert_eq!(
            number(&handle["offered"]),
            number(&handle["delivered"]) + sum(&handle["drops"]),
            "{handle}"
        );
        let out = &handle["out"];
        let became = ["sent", "forwarded", "released", "nf_died"]
            .iter()
            .map(|key| number(&out[key]))
            .sum::<u64>();
        assert_eq!(
            number(&handle["delivered"]),
            became + number(&handle["held"]),
            "{handle}"
        );
    }
}
