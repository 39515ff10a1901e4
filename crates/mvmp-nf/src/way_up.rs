//! The way up for packets of one burst: to the worker of each packet's pool, in order.
//!
//! The ring and its room are looked up when the pool changes; packets of one pool that lie side
//! by side in the burst go into the ring in one pass.

use std::ops::{ControlFlow, Range};
use std::sync::MutexGuard;

use mvmp_wire::Descriptor;

use crate::lent::{Lent, Upward};
use crate::returns::Returns;
use crate::session::Session;

/// Holds the lock on the return rings while it lives; [`Self::end`] shows what was put in.
pub(crate) struct WayUp<'a> {
    session: &'a Session,
    returns: MutexGuard<'a, Returns>,
    wanted: usize,
    pool: Option<u8>,
    worker: u8,
    room: usize,
    taken: usize,
}

impl<'a> WayUp<'a> {
    /// For up to `wanted` packets.
    pub(crate) fn new(session: &'a Session, wanted: usize) -> Self {
        Self {
            session,
            returns: session.returns(),
            wanted,
            pool: None,
            worker: 0,
            room: 0,
            taken: 0,
        }
    }

    /// Sends those that are still lent up; breaks with the number of one for which there is no room.
    pub(crate) fn put(&mut self, packets: &mut [Lent], upward: Upward) -> ControlFlow<usize> {
        let mut from = 0;
        while let Some(run) = next_run(packets, from) {
            self.towards(packets[run.start].pool());
            if self.room == 0 {
                return ControlFlow::Break(run.start);
            }
            from = run.end.min(run.start + self.room);
            let run = &mut packets[run.start..from];
            let links = &self.session.links;
            self.returns.fill_all(links, self.worker, run, upward);
            self.room -= run.len();
            self.taken += run.len();
        }
        ControlFlow::Continue(())
    }

    /// As [`Self::put`]; what finds no room leaves too, and waits behind the ring.
    pub(crate) fn put_or_keep(&mut self, packets: &mut [Lent], upward: Upward) {
        let mut rest = packets;
        while let ControlFlow::Break(at) = self.put(rest, upward) {
            let kept = Descriptor::from_words(upward.take(&mut rest[at]));
            self.returns.keep(self.worker, kept);
            self.taken += 1;
            rest = &mut rest[at + 1..];
        }
    }

    #[inline(always)]
    fn towards(&mut self, pool: u8) {
        if self.pool != Some(pool) {
            self.look_up(pool);
        }
    }

    fn look_up(&mut self, pool: u8) {
        let links = &self.session.links;
        self.pool = Some(pool);
        self.worker = self.session.pool(pool).map_or(0, |pool| pool.worker);
        self.room = self.returns.room(links, self.worker, self.wanted);
        self.returns
            .expect(links, self.worker, self.wanted.min(self.room));
    }

    /// Shows the workers what was put; how many packets that were.
    pub(crate) fn end(mut self) -> usize {
        self.returns.publish(&self.session.links);
        self.session.note_overflow(&self.returns);
        self.taken
    }
}

/// The first packets from number `from` on that lie side by side, are still lent and of one pool.
fn next_run(packets: &[Lent], from: usize) -> Option<Range<usize>> {
    let start = from + packets[from..].iter().position(|packet| packet.is_held())?;
    let pool = packets[start].pool();
    let goes_on = |packet: &&Lent| packet.is_held() && packet.pool() == pool;
    Some(start..start + packets[start..].iter().take_while(goes_on).count())
}
