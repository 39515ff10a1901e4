//! What a burst's look-ups have found, and what they have left to be asked.

use std::sync::Arc;

use super::bits;
use super::key::{BURST, FIELDS, Keys};
use super::range::Range;
use crate::rule::matcher::Node;
use crate::rule::packets::Packets;

pub(super) const NOTHING_LEFT: u32 = u32::MAX;
/// Set where what is left is no range.
const NODES: u32 = 1 << 31;
/// Questions that are put off until more packets have them.
const PUT_OFF: usize = 8;

/// What keys leave to be asked: chains, ranges first in each.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    ranges: Vec<LeftRange>,
    nodes: Vec<LeftNodes>,
}

/// A cell that wants what has a key if its fields are in a range, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LeftRange {
    range: Range,
    cell: u32,
    next: u32,
}

/// A cell that wants what has a key if it passes all of these, too.
#[derive(Clone, Debug)]
struct LeftNodes {
    nodes: Box<[Arc<Node>]>,
    cell: u32,
    next: u32,
}

impl Left {
    /// The range that is all that these ask, if it is one.
    pub(super) fn range_of(nodes: &[Arc<Node>]) -> Option<Range> {
        match nodes {
            [node] => Range::of_node(node),
            _ => None,
        }
    }

    /// Puts what a cell asks in front of the chain that begins at `next`; returns where that begins now.
    ///
    /// Keys that leave the same to be asked share it, so it is asked of all their packets at once.
    /// No nodes are put in front of a range.
    pub(super) fn push(&mut self, nodes: &[Arc<Node>], cell: u32, next: u32) -> u32 {
        if let Some(range) = Self::range_of(nodes) {
            let left = LeftRange { range, cell, next };
            if self.ranges.last() != Some(&left) {
                self.ranges.push(left);
            }
            return self.ranges.len() as u32 - 1;
        }
        let is_last = self.nodes.last().is_some_and(|last| {
            let same = |(one, other): (&Arc<Node>, &Arc<Node>)| Arc::ptr_eq(one, other);
            (last.cell, last.next, last.nodes.len()) == (cell, next, nodes.len())
                && last.nodes.iter().zip(nodes).all(same)
        });
        if !is_last {
            let nodes = nodes.into();
            self.nodes.push(LeftNodes { nodes, cell, next });
        }
        (self.nodes.len() as u32 - 1) | NODES
    }
}

impl LeftNodes {
    fn select(&self, packets: u64, of: &Packets<'_>) -> u64 {
        self.nodes
            .iter()
            .fold(packets, |passed, node| node.select(passed, of))
    }
}

/// A key has an entry: these cells want it, and those from `left` on if it passes what they ask.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub(super) cells: u64,
    pub(super) left: u32,
    /// Which of the keys.
    pub(super) at: u32,
}

/// Bit `i` of `wanted[c]`: cell `c` wants packet `i`.
pub(super) struct Answer<'a> {
    wanted: &'a mut [u64; 64],
    ranges: &'a [LeftRange],
    later: Later<'a>,
}

/// What is to be asked, each in the place of its number, and the packets that wait for it: a node
/// is asked of many at once.
struct Later<'a> {
    put_off: [(u32, u64); PUT_OFF],
    nodes: &'a [LeftNodes],
    asked: u64,
    packets: &'a Packets<'a>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(
        packets: &'a Packets<'a>,
        left: &'a Left,
        asked: u64,
        wanted: &'a mut [u64; 64],
    ) -> Self {
        Self {
            wanted,
            ranges: &left.ranges,
            later: Later {
                put_off: [(NOTHING_LEFT, 0); PUT_OFF],
                nodes: &left.nodes,
                asked,
                packets,
            },
        }
    }

    /// The cells that are asked for.
    #[inline(always)]
    pub(super) fn asked(&self) -> u64 {
        self.later.asked
    }

    /// Takes in what has been found of these keys.
    #[inline(always)]
    pub(super) fn add(&mut self, found: &[Found], keys: &Keys) {
        let Self {
            wanted,
            ranges,
            later,
        } = self;
        let (wanted, ranges, asked) = (&mut **wanted, *ranges, later.asked);
        for found in found {
            let at = found.at as usize % BURST;
            let (mut cells, mut next) = (found.cells, found.left);
            while let Some(left) = ranges.get(next as usize) {
                let has = left.range.has(keys.words[FIELDS][at]);
                cells |= u64::from(has) << (left.cell % 64);
                next = left.next;
            }
            for cell in bits(cells & asked) {
                wanted[cell] |= keys.packets[at];
            }
            if next != NOTHING_LEFT {
                later.put_off(next, keys.packets[at], wanted);
            }
        }
    }

    /// Asks what has been put off.
    #[inline(always)]
    pub(super) fn finish(mut self) {
        for at in 0..PUT_OFF {
            if self.later.put_off[at].1 != 0 {
                self.later.ask(at, self.wanted);
            }
        }
    }
}

impl Later<'_> {
    /// To be asked, with all that follows, together with other packets.
    #[inline(never)]
    fn put_off(&mut self, left: u32, packet: u64, wanted: &mut [u64; 64]) {
        let at = left as usize % PUT_OFF;
        if self.put_off[at].0 != left {
            self.ask(at, wanted);
            self.put_off[at] = (left, 0);
        }
        self.put_off[at].1 |= packet;
    }

    #[inline(never)]
    fn ask(&mut self, at: usize, wanted: &mut [u64; 64]) {
        let (mut next, packets) = self.put_off[at];
        while let Some(left) = self.nodes.get((next & !NODES) as usize) {
            let wanted = &mut wanted[left.cell as usize % 64];
            let open = packets & !*wanted;
            if open != 0 && self.asked >> left.cell & 1 == 1 {
                *wanted |= left.select(open, self.packets);
            }
            next = left.next;
        }
    }
}
