//! A burst: packets that one receive handed over, and which of them are still lent.
//!
//! A packet leaves by `Handle::tx_burst` or by a release; what is left at the drop is released.
//! A packet that has left has no token here any more, and no view.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mvmp_wire::descriptor::{ANY_PORT, ARG_OUTBOUND, ReleaseReason};
use mvmp_wire::packet::{Headers, LayerKind, Link, Stack, StackLayer, parse, walk_stack};
use mvmp_wire::record::FLAG_OUTBOUND;
use mvmp_wire::{Descriptor, Op, Record};

use crate::error::NfError;
use crate::frame::Pool;
use crate::opening::Opening;
use crate::returns::Returns;
use crate::session::Session;

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
    /// Calls `each` with the numbers, in order, until it breaks.
    #[inline(always)]
    pub(crate) fn each(&self, len: usize, mut each: impl FnMut(usize) -> ControlFlow<()>) {
        // The break is a result for the caller's closure alone.
        let _ = match self {
            Self::All => (0..len).try_for_each(&mut each),
            Self::Range(range) => {
                (range.start.min(len)..range.end.min(len)).try_for_each(&mut each)
            }
            Self::Indices(indices) => indices
                .iter()
                .map(|&i| i as usize)
                .filter(|&i| i < len)
                .try_for_each(&mut each),
            Self::Mask(mask) => (0..len.min(mask.len()))
                .filter(|&i| mask[i])
                .try_for_each(&mut each),
        };
    }
}

/// One packet; its token is 0 once it has left.
#[derive(Clone, Copy, Debug)]
struct Lent {
    descriptor: Descriptor,
    /// The NF wanted to send it and there was no room.
    refused: bool,
}

/// Packets lent to this NF. Reuse one for many receives: it keeps its memory.
#[derive(Debug, Default)]
pub struct Burst {
    opening: Option<Arc<Opening>>,
    packets: Vec<Lent>,
    held: usize,
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
            .is_some_and(|packet| packet.descriptor.token != 0)
    }

    /// Looks whether all named packets are still lent.
    ///
    /// # Errors
    /// [`NfError::NotHeld`] with the first that is not.
    pub fn check_held(&self, which: &Which) -> Result<(), NfError> {
        let mut missing = None;
        which.each(self.len(), |index| {
            if self.is_held(index) {
                return ControlFlow::Continue(());
            }
            missing = Some(index);
            ControlFlow::Break(())
        });
        missing.map_or(Ok(()), |index| Err(NfError::NotHeld(index)))
    }

    /// How many of the named packets are still lent.
    pub fn count_held(&self, which: &Which) -> usize {
        let mut count = 0;
        which.each(self.len(), |index| {
            count += usize::from(self.is_held(index));
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
            .map_or(Link::Ethernet, |packet| link(&packet.descriptor))
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
        let Some(opening) = &self.opening else {
            return Ok(Readable {
                burst: self,
                session: None,
            });
        };
        opening.check()?;
        Ok(Readable {
            burst: self,
            session: Some(&opening.session),
        })
    }

    /// Releases what is still lent. Never fails, never blocks.
    pub fn release(&mut self) {
        self.release_some(&Which::All);
    }

    /// Releases the named packets that are still lent.
    pub fn release_some(&mut self, which: &Which) {
        if self.held == 0 {
            return;
        }
        let Some(opening) = self.opening.clone() else {
            return;
        };
        if !opening.lends() {
            // The platform has swept them, or will.
            self.forget(which);
            return;
        }
        let session = &opening.session;
        let mut returns = session.returns();
        let mut lane = Room::none();
        if matches!(which, Which::All) {
            // What nearly every call asks for, as a loop of its own.
            for index in 0..self.packets.len() {
                self.release_one(index, opening.slot, &mut lane, &mut returns, session);
            }
        } else {
            which.each(self.packets.len(), |index| {
                self.release_one(index, opening.slot, &mut lane, &mut returns, session);
                ControlFlow::Continue(())
            });
        }
        returns.publish(&session.links);
        session.note_overflow(&returns);
    }

    #[inline(always)]
    fn release_one<'a>(
        &mut self,
        index: usize,
        slot: u8,
        lane: &mut Room<'a>,
        returns: &mut Returns,
        session: &'a Session,
    ) {
        let packet = &mut self.packets[index];
        if packet.descriptor.token != 0 {
            lane.towards(returns, session, packet.descriptor.pool, self.held);
            returns.release(
                lane.worker,
                lane.slots,
                released(packet, slot),
                &mut lane.room,
            );
            packet.descriptor.token = 0;
            self.held -= 1;
        }
    }

    fn forget(&mut self, which: &Which) {
        which.each(self.packets.len(), |index| {
            self.held -=
                usize::from(std::mem::take(&mut self.packets[index].descriptor.token) != 0);
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
        if !self
            .opening
            .as_ref()
            .is_some_and(|old| Arc::ptr_eq(old, opening))
        {
            self.opening = Some(opening.clone());
        }
    }

    #[inline(always)]
    pub(crate) fn extend(&mut self, descriptors: impl Iterator<Item = Descriptor>) {
        self.packets.extend(descriptors.map(|descriptor| Lent {
            descriptor,
            refused: false,
        }));
        self.held = self.packets.len();
    }

    pub(crate) fn opening(&self) -> Option<&Arc<Opening>> {
        self.opening.as_ref()
    }

    /// The descriptor of a packet that is still lent.
    #[inline(always)]
    pub(crate) fn lent(&self, index: usize) -> Option<Descriptor> {
        self.packets
            .get(index)
            .map(|packet| packet.descriptor)
            .filter(|descriptor| descriptor.token != 0)
    }

    #[inline(always)]
    pub(crate) fn leave(&mut self, index: usize) {
        self.packets[index].descriptor.token = 0;
        self.held -= 1;
    }

    pub(crate) fn note_refused(&mut self, index: usize) {
        self.packets[index].refused = true;
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

/// A burst whose connection was found sound.
#[derive(Clone, Copy, Debug)]
pub struct Readable<'a> {
    burst: &'a Burst,
    session: Option<&'a Arc<Session>>,
}

impl<'a> Readable<'a> {
    /// As [`Burst::frame`].
    ///
    /// # Errors
    /// [`NfError::NotHeld`]; [`NfError::Closed`] for a descriptor that points nowhere.
    #[inline(always)]
    pub fn frame(&self, index: usize) -> Result<&'a [u8], NfError> {
        let (descriptor, pool) = self.place(index)?;
        pool.delivered(descriptor).ok_or_else(nowhere)
    }

    /// The bytes of packet `index`, and what the first of them is.
    ///
    /// # Errors
    /// As [`Self::frame`].
    #[inline(always)]
    pub fn packet(&self, index: usize) -> Result<(&'a [u8], Link), NfError> {
        let (descriptor, pool) = self.place(index)?;
        Ok((
            pool.delivered(descriptor).ok_or_else(nowhere)?,
            link(descriptor),
        ))
    }

    /// The frame of packet `index` as it was received, with what a policy has jumped over for this
    /// NF, and what its first byte is.
    ///
    /// # Errors
    /// As [`Self::frame`].
    #[inline(always)]
    pub fn received(&self, index: usize) -> Result<(&'a [u8], Link), NfError> {
        let (descriptor, pool) = self.place(index)?;
        let record = pool.record(descriptor);
        let frame = pool.received(descriptor, &record).ok_or_else(nowhere)?;
        Ok((frame, record.link))
    }

    /// Whether something was jumped over: packet `index` is less than the frame received.
    ///
    /// # Errors
    /// As [`Self::frame`].
    #[inline(always)]
    pub fn is_inner(&self, index: usize) -> Result<bool, NfError> {
        let (descriptor, pool) = self.place(index)?;
        let record = pool.record(descriptor);
        Ok((descriptor.offset, descriptor.length) != (record.offset, record.length))
    }

    /// Whether packet `index` goes out of a port; false: it came in.
    ///
    /// # Errors
    /// As [`Self::frame`].
    #[inline(always)]
    pub fn is_outbound(&self, index: usize) -> Result<bool, NfError> {
        let (descriptor, pool) = self.place(index)?;
        let record = pool.record(descriptor);
        Ok(descriptor.arg & ARG_OUTBOUND != 0 || record.flags & FLAG_OUTBOUND != 0)
    }

    /// The VLAN id of the outermost tag of packet `index` as received, jumped over or not; −1 without.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub fn vlan(&self, index: usize) -> Result<i32, NfError> {
        let (frame, link) = self.received(index)?;
        let outer = parse(frame, link).vlan;
        if outer >= 0 || !self.is_inner(index)? {
            return Ok(outer.into());
        }
        let stack = self.stack(index)?;
        let tag = |layer: &&StackLayer| layer.kind == LayerKind::Vlan;
        Ok(stack
            .layers()
            .iter()
            .find(tag)
            .map_or(-1, |layer| layer.id as i32))
    }

    /// The network of the outermost VXLAN or GENEVE header of packet `index` as received, jumped
    /// over or not; −1 without.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub fn vni(&self, index: usize) -> Result<i64, NfError> {
        let stack = self.stack(index)?;
        let network =
            |layer: &&StackLayer| matches!(layer.kind, LayerKind::Vxlan | LayerKind::Geneve);
        Ok(stack
            .layers()
            .iter()
            .find(network)
            .map_or(-1, |layer| layer.id.into()))
    }

    /// All layers of packet `index` as received. The platform's `tunnel_ports` say what is a tunnel.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub fn stack(&self, index: usize) -> Result<Stack, NfError> {
        let (frame, link) = self.received(index)?;
        let session = self.session.ok_or_else(nowhere)?;
        let mut stack = Stack::default();
        walk_stack(frame, link, &session.tunnel_ports, &mut stack);
        Ok(stack)
    }

    /// As [`Burst::record`].
    ///
    /// # Errors
    /// As [`Self::frame`].
    #[inline(always)]
    pub fn record(&self, index: usize) -> Result<Record, NfError> {
        let (descriptor, pool) = self.place(index)?;
        Ok(pool.record(descriptor))
    }

    /// Asks the CPU for the start of packet `index`, which will be read soon.
    #[inline(always)]
    pub fn prefetch(&self, index: usize) {
        if let Ok((descriptor, pool)) = self.place(index) {
            pool.prefetch(descriptor);
        }
    }

    #[inline(always)]
    fn place(&self, index: usize) -> Result<(&'a Descriptor, &'a Pool), NfError> {
        let packet = self
            .burst
            .packets
            .get(index)
            .filter(|packet| packet.descriptor.token != 0);
        let Some(packet) = packet else {
            return Err(NfError::NotHeld(index));
        };
        let pool = self
            .session
            .and_then(|session| session.pool(packet.descriptor.pool));
        Ok((&packet.descriptor, pool.ok_or_else(nowhere)?))
    }
}

#[cold]
fn nowhere() -> NfError {
    NfError::Closed("the platform delivered a descriptor that points outside of its pools".into())
}

fn link(descriptor: &Descriptor) -> Link {
    Link::from_bits(descriptor.arg & !ARG_OUTBOUND)
}

#[inline(always)]
fn released(packet: &Lent, slot: u8) -> Descriptor {
    let reason = if packet.refused {
        ReleaseReason::TxRingFull
    } else {
        ReleaseReason::Done
    };
    upward(packet.descriptor, slot, Op::Release, reason as u8, ANY_PORT)
}

/// A pool packet's descriptor on its way up.
#[inline(always)]
pub(crate) fn upward(
    descriptor: Descriptor,
    slot: u8,
    op: Op,
    arg: u8,
    in_port: u16,
) -> Descriptor {
    Descriptor {
        offset: in_port,
        slot,
        op: op as u8,
        arg,
        ..descriptor
    }
}

/// Where packets of the pool at hand go back to, and the room there; looked up again only when the pool changes.
pub(crate) struct Room<'a> {
    pool: Option<u8>,
    pub(crate) worker: u8,
    pub(crate) slots: &'a [AtomicU64],
    pub(crate) room: usize,
}

impl<'a> Room<'a> {
    pub(crate) fn none() -> Self {
        Self {
            pool: None,
            worker: 0,
            slots: &[],
            room: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn towards(
        &mut self,
        returns: &mut Returns,
        session: &'a Session,
        pool: u8,
        wanted: usize,
    ) {
        if self.pool != Some(pool) {
            self.look_up(returns, session, pool, wanted);
        }
    }

    fn look_up(&mut self, returns: &mut Returns, session: &'a Session, pool: u8, wanted: usize) {
        self.pool = Some(pool);
        self.worker = session.pool(pool).map_or(0, |pool| pool.worker);
        self.slots = session
            .links
            .get(self.worker as usize)
            .map_or(&[], |link| link.up.return_slots());
        self.room = returns.room(&session.links, self.worker, wanted);
        returns.expect(self.worker, self.slots, wanted.min(self.room));
    }
}
