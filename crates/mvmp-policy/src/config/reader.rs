//! A place in the configuration that is being read: its value, its dotted path, its errors.
//!
//! Every reader of a section goes through here, so wrong types and unknown keys are told in the
//! same words everywhere.

use std::ops::{Range, RangeInclusive};

use super::ConfigError;
use super::keys::{Field, Status};
use super::source::Source;
use super::tree::{Node, Value};
use crate::suggest::did_you_mean;

pub(super) type Result<T> = std::result::Result<T, ConfigError>;

/// A value at its place.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) path: String,
    pub(super) node: &'a Node,
    /// Where the key stands: what is reported if the value has no place of its own.
    pub(super) key_span: Option<Range<usize>>,
}

/// The fields of a table, checked to be known.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    pub(super) place: Place<'a>,
    entries: Vec<(&'a str, Place<'a>)>,
}

impl<'a> Place<'a> {
    pub(super) fn root(source: &'a Source<'a>, node: &'a Node) -> Self {
        Self {
            source,
            path: String::new(),
            node,
            key_span: None,
        }
    }

    /// The same place, told at its key.
    pub(super) fn at_key(&self) -> Self {
        Self {
            node: &super::tree::KEY_ONLY,
            ..self.clone()
        }
    }

    /// An error at this value.
    pub(super) fn fail(&self, message: impl Into<String>) -> ConfigError {
        let span = self.node.span.clone().or_else(|| self.key_span.clone());
        self.source
            .error(span, self.path.clone(), message.into(), None)
    }

    /// An error at this value's key.
    pub(super) fn fail_key(&self, message: impl Into<String>) -> ConfigError {
        let span = self.key_span.clone().or_else(|| self.node.span.clone());
        self.source
            .error(span, self.path.clone(), message.into(), None)
    }

    fn wrong_type(&self, wanted: &str) -> ConfigError {
        self.fail(format!(
            "expected {wanted}, found {}",
            self.node.value.kind()
        ))
    }

    pub(super) fn bool(&self) -> Result<bool> {
        match self.node.value {
            Value::Bool(value) => Ok(value),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    pub(super) fn string(&self) -> Result<&'a str> {
        match &self.node.value {
            Value::String(text) => Ok(text),
            _ => Err(self.wrong_type("a string")),
        }
    }

    pub(super) fn integer(&self, range: RangeInclusive<i64>) -> Result<i64> {
        let Value::Integer(number) = self.node.value else {
            return Err(self.wrong_type("an integer"));
        };
        if range.contains(&number) {
            return Ok(number);
        }
        Err(self.fail(format!(
            "{number} is out of range: {} to {}",
            range.start(),
            range.end()
        )))
    }

    /// A number, with or without a point.
    pub(super) fn number(&self, range: RangeInclusive<f64>) -> Result<f64> {
        let number = match self.node.value {
            Value::Integer(number) => number as f64,
            Value::Float(number) => number,
            _ => return Err(self.wrong_type("a number")),
        };
        if range.contains(&number) {
            return Ok(number);
        }
        Err(self.fail(format!(
            "{number} is out of range: {} to {}",
            range.start(),
            range.end()
        )))
    }

    pub(super) fn list(&self) -> Result<Vec<Place<'a>>> {
        let Value::Array(items) = &self.node.value else {
            return Err(self.wrong_type("a list"));
        };
        let place = |node| Place {
            node,
            ..self.clone()
        };
        Ok(items.iter().map(place).collect())
    }

    /// A list of strings, each once.
    pub(super) fn strings(&self) -> Result<Vec<(&'a str, Place<'a>)>> {
        let mut found: Vec<(&str, Place<'_>)> = Vec::new();
        for item in self.list()? {
            let text = item.string()?;
            if found.iter().any(|(other, _)| *other == text) {
                return Err(item.fail(format!("`{text}` is listed twice")));
            }
            found.push((text, item));
        }
        Ok(found)
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.node.value, Value::Table(_))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Array(_))
    }

    pub(super) fn is_string(&self) -> bool {
        matches!(self.node.value, Value::String(_))
    }

    /// The entries of a table whose keys are the user's own, in order.
    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Place<'a>)>> {
        let Value::Table(entries) = &self.node.value else {
            return Err(self.wrong_type("a table"));
        };
        let place = |key: &str, span: &Option<Range<usize>>, node| Place {
            source: self.source,
            path: dotted(&self.path, key),
            node,
            key_span: span.clone(),
        };
        let entries = entries.iter();
        Ok(entries
            .map(|e| (e.key.as_str(), place(&e.key, &e.span, &e.node)))
            .collect())
    }

    /// The entries of a table whose keys are ours: an unknown one is an error.
    pub(super) fn fields(&self, known: &'static [Field]) -> Result<Fields<'a>> {
        let entries = self.entries()?;
        for (key, place) in &entries {
            match known.iter().find(|field| field.name == *key) {
                Some(field) if field.status == Status::Later => {
                    return Err(place.fail_key(format!("`{key}` is not supported yet")));
                }
                Some(_) => {}
                None => return Err(unknown_key(place, key, known)),
            }
        }
        Ok(Fields {
            place: self.clone(),
            entries,
        })
    }

    /// Refuses a value that is not one of `choices`.
    pub(super) fn choose<T: Copy>(&self, choices: &[(&'static str, Option<T>)]) -> Result<T> {
        let text = self.string()?;
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, Some(value))) => Ok(*value),
            Some((name, None)) => Err(self.fail(format!("\"{name}\" is not supported yet"))),
            None => {
                let now = choices.iter().filter(|(_, value)| value.is_some());
                let names: Vec<_> = now.map(|(name, _)| format!("\"{name}\"")).collect();
                let message = format!("unknown value \"{}\"", shortened(text));
                let hint = did_you_mean(text, choices.iter().map(|(name, _)| *name))
                    .unwrap_or_else(|| format!("it is one of {}", names.join(", ")));
                Err(self.fail(message).with_hint(hint))
            }
        }
    }
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&Place<'a>> {
        self.entries
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, place)| place)
    }

    /// Reads a field that is there.
    pub(super) fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Place<'a>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.get(key).map(read).transpose()
    }

    /// An error at the table as a whole: at its key, where it has one.
    pub(super) fn fail(&self, message: impl Into<String>) -> ConfigError {
        self.place.fail_key(message)
    }
}

fn unknown_key(place: &Place<'_>, key: &str, known: &'static [Field]) -> ConfigError {
    let hint = did_you_mean(key, known.iter().map(|field| field.name)).unwrap_or_else(|| {
        let now = known.iter().filter(|field| field.status == Status::Now);
        let names: Vec<_> = now.map(|field| format!("`{}`", field.name)).collect();
        format!("known here: {}", names.join(", "))
    });
    place
        .fail_key(format!("unknown key `{}`", shortened(key)))
        .with_hint(hint)
}

/// `path.key`, with quotes where TOML needs them.
pub(super) fn dotted(path: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let key = if bare {
        key.into()
    } else {
        format!("\"{}\"", shortened(key))
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

/// A user's text cut to a length that fits in a message, without control characters.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(48)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if text.chars().nth(48).is_some() {
        shown.push('…');
    }
    shown
}
