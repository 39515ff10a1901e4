//! Sending: packets of a burst are moved or mirrored, frames of the NF's own go by private memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mvmp_wire::packet::Link;
use mvmp_wire::{Descriptor, GRANULE_BYTES, Op, PRIVATE_POOL};

use crate::Interrupted;
use crate::burst::{Burst, Which};
use crate::error::NfError;
use crate::lent::Upward;
use crate::opening::Opening;
use crate::session::{Session, TICK};
use crate::way_up::WayUp;

/// The first nap of a sender that waits for room, and the longest.
const NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(1);
/// Looks before the first nap.
const YIELDS: u32 = 16;

/// Gives the named packets that are still lent to `opening`'s device, in order; `skip` of them
/// are passed over first. Returns how many the ring took; the rest stays in the burst.
pub(crate) fn put(
    opening: &Opening,
    burst: &mut Burst,
    which: &Which,
    op: Op,
    in_port: Option<u16>,
    skip: usize,
) -> Result<usize, NfError> {
    opening.check()?;
    if !opening.tx {
        return Err(NfError::NotAuthorized(format!(
            "the handle on {} is not open for sending (tx)",
            opening.device
        )));
    }
    let Some(source) = burst.opening() else {
        return Ok(0);
    };
    same_session(source, opening)?;
    let upward = Upward::send(op, source.slot, opening.number, in_port);
    let mut way = WayUp::new(&opening.session, burst.held());
    let full = burst.put(which, skip, &mut way, upward).is_break();
    let taken = way.end();
    if upward.leaves() {
        burst.note_left(taken);
    }
    count(opening, op, taken);
    if full && op == Op::Forward {
        note_refused(opening, burst, which);
    }
    Ok(taken)
}

fn same_session(source: &Opening, target: &Opening) -> Result<(), NfError> {
    if Arc::ptr_eq(&source.session, &target.session) {
        return source.check();
    }
    source.check()?;
    Err(NfError::config(
        "this burst was received by another Nf; open both devices with one Nf to pass packets between them",
    ))
}

fn count(opening: &Opening, op: Op, taken: usize) {
    let counter = if op == Op::Mirror {
        &opening.counters.mirrored
    } else {
        &opening.counters.sent
    };
    counter.fetch_add(taken as u64, Ordering::Relaxed);
}

#[cold]
fn note_refused(opening: &Opening, burst: &mut Burst, which: &Which) {
    let refused = burst.note_refused(which);
    opening
        .counters
        .tx_ring_full
        .fetch_add(refused, Ordering::Relaxed);
}

/// Calls `some` until `wanted` are taken, napping while there is no room; `None` waits for ever.
pub(crate) fn until_taken(
    wanted: usize,
    timeout: Option<Duration>,
    interrupted: Interrupted,
    mut some: impl FnMut(usize) -> Result<usize, NfError>,
) -> Result<usize, NfError> {
    let mut taken = some(0)?;
    if taken >= wanted || timeout == Some(Duration::ZERO) {
        return Ok(taken);
    }
    let start = Instant::now();
    let (mut nap, mut yields, mut asked) = (NAP, 0, start);
    while taken < wanted && timeout.is_none_or(|timeout| start.elapsed() < timeout) {
        if yields < YIELDS {
            yields += 1;
            std::thread::yield_now();
        } else {
            std::thread::sleep(nap);
            nap = (nap * 2).min(LONGEST_NAP);
        }
        if asked.elapsed() >= TICK {
            asked = Instant::now();
            if interrupted() {
                return Err(NfError::Interrupted);
            }
        }
        let more = some(taken)?;
        if more > 0 {
            (nap, yields) = (NAP, 0);
        }
        taken += more;
    }
    Ok(taken)
}

/// Copies frames to private memory and sends them from there; returns how many there was room for.
pub(crate) fn send(
    opening: &Opening,
    frames: &[&[u8]],
    in_port: u8,
    link: Link,
) -> Result<usize, NfError> {
    opening.check()?;
    if !opening.tx {
        return Err(NfError::NotAuthorized(format!(
            "the handle on {} is not open for sending (tx)",
            opening.device
        )));
    }
    let longest = frames.iter().map(|frame| frame.len()).max().unwrap_or(0);
    if longest > usize::from(u16::MAX) || longest > opening.session.private.len() {
        let room = opening.session.private.len();
        return Err(NfError::Config {
            message: format!(
                "a frame of {longest} bytes is too long: the private memory has {room} bytes, a frame at most 65535"
            ),
            hint: Some("memory = \"…\" in [nfs.ROLE] sets the private memory".into()),
        });
    }
    let session = &opening.session;
    let worker = opening.builds_at();
    let mut returns = session.returns();
    returns.reclaim_private(&session.links);
    let slots = session
        .links
        .get(worker as usize)
        .map_or(&[][..], |link| link.up.return_slots());
    let mut room = returns.room(&session.links, worker, frames.len());
    let mut taken = 0;
    while taken < frames.len() && room > 0 {
        let index = returns.next_index(worker);
        let Some(at) = returns
            .private
            .take(frames[taken].len() as u16, worker, index)
        else {
            break;
        };
        if !session.private.copy_in(at as usize, frames[taken]) {
            break;
        }
        let length = frames[taken].len() as u16;
        returns.fill(worker, slots, private(at, length, opening, (in_port, link)));
        room -= 1;
        taken += 1;
    }
    returns.publish(&session.links);
    drop(returns);
    count(opening, Op::Forward, taken);
    Ok(taken)
}

/// The port to assume as input travels as the hop, the link as the token: docs/protocol.md.
fn private(at: u32, length: u16, opening: &Opening, (in_port, link): (u8, Link)) -> Descriptor {
    Descriptor {
        token: link as u32,
        pool: PRIVATE_POOL,
        granule: at / GRANULE_BYTES as u32,
        offset: (at % GRANULE_BYTES as u32) as u16,
        length,
        slot: opening.slot,
        hop: in_port,
        op: Op::Forward as u8,
        arg: opening.number,
    }
}

/// What waits for room is flushed on the way; kept here so that `Session` knows no policy of waiting.
pub(crate) fn settle(session: &Session, deadline: Instant) {
    while !session.flush() && session.is_connected() && Instant::now() < deadline {
        std::thread::sleep(NAP);
    }
}
