//! Looking for packets before sleeping for them: how long, learned from how earlier looks ended.
//!
//! ```text
//! look shortly, offer the CPU a few times ─▶ look for as long as a sleep costs, if that has paid off ─▶ sleep
//! ```
//!
//! A sleep and the wake out of it cost tens of microseconds, of the NF and of the worker that writes the wake-up.
//! Packets that come within that time are better looked for; where none come, as much is wasted as the sleep would
//! have cost, and the next attempt is put off for twice as many waits. Never where others want this CPU.

use std::time::{Duration, Instant};

/// Looks before the CPU is offered to others: 2 to 5 µs.
const SPINS: u32 = 100;
const YIELDS: u32 = 4;
/// Looks where others wait for this CPU: while we spin, their rings fill.
const SPINS_SHARED: u32 = 8;
/// A sleep and a wake cost more than a round of the others.
const YIELDS_SHARED: u32 = 16;
/// A yield that found nobody to yield to is over by then.
const YIELD_TO_NOBODY: Duration = Duration::from_micros(2);
/// Other NFs hand the CPU back within some 100 µs; who keeps it longer than this uses up its
/// time slice. Sleeping is better then: the scheduler lets a sleeper that wakes go first.
const FOREIGN_SLICE: Duration = Duration::from_millis(1);
/// So many waits do without yielding after that.
const UNYIELDING: u32 = 1000;
/// What a sleep and a wake cost.
const LONG: Duration = Duration::from_micros(50);
/// Waits between two long looks where none has seen anything.
const RARELY: u32 = 256;

/// What earlier waits have shown about the CPU and the traffic.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spinning {
    /// At the last yield another process took the CPU and handed it back.
    shares_cpu: bool,
    /// Waits that shall not yield, because the CPU was kept for long.
    no_yields: u32,
    /// Waits that shall not look for long.
    no_long: u32,
    /// What `no_long` was after the last long look in vain.
    put_off: u32,
}

impl Spinning {
    /// Looks until something is seen, or sleeping is better. At most for `longest`, give or take some microseconds.
    pub(crate) fn look_for<T, E>(
        &mut self,
        longest: Duration,
        mut look: impl FnMut() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let seen = self.look_shortly(&mut look)?;
        if seen.is_some() || longest < LONG || self.is_wanted_by_others() || self.puts_off() {
            return Ok(seen);
        }
        let seen = self.look_for_long(look)?;
        self.learn(seen.is_some());
        Ok(seen)
    }

    fn look_shortly<T, E>(
        &mut self,
        mut look: impl FnMut() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let (spins, yields) = if self.shares_cpu {
            (SPINS_SHARED, YIELDS_SHARED)
        } else {
            (SPINS, YIELDS)
        };
        let may_yield = self.no_yields == 0;
        self.no_yields = self.no_yields.saturating_sub(1);
        for round in 0..if may_yield { spins + yields } else { spins } {
            if let Some(seen) = look()? {
                return Ok(Some(seen));
            }
            if round < spins {
                std::hint::spin_loop();
            } else if !self.offer_cpu() {
                break;
            }
        }
        Ok(None)
    }

    fn look_for_long<T, E>(
        &mut self,
        mut look: impl FnMut() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let begun = Instant::now();
        while begun.elapsed() < LONG && !self.is_wanted_by_others() {
            for _ in 0..SPINS {
                if let Some(seen) = look()? {
                    return Ok(Some(seen));
                }
                std::hint::spin_loop();
            }
            self.offer_cpu();
        }
        Ok(None)
    }

    /// Yields; false: somebody who does not hand the CPU back soon has taken it.
    fn offer_cpu(&mut self) -> bool {
        let offered = Instant::now();
        std::thread::yield_now();
        let away = offered.elapsed();
        self.shares_cpu = (YIELD_TO_NOBODY..FOREIGN_SLICE).contains(&away);
        if away >= FOREIGN_SLICE {
            self.no_yields = UNYIELDING;
        }
        away < FOREIGN_SLICE
    }

    fn is_wanted_by_others(&self) -> bool {
        self.shares_cpu || self.no_yields > 0
    }

    fn puts_off(&mut self) -> bool {
        let put_off = self.no_long > 0;
        self.no_long = self.no_long.saturating_sub(1);
        put_off
    }

    /// How a long look ended.
    fn learn(&mut self, seen: bool) {
        self.put_off = if seen {
            0
        } else {
            (2 * self.put_off).clamp(1, RARELY)
        };
        self.no_long = self.put_off;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the next `waits` would look for long, if each saw something or none did.
    fn long_looks(spinning: &mut Spinning, waits: usize, seen: bool) -> usize {
        (0..waits)
            .filter(|_| {
                let looks = !spinning.puts_off();
                if looks {
                    spinning.learn(seen);
                }
                looks
            })
            .count()
    }

    #[test]
    fn long_looks_in_vain_become_rare_and_one_that_sees_brings_them_back() {
        let mut spinning = Spinning::default();
        assert_eq!(long_looks(&mut spinning, 100, true), 100);
        // After 1, 2, 4 … 256 waits without; the next looks.
        assert_eq!(long_looks(&mut spinning, 9 + 511, false), 9);
        assert_eq!(long_looks(&mut spinning, 10 * 257, false), 10);
        assert_eq!(long_looks(&mut spinning, 1, false), 1);
        assert_eq!(long_looks(&mut spinning, 256 + 100, true), 100);
    }

    #[test]
    fn what_comes_is_seen_and_what_does_not_come_ends_the_look() {
        let mut looks = 0;
        let seen = Spinning::default().look_for(Duration::MAX, || {
            looks += 1;
            Ok::<_, ()>((looks == 50).then_some("packets"))
        });
        assert_eq!((seen, looks), (Ok(Some("packets")), 50));
        let nothing = |spinning: &mut Spinning, longest| {
            spinning.look_for(longest, || Ok::<Option<()>, ()>(None))
        };
        let mut spinning = Spinning::default();
        assert_eq!(nothing(&mut spinning, Duration::MAX), Ok(None));
        let mut hurried = Spinning::default();
        assert_eq!(nothing(&mut hurried, LONG / 2), Ok(None));
        assert_eq!(hurried.put_off, 0, "who has no time for it has not tried");
        let broken = Spinning::default().look_for(LONG, || Err::<Option<()>, _>("broken"));
        assert_eq!(broken, Err("broken"));
    }

    #[test]
    fn where_others_want_the_cpu_nobody_looks_for_long() {
        for wanted in [
            Spinning {
                shares_cpu: true,
                ..Spinning::default()
            },
            Spinning {
                no_yields: 1,
                ..Spinning::default()
            },
        ] {
            let mut looks = 0;
            let mut spinning = wanted;
            let seen = spinning.look_for_long(|| {
                looks += 1;
                Ok::<Option<()>, ()>(None)
            });
            assert_eq!((seen, looks), (Ok(None), 0));
        }
    }
}
