//! A burst: packets that one receive handed over, and which of them are still lent.
//!
//! A packet leaves by `Handle::tx_burst` or by a release; what is left at the drop is released.
//! A packet that has left has no token here any more, and no view.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use mvmp_wire::Record;
use mvmp_wire::descriptor::ReleaseReason;
use mvmp_wire::packet::{Headers, Link, parse};

use crate::error::NfError;
use crate::lent::{Lent, Upward};
use crate::opening::Opening;
use crate::readable::{Readable, link};
use crate::way_up::WayUp;

/// Which packets of a burst a call is about. Naming packets is by their number in the burst.
#[derive(Clone, Debug)]
pub enum Which<'a> {
    /// All that are still lent.
    All,
    /// Those with these numbers.
    Range(Range<usize>),
    /// Those with these numbers, in this order. A number may occur once.
    Indices(&'a [u32]),
    /// Those whose element is true.
    Mask(&'a [bool]),
}

impl Which<'_> {
    /// Calls `each` with the numbers, in order, as ranges of neighbours, until it breaks.
    #[inline(always)]
    pub(crate) fn runs<B>(
        &self,
        len: usize,
        mut each: impl FnMut(Range<usize>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        match self {
            Self::All => each(0..len),
            Self::Range(range) if range.start < range.end.min(len) => {
                each(range.start..range.end.min(len))
            }
            Self::Range(_) => ControlFlow::Continue(()),
            Self::Indices(indices) => {
                let indices = indices.iter().map(|&index| index as usize);
                neighbours(indices.filter(|&index| index < len), each)
            }
            Self::Mask(mask) => {
                let mask = &mask[..len.min(mask.len())];
                neighbours((0..mask.len()).filter(|&index| mask[index]), each)
            }
        }
    }
}

/// Calls `each` with the numbers, those that follow one upon the other at once.
#[inline(always)]
fn neighbours<B>(
    numbers: impl Iterator<Item = usize>,
    mut each: impl FnMut(Range<usize>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut run = 0..0;
    for number in numbers {
        if number != run.end {
            each(std::mem::replace(&mut run, number..number))?;
        }
        run.end = number + 1;
    }
    each(run)
}

/// Packets lent to this NF. Reuse one for many receives: it keeps its memory.
#[derive(Debug, Default)]
pub struct Burst {
    opening: Option<Arc<Opening>>,
    packets: Vec<Lent>,
    held: usize,
    /// Some of them shall be sent and found no room.
    refused: bool,
}

impl Burst {
    /// An empty burst.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty burst with room for so many packets.
    pub fn with_capacity(packets: usize) -> Self {
        Self {
            opening: None,
            packets: Vec::with_capacity(packets),
            held: 0,
            refused: false,
        }
    }

    /// Packets that were received, those that have left included.
    #[inline]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Nothing was received.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Packets still lent.
    #[inline]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether packet `index` is still lent.
    #[inline]
    pub fn is_held(&self, index: usize) -> bool {
        self.packets
            .get(index)
            .is_some_and(|packet| packet.is_held())
    }

    /// Looks whether all named packets are still lent.
    ///
    /// # Errors
    /// [`NfError::NotHeld`] with the first that is not.
    pub fn check_held(&self, which: &Which) -> Result<(), NfError> {
        let missing = which.runs(self.len(), |run| {
            let mut packets = self.packets[run.clone()].iter();
            match packets.position(|packet| !packet.is_held()) {
                None => ControlFlow::Continue(()),
                Some(at) => ControlFlow::Break(run.start + at),
            }
        });
        match missing {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(index) => Err(NfError::NotHeld(index)),
        }
    }

    /// How many of the named packets are still lent.
    pub fn count_held(&self, which: &Which) -> usize {
        let mut count = 0;
        let _: ControlFlow<()> = which.runs(self.len(), |run| {
            let packets = self.packets[run].iter();
            count += packets.filter(|packet| packet.is_held()).count();
            ControlFlow::Continue(())
        });
        count
    }

    /// The bytes of packet `index` as delivered.
    ///
    /// # Errors
    /// [`NfError::NotHeld`], or why nothing can be read any more.
    #[inline]
    pub fn frame(&self, index: usize) -> Result<&[u8], NfError> {
        self.readable()?.frame(index)
    }

    /// What the platform found out about packet `index` at reception.
    ///
    /// # Errors
    /// As [`Self::frame`].
    #[inline]
    pub fn record(&self, index: usize) -> Result<Record, NfError> {
        self.readable()?.record(index)
    }

    /// What the first byte of packet `index` is.
    #[inline]
    pub fn link(&self, index: usize) -> Link {
        self.packets
            .get(index)
            .map_or(Link::Ethernet, |packet| link(packet.descriptor().arg))
    }

    /// The headers of packet `index` as delivered.
    ///
    /// # Errors
    /// As [`Self::frame`].
    #[inline]
    pub fn headers(&self, index: usize) -> Result<Headers, NfError> {
        Ok(parse(self.frame(index)?, self.link(index)))
    }

    /// Checks once that frames can be read, for a pass over many.
    ///
    /// # Errors
    /// Why they cannot: closed, detached, lost.
    #[inline]
    pub fn readable(&self) -> Result<Readable<'_>, NfError> {
        if let Some(opening) = &self.opening {
            opening.check()?;
        }
        Ok(Readable {
            packets: &self.packets,
            session: self.opening.as_ref().map(|opening| &*opening.session),
        })
    }

    /// Releases what is still lent. Never fails, never blocks.
    pub fn release(&mut self) {
        self.release_some(&Which::All);
    }

    /// Releases the named packets that are still lent.
    pub fn release_some(&mut self, which: &Which) {
        let Self {
            opening: Some(opening),
            packets,
            held,
            refused,
        } = self
        else {
            return;
        };
        if *held == 0 {
            return;
        }
        if !opening.lends() {
            // The platform has swept them, or will.
            self.forget(which);
            return;
        }
        let mut way = WayUp::new(&opening.session, *held);
        let upward = |reason| Upward::release(opening.slot, reason);
        let _: ControlFlow<()> = which.runs(packets.len(), |run| {
            if *refused {
                for packet in &mut packets[run] {
                    let upward = upward(packet.reason());
                    way.put_or_keep(std::slice::from_mut(packet), upward);
                }
            } else {
                way.put_or_keep(&mut packets[run], upward(ReleaseReason::Done));
            }
            ControlFlow::Continue(())
        });
        *held -= way.end();
    }

    #[cold]
    fn forget(&mut self, which: &Which) {
        let Self { packets, held, .. } = self;
        let _: ControlFlow<()> = which.runs(packets.len(), |run| {
            for packet in &mut packets[run] {
                *held -= usize::from(packet.is_held());
                packet.leave();
            }
            ControlFlow::Continue(())
        });
    }

    /// Says that the bytes of a packet are looked at from outside of this library's sight: the
    /// connection and the share then stay while the [`View`] lives, whatever is closed meanwhile.
    /// The caller neither sends nor releases that packet in between. `None` for a burst that was never filled.
    pub fn view(&self) -> Option<View> {
        let opening = self.opening.clone()?;
        opening.pin();
        Some(View { opening })
    }

    pub(crate) fn begin(&mut self, opening: &Arc<Opening>) {
        self.release();
        self.packets.clear();
        self.refused = false;
        if !self
            .opening
            .as_ref()
            .is_some_and(|old| Arc::ptr_eq(old, opening))
        {
            self.opening = Some(opening.clone());
        }
    }

    #[inline(always)]
    pub(crate) fn extend(&mut self, append: impl FnOnce(&mut Vec<Lent>)) {
        append(&mut self.packets);
        self.held = self.packets.len();
    }

    pub(crate) fn opening(&self) -> Option<&Arc<Opening>> {
        self.opening.as_ref()
    }

    /// Sends the named packets that are still lent on their way, but for the first `skip` of them;
    /// breaks where there is no room. The caller says by [`Self::note_left`] how many have left.
    pub(crate) fn put(
        &mut self,
        which: &Which,
        mut skip: usize,
        way: &mut WayUp<'_>,
        upward: Upward,
    ) -> ControlFlow<()> {
        let packets = &mut self.packets;
        which.runs(packets.len(), |run| {
            let passed_over = |packet: &&Lent| {
                let passes = skip > 0;
                skip -= usize::from(passes && packet.is_held());
                passes
            };
            let first = run.start + packets[run.clone()].iter().take_while(passed_over).count();
            way.put(&mut packets[first..run.end], upward)
                .map_break(|_| ())
        })
    }

    pub(crate) fn note_left(&mut self, count: usize) {
        self.held -= count;
    }

    /// Marks the named packets that are still lent: they shall be sent and find no room. Returns how many.
    #[cold]
    pub(crate) fn note_refused(&mut self, which: &Which) -> u64 {
        self.refused = true;
        let (packets, mut refused) = (&mut self.packets, 0);
        let _: ControlFlow<()> = which.runs(packets.len(), |run| {
            for packet in packets[run].iter_mut().filter(|packet| packet.is_held()) {
                packet.note_refused();
                refused += 1;
            }
            ControlFlow::Continue(())
        });
        refused
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.release();
    }
}

/// Keeps connection and shares while packet bytes are looked at: see [`Burst::view`].
#[derive(Debug)]
pub struct View {
    opening: Arc<Opening>,
}

impl Drop for View {
    fn drop(&mut self) {
        self.opening.unpin();
    }
}
