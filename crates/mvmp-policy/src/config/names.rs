//! Names of ports, devices and roles: what they may look like, and finding them.

use super::reader::{Place, Result, shortened};
use crate::suggest::did_you_mean;

const NAME_BYTES_MAX: usize = 64;

/// The sections whose keys are names, with their limits.
#[derive(Clone, Copy)]
pub(super) struct Section {
    pub(super) noun: &'static str,
    pub(super) plural: &'static str,
    pub(super) max: usize,
}

pub(super) const PORTS: Section = Section {
    noun: "port",
    plural: "ports",
    max: 32,
};
pub(super) const DEVICES: Section = Section {
    noun: "device",
    plural: "devices",
    max: 64,
};
pub(super) const ROLES: Section = Section {
    noun: "role",
    plural: "roles",
    max: 256,
};

pub(super) const GROUPS: Section = Section {
    noun: "group",
    plural: "groups",
    max: 64,
};

/// Reads a table of named things, in the order of the file.
pub(super) fn read<'a, T>(
    place: &Place<'a>,
    section: Section,
    mut one: impl FnMut(&str, &Place<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let entries = place.entries()?;
    if let Some((_, beyond)) = entries.get(section.max) {
        let Section { plural, max, .. } = section;
        let message = format!("{} {plural}: at most {max} are possible", entries.len());
        return Err(beyond.fail_key(message));
    }
    let mut read = Vec::with_capacity(entries.len());
    for (name, place) in &entries {
        check(name, place, section)?;
        read.push(one(name, place)?);
    }
    Ok(read)
}

pub(super) fn check(name: &str, place: &Place<'_>, section: Section) -> Result<()> {
    let noun = section.noun;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if let Some(wrong) = name.chars().find(|c| !allowed(*c)) {
        let message = format!("a {noun}'s name cannot contain {wrong:?}");
        return Err(place
            .fail_key(message)
            .with_hint("letters, digits, `_`, `.` and `-` are allowed"));
    }
    if name.is_empty() || name.starts_with(['.', '-']) {
        let message = format!("a {noun}'s name begins with a letter, a digit or `_`");
        return Err(place.fail_key(message));
    }
    if name.len() > NAME_BYTES_MAX {
        let message = format!("a {noun}'s name has at most {NAME_BYTES_MAX} characters");
        return Err(place.fail_key(message));
    }
    Ok(())
}

/// Refuses a name that is not among `known`.
pub(super) fn resolve<'k>(
    name: &str,
    place: &Place<'_>,
    section: Section,
    known: impl Iterator<Item = &'k str> + Clone,
) -> Result<()> {
    if known.clone().any(|other| other == name) {
        return Ok(());
    }
    let Section { noun, plural, .. } = section;
    let hint = did_you_mean(name, known.clone()).unwrap_or_else(|| {
        let names: Vec<_> = known.take(8).map(|name| format!("`{name}`")).collect();
        match names.is_empty() {
            true => format!("there are no {plural}"),
            false => format!("{plural} are {}", names.join(", ")),
        }
    });
    Err(place
        .fail(format!("unknown {noun} `{}`", shortened(name)))
        .with_hint(hint))
}
