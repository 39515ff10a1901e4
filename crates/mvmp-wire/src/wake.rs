//! When the producer of a ring wakes its sleeping consumer: the decision, apart from clocks and pipes.
//!
//! A wake-up is a system call, and a packet that follows in a microsecond may come under the same one. So it waits: until
//! the ring is half full, until the first packet that nobody looked after is old, or until the producer itself has
//! nothing to do. Called by the platform's workers at each turn; a [`Waker`] stands beside each ring's `Producer`.
//!
//! ```text
//! producer:  publish ─▶ published() … each turn: is_due()? ─▶ must_wake(): fence, read the sleeping word ─▶ pipe
//! consumer:  write the sleeping word ─▶ fence ─▶ look at the ring once more ─▶ sleep on the pipe
//! ```
//!
//! (A worker notes `published()` as it fills the ring and publishes at the end of its turn: what counts is that it has
//! published before it looks.) The two fences are Dekker's: one of the two sees the other. Invariant: whoever publishes and then goes idle has called
//! [`Waker::must_wake`] in an idle turn in between, so that no packet is left beside a sleeper. `tests/loom.rs` runs
//! this code in every interleaving, and finds the lost wake-up where the fence or the idle turn is left out.

use crate::sync::{AtomicU32, Ordering, fence};

/// How long a wake-up may be deferred, in the producer's ticks.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// So old may the first packet that nobody looked after become.
    pub most: u64,
    /// So old must it be before a half-full ring counts: looking costs a line of the consumer's cache.
    pub half_full: u64,
}

/// One turn of the producer, over all its rings.
#[derive(Debug)]
pub struct Turn {
    now: u64,
    idle: bool,
    fenced: bool,
}

impl Turn {
    /// A turn at `now` (ticks). `idle`: the producer found nothing to do, and may sleep after it.
    pub fn new(now: u64, idle: bool) -> Self {
        let fenced = false;
        Self { now, idle, fenced }
    }

    /// For the model: what happens where the fence is left out.
    #[cfg(loom)]
    pub fn without_fence(self) -> Self {
        let fenced = true;
        Self { fenced, ..self }
    }
}

/// What the producer of one ring remembers of its consumer's sleep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waker {
    /// The sleep that was ended last.
    woken: u32,
    /// When the first packet that nobody looked after was published; 0: there is none.
    since: u64,
}

impl Waker {
    /// Packets were published. True: the first since the last look, so that the ring is to be
    /// looked after at each turn from now on.
    #[inline]
    pub fn published(&mut self, now: u64) -> bool {
        let first = self.since == 0;
        if first {
            self.since = now.max(1);
        }
        first
    }

    /// Whether it is time to look whether the consumer sleeps.
    #[inline]
    pub fn is_due(
        &self,
        turn: &Turn,
        patience: Patience,
        is_half_full: impl FnOnce() -> bool,
    ) -> bool {
        let waited = turn.now.wrapping_sub(self.since);
        turn.idle || waited >= patience.most || (waited >= patience.half_full && is_half_full())
    }

    /// Looks, once it is due: true if the consumer sleeps, and nobody has ended that sleep yet. The
    /// ring needs no more looking after until something is published again.
    #[inline]
    pub fn must_wake(&mut self, turn: &mut Turn, sleeping: &AtomicU32) -> bool {
        if !turn.fenced {
            turn.fenced = true;
            // ORDERING: between our publishing of tails and our reading of sleeping words; partner of
            // the consumer's fence between its sleeping word and its last look at the ring.
            fence(Ordering::SeqCst);
        }
        self.since = 0;
        let sleep = sleeping.load(Ordering::Relaxed);
        let wakes = sleep != 0 && sleep != self.woken;
        if wakes {
            self.woken = sleep;
        }
        wakes
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        most: 50,
        half_full: 10,
    };

    fn is_due(waker: &Waker, now: u64, half: bool) -> bool {
        waker.is_due(&Turn::new(now, false), PATIENCE, || half)
    }

    #[test]
    fn a_wake_up_waits_for_half_a_ring_for_age_or_for_idleness() {
        let mut waker = Waker::default();
        assert!(waker.published(1000));
        assert!(!waker.published(1005), "the first one counts");
        assert!(
            !is_due(&waker, 1009, true),
            "half a ring, but just published"
        );
        assert!(!is_due(&waker, 1049, false));
        assert!(is_due(&waker, 1010, true));
        assert!(is_due(&waker, 1050, false));
        assert!(waker.is_due(&Turn::new(1005, true), PATIENCE, || false));
    }

    #[test]
    fn each_sleep_is_ended_once() {
        let (mut waker, sleeping) = (Waker::default(), AtomicU32::new(0));
        let look = |waker: &mut Waker| waker.must_wake(&mut Turn::new(1, false), &sleeping);
        assert!(!look(&mut waker), "it is awake");
        sleeping.store(7, Ordering::Relaxed);
        assert!(look(&mut waker));
        assert!(!look(&mut waker), "that sleep has ended");
        sleeping.store(8, Ordering::Relaxed);
        assert!(look(&mut waker));
        assert!(waker.published(5), "after a look, packets count anew");
    }
}
