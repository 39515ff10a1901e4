//! The receiving side of a handle: cursors over its lanes, and its sleeping words.
//!
//! One call at a time: `Handle` keeps it in a lock that is never waited for (`Busy`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use mvmp_wire::region::{STATE_CLOSED, STATE_ENDED};
use mvmp_wire::ring::Consumer;

use crate::burst::Burst;
use crate::error::NfError;
use crate::frame::prefetch;
use crate::lent::Lent;
use crate::opening::Opening;
use crate::spin::Spinning;

/// How long a handle that the platform has closed waits for the platform's reason.
const REASON: Duration = Duration::from_millis(300);

/// Descriptors in a cache line.
pub(crate) const SLOTS_PER_LINE: usize = 4;

/// What a look at the rings shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Packets,
    Nothing,
    Ended,
}

#[derive(Debug)]
pub(crate) struct RxSide {
    pub(crate) opening: Arc<Opening>,
    consumers: Vec<Consumer>,
    turn: usize,
    sleep: u32,
    /// Of the last wait that this side took part in.
    pub(crate) spinning: Spinning,
}

impl RxSide {
    pub(crate) fn new(opening: Arc<Opening>) -> Self {
        let consumers = opening
            .lanes
            .iter()
            .map(|lane| Consumer::new(lane.down.rx_capacity()))
            .collect();
        Self {
            opening,
            consumers,
            turn: 0,
            sleep: 0,
            spinning: Spinning::default(),
        }
    }

    /// Takes up to `max` packets; lanes get their turn in rotation.
    #[inline]
    pub(crate) fn take(&mut self, max: usize, burst: &mut Burst) -> Result<usize, NfError> {
        let Self {
            opening,
            consumers,
            turn,
            ..
        } = self;
        opening.check()?;
        opening.session.flush();
        burst.begin(opening);
        let lanes = consumers.len();
        for step in 0..lanes {
            let at = (*turn + step) % lanes;
            let (lane, consumer) = (&opening.lanes[at], &mut consumers[at]);
            let left = max - burst.len();
            let waiting = consumer
                .available(lane.down.rx_tail())
                .map_err(|_| broken())?;
            let count = waiting.min(u32::try_from(left).unwrap_or(u32::MAX));
            if count > 0 {
                let slots = lane.down.rx_slots();
                read_slots(consumer, slots, count, burst);
                consumer.advance(count);
                consumer.retire(
                    opening.session.links[lane.worker as usize]
                        .up
                        .rx_head(opening.number),
                );
            }
        }
        self.turn = self.turn.wrapping_add(1);
        self.settle_if_polled()?;
        let count = burst.len();
        if count == 0 {
            self.check_platform_state()?;
        } else {
            self.opening
                .counters
                .received
                .fetch_add(count as u64, Ordering::Relaxed);
        }
        Ok(count)
    }

    /// Looks at every ring.
    #[inline]
    pub(crate) fn look(&mut self) -> Result<Look, NfError> {
        self.opening.check()?;
        // The state first: what was put into a ring before its end is then seen.
        let ended = self.all_lanes(STATE_ENDED);
        for (lane, consumer) in self.opening.lanes.iter().zip(&mut self.consumers) {
            if consumer
                .available(lane.down.rx_tail())
                .map_err(|_| broken())?
                > 0
            {
                return Ok(Look::Packets);
            }
        }
        if ended {
            return Ok(Look::Ended);
        }
        self.check_platform_state()?;
        Ok(Look::Nothing)
    }

    fn all_lanes(&self, bit: u32) -> bool {
        // ORDERING: partner of the platform's release store of the state, after the last packet's publish.
        let has = |word: u32| word & bit != 0;
        !self.opening.lanes.is_empty()
            && self
                .opening
                .lanes
                .iter()
                .all(|lane| has(lane.down.state().load(Ordering::Acquire)))
    }

    fn check_platform_state(&self) -> Result<(), NfError> {
        if self.all_lanes(STATE_CLOSED) && !self.opening.is_closed() {
            return Err(self.why_closed_by_platform());
        }
        Ok(())
    }

    /// The reason travels by the socket and may come a little later than the state.
    #[cold]
    fn why_closed_by_platform(&self) -> NfError {
        let deadline = Instant::now() + REASON;
        while Instant::now() < deadline {
            if let Err(error) = self.opening.check() {
                return error;
            }
            if self.opening.session.said_bye() {
                // It gives everything back first, and hangs up then.
                return NfError::PlatformLost { in_order: true };
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        NfError::Detached("the platform has closed it".into())
    }

    /// Says "asleep" to every lane's worker. A fence and another look must follow.
    pub(crate) fn arm(&mut self) {
        self.sleep = self.sleep.wrapping_add(1).max(1);
        self.set_sleeping(self.sleep);
    }

    pub(crate) fn disarm(&self) {
        self.set_sleeping(0);
    }

    fn set_sleeping(&self, value: u32) {
        for lane in &self.opening.lanes {
            let word = self.opening.session.links[lane.worker as usize]
                .up
                .sleeping(self.opening.number);
            // ORDERING: the caller's SeqCst fence orders it before its last look at the rings.
            word.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn settle_if_polled(&mut self) -> Result<(), NfError> {
        if self.opening.polled.load(Ordering::Relaxed) {
            self.settle()
        } else {
            Ok(())
        }
    }

    /// Leaves `fileno()` readable if there is something to see, else armed.
    pub(crate) fn settle(&mut self) -> Result<(), NfError> {
        self.opening.drain_pipes();
        self.opening.lower();
        self.arm();
        // ORDERING: partner of the worker's fence between its publish and its look at the sleeping word.
        fence(Ordering::SeqCst);
        match self.look() {
            Ok(Look::Nothing) => Ok(()),
            Ok(Look::Packets | Look::Ended) => {
                self.disarm();
                self.opening.raise();
                Ok(())
            }
            Err(error) => {
                self.opening.raise();
                Err(error)
            }
        }
    }
}

/// Appends the next `count` packets. A function of its own, so that the compiler knows that nothing
/// else changes the cursor meanwhile.
#[inline(never)]
fn read_slots(consumer: &Consumer, slots: &[AtomicU64], count: u32, burst: &mut Burst) {
    // The worker's core has written them: all lines are on their way before the first is read.
    for ahead in (0..count).step_by(SLOTS_PER_LINE) {
        if let Some(slot) = consumer.slot(slots, ahead) {
            prefetch(slot);
        }
    }
    burst.extend(|packets| consumer.peek_all(slots, count, Lent::of, packets));
}

#[cold]
fn broken() -> NfError {
    NfError::Closed("the platform's ring is broken: an index is impossible".into())
}
