//! `[nfs]`: the authorization table.

use super::keys;
use super::names::{self, DEVICES, GROUPS, PORTS};
use super::reader::{Place, Result, shortened};
use super::spec::{DeviceSpec, MEMORY_BYTES_DEFAULT, NFS_MAX, NfSpec, PortSpec, Right};

const MEMORY_BYTES_MIN: u64 = 64 << 10;
const MEMORY_BYTES_MAX: u64 = 1 << 30;
const PAGE_BYTES: u64 = 4_096;

/// What the sections before this one name.
pub(super) struct Known<'a> {
    pub(super) devices: &'a [DeviceSpec],
    pub(super) ports: &'a [PortSpec],
    /// `platform.open`: what is not listed may be opened, too.
    pub(super) open: bool,
}

pub(super) fn read(name: &str, place: &Place<'_>, known: &Known<'_>) -> Result<NfSpec> {
    let fields = place.fields(keys::NF)?;
    let rights = fields
        .read("devices", |place| rights(place, known.devices))?
        .ok_or_else(|| {
            let hint = "write devices = [\"NAME:rx\"]: what this role may open";
            fields.fail("`devices` is missing").with_hint(hint)
        })?;
    let instances = fields.read("instances", |p| p.integer(1..=i64::from(NFS_MAX)))?;
    let uid = fields.read("uid", |p| p.integer(0..=i64::from(u32::MAX - 1)))?;
    let groups = fields.read("groups", |place| groups(place, known, &rights))?;
    let may_define = fields.read("may_define", |place| may_define(place, known.ports))?;
    Ok(NfSpec {
        name: name.into(),
        devices: rights,
        instances: instances.unwrap_or(1) as u32,
        memory_bytes: fields
            .read("memory", memory)?
            .unwrap_or(MEMORY_BYTES_DEFAULT),
        uid: uid.map(|uid| uid as u32),
        groups: groups.unwrap_or_default(),
        may_define: may_define.unwrap_or_default(),
    })
}

/// Device by device, the group in which it receives.
fn groups(place: &Place<'_>, known: &Known<'_>, rights: &[Right]) -> Result<Vec<(String, String)>> {
    let mut groups = Vec::new();
    for (device, group) in place.entries()? {
        let devices = known.devices.iter().map(|device| device.name.as_str());
        names::resolve(device, &group.at_key(), DEVICES, devices)?;
        let right = rights.iter().find(|right| right.device == device);
        if !right.map_or(known.open, |right| right.rx) {
            let message = format!("it may not receive from `{device}`");
            let hint = format!("add \"{device}:rx\" to its `devices`");
            return Err(group.fail_key(message).with_hint(hint));
        }
        let name = group.string()?;
        let at_value = Place {
            key_span: None,
            ..group.clone()
        };
        names::check(name, &at_value, GROUPS)?;
        groups.push((device.to_string(), name.to_string()));
    }
    Ok(groups)
}

fn may_define(place: &Place<'_>, ports: &[PortSpec]) -> Result<Vec<String>> {
    let mut over = Vec::new();
    for (port, item) in place.strings()? {
        let known = ports.iter().map(|port| port.name.as_str());
        names::resolve(port, &item, PORTS, known)?;
        over.push(port.to_string());
    }
    Ok(over)
}

fn rights(place: &Place<'_>, devices: &[DeviceSpec]) -> Result<Vec<Right>> {
    let mut rights: Vec<Right> = Vec::new();
    for (text, item) in place.strings()? {
        let right = right(text, &item)?;
        let known = devices.iter().map(|device| device.name.as_str());
        names::resolve(&right.device, &item, DEVICES, known)?;
        if rights.iter().any(|other| other.device == right.device) {
            let message = format!("`{}` is listed twice", right.device);
            let hint = format!(
                "\"{}\" without a suffix is for receiving and sending",
                right.device
            );
            return Err(item.fail(message).with_hint(hint));
        }
        rights.push(right);
    }
    Ok(rights)
}

fn right(text: &str, place: &Place<'_>) -> Result<Right> {
    let (device, rx, tx) = match text.split_once(':') {
        None => (text, true, true),
        Some((device, "rx")) => (device, true, false),
        Some((device, "tx")) => (device, false, true),
        Some((device, "rxtx")) => (device, true, true),
        Some((device, other)) => {
            let message = format!("`:{}` is not a right", shortened(other));
            let hint = format!(
                "write \"{0}:rx\", \"{0}:tx\", or \"{0}\" for both",
                shortened(device)
            );
            return Err(place.fail(message).with_hint(hint));
        }
    };
    Ok(Right {
        device: device.into(),
        rx,
        tx,
    })
}

fn memory(place: &Place<'_>) -> Result<u64> {
    let bytes = if place.is_string() {
        let text = place.string()?;
        size_bytes(text).ok_or_else(|| {
            let message = format!("\"{}\" is not a size", shortened(text));
            place
                .fail(message)
                .with_hint("write it as \"512K\", \"16M\" or \"1G\"")
        })?
    } else {
        place.integer(0..=i64::MAX)? as u64
    };
    if !(MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&bytes) {
        return Err(place.fail(format!("{bytes} bytes are out of range: 64K to 1G")));
    }
    Ok(bytes.next_multiple_of(PAGE_BYTES))
}

/// `16M` and the like, in powers of 1024.
fn size_bytes(text: &str) -> Option<u64> {
    let text = text
        .strip_suffix("iB")
        .or(text.strip_suffix('B'))
        .unwrap_or(text);
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::size_bytes;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size_bytes("1M"), Some(1 << 20));
        assert_eq!(size_bytes("64KiB"), Some(64 << 10));
        assert_eq!(size_bytes("70000"), Some(70_000));
    }

    #[test]
    fn what_is_not_a_size_is_none() {
        for text in [
            "",
            "M",
            "1T",
            "-1",
            "1.5M",
            "99999999999999999999",
            "99999999999G",
        ] {
            assert_eq!(size_bytes(text), None, "{text}");
        }
    }
}
