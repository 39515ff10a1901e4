//! The cells of a device: `receive.PORT` and `send.PORT`, and the send policy beside them.

use mvmp_wire::packet::LayerSet;

use super::ConfigError;
use super::devices::own_port;
use super::encap;
use super::keys;
use super::reader::{Fields, Place, Result, shortened};
use super::spec::{CellSend, Ethernet, Mode, Receive, SendPolicy, Toward};
use crate::rule::Rule;
use crate::suggest::did_you_mean;

/// What is received, port by port; a port that is left out is an empty cell.
pub(super) fn receive(place: &Place<'_>, own: &[String]) -> Result<Vec<(String, Receive)>> {
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
    let mut cells = Vec::new();
    for (port, cell) in place.entries()? {
        own_port(port, &cell, own)?;
        cells.push((port.to_string(), receive_cell(&cell)?));
    }
    Ok(cells)
}

/// One cell: a rule, or a table.
fn receive_cell(place: &Place<'_>) -> Result<Receive> {
    let all = Receive::all();
    if place.is_string() {
        return Ok(Receive {
            rule: rule(place)?,
            ..all
        });
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
    let direction = |place: &Place<'_>| {
        place.choose(&[
            ("in", Some(Toward::In)),
            ("out", Some(Toward::Out)),
            ("inout", Some(Toward::InOut)),
        ])
    };
    let (decap, strip) = layers_of(&fields)?;
    Ok(Receive {
        rule: fields.read("match", rule)?.unwrap_or(all.rule),
        decap,
        strip,
        direction: fields.read("direction", direction)?.unwrap_or_default(),
    })
}

fn rule(place: &Place<'_>) -> Result<Rule> {
    let text = place.string()?;
    Rule::parse(text).map_err(|error| {
        let span = place.node.span.clone();
        place.source.rule_error(span, place.path.clone(), error)
    })
}

/// `decap` and `strip`: a layer is jumped over or removed, not both.
fn layers_of(fields: &Fields<'_>) -> Result<(LayerSet, LayerSet)> {
    let decap = fields.read("decap", layers)?.unwrap_or_default();
    let strip = fields.read("strip", layers)?.unwrap_or_default();
    let both = decap.words().find(|word| strip.words().any(|w| w == *word));
    match (both, fields.get("strip")) {
        (Some(word), Some(place)) => Err(place
            .fail(format!("`{word}` is in `decap` too"))
            .with_hint("`decap` jumps over a layer, `strip` removes it: name it in one of them")),
        _ => Ok((decap, strip)),
    }
}

/// Words for layers, or `"auto"` for all.
pub(super) fn layers(place: &Place<'_>) -> Result<LayerSet> {
    if place.is_string() {
        return match place.string()? {
            "auto" => Ok(LayerSet::AUTO),
            other => Err(place
                .fail("expected a list of layers or \"auto\", found a string")
                .with_hint(format!("write [\"{}\"]", shortened(other)))),
        };
    }
    let mut set = LayerSet::default();
    for (word, item) in place.strings()? {
        let layer = LayerSet::from_word(word).ok_or_else(|| unknown_layer(word, &item))?;
        set = set.union(layer);
    }
    Ok(set)
}

fn unknown_layer(word: &str, place: &Place<'_>) -> ConfigError {
    let known: Vec<_> = LayerSet::AUTO.words().chain(["auto"]).collect();
    let hint = did_you_mean(word, known.iter().copied())
        .unwrap_or_else(|| format!("layers are {}", known.join(", ")));
    let message = format!("unknown layer \"{}\"", shortened(word));
    place.fail(message).with_hint(hint)
}

type Ways = Vec<(String, CellSend)>;

/// The send policy, and what each port adds.
pub(super) fn send(
    place: &Place<'_>,
    mode: Mode,
    own: &[String],
) -> Result<(Option<SendPolicy>, Ways)> {
    let mut policy = mode.send_policy();
    let mut ways = Vec::new();
    for (key, entry) in place.entries()? {
        if key == "policy" {
            policy = Some(send_policy(&entry, mode)?);
        } else if own.iter().any(|port| port == key) {
            ways.push((key.to_string(), send_cell(&entry)?));
        } else {
            let known = own.iter().map(String::as_str).chain(["policy"]);
            let hint = did_you_mean(key, known)
                .unwrap_or_else(|| "`policy`, or a port of this device".into());
            let message = format!("unknown key `{}`", shortened(key));
            return Err(entry.fail_key(message).with_hint(hint));
        }
    }
    Ok((policy, ways))
}

fn send_policy(place: &Place<'_>, mode: Mode) -> Result<SendPolicy> {
    let all = [
        SendPolicy::RoundRobin,
        SendPolicy::Hash,
        SendPolicy::ActiveBackup,
        SendPolicy::Opposite,
    ];
    let policy = place.choose(&all.map(|policy| (policy.as_str(), Some(policy))))?;
    let (right_mode, whose) = match policy {
        SendPolicy::Opposite => (Mode::Bridge, "bridges"),
        _ => (Mode::Bond, "bonds"),
    };
    if mode == right_mode {
        return Ok(policy);
    }
    let (this, hint) = match mode {
        Mode::Direct => ("direct", "leave `policy` away"),
        Mode::Rootless => ("rootless", "leave `policy` away"),
        Mode::Bond => (
            "a bond",
            "write \"round-robin\", \"hash\" or \"active-backup\"",
        ),
        Mode::Bridge => ("a bridge", "leave `policy` away, or use mode = \"bond\""),
    };
    let message = format!(
        "\"{}\" is for {whose}, this device is {this}",
        policy.as_str()
    );
    Err(place.fail(message).with_hint(hint))
}

/// What a port adds when it sends.
fn send_cell(place: &Place<'_>) -> Result<CellSend> {
    let fields = place.fields(keys::SEND_CELL)?;
    let cell = CellSend {
        encap: fields.read("encap", encap::read)?,
        ethernet: fields.read("ethernet", ethernet)?,
    };
    if let (Some(encap), Some(place)) = (&cell.encap, fields.get("encap")) {
        encap::check(place, encap, cell.ethernet)?;
    }
    Ok(cell)
}

fn ethernet(place: &Place<'_>) -> Result<Ethernet> {
    let fields = place.fields(keys::ETHERNET)?;
    let address = |key: &str| {
        fields.read(key, mac)?.ok_or_else(|| {
            let hint = "write { src = \"02:00:00:00:00:01\", dst = \"02:00:00:00:00:02\" }";
            fields.fail(format!("`{key}` is missing")).with_hint(hint)
        })
    };
    let ethernet = Ethernet {
        src: address("src")?,
        dst: address("dst")?,
    };
    match fields.get("src") {
        Some(place) if ethernet.src[0] & 1 == 1 => Err(place
            .fail("a source address cannot be a group's")
            .with_hint("the lowest bit of its first byte is 0")),
        _ => Ok(ethernet),
    }
}

fn mac(place: &Place<'_>) -> Result<[u8; 6]> {
    let text = place.string()?;
    let byte = |part: &str| match part.len() {
        1 | 2 if !part.starts_with('+') => u8::from_str_radix(part, 16).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            let message = format!("\"{}\" is not a MAC address", shortened(text));
            place
                .fail(message)
                .with_hint("write it as \"02:00:00:00:00:01\"")
        })
}
