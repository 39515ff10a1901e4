//! The single-producer, single-consumer ring: two cursors over shared slots.
//!
//! A ring is `capacity` slots of two 64-bit words, a `tail` word that the producer writes and a
//! `head` word that the consumer writes. Each side keeps its own cursor privately, reads the
//! other's once per burst, and checks it: a peer whose index is impossible is [`BrokenRing`], and
//! that peer alone is punished. The memory is passed in at each call, so that nothing here
//! needs to know how it is mapped.
//!
//! ```text
//!        head (consumer's)            tail (producer's)
//!          │                            │
//!   … free │ published, to be consumed  │ free …          both count up for ever, modulo 2^32
//! ```

use crate::descriptor::{Descriptor, Words};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// The other side's index is impossible: the peer is broken or hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer's ring index {theirs} is impossible beside ours, {ours}, in a ring of {capacity} slots"
)]
pub struct BrokenRing {
    /// Our own cursor.
    pub ours: u32,
    /// What the peer wrote.
    pub theirs: u32,
    /// Slots in the ring.
    pub capacity: u32,
}

/// The producer's private side of a ring.
#[derive(Debug)]
pub struct Producer {
    tail: u32,
    published: u32,
    seen_head: u32,
    capacity: u32,
}

impl Producer {
    /// The producer of a fresh ring. `capacity` is a power of two.
    pub fn new(capacity: u32) -> Self {
        assert!(
            capacity.is_power_of_two(),
            "a ring's capacity is chosen by the platform as a power of two"
        );
        Self {
            tail: 0,
            published: 0,
            seen_head: 0,
            capacity,
        }
    }

    /// Slots in the ring.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many slots were ever filled, modulo 2^32: the index that comes next.
    pub fn tail(&self) -> u32 {
        self.tail
    }

    /// Free slots, at least `wanted` if the ring has them; looks at `head` only when it must.
    ///
    /// # Errors
    /// [`BrokenRing`] when the consumer's index is impossible.
    #[inline]
    pub fn room(&mut self, head: &AtomicU32, wanted: u32) -> Result<u32, BrokenRing> {
        let known = self.capacity - self.tail.wrapping_sub(self.seen_head);
        if known >= wanted {
            return Ok(known);
        }
        self.refresh(head)
    }

    /// Free slots by a fresh look at `head`.
    ///
    /// # Errors
    /// [`BrokenRing`] when the consumer's index is impossible.
    #[inline]
    pub fn refresh(&mut self, head: &AtomicU32) -> Result<u32, BrokenRing> {
        // ORDERING: partner of the store in `Consumer::retire`: the slots before `head` were read.
        let theirs = head.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let used = self.tail.wrapping_sub(theirs);
        // A consumer may neither overtake what was published nor go back behind what it retired.
        if used > self.tail.wrapping_sub(self.seen_head)
            || used < self.tail.wrapping_sub(self.published)
        {
            return Err(BrokenRing {
                ours: self.tail,
                theirs,
                capacity: self.capacity,
            });
        }
        self.seen_head = theirs;
        Ok(self.capacity - used)
    }

    /// Filled slots that the consumer had not retired at the last look.
    #[inline]
    pub fn occupied(&self) -> u32 {
        self.tail.wrapping_sub(self.seen_head)
    }

    /// Filled slots that the consumer was not shown yet.
    #[inline]
    pub fn unpublished(&self) -> u32 {
        self.tail.wrapping_sub(self.published)
    }

    /// Fills the next slot. The caller has made sure of [`Self::room`].
    #[inline(always)]
    pub fn fill(&mut self, slots: &[AtomicU64], descriptor: Descriptor) {
        debug_assert!(
            self.tail.wrapping_sub(self.seen_head) < self.capacity,
            "room was checked"
        );
        let at = (self.tail & (self.capacity - 1)) as usize * 2;
        let words = descriptor.to_words();
        if let Some(slot) = slots.get(at..at + 2) {
            slot[0].store(words[0], Ordering::Relaxed);
            slot[1].store(words[1], Ordering::Relaxed);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Begins to fill a run of slots. The caller has made sure of [`Self::room`] for all of it.
    #[inline(always)]
    pub fn filling<'a>(&'a mut self, slots: &'a [AtomicU64]) -> Filling<'a> {
        let (pairs, _) = slots.as_chunks::<2>();
        Filling {
            slots: pairs.get(..self.capacity as usize).unwrap_or_default(),
            tail: self.tail,
            producer: self,
        }
    }

    /// Where the slot that comes `ahead` after the tail lies, to ask the CPU for it.
    #[inline(always)]
    pub fn slot<'a>(&self, slots: &'a [AtomicU64], ahead: u32) -> Option<&'a AtomicU64> {
        slots.get((self.tail.wrapping_add(ahead) & (self.capacity - 1)) as usize * 2)
    }

    /// Shows all filled slots to the consumer.
    #[inline]
    pub fn publish(&mut self, tail: &AtomicU32) {
        if self.published != self.tail {
            self.published = self.tail;
            // ORDERING: partner of the load in `Consumer::available`: the slots are written before the index.
            tail.store(self.tail, Ordering::Release);
        }
    }
}

/// A run of slots that is being filled.
#[derive(Debug)]
pub struct Filling<'a> {
    slots: &'a [[AtomicU64; 2]],
    tail: u32,
    producer: &'a mut Producer,
}

impl Filling<'_> {
    /// Fills the next slot.
    #[inline(always)]
    pub fn fill(&mut self, words: Words) {
        let at = self.tail as usize & self.slots.len().wrapping_sub(1);
        if let Some(slot) = self.slots.get(at) {
            slot[0].store(words[0], Ordering::Relaxed);
            slot[1].store(words[1], Ordering::Relaxed);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Ends the run; returns how many slots it has filled.
    #[inline(always)]
    pub fn end(self) -> u32 {
        let filled = self.tail.wrapping_sub(self.producer.tail);
        self.producer.tail = self.tail;
        debug_assert!(
            self.producer.occupied() <= self.producer.capacity,
            "room was checked"
        );
        filled
    }
}

/// The consumer's private side of a ring.
#[derive(Debug)]
pub struct Consumer {
    head: u32,
    retired: u32,
    seen_tail: u32,
    capacity: u32,
}

impl Consumer {
    /// The consumer of a fresh ring. `capacity` is a power of two.
    pub fn new(capacity: u32) -> Self {
        assert!(
            capacity.is_power_of_two(),
            "a ring's capacity is chosen by the platform as a power of two"
        );
        Self {
            head: 0,
            retired: 0,
            seen_tail: 0,
            capacity,
        }
    }

    /// How many slots were ever taken, modulo 2^32.
    pub fn head(&self) -> u32 {
        self.head
    }

    /// Published slots that were not taken yet, by a fresh look at `tail`.
    ///
    /// # Errors
    /// [`BrokenRing`] when the producer's index is impossible.
    #[inline]
    pub fn available(&mut self, tail: &AtomicU32) -> Result<u32, BrokenRing> {
        // ORDERING: partner of the store in `Producer::publish`. The word may lie in read-only
        // memory: a relaxed load and a fence, never a read-modify-write.
        let theirs = tail.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let waiting = theirs.wrapping_sub(self.head);
        if theirs.wrapping_sub(self.retired) > self.capacity
            || waiting < self.seen_tail.wrapping_sub(self.head)
        {
            return Err(BrokenRing {
                ours: self.head,
                theirs,
                capacity: self.capacity,
            });
        }
        self.seen_tail = theirs;
        Ok(waiting)
    }

    /// Reads the slot that comes `ahead` after the head, without taking it.
    #[inline(always)]
    pub fn peek(&self, slots: &[AtomicU64], ahead: u32) -> Descriptor {
        let at = (self.head.wrapping_add(ahead) & (self.capacity - 1)) as usize * 2;
        slots.get(at..at + 2).map_or(Descriptor::ZERO, |slot| {
            Descriptor::from_words(words_of(slot))
        })
    }

    /// Copies the next `count` slots (at most a ring's worth) to `taken`, without taking them.
    #[inline(always)]
    pub fn peek_all<T>(
        &self,
        slots: &[AtomicU64],
        count: u32,
        read: impl Fn(Words) -> T,
        taken: &mut Vec<T>,
    ) {
        let (pairs, _) = slots.as_chunks::<2>();
        let first = (self.head & (self.capacity - 1)) as usize;
        let (count, capacity) = (count.min(self.capacity) as usize, self.capacity as usize);
        // What does not fit before the end of the slots goes on at their beginning.
        let front = first..(first + count).min(capacity);
        let rest = ..count - front.len();
        for part in [pairs.get(front), pairs.get(rest)].into_iter().flatten() {
            taken.extend(part.iter().map(|slot| read(words_of(slot))));
        }
    }

    /// Where the slot that comes `ahead` after the head lies, to ask the CPU for it.
    #[inline(always)]
    pub fn slot<'a>(&self, slots: &'a [AtomicU64], ahead: u32) -> Option<&'a AtomicU64> {
        slots.get((self.head.wrapping_add(ahead) & (self.capacity - 1)) as usize * 2)
    }

    /// Takes `count` slots that [`Self::available`] has counted.
    #[inline(always)]
    pub fn advance(&mut self, count: u32) {
        debug_assert!(
            count <= self.seen_tail.wrapping_sub(self.head),
            "available was checked"
        );
        self.head = self.head.wrapping_add(count);
    }

    /// Gives all taken slots back to the producer.
    #[inline]
    pub fn retire(&mut self, head: &AtomicU32) {
        if self.retired != self.head {
            self.retired = self.head;
            // ORDERING: partner of the load in `Producer::refresh`: the slots are read before they are given back.
            head.store(self.head, Ordering::Release);
        }
    }
}

#[inline(always)]
fn words_of(slot: &[AtomicU64]) -> Words {
    [
        slot[0].load(Ordering::Relaxed),
        slot[1].load(Ordering::Relaxed),
    ]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Debug)]
    enum Step {
        Fill(u32),
        Publish,
        Look,
        Take(u32),
        Retire,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1u32..6).prop_map(Step::Fill),
            2 => Just(Step::Publish),
            2 => Just(Step::Look),
            3 => (1u32..6).prop_map(Step::Take),
            2 => Just(Step::Retire),
        ]
    }

    struct Both {
        head: AtomicU32,
        tail: AtomicU32,
        slots: Vec<AtomicU64>,
        producer: Producer,
        consumer: Consumer,
    }

    impl Both {
        /// A ring whose indices have been around already and stand at `start`.
        fn new(capacity: u32, start: u32) -> Self {
            let (mut producer, mut consumer) = (Producer::new(capacity), Consumer::new(capacity));
            (producer.tail, producer.published, producer.seen_head) = (start, start, start);
            (consumer.head, consumer.retired, consumer.seen_tail) = (start, start, start);
            let slots = (0..capacity * 2).map(|_| AtomicU64::new(0)).collect();
            Self {
                head: AtomicU32::new(start),
                tail: AtomicU32::new(start),
                slots,
                producer,
                consumer,
            }
        }
    }

    proptest! {
        #[test]
        fn the_ring_does_what_a_queue_does(
            bits in 0u32..5,
            start in prop_oneof![Just(0), any::<u32>(), u32::MAX - 40..=u32::MAX],
            steps in proptest::collection::vec(step(), 1..300),
        ) {
            let capacity = 1 << bits;
            let mut ring = Both::new(capacity, start);
            // Filled, shown, seen, taken but not given back: the same packets, said naively.
            let (mut filled, mut shown) = (VecDeque::new(), VecDeque::new());
            let (mut seen, mut taken, mut next) = (0, 0, 0);
            for step in steps {
                match step {
                    Step::Fill(wanted) => {
                        let room = ring.producer.refresh(&ring.head).unwrap();
                        prop_assert_eq!(room as usize, capacity as usize - filled.len() - shown.len() - taken);
                        for _ in 0..wanted.min(room) {
                            next += 1;
                            filled.push_back(next);
                            ring.producer.fill(&ring.slots, Descriptor { token: next, offset: next as u16, ..Descriptor::default() });
                        }
                    }
                    Step::Publish => {
                        ring.producer.publish(&ring.tail);
                        shown.append(&mut filled);
                    }
                    Step::Look => {
                        seen = shown.len();
                        prop_assert_eq!(ring.consumer.available(&ring.tail).unwrap() as usize, seen);
                    }
                    Step::Take(wanted) => {
                        let count = (wanted as usize).min(seen);
                        let mut at_once = Vec::new();
                        ring.consumer.peek_all(&ring.slots, count as u32, Descriptor::from_words, &mut at_once);
                        prop_assert_eq!(at_once.len(), count);
                        for (ahead, copied) in at_once.into_iter().enumerate() {
                            let expected = shown.pop_front().unwrap();
                            let found = ring.consumer.peek(&ring.slots, ahead as u32);
                            prop_assert_eq!(found, copied);
                            prop_assert_eq!((found.token, found.offset), (expected, expected as u16));
                        }
                        ring.consumer.advance(count as u32);
                        seen -= count;
                        taken += count;
                    }
                    Step::Retire => {
                        ring.consumer.retire(&ring.head);
                        taken = 0;
                    }
                }
            }
        }

        #[test]
        fn an_index_is_believed_only_where_an_honest_peer_could_have_written_it(
            start: u32, filled in 0u32..=8, taken in 0u32..=8, index: u32, near in -12i64..12,
        ) {
            let taken = taken.min(filled);
            let mut ring = Both::new(8, start);
            (0..filled).for_each(|_| ring.producer.fill(&ring.slots, Descriptor::default()));
            ring.producer.publish(&ring.tail);
            prop_assert_eq!(ring.consumer.available(&ring.tail), Ok(filled));
            ring.consumer.advance(taken);
            ring.consumer.retire(&ring.head);
            prop_assert_eq!(ring.producer.refresh(&ring.head), Ok(8 - filled + taken));
            for index in [index, start.wrapping_add(near as u32)] {
                let ahead = index.wrapping_sub(start);
                let (mut honest_head, mut honest_tail) = (Both::new(8, start), Both::new(8, start));
                (0..filled).for_each(|_| honest_head.producer.fill(&honest_head.slots, Descriptor::default()));
                honest_head.producer.publish(&honest_head.tail);
                honest_head.head.store(index, Ordering::Relaxed);
                prop_assert_eq!(honest_head.producer.refresh(&honest_head.head).is_ok(), ahead <= filled);
                honest_tail.tail.store(index, Ordering::Relaxed);
                prop_assert_eq!(honest_tail.consumer.available(&honest_tail.tail).is_ok(), ahead <= 8);
            }
        }
    }
}
