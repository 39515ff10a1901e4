//! Layers of a frame in words: what `mvmp trace` and `mvmp policy test -v` say of them.

use mvmp_wire::packet::{StackLayer, Stop};

/// What it is, with its number where it has one: `vlan 7`.
pub(crate) fn in_words(layer: &StackLayer) -> String {
    let kind = format!("{:?}", layer.kind).to_lowercase();
    match layer.id() {
        None => kind,
        Some(id) => format!("{kind} {id}"),
    }
}

/// Why nothing further in is seen, if there may be more.
pub(crate) const fn end_in_words(stop: Stop) -> Option<&'static str> {
    match stop {
        Stop::Whole => None,
        Stop::Truncated => Some("(cut short)"),
        Stop::Fragment => Some("(a fragment: not looked into)"),
        Stop::TooDeep => Some("(deeper than is looked)"),
    }
}
