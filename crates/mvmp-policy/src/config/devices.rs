//! `[devices]`: virtual devices.

use super::cells;
use super::keys;
use super::names::{self, PORTS};
use super::reader::{Fields, Place, Result, shortened};
use super::spec::{Absent, Cell, DeviceSpec, Mode, PortSpec, Receive};

pub(super) fn read(name: &str, place: &Place<'_>, ports: &[PortSpec]) -> Result<DeviceSpec> {
    let fields = place.fields(keys::DEVICE)?;
    let mode = fields.read("mode", mode)?.ok_or_else(|| {
        let hint = "write mode = \"direct\", \"bond\", \"bridge\" or \"rootless\"";
        fields.fail("`mode` is missing").with_hint(hint)
    })?;
    let own = own_ports(&fields, mode, ports)?;
    let receive = fields.read("receive", |place| cells::receive(place, &own))?;
    let (send, ways) = match fields.get("send") {
        Some(place) => cells::send(place, mode, &own)?,
        None => (mode.send_policy(), Vec::new()),
    };
    let cell = |port: &str| Cell {
        port: port.into(),
        receive: match &receive {
            None => Some(Receive::all()),
            Some(cells) => named(cells, port),
        },
        send: named(&ways, port).unwrap_or_default(),
    };
    Ok(DeviceSpec {
        name: name.into(),
        mode,
        cells: own.iter().map(|port| cell(port)).collect(),
        send,
        absent: fields
            .read("absent", |place| absent(place, mode))?
            .unwrap_or_default(),
    })
}

fn named<T: Clone>(cells: &[(String, T)], port: &str) -> Option<T> {
    let mut cells = cells.iter();
    let (_, cell) = cells.find(|(name, _)| name == port)?;
    Some(cell.clone())
}

fn mode(place: &Place<'_>) -> Result<Mode> {
    place.choose(&[
        ("direct", Some(Mode::Direct)),
        ("bond", Some(Mode::Bond)),
        ("bridge", Some(Mode::Bridge)),
        ("rootless", Some(Mode::Rootless)),
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
        (Mode::Direct, 1) | (Mode::Bond | Mode::Bridge, 2..) | (Mode::Rootless, 0) => {
            return Ok(own);
        }
        (Mode::Direct, n) => (
            format!("a direct device has exactly one port, this one has {n}"),
            (n > 1).then_some("over several ports a device is a \"bond\" or a \"bridge\""),
        ),
        (Mode::Bond | Mode::Bridge, n) => (
            format!(
                "a {} has two ports or more, this one has {n}",
                mode.as_str()
            ),
            (n == 1).then_some("over one port a device is \"direct\""),
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

/// Refuses a key that is no port of this device.
pub(super) fn own_port(port: &str, place: &Place<'_>, own: &[String]) -> Result<()> {
    let known = own.iter().map(String::as_str);
    names::resolve(port, &place.at_key(), PORTS, known).map_err(|mut error| {
        error.message = format!("`{}` is not a port of this device", shortened(port));
        error
    })
}

fn absent(place: &Place<'_>, mode: Mode) -> Result<Absent> {
    let absent = place.choose(&[
        ("drop", Some(Absent::Drop)),
        ("bypass", Some(Absent::Bypass)),
    ])?;
    if mode == Mode::Rootless && absent == Absent::Bypass {
        let message = "a rootless device has no port to send on by";
        return Err(place.fail(message).with_hint("leave `absent` away"));
    }
    Ok(absent)
}
