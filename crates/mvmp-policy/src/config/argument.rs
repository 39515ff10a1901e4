//! The argument of `--port`: `NIC1=in.pcap,out=o.pcap,rate=lossless`, `NIC1=net_null0`, `NIC1=eth1`.
//!
//! It is turned into the table that the file would have and read by the same reader.

use super::ConfigError;
use super::keys;
use super::ports;
use super::reader::{Place, Result, shortened};
use super::source::Source;
use super::spec::PortSpec;
use super::tree::{Entry, Node, Value};

const SOURCE: Source<'static> = Source {
    file: "--port",
    text: None,
};

pub(super) fn read(argument: &str) -> Result<PortSpec> {
    let Some((name, value)) = argument.split_once('=') else {
        let message = format!("`{}` has no `=`", shortened(argument));
        return Err(fail(message).with_hint("write NAME=in.pcap, NAME=eth1 or NAME=net_null0"));
    };
    let entries = port(value)?;
    let root = node(Value::Table(vec![Entry {
        key: name.into(),
        span: None,
        node: node(Value::Table(entries)),
    }]));
    let place = Place::root(&SOURCE, &root);
    let mut read = super::names::read(&place, super::names::PORTS, ports::read)?;
    read.pop().ok_or_else(|| fail("names no port".into()))
}

fn fail(message: String) -> ConfigError {
    SOURCE.error(None, String::new(), message, None)
}

fn node(value: Value) -> Node {
    Node { value, span: None }
}

fn string(key: &str, value: &str) -> Entry {
    Entry {
        key: key.into(),
        span: None,
        node: node(Value::String(value.into())),
    }
}

/// What stands behind `NAME=`, as the entries of a port's table.
fn port(value: &str) -> Result<Vec<Entry>> {
    let first = value.split(',').next().unwrap_or_default();
    if let Some(devargs) = value.strip_prefix("devargs=") {
        return Ok(vec![string("devargs", devargs)]);
    }
    if first
        .split_once('=')
        .is_some_and(|(key, _)| keys::PORT.iter().any(|f| f.name == key))
    {
        return options(value);
    }
    if ports::is_capture_file(first) {
        return options(&format!("pcap={value}"));
    }
    if first.starts_with("net_") || first.contains(':') {
        return Ok(vec![string("devargs", value)]);
    }
    if ports::is_interface(first) {
        return options(&format!("interface={value}"));
    }
    let message = format!(
        "`{}` is neither a capture, an interface nor a DPDK device",
        shortened(value)
    );
    Err(fail(message)
        .with_hint("captures end in .pcap, .pcapng or .cap; else write NAME=pcap=FILE"))
}

fn options(text: &str) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for option in text.split(',') {
        let Some((key, value)) = option.split_once('=') else {
            let message = format!("`{}` has no `=`", shortened(option));
            return Err(fail(message).with_hint("options are KEY=VALUE, with commas between"));
        };
        if entries.iter().any(|entry| entry.key == key) {
            return Err(fail(format!("`{}` is given twice", shortened(key))));
        }
        entries.push(Entry {
            key: key.into(),
            span: None,
            node: node(typed(key, value)),
        });
    }
    Ok(entries)
}

/// Numbers where numbers are meant; roles are joined by `+`.
fn typed(key: &str, value: &str) -> Value {
    let text = || Value::String(value.into());
    match key {
        "loop" | "queues" | "max_frame" => value.parse().map_or_else(|_| text(), Value::Integer),
        "rate" => match value.parse::<f64>() {
            Ok(rate) if rate.is_finite() => Value::Float(rate),
            _ => text(),
        },
        "wait_for" => match value.parse() {
            Ok(count) => Value::Integer(count),
            Err(_) => {
                let roles = value
                    .split('+')
                    .map(|role| node(Value::String(role.into())));
                Value::Array(roles.collect())
            }
        },
        _ => text(),
    }
}
