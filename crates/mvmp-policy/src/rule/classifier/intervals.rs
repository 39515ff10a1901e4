//! Rules that ask for a range of ports and nothing else but a protocol: one load says which cells want a port.
//!
//! Where ranges begin and end, the ports of one side fall into intervals, within which the same cells want all.

use super::bits;
use super::key::{self, BURST, FIELDS, Keys};
use crate::rule::ast::Direction;
use crate::rule::matcher::Node;
use crate::rule::test::Test;

const PORTS: usize = 1 << 16;

/// The ports that one alternative of a rule wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    field: Field,
    low: u16,
    high: u16,
}

/// One side's port, of one protocol or of all that have ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    shift: u32,
    protocol: Option<u64>,
}

/// What a part of a rule asks, if it is a range of ports, and a protocol at the most.
pub(super) fn spans_of(part: &Node) -> Option<Vec<Span>> {
    let (port, of) = match part {
        Node::And(parts) => match &**parts {
            [Node::Test(Test::Protocol { version: 0, number }), port]
            | [port, Node::Test(Test::Protocol { version: 0, number })] => (port, Some(*number)),
            _ => return None,
        },
        port => (port, None),
    };
    let Node::Test(Test::Port {
        protocol,
        direction,
        low,
        high,
    }) = *port
    else {
        return None;
    };
    let own = (protocol >= 0).then_some(protocol);
    if of.is_some() && own.is_some_and(|own| of != Some(own)) {
        return None;
    }
    let protocol = match of.or(own) {
        Some(number) => Some(u64::try_from(number).ok()?),
        None => None,
    };
    let sides: &[u32] = match direction {
        Direction::Src => &[key::SRC_PORT],
        Direction::Dst => &[key::DST_PORT],
        Direction::Either => &[key::SRC_PORT, key::DST_PORT],
        Direction::Both => return None,
    };
    let (low, high) = (u16::try_from(low).ok()?, u16::try_from(high).ok()?);
    let span = |&shift: &u32| Span {
        field: Field { shift, protocol },
        low,
        high,
    };
    (low <= high).then(|| sides.iter().map(span).collect())
}

/// All ranges of one field.
#[derive(Clone, Debug)]
pub(super) struct Intervals {
    field: Field,
    /// The interval of each port.
    at: Box<[u16; PORTS]>,
    /// The cells that want an interval.
    cells: Box<[u64]>,
}

impl Intervals {
    /// Those of each field that any of the ranges asks; with each the cell that it belongs to.
    pub(super) fn all(spans: &[(Span, u32)]) -> Box<[Self]> {
        let mut fields: Vec<Field> = Vec::new();
        for (span, _) in spans {
            if !fields.contains(&span.field) {
                fields.push(span.field);
            }
        }
        let of = |field: Field| {
            let theirs = spans.iter().filter(move |(span, _)| span.field == field);
            Self::new(field, theirs)
        };
        fields.into_iter().map(of).collect()
    }

    fn new<'a>(field: Field, spans: impl Iterator<Item = &'a (Span, u32)>) -> Self {
        // How many more ranges of a cell begin at a port than end before it.
        let mut changes: Vec<(usize, u32, i32)> = spans
            .flat_map(|&(span, cell)| {
                let (begin, end) = (usize::from(span.low), usize::from(span.high) + 1);
                [(begin, cell % 64, 1), (end, cell % 64, -1)]
            })
            .collect();
        changes.sort_unstable();
        let (mut at, mut cells) = (Box::new([0; PORTS]), vec![0]);
        let mut open = [0; 64];
        for here in changes.chunk_by(|one, other| one.0 == other.0) {
            for &(_, cell, change) in here {
                open[cell as usize] += change;
            }
            let wanting = (0..64).filter(|&cell| open[cell] > 0);
            // At most one interval begins at each port, and none behind the last.
            at[here[0].0..].fill(cells.len() as u16);
            cells.push(wanting.fold(0, |all, cell| all | 1 << cell));
        }
        let cells = cells.into();
        Self { field, at, cells }
    }

    /// Adds the cells that want these packets.
    pub(super) fn classify(&self, keys: &Keys, asked: u64, wanted: &mut [u64; 64]) {
        let Field { shift, protocol } = self.field;
        let keys = keys.words[FIELDS]
            .iter()
            .zip(keys.packets)
            .take(keys.count.min(BURST));
        for (fields, packet) in keys {
            let number = fields >> key::PROTOCOL & key::PROTOCOL_MASK;
            // A packet without ports has one that is beyond all.
            let port = fields >> shift & key::PORT_MASK;
            let interval = self.at.get(port as usize).copied().unwrap_or(0);
            let cells = self.cells.get(usize::from(interval)).copied().unwrap_or(0);
            if protocol.is_none_or(|protocol| protocol == number) {
                bits(cells & asked).for_each(|cell| wanted[cell] |= packet);
            }
        }
    }
}
