//! Tuple-space search: which entries of the index have the key of a packet.
//!
//! Entries whose masks are equal have one *shape*. A packet is looked up once for each shape that
//! may have an entry for it, in one table with open addressing. Most packets are wanted by few
//! rules, so first each selective field (an address to 8, 16, 24 or 32 bits, a port, an id) is
//! asked which shapes have any entry with that value: a few loads and `and`s leave hardly any
//! shape to be looked up.

use std::collections::HashMap;

use super::conjunction::Keyed;
use super::key::{self, Class, Key};
use crate::rule::matcher::Node;
use crate::rule::packets::Packets;

/// Shapes of one class: bits of a word.
pub(super) const SHAPES_MAX: usize = 64;
const NO_SHAPE: u32 = u32::MAX;
const NOTHING_LEFT: u32 = u32::MAX;
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// All entries of one class.
#[derive(Clone, Debug)]
pub(super) struct Index {
    class: Class,
    shapes: Box<[Key]>,
    all_shapes: u64,
    filters: Box<[Filter]>,
    slots: Box<[Slot]>,
    shift: u32,
    left: Box<[Left]>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: Key,
    /// Cells that want what has this key.
    cells: u64,
    shape: u32,
    /// The first of those that ask more.
    left: u32,
}

/// Cells that want what has a key if it passes this, too.
#[derive(Clone, Debug)]
struct Left {
    node: Node,
    cells: u64,
    next: u32,
}

/// For each value of a field, by its hash: which shapes may have an entry with it.
#[derive(Clone, Debug)]
struct Filter {
    word: usize,
    mask: u64,
    shift: u32,
    shapes: Box<[u64]>,
}

/// An alternative and the cell that it belongs to.
pub(super) type Entry = (Keyed, u32);

impl Index {
    /// An index of entries of one class, and those that found no room: more than [`SHAPES_MAX`] shapes.
    pub(super) fn new(class: Class, entries: Vec<Entry>) -> Self {
        let mut shapes: Vec<Key> = Vec::new();
        let mut found: HashMap<(u32, Key), (u64, u32)> = HashMap::new();
        let mut left: Vec<Left> = Vec::new();
        for (keyed, cell) in entries {
            let shape = match shapes.iter().position(|mask| *mask == keyed.mask) {
                Some(shape) => shape,
                None => {
                    shapes.push(keyed.mask);
                    shapes.len() - 1
                }
            };
            let (cells, first) = found
                .entry((shape as u32, keyed.value))
                .or_insert((0, NOTHING_LEFT));
            match keyed.left {
                None => *cells |= 1 << cell,
                Some(node) => {
                    left.push(Left {
                        node,
                        cells: 1 << cell,
                        next: *first,
                    });
                    *first = left.len() as u32 - 1;
                }
            }
        }
        let count = (found.len() * 2).next_power_of_two().max(2);
        let mut index = Self {
            class,
            all_shapes: u64::MAX >> (64 - shapes.len().clamp(1, 64)),
            filters: filters(class, &shapes, found.keys()),
            shapes: shapes.into(),
            slots: vec![EMPTY; count].into(),
            shift: 64 - count.trailing_zeros(),
            left: left.into(),
        };
        for ((shape, key), (cells, left)) in found {
            index.insert(Slot {
                key,
                cells,
                shape,
                left,
            });
        }
        index
    }

    fn insert(&mut self, slot: Slot) {
        let mut at = self.home(slot.shape, &slot.key);
        // Half of the slots stay empty.
        while self.slots[at].shape != NO_SHAPE {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }

    #[inline(always)]
    fn home(&self, shape: u32, key: &Key) -> usize {
        let mixed = key[0] ^ u64::from(shape) << 56;
        let once = (mixed.wrapping_mul(MULTIPLIER) ^ key[1]).wrapping_mul(MULTIPLIER);
        let twice = (once ^ once >> 32 ^ key[2]).wrapping_mul(MULTIPLIER);
        ((twice ^ twice >> 29).wrapping_mul(MULTIPLIER) >> self.shift) as usize
    }

    /// Adds, for each packet, the cells that want it.
    pub(super) fn classify(&self, packets: &Packets<'_>, cells: &mut [u64]) {
        match self.class {
            Class::Layer => {
                for (i, cells) in cells.iter_mut().enumerate() {
                    let Some(stack) = packets.stacks.get(i) else {
                        break;
                    };
                    let fields = key::fields(&packets.headers[i]);
                    for layer in stack.layers() {
                        *cells |= self.look_up(&key::layer(layer, fields), packets, i);
                    }
                }
            }
            class => {
                for (i, cells) in cells.iter_mut().enumerate() {
                    if let Some(key) = key::of_packet(class, &packets.headers[i], packets.frames[i])
                    {
                        *cells |= self.look_up(&key, packets, i);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn look_up(&self, key: &Key, packets: &Packets<'_>, i: usize) -> u64 {
        let mut shapes = self.all_shapes;
        for filter in &self.filters {
            shapes &= filter.shapes[filter.place(key)];
        }
        let mut cells = 0;
        while shapes != 0 {
            let shape = shapes.trailing_zeros();
            shapes &= shapes - 1;
            let mask = &self.shapes[shape as usize];
            let masked = [key[0] & mask[0], key[1] & mask[1], key[2] & mask[2]];
            let mut at = self.home(shape, &masked);
            loop {
                let slot = &self.slots[at];
                if slot.shape == shape && slot.key == masked {
                    cells |= slot.cells;
                    if slot.left != NOTHING_LEFT {
                        cells |= self.ask(slot.left, cells, packets, i);
                    }
                    break;
                }
                if slot.shape == NO_SHAPE {
                    break;
                }
                at = (at + 1) & (self.slots.len() - 1);
            }
        }
        cells
    }

    #[inline(never)]
    fn ask(&self, first: u32, have: u64, packets: &Packets<'_>, i: usize) -> u64 {
        let mut cells = 0;
        let mut at = first;
        while let Some(left) = self.left.get(at as usize) {
            if left.cells & !(have | cells) != 0 && left.node.select(1 << i, packets) != 0 {
                cells |= left.cells;
            }
            at = left.next;
        }
        cells
    }
}

const EMPTY: Slot = Slot {
    key: [0; 3],
    cells: 0,
    shape: NO_SHAPE,
    left: NOTHING_LEFT,
};

impl Filter {
    #[inline(always)]
    fn place(&self, key: &Key) -> usize {
        ((key[self.word] & self.mask).wrapping_mul(MULTIPLIER) >> self.shift) as usize
    }
}

/// Fields that tell packets apart, for each class: groups, the finest mask of each first.
fn candidates(class: Class) -> Vec<Vec<(usize, u64)>> {
    let prefixes = |word: usize, shift: u32| {
        [0xffff_ffff_u64, 0xffff_ff00, 0xffff_0000, 0xff00_0000]
            .map(|mask| (word, mask << shift))
            .to_vec()
    };
    let fields = class.fields_at();
    let ports = [key::SRC_PORT, key::DST_PORT].map(|at| vec![(fields, 0xffff << at)]);
    let mut groups = match class {
        Class::V4 => vec![prefixes(0, 32), prefixes(0, 0)],
        Class::V6(_) => vec![
            vec![(0, u64::MAX), (0, u64::MAX << 16), (0, u64::MAX << 32)],
            vec![(1, u64::MAX)],
        ],
        Class::Mac(_) | Class::Layer => vec![vec![(0, u64::MAX >> 16)]],
    };
    groups.extend(ports);
    groups
}

fn filters<'a>(
    class: Class,
    shapes: &[Key],
    keys: impl Iterator<Item = &'a (u32, Key)> + Clone,
) -> Box<[Filter]> {
    let places = (keys.clone().count() * 4)
        .next_power_of_two()
        .clamp(256, 4_096);
    let mut all: Vec<(Filter, u64)> = Vec::new();
    for (shape, mask) in shapes.iter().enumerate() {
        for group in candidates(class) {
            let Some((word, field)) = group
                .into_iter()
                .find(|(word, field)| mask[*word] & field == *field)
            else {
                continue;
            };
            match all
                .iter_mut()
                .find(|(filter, _)| (filter.word, filter.mask) == (word, field))
            {
                Some((_, users)) => *users |= 1 << shape,
                None => all.push((
                    Filter {
                        word,
                        mask: field,
                        shift: 64 - places.trailing_zeros(),
                        shapes: [].into(),
                    },
                    1 << shape,
                )),
            }
        }
    }
    let filled = all.into_iter().map(|(mut filter, users)| {
        // A shape without this field is never ruled out by it.
        let mut table = vec![!users; places];
        for (shape, key) in keys.clone() {
            table[filter.place(key)] |= 1 << shape & users;
        }
        filter.shapes = table.into();
        filter
    });
    filled.collect()
}
