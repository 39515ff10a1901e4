//! Who is let in through the doors: a budget for each, and patience where descriptors have run out.
//!
//! ```text
//! connection ─▶ door ─▶ its budget of connections without a name ─▶ hello: a name, one of `max_nfs`
//!                         used up: hung up on, counted
//! ```
//!
//! Invariants: the doors' budgets are apart and fit [`NAMELESS_MAX`] together, so that whoever
//! floods any number of doors keeps only those busy; an `accept` that fails never makes the
//! control thread spin: nobody is accepted until [`PAUSE`] is over, and who waits, waits in the
//! listener's queue.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::operator::Operators;
use super::session::Session;
use super::sockets::{Door, Sockets};
use super::state::Control;

/// Connections without a name at a time, all doors together (one for each if there are more doors).
const NAMELESS_MAX: usize = 256;
/// The same through one door.
const NAMELESS_MAX_OF_A_DOOR: usize = 64;
/// Connections accepted through one door in one turn of the control thread, which has other things to do.
const ACCEPTED_AT_ONCE: usize = 64;
/// So long nobody is accepted when a descriptor could not be had.
const PAUSE: Duration = Duration::from_millis(100);
/// The log says at most so often that somebody was not let in.
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What became of connections that were not let in.
#[derive(Debug, Default)]
pub struct Connections {
    /// Hung up on: too many at the same door had no name yet.
    pub hung_up: u64,
    /// Times that accepting was put off, because there was no file descriptor left.
    pub put_off: u64,
    hang_up_said: Option<Instant>,
    put_off_said: Option<Instant>,
}

/// When connections are accepted, and how many of each door.
pub struct Admission {
    of_a_door: usize,
    closed_until: Option<Instant>,
}

/// Whether it is time to say it, and then notes that it was said.
fn is_worth_saying(said: &mut Option<Instant>) -> bool {
    let worth = said.is_none_or(|when| when.elapsed() >= SAID_AGAIN_AFTER);
    if worth {
        *said = Some(Instant::now());
    }
    worth
}

impl Admission {
    /// For so many doors of NFs.
    pub fn new(doors: usize) -> Self {
        Self {
            of_a_door: (NAMELESS_MAX / doors.max(1)).clamp(1, NAMELESS_MAX_OF_A_DOOR),
            closed_until: None,
        }
    }

    /// There are so many doors of NFs now.
    pub fn resize(&mut self, doors: usize) {
        self.of_a_door = Self::new(doors).of_a_door;
    }

    /// Whether connections are accepted now.
    pub fn is_open(&self) -> bool {
        self.closed_until
            .is_none_or(|until| Instant::now() >= until)
    }

    /// Lets in who waits, a bounded number through each door.
    pub fn admit(&mut self, control: &mut Control, sockets: &Sockets, operators: &mut Operators) {
        if !self.is_open() {
            return;
        }
        for listener in &sockets.listeners {
            for _ in 0..ACCEPTED_AT_ONCE {
                match listener.accept() {
                    Ok(Some(socket)) => match &listener.door {
                        Door::Operator => operators.add(socket),
                        door => control.connect(socket, door.clone(), self.of_a_door),
                    },
                    Ok(None) => break,
                    Err(error) => {
                        self.closed_until = Some(Instant::now() + PAUSE);
                        control.connections.put_off += 1;
                        if is_worth_saying(&mut control.connections.put_off_said) {
                            tracing::error!(%error, "no connection can be accepted now; raise the limit of open files (ulimit -n)");
                        }
                        return;
                    }
                }
            }
        }
    }
}

impl Control {
    fn connect(&mut self, socket: OwnedFd, door: Door, budget: usize) {
        let mut nameless = self.nameless_at(&door);
        if nameless.len() >= budget {
            // Some may have gone or got a name in the meantime.
            nameless.into_iter().for_each(|nf| self.read_session(nf));
            nameless = self.nameless_at(&door);
        }
        if nameless.len() >= budget {
            self.connections.hung_up += 1;
            if is_worth_saying(&mut self.connections.hang_up_said) {
                tracing::warn!(
                    ?door,
                    nameless = nameless.len(),
                    "too many connections without a name at one door: further ones are hung up on"
                );
            }
            return;
        }
        let nf = self.next_nf;
        self.next_nf += 1;
        self.sessions.insert(nf, Session::new(nf, socket, door));
    }

    fn nameless_at(&self, door: &Door) -> Vec<u32> {
        self.sessions
            .values()
            .filter(|session| !session.is_named() && session.door == *door)
            .map(|session| session.nf)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budgets_of_all_doors_fit_the_total() {
        for doors in 1..=NAMELESS_MAX {
            assert!(Admission::new(doors).of_a_door * doors <= NAMELESS_MAX);
        }
        assert_eq!(Admission::new(2).of_a_door, NAMELESS_MAX_OF_A_DOOR);
        assert_eq!(Admission::new(1000).of_a_door, 1);
    }
}
