//! All interleavings of the ring and of the sleep that goes with it, as far as loom can go.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p mvmp-wire --release --test loom
//! ```
//!
//! A lost packet or a wrong order is a failed assertion, a lost wake-up is a deadlock, which loom reports.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use mvmp_wire::Descriptor;
use mvmp_wire::ring::{Consumer, Producer};
use mvmp_wire::wake::{Patience, Turn, Waker};

const CAPACITY: u32 = 2;

/// The shared words of one ring and of one sleeper.
struct Shared {
    head: AtomicU32,
    tail: AtomicU32,
    slots: Vec<AtomicU64>,
    sleeping: AtomicU32,
    /// Bytes in the pipe.
    pipe: Mutex<u32>,
    written: Condvar,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            head: AtomicU32::new(0),
            tail: AtomicU32::new(0),
            slots: (0..CAPACITY * 2).map(|_| AtomicU64::new(0)).collect(),
            sleeping: AtomicU32::new(0),
            pipe: Mutex::new(0),
            written: Condvar::new(),
        })
    }
}

fn numbered(number: u32) -> Descriptor {
    Descriptor {
        token: number,
        granule: number,
        length: number as u16,
        ..Descriptor::default()
    }
}

fn bounded(preemptions: usize) -> loom::model::Builder {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder
}

/// Sends so many, one or two a time as there is room.
fn produce(shared: &Shared, count: u32) {
    let mut producer = Producer::new(CAPACITY);
    let mut sent = 0;
    while sent < count {
        let room = producer.room(&shared.head, 1).expect("an honest consumer");
        for _ in 0..room.min(count - sent) {
            sent += 1;
            producer.fill(&shared.slots, numbered(sent));
        }
        producer.publish(&shared.tail);
        if room == 0 {
            thread::yield_now();
        }
    }
}

fn consume(shared: &Shared, count: u32) -> Vec<Descriptor> {
    let mut consumer = Consumer::new(CAPACITY);
    let mut taken = Vec::new();
    while taken.len() < count as usize {
        let waiting = consumer
            .available(&shared.tail)
            .expect("an honest producer");
        taken.extend((0..waiting).map(|ahead| consumer.peek(&shared.slots, ahead)));
        consumer.advance(waiting);
        consumer.retire(&shared.head);
        if waiting == 0 {
            thread::yield_now();
        }
    }
    taken
}

#[test]
fn what_is_produced_is_consumed_once_whole_and_in_order() {
    // One more than the ring holds, twice over: each slot is used again.
    let count = 2 * CAPACITY + 1;
    bounded(4).check(move || {
        let shared = Shared::new();
        let producer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || produce(&shared, count))
        };
        let taken = consume(&shared, count);
        assert_eq!(taken, (1..=count).map(numbered).collect::<Vec<_>>());
        producer.join().unwrap();
    });
}

/// A turn of a worker: how many packets it publishes, when that is, and whether it is idle after it.
type Step = (u32, u64, bool);

const PATIENCE: Patience = Patience {
    most: 50,
    half_full: 10,
};
/// Busy turns that put the wake-up off, and the idle one that every worker has before it naps.
const PUT_OFF: &[Step] = &[(1, 1, false), (1, 2, false), (0, 3, true)];
/// The second packet makes the ring half full, and later.
const HALF_FULL: &[Step] = &[(1, 1, false), (1, 11, false), (0, 12, true)];
/// One packet grows old beside a worker that is never idle; another one comes just then.
const OLD: &[Step] = &[
    (1, 1, false),
    (0, 51, false),
    (1, 52, false),
    (0, 102, false),
];
/// A wake-up and a packet for whoever is just awake.
const TWICE: &[Step] = &[(1, 1, true), (1, 2, false), (0, 3, true)];
/// What a worker must not do: nap after a busy turn.
const NEVER_IDLE: &[Step] = &[(1, 1, false), (1, 2, false)];

fn packets(steps: &[Step]) -> u32 {
    steps.iter().map(|(count, ..)| count).sum()
}

/// A worker's turns, with the code that decides when to wake.
fn produce_and_wake(shared: &Shared, steps: &[Step], fences: bool) {
    let (mut producer, mut waker) = (Producer::new(CAPACITY), Waker::default());
    let (mut number, mut looked_after) = (0, false);
    for &(count, now, idle) in steps {
        for _ in 0..count {
            number += 1;
            assert!(
                producer.room(&shared.head, 1).expect("an honest consumer") > 0,
                "the ring is large enough for all"
            );
            producer.fill(&shared.slots, numbered(number));
            producer.publish(&shared.tail);
            looked_after |= waker.published(now);
        }
        let half = || producer.occupied() >= CAPACITY / 2;
        let mut turn = Turn::new(now, idle);
        if !fences {
            turn = turn.without_fence();
        }
        if looked_after && waker.is_due(&turn, PATIENCE, half) {
            looked_after = false;
            if waker.must_wake(&mut turn, &shared.sleeping) {
                *shared.pipe.lock().unwrap() += 1;
                shared.written.notify_one();
            }
        }
    }
}

/// Takes so many, sleeping whenever the ring is empty.
fn consume_asleep(shared: &Shared, count: u32, fences: bool) {
    let (mut consumer, mut sleeps, mut taken) = (Consumer::new(CAPACITY), 0, 0);
    while taken < count {
        sleeps += 1;
        shared.sleeping.store(sleeps, Ordering::Relaxed);
        if fences {
            fence(Ordering::SeqCst);
        }
        let mut waiting = consumer
            .available(&shared.tail)
            .expect("an honest producer");
        if waiting == 0 {
            let mut pipe = shared.pipe.lock().unwrap();
            while *pipe == 0 {
                pipe = shared.written.wait(pipe).unwrap();
            }
            *pipe = 0;
            drop(pipe);
            waiting = consumer
                .available(&shared.tail)
                .expect("an honest producer");
        }
        shared.sleeping.store(0, Ordering::Relaxed);
        consumer.advance(waiting);
        consumer.retire(&shared.head);
        taken += waiting;
    }
}

fn sleep_and_wake(steps: &'static [Step], fences: bool) {
    bounded(4).check(move || {
        let shared = Shared::new();
        let producer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || produce_and_wake(&shared, steps, fences))
        };
        consume_asleep(&shared, packets(steps), fences);
        producer.join().unwrap();
    });
}

#[test]
fn no_wake_up_is_lost_that_is_put_off_until_the_worker_is_idle() {
    sleep_and_wake(PUT_OFF, true);
}

#[test]
fn no_wake_up_is_lost_when_half_a_ring_waits() {
    sleep_and_wake(HALF_FULL, true);
}

#[test]
fn no_wake_up_is_lost_beside_a_worker_that_is_never_idle() {
    sleep_and_wake(OLD, true);
}

#[test]
fn no_wake_up_is_lost_by_who_falls_asleep_again_at_once() {
    sleep_and_wake(TWICE, true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_fences_a_wake_up_is_lost_which_shows_that_this_model_would_see_it() {
    sleep_and_wake(PUT_OFF, false);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_idle_turn_a_wake_up_is_lost_which_shows_that_this_model_would_see_it() {
    sleep_and_wake(NEVER_IDLE, true);
}
