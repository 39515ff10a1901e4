//! `[devices]`: virtual devices and their cells.

use super::keys;
use super::names::{self, PORTS};
use super::reader::{Fields, Place, Result};
use super::spec::{Cell, DeviceSpec, Mode, PortSpec};
use crate::rule::Rule;

pub(super) fn read(name: &str, place: &Place<'_>, ports: &[PortSpec]) -> Result<DeviceSpec> {
    let fields = place.fields(keys::DEVICE)?;
    let mode = fields.read("mode", mode)?.ok_or_else(|| {
        let hint = "write mode = \"direct\", \"bridge\" or \"rootless\"";
        fields.fail("`mode` is missing").with_hint(hint)
    })?;
    let own = own_ports(&fields, mode, ports)?;
    let receive = fields.read("receive", |place| receive(place, &own))?;
    if let Some(place) = fields.get("send") {
        send(place, mode, &own)?;
    }
    let cell = |port: &str| Cell {
        port: port.into(),
        receive: match &receive {
            None => Some(Rule::all()),
            Some(rules) => rules
                .iter()
                .find(|(name, _)| name == port)
                .map(|(_, rule)| rule.clone()),
        },
    };
    Ok(DeviceSpec {
        name: name.into(),
        mode,
        cells: own.iter().map(|port| cell(port)).collect(),
    })
}

fn mode(place: &Place<'_>) -> Result<Mode> {
    place.choose(&[
        ("direct", Some(Mode::Direct)),
        ("bridge", Some(Mode::Bridge)),
        ("rootless", Some(Mode::Rootless)),
        ("bond", None),
    ])
}

/// The ports of a device: they exist, each once, and there are as many as its mode needs.
fn own_ports(fields: &Fields<'_>, mode: Mode, ports: &[PortSpec]) -> Result<Vec<String>> {
    let mut own = Vec::new();
    if let Some(place) = fields.get("ports") {
        for (name, item) in place.strings()? {
            names::resolve(
                name,
                &item,
                PORTS,
                ports.iter().map(|port| port.name.as_str()),
            )?;
            own.push(name.to_string());
        }
    }
    let fault = match (mode, own.len()) {
        (Mode::Direct, 1) | (Mode::Bridge, 2) | (Mode::Rootless, 0) => return Ok(own),
        (Mode::Direct, n) => (
            format!("a direct device has exactly one port, this one has {n}"),
            None,
        ),
        (Mode::Bridge, n @ 0..2) => (format!("a bridge joins two ports, this one has {n}"), None),
        (Mode::Bridge, _) => (
            "a bridge over more than two ports is not supported yet".into(),
            None,
        ),
        (Mode::Rootless, _) => (
            "a rootless device has no ports".into(),
            Some("leave `ports` away, or use mode = \"direct\""),
        ),
    };
    let error = match fields.get("ports") {
        Some(place) => place.fail(fault.0),
        None => fields.fail(fault.0),
    };
    Err(error.or_hint(fault.1.map(String::from)))
}

fn receive(place: &Place<'_>, own: &[String]) -> Result<Vec<(String, Rule)>> {
    if place.is_string() {
        let error = place.fail("expected a table with a rule for each port, found a string");
        return Err(match own.first() {
            Some(port) => error.with_hint(format!("write {{ {port} = \"…\" }}")),
            None => error,
        });
    }
    if own.is_empty() {
        let error = place.fail_key("a rootless device has no ports to receive from");
        return Err(error.with_hint("leave `receive` away"));
    }
    let mut rules = Vec::new();
    for (port, cell) in place.entries()? {
        own_port(port, &cell, own)?;
        rules.push((port.to_string(), self::cell(&cell)?));
    }
    Ok(rules)
}

fn own_port(port: &str, place: &Place<'_>, own: &[String]) -> Result<()> {
    if own.iter().any(|name| name == port) {
        return Ok(());
    }
    let known = own.iter().map(String::as_str);
    let at_key = Place {
        node: &super::tree::KEY_ONLY,
        ..place.clone()
    };
    names::resolve(port, &at_key, PORTS, known).map_err(|mut error| {
        error.message = format!(
            "`{}` is not a port of this device",
            super::reader::shortened(port)
        );
        error
    })
}

/// One cell: a rule, or a table with one.
fn cell(place: &Place<'_>) -> Result<Rule> {
    if place.is_string() {
        return rule(place);
    }
    if !place.is_table() {
        let message = format!(
            "expected a rule or a table, found {}",
            place.node.value.kind()
        );
        return Err(place
            .fail(message)
            .with_hint("write \"all\", or leave the port away to receive nothing"));
    }
    let fields = place.fields(keys::RECEIVE)?;
    fields.read("direction", |place| {
        place.choose(&[("in", Some(())), ("out", None), ("inout", None)])
    })?;
    Ok(fields.read("match", rule)?.unwrap_or_else(Rule::all))
}

fn rule(place: &Place<'_>) -> Result<Rule> {
    let text = place.string()?;
    Rule::parse(text).map_err(|error| {
        let span = place.node.span.clone();
        place.source.rule_error(span, place.path.clone(), error)
    })
}

/// The mode says how packets are sent; what is written here must agree with it.
fn send(place: &Place<'_>, mode: Mode, own: &[String]) -> Result<()> {
    for (key, entry) in place.entries()? {
        match key {
            "policy" => send_policy(&entry, mode)?,
            _ if own.iter().any(|port| port == key) => encap(&entry)?,
            _ => {
                let known = own.iter().map(String::as_str).chain(["policy"]);
                let hint = crate::suggest::did_you_mean(key, known)
                    .unwrap_or_else(|| "`policy`, or a port of this device".into());
                let message = format!("unknown key `{}`", super::reader::shortened(key));
                return Err(entry.fail_key(message).with_hint(hint));
            }
        }
    }
    Ok(())
}

fn send_policy(place: &Place<'_>, mode: Mode) -> Result<()> {
    place.choose(&[
        ("opposite", Some(())),
        ("round-robin", None),
        ("hash", None),
        ("active-backup", None),
    ])?;
    if mode == Mode::Bridge {
        return Ok(());
    }
    let message = format!(
        "\"opposite\" is for bridges, this device is {}",
        mode.as_str()
    );
    Err(place.fail(message).with_hint("leave `send` away"))
}

/// A port's own way of sending: nothing of it exists yet.
fn encap(place: &Place<'_>) -> Result<()> {
    match place.entries()?.first() {
        Some((key, entry)) => {
            let message = format!("`{}` is not supported yet", super::reader::shortened(key));
            Err(entry.fail_key(message))
        }
        None => Ok(()),
    }
}
