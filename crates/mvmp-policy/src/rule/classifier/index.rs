//! Tuple-space search: which entries of the index have the key of a packet.
//!
//! Entries whose masks are equal have one *shape*, and each shape has a hash table of its own. Most
//! packets are wanted by few rules, so first the filters are asked which shapes may have an entry
//! for a packet at all: a few loads and `and`s leave hardly any. All is done in steps over the
//! burst, without a branch on any one of them, so that loads overlap:
//!
//! ```text
//! keys ─▶ filter 1: shapes of each packet ─▶ filter 2 … ─▶ packets of each shape: look-up ─▶ answer ─▶ the next shape …
//! ```

use std::array::from_fn;
use std::collections::{HashMap, HashSet};

use super::answer::{Answer, Found, Left, NOTHING_LEFT};
use super::bits;
use super::conjunction::Keyed;
use super::filter::{Filter, Shapes};
use super::key::{BURST, Class, Key, Keys};

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
    groups: Groups,
}

/// By how many words of a key have bits that count: each slot has those only.
#[derive(Clone, Debug)]
enum Groups {
    Two(Box<[Group<2>]>),
    /// [`Class::V6`] only.
    Three(Box<[Group<3>]>),
}

/// Entries of at most [`SHAPES`] shapes.
#[derive(Clone, Debug)]
struct Group<const WORDS: usize> {
    shapes: Box<[Shape<WORDS>]>,
    filters: Box<[Filter]>,
    slots: Box<[Slot<WORDS>]>,
    /// Cells that have any entry here.
    cells: u64,
}

/// A mask, and where in the slots the table of its entries is.
#[derive(Clone, Copy, Debug)]
struct Shape<const WORDS: usize> {
    mask: [u64; WORDS],
    multipliers: [u64; WORDS],
    first: u32,
    shift: u32,
    /// Cells that have any entry here.
    cells: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot<const WORDS: usize> {
    key: [u64; WORDS],
    /// Cells that want what has this key.
    cells: u64,
    /// The first of those that ask more.
    left: u32,
    /// Another one with the same hash.
    next: u32,
}

/// An alternative and the cell that it belongs to.
pub(super) type Entry = (Keyed, u32);

impl Index {
    /// An index of entries of one class; what they leave to be asked goes to `left`.
    pub(super) fn new(class: Class, mut entries: Vec<Entry>, left: &mut Left) -> Self {
        // Shapes that are alike share filters if they are in one group.
        entries.sort_by_key(|(keyed, _)| keyed.key.mask);
        let shapes: Vec<&[Entry]> = entries
            .chunk_by(|(one, _), (other, _)| one.key.mask == other.key.mask)
            .collect();
        let groups = match class {
            Class::V6(_) => Groups::Three(groups(class, &shapes, left)),
            Class::V4 | Class::Mac(_) | Class::Layer => Groups::Two(groups(class, &shapes, left)),
        };
        Self { class, groups }
    }

    /// Adds the cells that want these packets.
    pub(super) fn classify(&self, keys: &Keys, answer: &mut Answer<'_>) {
        let mut found = [Found::default(); BURST];
        match &self.groups {
            Groups::Two(groups) => groups
                .iter()
                .for_each(|group| group.classify(keys, answer, &mut found)),
            Groups::Three(groups) => groups
                .iter()
                .for_each(|group| group.classify(keys, answer, &mut found)),
        }
    }
}

fn groups<const WORDS: usize>(
    class: Class,
    shapes: &[&[Entry]],
    left: &mut Left,
) -> Box<[Group<WORDS>]> {
    let groups = shapes.chunks(SHAPES);
    groups
        .map(|shapes| Group::new(class, shapes, left))
        .collect()
}

impl<const WORDS: usize> Group<WORDS> {
    fn new(class: Class, shapes: &[&[Entry]], left: &mut Left) -> Self {
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
            keys.extend(entries.iter().map(|(keyed, _)| (number, keyed.key.value)));
            let mask = first_words(&entries[0].0.key.mask);
            let mut shape = table(mask, found, &mut slots);
            shape.cells = entries.iter().fold(0, |all, (_, cell)| all | 1 << cell);
            shape
        });
        group.shapes = tables.collect();
        let masks = shapes.iter().map(|entries| entries[0].0.key.mask);
        group.filters = Filter::all(class, masks, &keys);
        group.slots = slots.into();
        group.cells = group.shapes.iter().fold(0, |all, shape| all | shape.cells);
        group
    }

    #[inline(always)]
    fn classify(&self, keys: &Keys, answer: &mut Answer<'_>, found: &mut [Found; BURST]) {
        let asked = self.asked_shapes(answer.asked());
        if asked == 0 {
            return;
        }
        let mut left = [0; BURST];
        left[..keys.count].fill(asked);
        for filter in &self.filters {
            filter.narrow(keys, asked, &mut left);
        }
        let candidates = Candidates::of(&left);
        for number in bits(candidates.shapes.into()) {
            let Some(shape) = self.shapes.get(number) else {
                continue;
            };
            let candidates = candidates.of_shape(number) & keys.all();
            let count = self.look_up(shape, keys, candidates, found);
            answer.add(&found[..count], keys);
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

    /// Looks the candidates of a shape up; returns how many have an entry.
    #[inline(always)]
    fn look_up(
        &self,
        shape: &Shape<WORDS>,
        keys: &Keys,
        candidates: u64,
        found: &mut [Found; BURST],
    ) -> usize {
        let slots = self.slots.get(shape.first as usize..).unwrap_or_default();
        let mut count = 0;
        for at in bits(candidates) {
            let key = shape.masked(from_fn(|word| keys.words[word][at]));
            let Some(home) = slots.get(shape.home(&key)) else {
                continue;
            };
            if home.next != NO_SLOT {
                if let Some(slot) = self.behind(home, &key) {
                    found[count % BURST] = slot.found(at);
                    count += 1;
                }
                continue;
            }
            found[count % BURST] = home.found(at);
            count += usize::from(home.has(&key));
        }
        count
    }

    /// The slot of a key, of those that share a home.
    #[cold]
    #[inline(never)]
    fn behind<'a>(&'a self, home: &'a Slot<WORDS>, key: &[u64; WORDS]) -> Option<&'a Slot<WORDS>> {
        let next = |slot: &&Slot<WORDS>| self.slots.get(slot.next as usize);
        let mut slots = std::iter::successors(Some(home), next);
        slots.find(|slot| slot.has(key))
    }
}

impl<const WORDS: usize> Shape<WORDS> {
    #[inline(always)]
    fn masked(&self, key: [u64; WORDS]) -> [u64; WORDS] {
        from_fn(|word| key[word] & self.mask[word])
    }

    /// Its place among the slots of this shape.
    #[inline(always)]
    fn home(&self, key: &[u64; WORDS]) -> usize {
        let sum = key
            .iter()
            .zip(self.multipliers)
            .fold(0u64, |sum, (word, multiplier)| {
                sum.wrapping_add(word.wrapping_mul(multiplier))
            });
        (sum >> self.shift) as usize
    }
}

impl<const WORDS: usize> Slot<WORDS> {
    /// No packet finds it: nobody wants it.
    const EMPTY: Self = Self {
        key: [0; WORDS],
        cells: 0,
        left: NOTHING_LEFT,
        next: NO_SLOT,
    };

    #[inline(always)]
    fn found(&self, at: usize) -> Found {
        Found {
            cells: self.cells,
            left: self.left,
            at: at as u32,
        }
    }

    /// Without a branch on each word.
    #[inline(always)]
    fn has(&self, key: &[u64; WORDS]) -> bool {
        let differs = key
            .iter()
            .zip(self.key)
            .fold(0, |all, (one, other)| all | (one ^ other));
        differs == 0
    }
}

/// Packets that may have an entry, by shape: what the filters have left, turned round.
struct Candidates {
    /// Shapes that have any.
    shapes: Shapes,
    /// A byte for each packet: the first eight shapes, and the others.
    halves: [[u8; BURST]; 2],
}

impl Candidates {
    #[inline(always)]
    fn of(left: &[Shapes; BURST]) -> Self {
        let mut halves = [[0; BURST]; 2];
        let [low, high] = &mut halves;
        let mut any = 0;
        for ((low, high), left) in low.iter_mut().zip(high).zip(left) {
            [*low, *high] = left.to_le_bytes();
            any |= left;
        }
        Self {
            shapes: any,
            halves,
        }
    }

    /// A bit for each packet. Of eight packets at a time the bits of the shape, 8 apart, are
    /// brought together by one multiplication.
    #[inline(always)]
    fn of_shape(&self, number: usize) -> u64 {
        let (eights, _) = self.halves[number / 8 % 2].as_chunks::<8>();
        eights
            .iter()
            .zip((0..).step_by(8))
            .fold(0, |packets, (eight, first)| {
                let bits = u64::from_le_bytes(*eight) >> (number % 8) & 0x0101_0101_0101_0101;
                packets | (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) << first
            })
    }
}

/// The entries of one shape, those with the same key as one: its cells, and the first that asks more.
fn merged<const WORDS: usize>(
    entries: &[Entry],
    left: &mut Left,
) -> HashMap<[u64; WORDS], (u64, u32)> {
    let mut found = HashMap::new();
    // Ranges last: so they are in front.
    for are_ranges in [false, true] {
        for (keyed, cell) in entries {
            let key = first_words(&keyed.key.value);
            let (cells, first) = found.entry(key).or_insert((0, NOTHING_LEFT));
            if keyed.left.is_empty() {
                *cells |= 1 << cell;
            } else if Left::range_of(&keyed.left).is_some() == are_ranges {
                *first = left.push(&keyed.left, *cell, *first);
            }
        }
    }
    found
}

fn first_words<const WORDS: usize>(key: &Key) -> [u64; WORDS] {
    from_fn(|word| key[word])
}

/// Appends the table of a shape: at least two slots for each entry, and behind them those that found theirs taken.
fn table<const WORDS: usize>(
    mask: [u64; WORDS],
    found: HashMap<[u64; WORDS], (u64, u32)>,
    slots: &mut Vec<Slot<WORDS>>,
) -> Shape<WORDS> {
    let places = (found.len() * 2).next_power_of_two();
    let shape_of = |number: u32| Shape {
        mask,
        multipliers: from_fn(|word| MULTIPLIERS[word].rotate_left(number * 7) | 1),
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
    slots.resize(slots.len() + places, Slot::EMPTY);
    for (key, (cells, left)) in found {
        let home = shape.first as usize + shape.home(&key);
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
