//! A difference in lines for people.

use serde_json::Value;

use super::{Detail, Item, Kind, Section};

/// The lines of one item.
pub(super) fn lines(item: &Item) -> Vec<String> {
    let name = format!("{}.{}", item.section.as_str(), item.name);
    let mut lines = match item.kind {
        Kind::Added => vec![format!("+ {name}: {}", item.summary)],
        Kind::Removed => vec![format!("- {name}: {}", item.summary)],
        Kind::Changed => {
            let details = item.details.iter();
            details
                .map(|d| format!("~ {name}: {}", detail(d)))
                .collect()
        }
    };
    if let Some(reason) = &item.refused {
        lines.push(format!("! {name}: not while the platform runs: {reason}"));
    }
    lines
}

fn detail(detail: &Detail) -> String {
    let key = match detail.key.as_str() {
        "" => String::new(),
        key => format!("{key}: "),
    };
    match (&detail.from, &detail.to) {
        (Some(from), Some(to)) => format!("{key}{} → {}", value(from), value(to)),
        (None, Some(to)) => format!("{key}now {}", value(to)),
        (Some(from), None) => format!("{key}no longer {}", value(from)),
        (None, None) => key,
    }
}

/// As in TOML.
fn value(value: &Value) -> String {
    let Value::Object(fields) = value else {
        return match value {
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(self::value).collect();
                format!("[{}]", items.join(", "))
            }
            _ => value.to_string(),
        };
    };
    let fields: Vec<_> = fields
        .iter()
        .map(|(key, field)| format!("{key} = {}", self::value(field)))
        .collect();
    match fields.is_empty() {
        true => "{}".into(),
        false => format!("{{ {} }}", fields.join(", ")),
    }
}

/// What something is, in a few words.
pub(super) fn summary(section: Section, table: &Value) -> String {
    let text = |key: &str| table[key].as_str().unwrap_or_default();
    let list = |key: &str| {
        let items = table[key].as_array().into_iter().flatten();
        items
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    match section {
        Section::Platform => value(table),
        Section::Ports => ["devargs", "interface", "pcap", "out"]
            .into_iter()
            .filter(|key| table.get(key).is_some())
            .map(|key| format!("{key} {}", text(key)))
            .collect::<Vec<_>>()
            .join(", "),
        Section::Devices if text("mode") == "rootless" => "rootless".into(),
        Section::Devices => format!("{} over {}", text("mode"), list("ports")),
        Section::Nfs => match list("devices").as_str() {
            "" => "may open nothing".into(),
            devices => format!("may open {devices}"),
        },
    }
}
