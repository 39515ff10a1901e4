//! The NF's side of the return rings: one producer per worker, all under one lock (rule 3).
//!
//! `Session` owns the lock and takes it once a burst. What is released while a ring is full waits
//! in that ring's overflow, in order, and goes before anything newer: releasing never fails.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use mvmp_wire::Descriptor;
use mvmp_wire::region::{StatusRegion, UpRegion};
use mvmp_wire::ring::Producer;

use crate::frame::prefetch_to_write;
use crate::lent::{Lent, Upward};
use crate::private::PrivateRing;
use crate::rx::SLOTS_PER_LINE;

/// What this NF shares with one worker.
#[derive(Debug)]
pub(crate) struct WorkerLink {
    pub(crate) up: UpRegion,
    pub(crate) status: StatusRegion,
    pub(crate) wake: OwnedFd,
}

#[derive(Debug)]
struct Ring {
    producer: Producer,
    overflow: VecDeque<Descriptor>,
    woken: u32,
    fresh: bool,
}

/// The private state of all return rings.
#[derive(Debug)]
pub(crate) struct Returns {
    rings: Vec<Ring>,
    pub(crate) private: PrivateRing,
}

impl Returns {
    pub(crate) fn new(links: &[WorkerLink], private_bytes: u64) -> Self {
        let ring = |link: &WorkerLink| Ring {
            producer: Producer::new(link.up.return_capacity()),
            overflow: VecDeque::new(),
            woken: 0,
            fresh: false,
        };
        Self {
            rings: links.iter().map(ring).collect(),
            private: PrivateRing::new(private_bytes),
        }
    }

    /// Free slots towards a worker, at least `wanted` if there are; none while releases wait.
    #[inline]
    pub(crate) fn room(&mut self, links: &[WorkerLink], worker: u8, wanted: usize) -> usize {
        let (Some(ring), Some(link)) = (
            self.rings.get_mut(worker as usize),
            links.get(worker as usize),
        ) else {
            return 0;
        };
        if !ring.overflow.is_empty() && !ring.drain(link) {
            return 0;
        }
        ring.room(link, wanted)
    }

    /// Asks the CPU for the lines that the next `count` descriptors to a worker will go to: its
    /// core has read them, and they come while the first ones are written.
    pub(crate) fn expect(&self, links: &[WorkerLink], worker: u8, count: usize) {
        let at = usize::from(worker);
        let (Some(ring), Some(link)) = (self.rings.get(at), links.get(at)) else {
            return;
        };
        let slots = link.up.return_slots();
        for ahead in (0..count as u32).step_by(SLOTS_PER_LINE) {
            if let Some(slot) = ring.producer.slot(slots, ahead) {
                prefetch_to_write(slot);
            }
        }
    }

    /// Puts a descriptor where [`Self::room`] was found; `slots` are those of that worker's ring.
    #[inline(always)]
    pub(crate) fn fill(&mut self, worker: u8, slots: &[AtomicU64], descriptor: Descriptor) {
        if let Some(ring) = self.rings.get_mut(worker as usize) {
            ring.producer.fill(slots, descriptor);
            ring.fresh = true;
        }
    }

    /// Takes packets out of a burst and puts them where [`Self::room`] was found.
    pub(crate) fn fill_all(
        &mut self,
        links: &[WorkerLink],
        worker: u8,
        packets: &mut [Lent],
        upward: Upward,
    ) {
        let at = usize::from(worker);
        if let (Some(ring), Some(link)) = (self.rings.get_mut(at), links.get(at)) {
            fill_all(&mut ring.producer, link.up.return_slots(), packets, upward);
            ring.fresh = true;
        }
    }

    /// Puts a descriptor behind a ring that has no room.
    #[cold]
    pub(crate) fn keep(&mut self, worker: u8, descriptor: Descriptor) {
        if let Some(ring) = self.rings.get_mut(worker as usize) {
            ring.overflow.push_back(descriptor);
        }
    }

    /// The index that the next descriptor to a worker will have.
    pub(crate) fn next_index(&self, worker: u8) -> u32 {
        self.rings
            .get(worker as usize)
            .map_or(0, |ring| ring.producer.tail())
    }

    /// Frees private memory that the workers have copied.
    pub(crate) fn reclaim_private(&mut self, links: &[WorkerLink]) {
        for (ring, link) in self.rings.iter_mut().zip(links) {
            // An impossible head counts as "nothing was read".
            let _ = ring.producer.refresh(link.status.return_head());
        }
        let rings = &self.rings;
        self.private.reclaim(|worker, index| {
            rings
                .get(worker as usize)
                .is_none_or(|ring| ring.passed(index))
        });
    }

    /// Shows everything new to the workers and wakes those that sleep.
    #[inline]
    pub(crate) fn publish(&mut self, links: &[WorkerLink]) {
        for (ring, link) in self.rings.iter_mut().zip(links) {
            if ring.fresh {
                ring.fresh = false;
                ring.publish(link);
            }
        }
    }

    /// Moves waiting releases into the rings; true when none waits any more.
    pub(crate) fn flush(&mut self, links: &[WorkerLink]) -> bool {
        let mut empty = true;
        for (ring, link) in self.rings.iter_mut().zip(links) {
            empty &= ring.drain(link);
        }
        self.publish(links);
        empty
    }

    /// Whether releases wait for room.
    pub(crate) fn has_overflow(&self) -> bool {
        self.rings.iter().any(|ring| !ring.overflow.is_empty())
    }
}

impl Ring {
    #[inline(always)]
    fn room(&mut self, link: &WorkerLink, wanted: usize) -> usize {
        let wanted = u32::try_from(wanted)
            .unwrap_or(u32::MAX)
            .min(self.producer.capacity());
        // An impossible head is a broken platform: no room then, the connection's end will tell.
        self.producer
            .room(link.status.return_head(), wanted)
            .unwrap_or(0) as usize
    }

    fn drain(&mut self, link: &WorkerLink) -> bool {
        let mut room = self.room(link, self.overflow.len());
        while room > 0
            && let Some(descriptor) = self.overflow.pop_front()
        {
            self.producer.fill(link.up.return_slots(), descriptor);
            self.fresh = true;
            room -= 1;
        }
        self.overflow.is_empty()
    }

    fn passed(&self, index: u32) -> bool {
        self.producer.tail().wrapping_sub(index).wrapping_sub(1) >= self.producer.occupied()
    }

    fn publish(&mut self, link: &WorkerLink) {
        self.producer.publish(link.up.return_tail());
        // ORDERING: partner of the worker's fence between setting its sleeping word and its last look at the rings.
        fence(Ordering::SeqCst);
        let sleep = link.status.worker_sleeping().load(Ordering::Relaxed);
        if sleep != 0 && sleep != self.woken {
            self.woken = sleep;
            // A full pipe wakes as well as one more byte; a closed one has nobody to wake.
            let _ = rustix::io::write(&link.wake, &[1]);
        }
    }
}

#[inline(never)]
fn fill_all(producer: &mut Producer, slots: &[AtomicU64], packets: &mut [Lent], upward: Upward) {
    let mut filling = producer.filling(slots);
    for packet in packets {
        filling.fill(upward.take(packet));
    }
    filling.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use mvmp_wire::memory::{self, Access};
    use mvmp_wire::ring::Consumer;
    use mvmp_wire::{Mapping, Op};
    use std::sync::Arc;

    fn link(slots: u32) -> WorkerLink {
        let region = |bytes: usize| {
            let fd = memory::create("test", bytes).unwrap();
            Arc::new(Mapping::of(&fd, bytes, Access::ReadWrite).unwrap())
        };
        let (_, wake) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        WorkerLink {
            up: UpRegion::new(region(UpRegion::bytes(slots)), slots),
            status: StatusRegion::new(region(mvmp_wire::region::STATUS_BYTES)),
            wake,
        }
    }

    fn numbered(number: u32) -> Descriptor {
        Descriptor {
            token: number,
            op: Op::Release as u8,
            ..Descriptor::default()
        }
    }

    fn consume(consumer: &mut Consumer, link: &WorkerLink, count: u32) -> Vec<u32> {
        let waiting = consumer.available(link.up.return_tail()).unwrap();
        let taken = waiting.min(count);
        let tokens = (0..taken)
            .map(|ahead| consumer.peek(link.up.return_slots(), ahead).token)
            .collect();
        consumer.advance(taken);
        consumer.retire(link.status.return_head());
        tokens
    }

    #[test]
    fn releases_that_find_no_room_arrive_later_and_in_order() {
        let links = [link(4)];
        let mut returns = Returns::new(&links, 4096);
        let mut consumer = Consumer::new(4);
        assert_eq!(returns.room(&links, 0, 10), 4);
        for number in 1..=4 {
            returns.fill(0, links[0].up.return_slots(), numbered(number));
        }
        for number in 5..=10 {
            returns.keep(0, numbered(number));
        }
        returns.publish(&links);
        assert!(returns.has_overflow());
        assert_eq!(
            returns.room(&links, 0, 1),
            0,
            "nothing newer overtakes a release that waits"
        );
        let mut seen = Vec::new();
        while seen.len() < 10 {
            seen.extend(consume(&mut consumer, &links[0], 3));
            returns.flush(&links);
        }
        assert_eq!(seen, (1..=10).collect::<Vec<_>>());
        assert!(!returns.has_overflow());
        assert_eq!(returns.room(&links, 0, 4), 4);
    }

    #[test]
    fn private_memory_comes_free_when_the_head_has_passed() {
        let links = [link(8)];
        let mut returns = Returns::new(&links, 128);
        let mut consumer = Consumer::new(8);
        for _ in 0..2 {
            let index = returns.next_index(0);
            assert!(returns.private.take(64, 0, index).is_some());
            assert!(returns.room(&links, 0, 1) > 0);
            returns.fill(0, links[0].up.return_slots(), numbered(7));
        }
        returns.publish(&links);
        returns.reclaim_private(&links);
        assert!(returns.private.take(64, 0, returns.next_index(0)).is_none());
        assert_eq!(consume(&mut consumer, &links[0], 1).len(), 1);
        returns.reclaim_private(&links);
        assert!(returns.private.take(64, 0, returns.next_index(0)).is_some());
        assert!(returns.private.take(64, 0, returns.next_index(0)).is_none());
    }

    #[test]
    fn a_sleeping_worker_is_woken_once_per_sleep() {
        let mut link = link(8);
        let (read, wake) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        link.wake = wake;
        let links = [link];
        let mut returns = Returns::new(&links, 64);
        let mut put = |sleep: u32| {
            links[0]
                .status
                .worker_sleeping()
                .store(sleep, Ordering::SeqCst);
            assert!(returns.room(&links, 0, 1) > 0);
            returns.fill(0, links[0].up.return_slots(), numbered(1));
            returns.publish(&links);
            rustix::io::read(&read, &mut [0_u8; 16]).unwrap_or(0)
        };
        assert_eq!([put(0), put(1), put(1), put(2)], [0, 1, 0, 1]);
    }
}
