//! What the tests of the whole platform share; never shipped.
//!
//! * [`Stage`]: a real platform on a socket in a folder of its own, and the books that must be right;
//! * [`LyingNf`]: an NF that speaks the protocol by hand and may write anything anywhere it can;
//! * [`Victim`]: an NF in a process of its own, to be killed, stopped, forked, starved;
//! * [`skip`]: what a test does that cannot run on this machine.
//!
//! The rules that the tests defend can be broken, with the feature `break-rules`:
//! `tests/negative_controls.sh` demands that a test notices each of them.

mod liar;
mod skip;
mod stage;
mod victim;

pub use liar::{LyingHandle, LyingNf};
pub use skip::skip;
pub use stage::{Stage, books_are_right, frames, number, send_all, serve, serve_until, traffic};
pub use victim::Victim;
