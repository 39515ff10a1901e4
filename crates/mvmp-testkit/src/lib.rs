//! What the tests of the whole platform share; never shipped.
//!
//! * [`Stage`]: a real platform on a socket in a folder of its own;
//! * [`books`]: its accounts, which must balance;
//! * [`traffic`]: the capture that is played;
//! * [`LyingNf`]: an NF that speaks the protocol by hand and may write anything anywhere it can;
//! * [`Victim`]: an NF in a process of its own, to be killed, stopped, forked, starved;
//! * [`skip`]: what a test does that cannot run on this machine.
//!
//! The rules that the tests defend can be broken, with the feature `break-rules`:
//! `tests/negative_controls.sh` demands that a test notices each of them.

mod books;
mod liar;
mod skip;
mod stage;
mod traffic;
mod victim;

pub use books::{all_handles, books, books_are_right, number};
pub use liar::{LyingHandle, LyingNf};
pub use skip::skip;
pub use stage::{Stage, open, send_all, serve, serve_until};
pub use traffic::{bytes_of, frames, in_vxlan, record, traffic};
pub use victim::Victim;
