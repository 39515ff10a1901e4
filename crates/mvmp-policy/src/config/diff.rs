//! What an `apply` would change: the difference of two configurations, item by item.
//!
//! ```text
//! running ──to_json──┐
//!                    ├─▶ by section and name: added, removed, changed (key: from → to) ─▶ Change
//! new     ──to_json──┘                                    what a running platform cannot do: refused
//! ```
//!
//! Pure: it knows configurations, not the platform. Control adds what only it can know
//! ([`Change::refuse`]) before it carries anything out.

mod refusals;
mod text;

use std::fmt;

use serde_json::{Value, json};

use super::{Config, write};

/// What is different in a new configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Platform first, then ports, devices, roles; what is gone before what is new.
    pub items: Vec<Item>,
}

/// One port, device or role, or one key of `[platform]`, that is different.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Where it stands.
    pub section: Section,
    /// Its name; for [`Section::Platform`] the key.
    pub name: String,
    /// What happens to it.
    pub kind: Kind,
    /// What it is, in a few words, where it is new or gone.
    pub summary: String,
    /// What is different in it, where it is changed.
    pub details: Vec<Detail>,
    /// Why a running platform cannot do this; `None`: it can.
    pub refused: Option<String>,
}

/// One key of an item that is different.
#[derive(Clone, Debug, PartialEq)]
pub struct Detail {
    /// Dotted, within the item: `receive.span.match`.
    pub key: String,
    /// What holds now; `None`: nothing.
    pub from: Option<Value>,
    /// What is wanted; `None`: nothing.
    pub to: Option<Value>,
}

/// The sections of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Section {
    /// `[platform]`.
    Platform,
    /// `[ports]`.
    Ports,
    /// `[devices]`.
    Devices,
    /// `[nfs]`.
    Nfs,
}

impl Section {
    /// As written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Ports => "ports",
            Self::Devices => "devices",
            Self::Nfs => "nfs",
        }
    }
}

/// What happens to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Changed,
}

impl Kind {
    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

impl Change {
    /// Nothing is different.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The items of one section.
    pub fn of(&self, section: Section) -> impl Iterator<Item = &Item> {
        self.items
            .iter()
            .filter(move |item| item.section == section)
    }

    /// What a running platform cannot do.
    pub fn refused(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.refused.is_some())
    }

    /// Marks an item as one that cannot be done now. A reason that stands is kept.
    pub fn refuse(&mut self, section: Section, name: &str, reason: impl Into<String>) {
        let mut items = self.items.iter_mut();
        let item = items.find(|item| item.section == section && item.name == name);
        if let Some(Item { refused, .. }) = item {
            refused.get_or_insert_with(|| reason.into());
        }
    }

    /// One line for each thing that happens: `~ devices.gateway: receive.span.match: "tcp" → "udp"`.
    pub fn lines(&self) -> Vec<String> {
        self.items.iter().flat_map(text::lines).collect()
    }

    /// The same for programs: a list of `{section, name, change, summary, details, refused}`.
    pub fn to_json(&self) -> Value {
        let detail =
            |detail: &Detail| json!({ "key": detail.key, "from": detail.from, "to": detail.to });
        let item = |item: &Item| {
            json!({
                "section": item.section.as_str(),
                "name": item.name,
                "change": item.kind.as_str(),
                "summary": item.summary,
                "details": item.details.iter().map(detail).collect::<Vec<_>>(),
                "refused": item.refused,
            })
        };
        self.items.iter().map(item).collect()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl Item {
    /// The keys of this item that are different begin with one of these, and no other does.
    pub fn only(&self, prefixes: &[&str]) -> bool {
        let within = |key: &str| {
            prefixes.iter().any(|prefix| {
                let rest = key.strip_prefix(prefix);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        self.kind == Kind::Changed && self.details.iter().all(|detail| within(&detail.key))
    }
}

pub(super) fn diff(old: &Config, new: &Config) -> Change {
    let mut change = Change {
        items: platform(old, new),
    };
    let ports = |config: &Config| named(&config.ports, |port| (&port.name, write::port(port)));
    let devices = |config: &Config| named(&config.devices, |d| (&d.name, write::device(d)));
    let nfs = |config: &Config| named(&config.nfs, |nf| (&nf.name, write::nf(nf)));
    change.section(Section::Ports, ports(old), ports(new));
    change.section(Section::Devices, devices(old), devices(new));
    change.section(Section::Nfs, nfs(old), nfs(new));
    refusals::mark(&mut change, old, new);
    change
}

type Named = Vec<(String, Value)>;

fn named<T>(items: &[T], one: impl Fn(&T) -> (&String, Value)) -> Named {
    let items = items.iter().map(one);
    items.map(|(name, value)| (name.clone(), value)).collect()
}

/// One item for each key that is different: each can or cannot be done by itself.
fn platform(old: &Config, new: &Config) -> Vec<Item> {
    let (before, after) = (
        write::platform(&old.platform),
        write::platform(&new.platform),
    );
    let mut keys: Vec<String> = Vec::new();
    let names = |table: &Value| {
        table
            .as_object()
            .into_iter()
            .flat_map(|t| t.keys().cloned())
            .collect::<Vec<_>>()
    };
    for key in names(&before).into_iter().chain(names(&after)) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let item = |key: String| {
        let mut details = Vec::new();
        compare("", before.get(&key), after.get(&key), &mut details);
        (!details.is_empty()).then(|| Item {
            section: Section::Platform,
            name: key,
            kind: Kind::Changed,
            summary: String::new(),
            details,
            refused: None,
        })
    };
    keys.into_iter().filter_map(item).collect()
}

impl Change {
    fn section(&mut self, section: Section, old: Named, new: Named) {
        let value = |items: &Named, name: &str| {
            let item = items.iter().find(|(other, _)| other == name);
            item.map(|(_, value)| value.clone())
        };
        let whole = |kind, name: &str, value: &Value| Item {
            section,
            name: name.into(),
            kind,
            summary: text::summary(section, value),
            details: Vec::new(),
            refused: None,
        };
        for (name, item) in &old {
            if value(&new, name).is_none() {
                self.items.push(whole(Kind::Removed, name, item));
            }
        }
        for (name, item) in &new {
            let Some(before) = value(&old, name) else {
                self.items.push(whole(Kind::Added, name, item));
                continue;
            };
            let mut details = Vec::new();
            compare("", Some(&before), Some(item), &mut details);
            if !details.is_empty() {
                self.items.push(Item {
                    kind: Kind::Changed,
                    summary: String::new(),
                    details,
                    ..whole(Kind::Changed, name, item)
                });
            }
        }
    }
}

/// Lists whose order says nothing.
const SETS: [&str; 3] = ["devices", "may_define", "wait_for"];

/// The leaves that are different.
fn compare(key: &str, from: Option<&Value>, to: Option<&Value>, details: &mut Vec<Detail>) {
    if let (Some(Value::Object(before)), Some(Value::Object(after))) = (from, to) {
        let added = after.keys().filter(|name| !before.contains_key(*name));
        for name in before.keys().chain(added) {
            let path = if key.is_empty() {
                name.clone()
            } else {
                format!("{key}.{name}")
            };
            compare(&path, before.get(name), after.get(name), details);
        }
        return;
    }
    let is_same = match (from, to) {
        (Some(Value::Array(before)), Some(Value::Array(after))) if SETS.contains(&key) => {
            before.len() == after.len() && before.iter().all(|item| after.contains(item))
        }
        _ => from == to,
    };
    if !is_same {
        details.push(Detail {
            key: key.into(),
            from: from.cloned(),
            to: to.cloned(),
        });
    }
}
