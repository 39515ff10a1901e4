//! The ledger of shares: who holds which buffer, known to the platform alone.
//!
//! A *share* is (buffer, slot, token). Each slot has a column with one 32-bit word per buffer:
//! the token of its open share, or 0. What an NF presents is accepted if, and only if, the token
//! matches; it is then closed, so that a second presentation is refused. A buffer goes home when
//! its last share closes. Nothing here is shared with anyone, and nothing of an NF's memory is
//! read, so the sweep of a dead NF's column is exact.
//!
//! ```text
//!              buffer 0   1   2   3 …
//! slot 0           0  t01   0  t03        held 2, limit 512
//! slot 1           0  t11   0    0        held 1, limit 512
//! refs             0    2   0    1        a buffer with refs 0 is not lent
//! ```
//!
//! Called by the worker that owns the pool, and by nobody else. Invariants:
//! * `refs[b]` is the number of non-zero tokens in row `b`; `held[s]` that of column `s`.
//! * Σ max(limit, held) over the open slots never exceeds the budget.

use crate::broken::{Rule, is_broken};
use crate::worker::mask::ones;
use crate::worker::returned::Returned;
use crate::worker::view::View;

mod tokens;
use tokens::Tokens;

/// Slots that a ledger knows: a `u8` in descriptors.
pub const SLOTS: usize = 256;

/// What the closing of a share did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// There is no such share: a stale, second, foreign or invented token.
    Refused,
    /// Others still hold the buffer.
    Shared,
    /// Nobody holds the buffer any more.
    Last,
}

#[derive(Debug, Default)]
struct Column {
    /// Empty until the slot is opened.
    tokens: Box<[u32]>,
    /// What each share shows, beside its token; empty while every share shows the whole frame.
    views: Box<[View]>,
    held: u32,
    limit: u32,
}

/// The shares of one pool.
#[derive(Debug)]
pub struct Ledger {
    columns: Vec<Column>,
    refs: Box<[u16]>,
    lent: u32,
    shares: u64,
    budget: u32,
    /// Shares may show parts of frames.
    has_views: bool,
    tokens: Tokens,
}

/// Below this limit a handle is not worth opening.
pub const LIMIT_MIN: u32 = 64;

/// No room for another handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{slots} handles share {budget} buffers already, and one more would leave fewer than {LIMIT_MIN} for each; \
     raise `buffers` in [platform]"
)]
pub struct NoRoom {
    /// Open slots.
    pub slots: u32,
    /// Buffers that may be lent.
    pub budget: u32,
}

impl Ledger {
    /// A ledger of `granules` rows that may lend `budget` buffers.
    pub fn new(granules: u32, budget: u32) -> Self {
        Self {
            columns: (0..SLOTS).map(|_| Column::default()).collect(),
            refs: vec![0; granules as usize].into_boxed_slice(),
            lent: 0,
            shares: 0,
            budget,
            has_views: false,
            tokens: Tokens::new(),
        }
    }

    /// From now on shares may show parts of frames.
    pub fn keep_views(&mut self) {
        self.has_views = true;
        for column in &mut self.columns {
            if column.views.is_empty() {
                column.views = vec![View::default(); column.tokens.len()].into_boxed_slice();
            }
        }
    }

    /// Whether a run of one slot's shares is sent as the frames came.
    #[inline]
    pub fn sends_whole(&self, run: &[Returned]) -> bool {
        !self.has_views
            || run
                .iter()
                .map(Returned::read)
                .all(|share| !self.view(share.slot, share.granule).is_cut())
    }

    /// What this slot's share of a buffer shows.
    #[inline(always)]
    pub fn view(&self, slot: u8, granule: u32) -> View {
        let views = &self.columns[slot as usize].views;
        views.get(granule as usize).copied().unwrap_or_default()
    }

    /// Opens a column. Its limit is an equal part of the budget, as far as the others leave it now.
    ///
    /// # Errors
    /// [`NoRoom`] when the equal part would be below [`LIMIT_MIN`].
    pub fn open_slot(&mut self, slot: u8) -> Result<(), NoRoom> {
        let slots = self.open_slots() + 1;
        if self.budget / slots < LIMIT_MIN {
            return Err(NoRoom {
                slots: slots - 1,
                budget: self.budget,
            });
        }
        self.columns[slot as usize] = Column {
            tokens: vec![0; self.refs.len()].into_boxed_slice(),
            views: vec![View::default(); if self.has_views { self.refs.len() } else { 0 }]
                .into_boxed_slice(),
            held: 0,
            limit: 0,
        };
        self.rebalance();
        Ok(())
    }

    /// Forgets a column that holds nothing.
    ///
    /// # Panics
    /// When it still holds shares: the caller sweeps first.
    pub fn close_slot(&mut self, slot: u8) {
        assert_eq!(
            self.columns[slot as usize].held, 0,
            "a column is swept before it is closed"
        );
        self.columns[slot as usize] = Column::default();
        self.rebalance();
    }

    fn open_slots(&self) -> u32 {
        self.columns
            .iter()
            .filter(|column| !column.tokens.is_empty())
            .count() as u32
    }

    /// Gives each open slot its equal part, less what those above it hold: newcomers grow as the
    /// others come down. Cheap enough for housekeeping, not for each packet.
    pub fn rebalance(&mut self) {
        let slots = self.open_slots();
        if slots == 0 {
            return;
        }
        let part = self.budget / slots;
        let above = |column: &&Column| !column.tokens.is_empty() && column.held > part;
        let excess: u64 = self
            .columns
            .iter()
            .filter(above)
            .map(|column| u64::from(column.held))
            .sum();
        let heavy = self.columns.iter().filter(above).count() as u32;
        let rest = u64::from(self.budget).saturating_sub(excess);
        let light = u64::from(slots - heavy);
        let limit = rest
            .checked_div(light)
            .map_or(0, |each| each.min(u64::from(part)) as u32);
        for column in self
            .columns
            .iter_mut()
            .filter(|column| !column.tokens.is_empty())
        {
            // Who holds more than its part lends no more until it has come down.
            column.limit = if column.held > part {
                part
            } else {
                limit.max(column.held.min(part))
            };
        }
        self.trim(part);
    }

    /// Keeps Σ max(limit, held) within the budget when slots hold more than the light limit.
    fn trim(&mut self, part: u32) {
        let total: u64 = self
            .columns
            .iter()
            .map(|column| u64::from(column.limit.max(column.held)))
            .sum();
        let mut over = total.saturating_sub(u64::from(self.budget));
        for column in self.columns.iter_mut().filter(|column| column.held < part) {
            let cut = over.min(u64::from(column.limit - column.held.min(column.limit)));
            column.limit -= cut as u32;
            over -= cut;
        }
    }

    /// How many more shares this slot may open now.
    #[inline]
    pub fn room(&self, slot: u8) -> u32 {
        let column = &self.columns[slot as usize];
        column.limit.saturating_sub(column.held)
    }

    /// One slot's column, to open and close a run of shares with one look-up.
    #[inline(always)]
    pub fn column(&mut self, slot: u8) -> Shares<'_> {
        let Self {
            columns,
            refs,
            tokens,
            lent,
            shares,
            ..
        } = self;
        let Column {
            tokens: cells,
            views,
            held,
            ..
        } = &mut columns[slot as usize];
        // A slot that is not open has no rows.
        let rows = cells.len().min(refs.len());
        Shares {
            cells: &mut cells[..rows],
            views,
            refs: &mut refs[..rows],
            source: tokens,
            held,
            lent,
            shares,
            opened: 0,
            closed: 0,
            first: 0,
            last: 0,
        }
    }

    /// Opens a share; `None` if this slot holds one on this buffer already (or neither exists).
    #[inline(always)]
    pub fn open(&mut self, slot: u8, granule: u32) -> Option<u32> {
        self.column(slot).open(granule)
    }

    /// Whether this share is open.
    #[inline(always)]
    pub fn holds(&self, slot: u8, granule: u32, token: u32) -> bool {
        self.held_by(slot).view_of(granule, token).is_some()
    }

    /// What one slot holds, to look at a run of its shares.
    #[inline(always)]
    pub fn held_by(&self, slot: u8) -> Held<'_> {
        let column = &self.columns[slot as usize];
        Held {
            cells: &column.tokens,
            views: &column.views,
        }
    }

    /// Closes a share that an NF presents.
    #[inline(always)]
    pub fn close(&mut self, slot: u8, granule: u32, token: u32) -> Closed {
        self.column(slot).close(granule, token)
    }

    /// Closes whatever this slot holds in these rows; calls `home` for each buffer that nobody
    /// holds any more. Returns how many shares it closed.
    pub fn sweep(
        &mut self,
        slot: u8,
        rows: std::ops::Range<u32>,
        mut home: impl FnMut(u32),
    ) -> u32 {
        let mut closed = 0;
        let end = rows
            .end
            .min(self.columns[slot as usize].tokens.len() as u32);
        for granule in rows.start..end {
            if self.columns[slot as usize].tokens[granule as usize] == 0 {
                continue;
            }
            closed += 1;
            let token = self.columns[slot as usize].tokens[granule as usize];
            if self.close(slot, granule, token) == Closed::Last && !is_broken(Rule::Sweep) {
                home(granule);
            }
        }
        closed
    }

    /// Rows, one per granule.
    pub fn rows(&self) -> u32 {
        self.refs.len() as u32
    }

    /// Whether somebody holds this buffer.
    #[inline(always)]
    pub fn is_lent(&self, granule: u32) -> bool {
        self.refs[granule as usize] != 0
    }

    /// Whether this slot holds this buffer.
    pub fn is_held(&self, slot: u8, granule: u32) -> bool {
        let tokens = &self.columns[slot as usize].tokens;
        tokens
            .get(granule as usize)
            .is_some_and(|&token| token != 0)
    }

    /// Whether more than one slot holds this buffer.
    pub fn is_shared(&self, granule: u32) -> bool {
        self.refs[granule as usize] > 1
    }

    /// Buffers with at least one open share.
    pub fn lent(&self) -> u32 {
        self.lent
    }

    /// Open shares in all.
    pub fn shares(&self) -> u64 {
        self.shares
    }

    /// Open shares of this slot.
    #[inline]
    pub fn held(&self, slot: u8) -> u32 {
        self.columns[slot as usize].held
    }

    /// Shares that this slot may hold.
    pub fn limit(&self, slot: u8) -> u32 {
        self.columns[slot as usize].limit
    }
}

/// One slot's column, to be looked at.
pub struct Held<'a> {
    cells: &'a [u32],
    views: &'a [View],
}

impl Held<'_> {
    /// What a share shows, if it is open.
    #[inline(always)]
    pub fn view_of(&self, granule: u32, token: u32) -> Option<View> {
        let &cell = self.cells.get(granule as usize)?;
        if !is_open(cell, token) {
            return None;
        }
        let view = self.views.get(granule as usize);
        Some(view.copied().unwrap_or_default())
    }
}

/// Whether the token is the one in the column's cell.
#[inline(always)]
fn is_open(cell: u32, token: u32) -> bool {
    if is_broken(Rule::TokenCheck) {
        cell != 0
    } else {
        token != 0 && cell == token
    }
}

/// One slot's column while a run of its shares is opened or closed. The sums are kept aside and
/// written once, when it is dropped.
pub struct Shares<'a> {
    cells: &'a mut [u32],
    views: &'a mut [View],
    refs: &'a mut [u16],
    source: &'a mut Tokens,
    held: &'a mut u32,
    lent: &'a mut u32,
    shares: &'a mut u64,
    opened: u32,
    closed: u32,
    /// Buffers of which a first share was opened, and of which the last one was closed.
    first: u32,
    last: u32,
}

impl Shares<'_> {
    /// As [`Ledger::open`].
    #[inline(always)]
    pub fn open(&mut self, granule: u32) -> Option<u32> {
        (self.open_all(1, |_| granule) == 0).then(|| self.token(granule))
    }

    /// Opens a share for each packet of a burst that `wanted` names; `granule` says which buffer it
    /// is in. Returns those that this slot holds already.
    #[inline(always)]
    pub fn open_all(&mut self, wanted: u64, granule: impl Fn(usize) -> u32) -> u64 {
        let (rows, cells) = (self.cells.len(), &mut *self.cells);
        let refs = &mut self.refs[..rows];
        let (mut held_already, mut first) = (0u64, 0);
        for (at, &token) in ones(wanted).zip(self.source.ahead()) {
            let row = granule(at) as usize;
            if row >= rows || (cells[row] != 0 && !is_broken(Rule::OpenOnce)) {
                held_already |= 1 << at;
                continue;
            }
            cells[row] = token;
            first += u32::from(refs[row] == 0);
            refs[row] += 1;
        }
        self.source.spend(wanted.count_ones() as usize);
        self.opened += (wanted & !held_already).count_ones();
        self.first += first;
        held_already
    }

    /// The token of the share of this buffer; 0 if there is none.
    #[inline(always)]
    pub fn token(&self, granule: u32) -> u32 {
        self.cells.get(granule as usize).copied().unwrap_or(0)
    }

    /// Notes what the share that was just opened shows.
    #[inline(always)]
    pub fn show(&mut self, granule: u32, view: View) {
        if let Some(cell) = self.views.get_mut(granule as usize) {
            *cell = view;
        }
    }

    /// As [`Ledger::close`].
    #[inline(always)]
    pub fn close(&mut self, granule: u32, token: u32) -> Closed {
        let row = granule as usize;
        let Some(cell) = self.cells.get_mut(row) else {
            return Closed::Refused;
        };
        if !is_open(*cell, token) {
            return Closed::Refused;
        }
        if !is_broken(Rule::CloseOnce) {
            *cell = 0;
        }
        self.closed += 1;
        let refs = &mut self.refs[row];
        *refs = refs.wrapping_sub(1);
        if *refs != 0 {
            return Closed::Shared;
        }
        self.last += 1;
        Closed::Last
    }
}

impl Drop for Shares<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.held = self
            .held
            .wrapping_add(self.opened)
            .wrapping_sub(self.closed);
        *self.shares = self
            .shares
            .wrapping_add(self.opened.into())
            .wrapping_sub(self.closed.into());
        *self.lent = self.lent.wrapping_add(self.first).wrapping_sub(self.last);
    }
}

#[cfg(test)]
mod tests;
