//! All rules of one port at once: which cells want each packet.
//!
//! ```text
//! rules ─▶ parts of their `or`s ─┬─ with selective fields ─▶ alternatives ─▶ Index, one look-up per packet for all
//!                                ├─ ranges of ports alone ─▶ Intervals, one load per packet for all
//!                                └─ the others ─▶ one Node per cell, asked of the whole burst
//! ```
//!
//! `conjunction` and `terms` make the keys of rules, `key` those of packets; `index` and `filter` bring
//! them together; `answer` and `range` ask what a key leaves to be asked.
//!
//! A few rules are asked one by one, which is faster than any index ([`PARTS_MIN`]).

mod answer;
mod conjunction;
mod filter;
mod index;
mod intervals;
mod key;
mod range;
mod terms;

use mvmp_wire::packet::DEPTH_MAX;

use self::answer::{Answer, Left};
use self::conjunction::{keyed, parts_of};
use self::index::{Entry, Index};
use self::intervals::{Intervals, Span, spans_of};
use self::key::{Class, Key, Keys};
use super::Rule;
use super::compile;
use super::matcher::Node;
use super::packets::{Needs, Packets};

/// Cells that one classifier tells apart: one bit each.
pub const CELLS_MAX: usize = 64;
/// With fewer alternatives than these there is no index.
const PARTS_MIN: usize = 8;
/// Masks of one class; what has others is asked one by one.
const SHAPES_MAX: usize = 64;
/// An index has at most this many entries; parts beyond are asked one by one.
const ENTRIES_MAX: usize = 1 << 18;

/// Ranges of ports beyond so many are asked one by one.
const SPANS_MAX: usize = (1 << 15) - 1;

/// The compiled rules of up to [`CELLS_MAX`] cells that see the packets alike. Immutable; share it freely.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// Cells that want every packet.
    always: u64,
    /// What is asked one by one: a cell and (a part of) its rule.
    nodes: Box<[(u32, Node)]>,
    indexes: Box<[Index]>,
    intervals: Box<[Intervals]>,
    /// What the indexes leave to be asked.
    left: Left,
    needs: Needs,
}

impl Classifier {
    /// One cell for each rule; those beyond [`CELLS_MAX`] are left out.
    pub fn new(rules: &[&Rule]) -> Self {
        let mut always = 0;
        let mut needs = Needs::default();
        let mut whole = Vec::new();
        for (cell, rule) in (0..CELLS_MAX as u32).zip(rules) {
            let matcher = rule.compile();
            needs = needs.union(matcher.needs());
            match matcher.root() {
                Node::All => always |= 1 << cell,
                Node::None => {}
                node => whole.push((cell, node.clone())),
            }
        }
        let mut classes = Classes::default();
        let mut rest = Vec::new();
        for (cell, node) in &whole {
            let parts = parts_of(node).into_iter();
            let unindexed = parts.filter(|part| !classes.take(*cell, part)).collect();
            match compile::or(Vec::into_iter(unindexed)) {
                Node::None => {}
                node => rest.push((*cell, node)),
            }
        }
        let few = classes.entries + classes.spans.len() < PARTS_MIN;
        let intervals = Intervals::all(if few { &[] } else { &classes.spans });
        let (indexes, left) = if few {
            (Box::default(), Left::default())
        } else {
            classes.indexes()
        };
        Self {
            always,
            nodes: if few { whole } else { rest }.into(),
            indexes,
            intervals,
            left,
            needs,
        }
    }

    /// What [`Self::classify`] has to be given.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// Bit `i` of `wanted[c]`: cell `c` wants packet `i`.
    ///
    /// `packets.stacks` must be there if [`Self::needs`] says so.
    #[inline]
    pub fn classify(&self, packets: &Packets<'_>, wanted: &mut [u64; 64]) {
        self.classify_for(packets, u64::MAX, wanted);
    }

    /// As [`Self::classify`], but only for the cells whose bit is set in `asked`; the others want nothing.
    #[inline]
    pub fn classify_for(&self, packets: &Packets<'_>, asked: u64, wanted: &mut [u64; 64]) {
        wanted.fill(0);
        let count = packets.count();
        if count == 0 {
            return;
        }
        let (packets, all) = (packets.first(count), u64::MAX >> (64 - count));
        for cell in bits(self.always & asked) {
            wanted[cell] = all;
        }
        for (cell, node) in &self.nodes {
            if asked >> cell & 1 == 1 {
                wanted[*cell as usize] |= node.select(all, &packets);
            }
        }
        if !self.indexes.is_empty() || !self.intervals.is_empty() {
            self.look_up(&packets, asked, wanted);
        }
    }

    fn look_up(&self, packets: &Packets<'_>, asked: u64, wanted: &mut [u64; 64]) {
        let mut all = Keys::default();
        all.gather(packets);
        for intervals in &self.intervals {
            intervals.classify(&all, asked, wanted);
        }
        let mut answer = Answer::new(packets, &self.left, asked, wanted);
        for index in &self.indexes {
            let depths = match index.class {
                Class::V4 => {
                    index.classify(&all, &mut answer);
                    continue;
                }
                Class::Layer => 0..DEPTH_MAX,
                Class::V6(_) | Class::Mac(_) => 0..1,
            };
            for keys in depths.map_while(|deep| all.of(index.class, packets, deep)) {
                index.classify(&keys, &mut answer);
            }
        }
        answer.finish();
    }
}

/// The places of the bits that are set.
#[inline(always)]
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (word != 0).then(|| {
            let at = word.trailing_zeros() as usize % 64;
            word &= word - 1;
            at
        })
    })
}

/// Whether the index finds all packets of a rule, so that it costs the same among a thousand.
pub(super) fn is_indexed(root: &Node) -> bool {
    let finds = |part: &Node| keyed(part).is_some() || spans_of(part).is_some();
    parts_of(root).iter().all(finds)
}

/// Entries by class, while the indexes are being made.
#[derive(Default)]
struct Classes {
    classes: Vec<(Class, Vec<Key>, Vec<Entry>)>,
    entries: usize,
    /// Ranges of ports, and the cell of each.
    spans: Vec<(Span, u32)>,
}

impl Classes {
    /// Takes a part of a rule in; false if it is not for the index.
    fn take(&mut self, cell: u32, part: &Node) -> bool {
        let Some(alternatives) = keyed(part) else {
            return self.take_ranges(cell, part);
        };
        let room = self.entries + alternatives.len() <= ENTRIES_MAX;
        if !room
            || !alternatives
                .iter()
                .all(|one| self.has_room(one.class, one.key.mask))
        {
            return false;
        }
        self.entries += alternatives.len();
        for one in alternatives {
            if let Some(class) = self.classes.iter_mut().find(|known| known.0 == one.class) {
                class.2.push((one, cell));
            }
        }
        true
    }

    fn take_ranges(&mut self, cell: u32, part: &Node) -> bool {
        let spans = spans_of(part).unwrap_or_default();
        let takes = !spans.is_empty() && self.spans.len() + spans.len() <= SPANS_MAX;
        if takes {
            self.spans
                .extend(spans.into_iter().map(|span| (span, cell)));
        }
        takes
    }

    /// Whether a shape is there, or there is room for it; it is there then.
    fn has_room(&mut self, class: Class, shape: Key) -> bool {
        let at = self.classes.iter().position(|known| known.0 == class);
        let at = at.unwrap_or_else(|| {
            self.classes.push((class, Vec::new(), Vec::new()));
            self.classes.len() - 1
        });
        let shapes = &mut self.classes[at].1;
        if shapes.contains(&shape) {
            return true;
        }
        let room = shapes.len() < SHAPES_MAX;
        if room {
            shapes.push(shape);
        }
        room
    }

    fn indexes(self) -> (Box<[Index]>, Left) {
        let mut left = Left::default();
        let with_entries = self
            .classes
            .into_iter()
            .filter(|(_, _, entries)| !entries.is_empty());
        let indexes = with_entries
            .map(|(class, _, entries)| Index::new(class, entries, &mut left))
            .collect();
        (indexes, left)
    }
}
