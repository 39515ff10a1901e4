//! Tuple-space search: which entries of the index have the key of a packet.
//!
//! Entries whose masks are equal have one *shape*, and each shape has a hash table of its own. Most
//! packets are wanted by few rules, so first the filters are asked which shapes may have an entry
//! for a packet at all: a few loads and `and`s leave hardly any. All is done in steps over the
//! burst, without a branch on any one of them, so that loads overlap:
//!
//! ```text
//! keys ─▶ filter 1: shapes of each packet ─▶ filter 2 … ─▶ one shape of each packet that has any left: look-up ─▶ the next one …
//! ```

use std::collections::{HashMap, HashSet};

use super::answer::{Answer, Left, NOTHING_LEFT};
use super::conjunction::Keyed;
use super::filter::{Filter, Shapes};
use super::key::{BURST, Class, FIELDS, Key, Keys};

/// Shapes of a group.
pub(super) const SHAPES: usize = Shapes::BITS as usize;
const MULTIPLIERS: Key = [
    0x9e37_79b9_7f4a_7c15,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
];
/// Multipliers that are tried for a table, until one leaves no two entries the same home.
const TRIES: u32 = 8;
const NO_SLOT: u32 = u32::MAX;

/// All entries of one class.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) class: Class,
    groups: Box<[Group]>,
}

/// Entries of at most [`SHAPES`] shapes.
#[derive(Clone, Debug)]
struct Group {
    shapes: Box<[Shape]>,
    filters: Box<[Filter]>,
    slots: Box<[Slot]>,
    /// Cells that have any entry here.
    cells: u64,
}

/// A mask, and where in the slots the table of its entries is.
#[derive(Clone, Copy, Debug)]
struct Shape {
    mask: Key,
    multipliers: Key,
    first: u32,
    shift: u32,
    /// Cells that have any entry here.
    cells: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    key: Key,
    /// Cells that want what has this key.
    pub(super) cells: u64,
    /// The first of those that ask more.
    pub(super) left: u32,
    /// Another one with the same hash.
    next: u32,
}

/// No packet finds it: nobody wants it.
const EMPTY: Slot = Slot {
    key: [0; 3],
    cells: 0,
    left: NOTHING_LEFT,
    next: NO_SLOT,
};

/// An alternative and the cell that it belongs to.
pub(super) type Entry = (Keyed, u32);

impl Index {
    /// An index of entries of one class; what they leave to be asked goes to `left`.
    pub(super) fn new(class: Class, mut entries: Vec<Entry>, left: &mut Vec<Left>) -> Self {
        // Shapes that are alike share filters if they are in one group.
        entries.sort_by_key(|(keyed, _)| keyed.key.mask);
        let shapes: Vec<&[Entry]> = entries
            .chunk_by(|(one, _), (other, _)| one.key.mask == other.key.mask)
            .collect();
        let groups = shapes
            .chunks(SHAPES)
            .map(|shapes| Group::new(class, shapes, left));
        Self {
            class,
            groups: groups.collect(),
        }
    }

    /// Adds the cells that want these packets.
    pub(super) fn classify(&self, keys: &Keys, answer: &mut Answer<'_>) {
        for group in &self.groups {
            group.classify(keys, answer);
        }
    }
}

impl Group {
    fn new(class: Class, shapes: &[&[Entry]], left: &mut Vec<Left>) -> Self {
        let mut group = Self {
            shapes: Box::default(),
            filters: Box::default(),
            slots: Box::default(),
            cells: 0,
        };
        let mut slots = Vec::new();
        let mut keys = Vec::new();
        let tables = shapes.iter().zip(0u32..).map(|(entries, number)| {
            let found = merged(entries, left);
            keys.extend(found.keys().map(|key| (number, *key)));
            let mut shape = table(entries[0].0.key.mask, found, &mut slots);
            shape.cells = entries.iter().fold(0, |all, (_, cell)| all | 1 << cell);
            shape
        });
        group.shapes = tables.collect();
        group.filters = Filter::all(class, group.shapes.iter().map(|shape| shape.mask), &keys);
        group.slots = slots.into();
        group.cells = group.shapes.iter().fold(0, |all, shape| all | shape.cells);
        group
    }

    #[inline(always)]
    fn classify(&self, keys: &Keys, answer: &mut Answer<'_>) {
        let mut shapes = [self.asked_shapes(answer.asked()); BURST];
        if shapes[0] == 0 {
            return;
        }
        for filter in &self.filters {
            filter.narrow(keys, &mut shapes);
        }
        let mut some = [0u8; BURST];
        let mut count = 0;
        for (at, shapes) in (0..keys.count as u8).zip(&shapes) {
            some[count] = at;
            count += usize::from(*shapes != 0);
        }
        while count > 0 {
            let mut more = 0;
            for i in 0..count {
                let at = usize::from(some[i]) % BURST;
                let shape = shapes[at].trailing_zeros() as usize;
                shapes[at] &= shapes[at].wrapping_sub(1);
                some[more] = at as u8;
                more += usize::from(shapes[at] != 0);
                let key = keys.words.each_ref().map(|column| column[at]);
                self.look_up(shape, key, keys.packets[at], answer);
            }
            count = more;
        }
    }

    /// Shapes that have an entry of any cell that is asked for.
    #[inline(always)]
    fn asked_shapes(&self, asked: u64) -> Shapes {
        if self.cells & !asked == 0 {
            return Shapes::MAX >> (SHAPES - self.shapes.len());
        }
        let shapes = self.shapes.iter().enumerate();
        shapes.fold(0, |all, (number, shape)| {
            all | Shapes::from(shape.cells & asked != 0) << number
        })
    }

    #[inline(always)]
    fn look_up(&self, shape: usize, key: Key, packet: u8, answer: &mut Answer<'_>) {
        let Some(shape) = self.shapes.get(shape) else {
            return;
        };
        let fields = key[FIELDS];
        let key = masked(key, shape.mask);
        let mut at = shape.home(&key);
        while let Some(slot) = self.slots.get(at as usize) {
            if same(&slot.key, &key) {
                answer.add(slot.cells, slot.left, packet, fields);
                break;
            }
            at = slot.next;
        }
    }
}

impl Shape {
    #[inline(always)]
    fn home(&self, key: &Key) -> u32 {
        let sum = key[0]
            .wrapping_mul(self.multipliers[0])
            .wrapping_add(key[1].wrapping_mul(self.multipliers[1]))
            .wrapping_add(key[2].wrapping_mul(self.multipliers[2]));
        self.first + (sum >> self.shift) as u32
    }
}

#[inline(always)]
fn masked(key: Key, mask: Key) -> Key {
    [key[0] & mask[0], key[1] & mask[1], key[2] & mask[2]]
}

/// Without a branch on each word.
#[inline(always)]
fn same(one: &Key, other: &Key) -> bool {
    (one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) == 0
}

/// The entries of one shape, those with the same key as one: its cells, and the first that asks more.
fn merged(entries: &[Entry], left: &mut Vec<Left>) -> HashMap<Key, (u64, u32)> {
    let mut found = HashMap::new();
    for (keyed, cell) in entries {
        let (cells, first) = found.entry(keyed.key.value).or_insert((0, NOTHING_LEFT));
        if keyed.left.is_empty() {
            *cells |= 1 << cell;
        } else {
            *first = Left::push(left, &keyed.left, *cell, *first);
        }
    }
    found
}

/// Appends the table of a shape: at least two slots for each entry, and behind them those that found theirs taken.
fn table(mask: Key, found: HashMap<Key, (u64, u32)>, slots: &mut Vec<Slot>) -> Shape {
    let places = (found.len() * 2).next_power_of_two();
    let shape_of = |number: u32| Shape {
        mask,
        multipliers: MULTIPLIERS.map(|one| one.rotate_left(number * 7) | 1),
        first: slots.len() as u32,
        shift: 64 - places.trailing_zeros(),
        cells: 0,
    };
    let mut homes = HashSet::new();
    let (mut shape, mut most) = (shape_of(0), 0);
    for tried in (0..TRIES).map(shape_of) {
        homes.clear();
        homes.extend(found.keys().map(|key| tried.home(key)));
        if homes.len() > most {
            (shape, most) = (tried, homes.len());
        }
        if most == found.len() {
            break;
        }
    }
    slots.resize(slots.len() + places, EMPTY);
    for (key, (cells, left)) in found {
        let home = shape.home(&key) as usize;
        let slot = Slot {
            key,
            cells,
            left,
            next: NO_SLOT,
        };
        if slots[home].cells == 0 && slots[home].left == NOTHING_LEFT {
            slots[home] = slot;
        } else {
            let next = slots[home].next;
            slots[home].next = slots.len() as u32;
            slots.push(Slot { next, ..slot });
        }
    }
    shape
}
