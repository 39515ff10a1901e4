//! `[ports]`: NICs, and what stands in for them.

use std::path::PathBuf;

use super::keys;
use super::reader::{Fields, Place, Result, shortened};
use super::spec::{CAPTURE_FRAME_BYTES_DEFAULT, CaptureSpec, PortKind, PortSpec, Rate, WaitFor};

const DEVARGS_BYTES_MAX: usize = 1_024;
const INTERFACE_BYTES_MAX: usize = 15;
const FRAME_BYTES: std::ops::RangeInclusive<i64> = 64..=9_600;
const CAPTURE_ONLY: &[&str] = &["loop", "rate", "wait_for"];

pub(super) fn read(name: &str, place: &Place<'_>) -> Result<PortSpec> {
    if name == "policy" {
        let message = "a port cannot be called `policy`: `send` has a key of that name";
        return Err(place.fail_key(message));
    }
    if place.is_string() {
        return Ok(PortSpec {
            name: name.into(),
            kind: PortKind::Devargs {
                devargs: devargs(place)?,
            },
            queues: 1,
            max_frame: None,
        });
    }
    if !place.is_table() {
        let message = format!(
            "expected a table or a string, found {}",
            place.node.value.kind()
        );
        return Err(place
            .fail(message)
            .with_hint("write { interface = \"eth1\" }, or devargs as a string"));
    }
    let fields = place.fields(keys::PORT)?;
    let kind = kind(&fields)?;
    let default = matches!(kind, PortKind::Capture(_)).then_some(CAPTURE_FRAME_BYTES_DEFAULT);
    let max_frame = fields.read("max_frame", |p| p.integer(FRAME_BYTES))?;
    Ok(PortSpec {
        name: name.into(),
        kind,
        queues: fields.read("queues", queues)?.unwrap_or(1),
        max_frame: max_frame.map(|bytes| bytes as u32).or(default),
    })
}

fn kind(fields: &Fields<'_>) -> Result<PortKind> {
    let kinds = ["devargs", "interface", "pcap", "out"];
    let given: Vec<_> = kinds
        .into_iter()
        .filter(|key| fields.get(key).is_some())
        .collect();
    match given.as_slice() {
        [] => Err(fields
            .fail("does not say what kind of port it is")
            .with_hint("give `devargs`, `interface`, `pcap` or `out`")),
        ["pcap"] | ["out"] | ["pcap", "out"] => capture(fields).map(PortKind::Capture),
        [first, second, ..] => {
            let message = format!("`{first}` and `{second}` exclude each other");
            Err(fields.fail(message).with_hint("a port is of one kind"))
        }
        [kind] => {
            if let Some(place) = CAPTURE_ONLY.iter().find_map(|key| fields.get(key)) {
                return Err(place.fail_key(format!("is for captures; this port has `{kind}`")));
            }
            let devargs = fields.read("devargs", devargs)?;
            let interface = fields.read("interface", interface)?;
            Ok(match (devargs, interface) {
                (Some(devargs), _) => PortKind::Devargs { devargs },
                (None, interface) => PortKind::Interface {
                    interface: interface.unwrap_or_default(),
                },
            })
        }
    }
}

fn capture(fields: &Fields<'_>) -> Result<CaptureSpec> {
    let pcap = fields.read("pcap", path)?;
    if pcap.is_none()
        && let Some(place) = CAPTURE_ONLY.iter().find_map(|key| fields.get(key))
    {
        return Err(place
            .fail_key("there is nothing to play")
            .with_hint("give `pcap` too"));
    }
    let default = CaptureSpec::default();
    let count = |place: &Place<'_>| place.integer(0..=i64::MAX).map(|number| number as u64);
    Ok(CaptureSpec {
        pcap,
        out: fields.read("out", path)?,
        loop_count: fields.read("loop", count)?.unwrap_or(default.loop_count),
        rate: fields.read("rate", rate)?.unwrap_or(default.rate),
        wait_for: fields.read("wait_for", wait_for)?,
    })
}

fn path(place: &Place<'_>) -> Result<PathBuf> {
    let text = place.string()?;
    if text.is_empty() || text.contains('\0') {
        return Err(place.fail("is not the name of a file"));
    }
    Ok(text.into())
}

pub(super) fn devargs(place: &Place<'_>) -> Result<String> {
    let text = place.string()?;
    let is_wrong = |c: char| c.is_whitespace() || c.is_control();
    if text.is_empty()
        || text.len() > DEVARGS_BYTES_MAX
        || text.contains(is_wrong)
        || text.starts_with('-')
    {
        let message = format!("\"{}\" is not a DPDK device", shortened(text));
        return Err(place
            .fail(message)
            .with_hint("devargs are a PCI address or `net_…`, without blanks"));
    }
    if is_capture_file(text) {
        let message = format!(
            "\"{}\" is a capture file, not a DPDK device",
            shortened(text)
        );
        return Err(place
            .fail(message)
            .with_hint(format!("write {{ pcap = \"{}\" }}", shortened(text))));
    }
    Ok(text.into())
}

pub(super) fn is_capture_file(text: &str) -> bool {
    [".pcap", ".pcapng", ".cap"]
        .iter()
        .any(|ending| text.ends_with(ending))
}

pub(super) fn interface(place: &Place<'_>) -> Result<String> {
    let text = place.string()?;
    if is_interface(text) {
        return Ok(text.into());
    }
    let message = format!(
        "\"{}\" is not the name of a kernel interface",
        shortened(text)
    );
    Err(place
        .fail(message)
        .with_hint("1 to 15 characters, as in `ip link`"))
}

/// What the kernel accepts (`dev_valid_name`), and no comma, which would end it in devargs.
pub(super) fn is_interface(text: &str) -> bool {
    let is_wrong = |c: char| c.is_whitespace() || c.is_control() || "/:,".contains(c);
    !text.is_empty()
        && text.len() <= INTERFACE_BYTES_MAX
        && !matches!(text, "." | "..")
        && !text.contains(is_wrong)
}

fn queues(place: &Place<'_>) -> Result<u16> {
    match place.integer(1..=64)? {
        1 => Ok(1),
        _ => Err(place
            .fail("more than one queue is not supported yet")
            .with_hint("write 1, or leave it away")),
    }
}

fn rate(place: &Place<'_>) -> Result<Rate> {
    if place.is_string() {
        return place.choose(&[
            ("recorded", Some(Rate::Recorded)),
            ("max", Some(Rate::Max)),
            ("lossless", Some(Rate::Lossless)),
        ]);
    }
    // Below one packet a day it is a mistake.
    place.number(1.0..=1e10).map(Rate::Pps)
}

fn wait_for(place: &Place<'_>) -> Result<WaitFor> {
    if place.is_list() {
        let roles = place.strings()?;
        return Ok(WaitFor::Roles(
            roles.into_iter().map(|(role, _)| role.into()).collect(),
        ));
    }
    if place.is_string() {
        let role = shortened(place.string()?);
        let error = place.fail("expected a list of roles or a number of handles, found a string");
        return Err(error.with_hint(format!("write [\"{role}\"]")));
    }
    place
        .integer(0..=4_096)
        .map(|handles| WaitFor::Count(handles as u32))
}
