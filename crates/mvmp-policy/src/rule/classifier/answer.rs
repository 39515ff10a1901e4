//! What a burst's look-ups have found, and what they have left to be asked.

use std::sync::Arc;

use super::bits;
use super::range::Range;
use crate::rule::matcher::Node;
use crate::rule::packets::Packets;

pub(super) const NOTHING_LEFT: u32 = u32::MAX;
/// Questions that are put off until more packets have them.
const PUT_OFF: usize = 8;

/// A cell that wants what has a key if it passes all of these, too.
#[derive(Clone, Debug)]
pub(super) struct Left {
    nodes: Box<[Arc<Node>]>,
    /// The same, if a key alone can be asked.
    range: Option<Range>,
    cell: u32,
    next: u32,
}

impl Left {
    /// Puts what a cell asks in front of the chain that begins at `next`; returns where that begins now.
    ///
    /// Keys that leave the same to be asked share it, so it is asked of all their packets at once.
    pub(super) fn push(all: &mut Vec<Self>, nodes: &[Arc<Node>], cell: u32, next: u32) -> u32 {
        let is_last = all.last().is_some_and(|last| {
            let same = |(one, other): (&Arc<Node>, &Arc<Node>)| Arc::ptr_eq(one, other);
            (last.cell, last.next, last.nodes.len()) == (cell, next, nodes.len())
                && last.nodes.iter().zip(nodes).all(same)
        });
        if !is_last {
            let range = match nodes {
                [node] => Range::of_node(node),
                _ => None,
            };
            all.push(Self {
                nodes: nodes.into(),
                range,
                cell,
                next,
            });
        }
        all.len() as u32 - 1
    }

    fn select(&self, packets: u64, of: &Packets<'_>) -> u64 {
        self.nodes
            .iter()
            .fold(packets, |passed, node| node.select(passed, of))
    }
}

/// Bit `i` of `wanted[c]`: cell `c` wants packet `i`.
pub(super) struct Answer<'a> {
    wanted: &'a mut [u64; 64],
    asked: u64,
    left: &'a [Left],
    packets: &'a Packets<'a>,
    /// What is to be asked, each in the place of its number, and the packets that wait for it: a
    /// node is asked of many at once.
    put_off: [(u32, u64); PUT_OFF],
}

impl<'a> Answer<'a> {
    pub(super) fn new(
        packets: &'a Packets<'a>,
        left: &'a [Left],
        asked: u64,
        wanted: &'a mut [u64; 64],
    ) -> Self {
        Self {
            wanted,
            asked,
            left,
            packets,
            put_off: [(NOTHING_LEFT, 0); PUT_OFF],
        }
    }

    /// The cells that are asked for.
    #[inline(always)]
    pub(super) fn asked(&self) -> u64 {
        self.asked
    }

    /// A packet has a key: these cells want it, and those from `left` on if it passes what they ask.
    #[inline(always)]
    pub(super) fn add(&mut self, cells: u64, left: u32, packet: u8, fields: u64) {
        for cell in bits(cells & self.asked) {
            self.wanted[cell] |= 1 << packet;
        }
        let mut next = left;
        while let Some(left) = self.left.get(next as usize) {
            let Some(range) = left.range else {
                return self.put_off(next, packet);
            };
            let passed = range.has(fields) && self.asked >> left.cell & 1 == 1;
            self.wanted[left.cell as usize % 64] |= u64::from(passed) << packet;
            next = left.next;
        }
    }

    /// To be asked, with all that follows, together with other packets.
    #[inline(never)]
    fn put_off(&mut self, left: u32, packet: u8) {
        let at = left as usize % PUT_OFF;
        if self.put_off[at].0 != left {
            self.ask(at);
            self.put_off[at] = (left, 0);
        }
        self.put_off[at].1 |= 1 << packet;
    }

    /// Asks what has been put off.
    #[inline(always)]
    pub(super) fn finish(mut self) {
        for at in 0..PUT_OFF {
            if self.put_off[at].1 != 0 {
                self.ask(at);
            }
        }
    }

    #[inline(never)]
    fn ask(&mut self, at: usize) {
        let (mut next, packets) = self.put_off[at];
        while let Some(left) = self.left.get(next as usize) {
            let wanted = &mut self.wanted[left.cell as usize % 64];
            let open = packets & !*wanted;
            if open != 0 && self.asked >> left.cell & 1 == 1 {
                *wanted |= left.select(open, self.packets);
            }
            next = left.next;
        }
    }
}
