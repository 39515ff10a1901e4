//! What policies would do with a capture, for `mvmp policy test`.

use std::path::PathBuf;

use mvmp_core::rehearsal::{RehearsalError, Rehearsed, Report, Verdict, rehearse};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::platform::{port_arguments, read_config};
use crate::tree::to_python;

/// What the policies of a configuration would do with a capture that came in by `port`: sums for each device, and
/// the first `told` packets one by one.
#[pyfunction]
#[pyo3(signature = (config, port, capture, *, told=0, ports=None))]
pub fn rehearse_capture(
    py: Python<'_>,
    config: &Bound<'_, PyAny>,
    port: &str,
    capture: PathBuf,
    told: u64,
    ports: Option<&Bound<'_, PyAny>>,
) -> PyResult<Py<PyAny>> {
    let config = read_config(config, port_arguments(ports)?)?;
    let outcome = py.detach(|| {
        let mut packets = Vec::new();
        let report = rehearse(&config, port, &capture, told, |packet| {
            packets.push(packet_tree(&packet));
        })?;
        Ok(report_tree(&report, packets))
    });
    match outcome {
        Ok(tree) => to_python(py, &tree),
        Err(error @ RehearsalError::Port { .. }) => Err(PyValueError::new_err(error.to_string())),
        Err(error) => Err(PyOSError::new_err(error.to_string())),
    }
}

fn packet_tree(packet: &Rehearsed<'_>) -> Value {
    let verdict = |verdict: &Verdict<'_>| {
        json!({
            "device": verdict.device,
            "wanted": verdict.wanted,
            "rule": verdict.rule,
            "direction": verdict.direction.as_str(),
            "jumped": verdict.jumped,
            "delivered": verdict.delivered,
        })
    };
    json!({
        "packet": packet.number,
        "timestamp_ns": packet.meta.timestamp_ns,
        "wire_length": packet.meta.wire_length,
        "too_long": packet.meta.is_too_long(),
        "unsupported": packet.meta.unsupported,
        "devices": packet.verdicts.iter().map(verdict).collect::<Vec<_>>(),
    })
}

fn report_tree(report: &Report, packets: Vec<Value>) -> Value {
    let devices = report.devices.iter().map(|tally| {
        json!({
            "device": tally.device,
            "rule": tally.rule,
            "direction": tally.direction.as_str(),
            "packets": tally.packets,
            "bytes": tally.bytes,
            "jumped": tally.jumped,
        })
    });
    json!({
        "port": report.port,
        "packets": report.packets,
        "unmatched": report.unmatched,
        "too_long": report.too_long,
        "link_type": report.link_type,
        "devices": devices.collect::<Vec<_>>(),
        "told": packets,
    })
}
