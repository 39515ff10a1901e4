//! When a frame of a capture is due. Pure arithmetic: the worker brings the clock.

/// A pause in the recording that is longer than this is no pause but a broken clock or a new
/// pass over the file; the frame after it is due at once.
const PAUSE_NS_MAX: u64 = 3_600_000_000_000;
/// Who has fallen behind further than this does not catch up: the schedule starts anew.
const LATE_NS_MAX: u64 = 100_000_000;

/// The schedule of one capture. Ask [`Self::due`] about the next frame; when it says 0 and the
/// frame has been taken, call [`Self::sent`].
#[derive(Clone, Debug)]
pub struct Pacer {
    rate: Rate,
    /// When the next frame is due; `None` before the first.
    next_ns: Option<u64>,
    /// The timestamp of the frame before, for recorded pacing.
    previous_ns: Option<i64>,
    /// What integer division has left of the last interval, in units of 1 / rate nanoseconds.
    remainder: u64,
}

#[derive(Clone, Copy, Debug)]
enum Rate {
    Unpaced,
    Recorded,
    PerSecond(u64),
}

impl Pacer {
    /// Every frame is due at once.
    pub const fn unpaced() -> Self {
        Self::new(Rate::Unpaced)
    }

    /// Frames keep the distances in time that they were recorded with. A timestamp earlier than
    /// the one before, as at the beginning of a further pass, is due at once.
    pub const fn recorded() -> Self {
        Self::new(Rate::Recorded)
    }

    /// So many frames a second, evenly spaced; 0 is taken as 1.
    pub const fn per_second(packets: u64) -> Self {
        Self::new(Rate::PerSecond(if packets == 0 { 1 } else { packets }))
    }

    const fn new(rate: Rate) -> Self {
        Self {
            rate,
            next_ns: None,
            previous_ns: None,
            remainder: 0,
        }
    }

    /// How many nanoseconds from `now_ns` (any clock that only goes forward) the frame with this
    /// timestamp is due; 0 means now. Asking changes nothing.
    #[inline]
    pub fn due(&self, now_ns: u64, frame_timestamp_ns: i64) -> u64 {
        match self.rate {
            Rate::Unpaced => 0,
            _ => self
                .due_at(now_ns, frame_timestamp_ns)
                .saturating_sub(now_ns),
        }
    }

    /// The frame that was due has been taken, at `now_ns`.
    #[inline]
    pub fn sent(&mut self, now_ns: u64, frame_timestamp_ns: i64) {
        let due_at = self.due_at(now_ns, frame_timestamp_ns);
        let base = if now_ns.saturating_sub(due_at) > LATE_NS_MAX {
            now_ns
        } else {
            due_at
        };
        match self.rate {
            Rate::Unpaced => {}
            Rate::Recorded => {
                self.next_ns = Some(base);
                self.previous_ns = Some(frame_timestamp_ns);
            }
            Rate::PerSecond(packets) => {
                let units = 1_000_000_000 + self.remainder;
                self.remainder = units % packets;
                self.next_ns = Some(base.saturating_add(units / packets));
            }
        }
    }

    fn due_at(&self, now_ns: u64, frame_timestamp_ns: i64) -> u64 {
        let Some(next_ns) = self.next_ns else {
            return now_ns;
        };
        let pause = self.previous_ns.map_or(0, |previous| {
            let pause = i128::from(frame_timestamp_ns) - i128::from(previous);
            u64::try_from(pause)
                .ok()
                .filter(|&pause| pause <= PAUSE_NS_MAX)
                .unwrap_or(0)
        });
        next_ns.saturating_add(pause)
    }
}
