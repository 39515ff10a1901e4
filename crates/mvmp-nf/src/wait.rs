//! Waiting for packets: look for a while (`spin`), say that we sleep, look once more, sleep on the pipes.

use std::ops::DerefMut;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Interrupted;
use crate::error::NfError;
use crate::rx::{Look, RxSide};
use crate::session::TICK;
use crate::spin::Spinning;

/// While releases wait for room nobody wakes us when there is some.
const OVERFLOW_TICK: Duration = Duration::from_millis(1);

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A handle has packets.
    Packets,
    /// All handles have ended: nothing more will come.
    Ended,
    /// The time was over.
    TimedOut,
    /// The `interrupted` callback said so.
    Interrupted,
}

/// Waits until one of the handles has packets or all have ended. `None` waits for ever.
pub(crate) fn wait<S: DerefMut<Target = RxSide>>(
    sides: &mut [S],
    timeout: Option<Duration>,
    interrupted: Interrupted,
) -> Result<Wait, NfError> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    // One look for those who do not wait at all.
    if timeout == Some(Duration::ZERO) {
        return Ok(look(sides)?.unwrap_or(Wait::TimedOut));
    }
    let mut spinning = sides
        .first()
        .map_or_else(Spinning::default, |side| side.spinning);
    let seen = spinning.look_for(timeout.unwrap_or(Duration::MAX), || look(sides));
    sides.iter_mut().for_each(|side| side.spinning = spinning);
    if let Some(seen) = seen? {
        return Ok(seen);
    }
    let end = sleep_until_seen(sides, deadline, interrupted);
    for side in sides {
        side.disarm();
        // What is wrong with it is the next call's error; this wait has its own result.
        let _ = side.settle_if_polled();
    }
    end
}

fn sleep_until_seen<S: DerefMut<Target = RxSide>>(
    sides: &mut [S],
    deadline: Option<Instant>,
    interrupted: Interrupted,
) -> Result<Wait, NfError> {
    loop {
        let mut flushed = true;
        for side in sides.iter_mut() {
            flushed &= side.opening.session.flush();
            side.opening.drain_pipes();
            // What had raised it is seen by the look below, and `settle` raises it again.
            side.opening.lower();
            side.arm();
        }
        // ORDERING: partner of the worker's fence between its publish and its look at the sleeping words.
        fence(Ordering::SeqCst);
        if let Some(seen) = look(sides)? {
            return Ok(seen);
        }
        let left = deadline.map_or(TICK, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            return Ok(Wait::TimedOut);
        }
        sleep(sides, left.min(if flushed { TICK } else { OVERFLOW_TICK }));
        if interrupted() {
            return Ok(Wait::Interrupted);
        }
    }
}

fn look<S: DerefMut<Target = RxSide>>(sides: &mut [S]) -> Result<Option<Wait>, NfError> {
    let mut ended = true;
    for side in sides.iter_mut() {
        match side.look() {
            Ok(Look::Packets) => return Ok(Some(Wait::Packets)),
            Ok(Look::Nothing) => ended = false,
            Ok(Look::Ended) => {}
            // A handle that its own NF has closed has nothing more to say.
            Err(NfError::Closed(_)) if side.opening.is_closed() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ended.then_some(Wait::Ended))
}

fn sleep<S: DerefMut<Target = RxSide>>(sides: &[S], longest: Duration) {
    let watched = sides.iter().flat_map(|side| side.opening.wakers());
    let mut fds: Vec<_> = watched
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    let timeout = Timespec {
        tv_sec: longest.as_secs() as i64,
        tv_nsec: longest.subsec_nanos() as _,
    };
    // A signal ends the sleep early; the caller looks and asks `interrupted` then.
    let _ = poll(&mut fds, Some(&timeout));
}
