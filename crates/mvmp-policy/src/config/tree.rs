//! One tree for both notations: TOML with the place of every value, JSON without.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::source::Source;

/// A configuration nests four deep; this leaves room for a good error message.
const DEPTH_MAX: usize = 16;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Bytes of the file; `None` in JSON, and in tables that are written in pieces.
    pub(super) span: Option<Range<usize>>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(String),
    Date,
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key, where it stands, and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) span: Option<Range<usize>>,
    pub(super) node: Node,
}

impl Value {
    /// What it is, with its article, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a point",
            Self::String(_) => "a string",
            Self::Date => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Parses TOML. Keys come in the order of the file.
pub(super) fn from_toml(source: &Source<'_>) -> Result<Node, ConfigError> {
    let text = source.text.unwrap_or_default();
    let table = DeTable::parse(text).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let span = error.span().or(Some(0..0));
        source.error(span, String::new(), format!("not TOML: {message}"), None)
    })?;
    toml_table(source, table.get_ref(), Some(table.span()), 0)
}

fn toml_table(
    source: &Source<'_>,
    table: &DeTable<'_>,
    span: Option<Range<usize>>,
    depth: usize,
) -> Result<Node, ConfigError> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let node = toml_value(source, value.get_ref(), value.span(), depth + 1)?;
        entries.push(Entry {
            key: key.get_ref().to_string(),
            span: Some(key.span()),
            node,
        });
    }
    Ok(Node {
        value: Value::Table(entries),
        span,
    })
}

fn toml_value(
    source: &Source<'_>,
    value: &DeValue<'_>,
    span: Range<usize>,
    depth: usize,
) -> Result<Node, ConfigError> {
    if depth > DEPTH_MAX {
        return Err(source.too_deep(Some(span)));
    }
    let out_of_range = || {
        let message = "this number is too large".into();
        source.error(Some(span.clone()), String::new(), message, None)
    };
    let value = match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Integer)
            .map_err(|_| out_of_range())?,
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map(Value::Float)
            .map_err(|_| out_of_range())?,
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => {
            let items = items.iter();
            let nodes =
                items.map(|item| toml_value(source, item.get_ref(), item.span(), depth + 1));
            Value::Array(nodes.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => return toml_table(source, table, Some(span), depth),
    };
    Ok(Node {
        value,
        span: Some(span),
    })
}

/// Takes over JSON. Keys come in the order of the value.
pub(super) fn from_json(
    source: &Source<'_>,
    value: &serde_json::Value,
    depth: usize,
) -> Result<Node, ConfigError> {
    if depth > DEPTH_MAX {
        return Err(source.too_deep(None));
    }
    let value = match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::Integer(integer),
            (None, Some(float)) => Value::Float(float),
            (None, None) => Value::Null,
        },
        serde_json::Value::String(text) => Value::String(text.clone()),
        serde_json::Value::Array(items) => {
            let nodes = items.iter().map(|item| from_json(source, item, depth + 1));
            Value::Array(nodes.collect::<Result<_, _>>()?)
        }
        serde_json::Value::Object(fields) => {
            let mut entries = Vec::with_capacity(fields.len());
            for (key, value) in fields {
                entries.push(Entry {
                    key: key.clone(),
                    span: None,
                    node: from_json(source, value, depth + 1)?,
                });
            }
            Value::Table(entries)
        }
    };
    Ok(Node { value, span: None })
}

/// No value: an error at a place with this node is told at its key.
pub(super) static KEY_ONLY: Node = Node {
    value: Value::Null,
    span: None,
};
