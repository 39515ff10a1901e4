//! What rules most look-ups out: for each value of a selective field, which shapes have an entry with it.
//!
//! A field is an address to 8, 16, 24 or 32 bits, a port, an id. Values share places by their hash,
//! so a filter may let pass what it need not; it never holds back what an entry has.

use std::collections::HashMap;

use super::key::{self, BURST, Class, Key, Keys};

/// One bit for each shape of a group.
pub(super) type Shapes = u16;

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Debug)]
pub(super) struct Filter {
    word: usize,
    mask: u64,
    /// Shapes that have this field.
    users: Shapes,
    table: Table,
}

/// A few sizes, so that the compiler knows each: a place is then one shift away.
#[derive(Clone, Debug)]
enum Table {
    Small(Box<[Shapes; 1 << 9]>),
    Medium(Box<[Shapes; 1 << 13]>),
    Large(Box<[Shapes; 1 << 16]>),
}

impl Filter {
    /// One for each field of these shapes; `keys` are those of their entries.
    pub(super) fn all(
        class: Class,
        masks: impl Iterator<Item = Key>,
        keys: &[(u32, Key)],
    ) -> Box<[Self]> {
        let mut fields: Vec<(usize, u64, Shapes)> = Vec::new();
        for (shape, mask) in masks.enumerate() {
            for (word, field) in fields_of(class, &mask) {
                let mut known = fields.iter_mut();
                match known.find(|known| (known.0, known.1) == (word, field)) {
                    Some((_, _, users)) => *users |= 1 << shape,
                    None => fields.push((word, field, 1 << shape)),
                }
            }
        }
        let filters = fields
            .into_iter()
            .map(|(word, mask, users)| Self::new(word, mask, users, keys));
        filters.collect()
    }

    fn new(word: usize, mask: u64, users: Shapes, keys: &[(u32, Key)]) -> Self {
        let theirs = keys.iter().filter(|(shape, _)| users >> shape & 1 == 1);
        let values: HashMap<u64, Shapes> =
            theirs.fold(HashMap::new(), |mut values, (shape, key)| {
                *values.entry(key[word] & mask).or_default() |= 1 << shape;
                values
            });
        Self {
            word,
            mask,
            users,
            table: Table::new(!users, &values),
        }
    }

    /// Takes from the shapes of each packet those that have no entry with its value. Nothing is
    /// done where none of the shapes that are `asked` for has this field.
    #[inline(always)]
    pub(super) fn narrow(&self, keys: &Keys, asked: Shapes, left: &mut [Shapes; BURST]) {
        if self.users & asked == 0 {
            return;
        }
        let words = &keys.words[self.word];
        match &self.table {
            Table::Small(table) => narrow(table, self.mask, words, left, keys.count),
            Table::Medium(table) => narrow(table, self.mask, words, left, keys.count),
            Table::Large(table) => narrow(table, self.mask, words, left, keys.count),
        }
    }
}

/// Eight at a time: what is beyond `count` is narrowed, too, and looked up by nobody.
#[inline(always)]
fn narrow<const PLACES: usize>(
    table: &[Shapes; PLACES],
    mask: u64,
    words: &[u64; BURST],
    left: &mut [Shapes; BURST],
    count: usize,
) {
    let (words, _) = words.as_chunks::<8>();
    let (left, _) = left.as_chunks_mut::<8>();
    for (left, words) in left.iter_mut().zip(words).take(count.div_ceil(8)) {
        for (left, word) in left.iter_mut().zip(words) {
            *left &= table[place::<PLACES>(word & mask)];
        }
    }
}

#[inline(always)]
fn place<const PLACES: usize>(value: u64) -> usize {
    (value.wrapping_mul(MULTIPLIER) >> (64 - PLACES.trailing_zeros())) as usize
}

impl Table {
    /// Of at least eight places a value, if there is such a one: so hardly any other value is let pass.
    fn new(always: Shapes, values: &HashMap<u64, Shapes>) -> Self {
        match values.len() * 8 {
            0..=0x200 => Self::Small(filled(always, values)),
            0x201..=0x2000 => Self::Medium(filled(always, values)),
            _ => Self::Large(filled(always, values)),
        }
    }
}

/// A shape of `always`, without this field, is never ruled out by it.
fn filled<const PLACES: usize>(
    always: Shapes,
    values: &HashMap<u64, Shapes>,
) -> Box<[Shapes; PLACES]> {
    let mut table = Box::new([always; PLACES]);
    for (value, shapes) in values {
        table[place::<PLACES>(*value)] |= shapes;
    }
    table
}

/// The fields of a shape that tell packets apart: of each group the finest that it has.
fn fields_of(class: Class, mask: &Key) -> impl Iterator<Item = (usize, u64)> {
    groups(class).into_iter().filter_map(|(word, fields)| {
        let finest = fields
            .into_iter()
            .find(|field| mask[word] & field == *field);
        Some((word, finest?))
    })
}

fn groups(class: Class) -> Vec<(usize, Vec<u64>)> {
    let prefixes = |shift: u32| {
        [0xffff_ffff_u64, 0xffff_ff00, 0xffff_0000, 0xff00_0000]
            .map(|mask| mask << shift)
            .to_vec()
    };
    let mut groups = match class {
        Class::V4 => vec![(key::OWN, prefixes(32)), (key::OWN, prefixes(0))],
        Class::V6(_) => vec![
            (key::OWN, [0, 16, 32].map(|bits| u64::MAX << bits).to_vec()),
            (key::OWN_LOW, vec![u64::MAX]),
        ],
        Class::Mac(_) | Class::Layer => vec![(key::OWN, vec![u64::MAX >> 16])],
    };
    groups.extend([key::SRC_PORT, key::DST_PORT].map(|at| (key::FIELDS, vec![0xffff << at])));
    groups
}
