//! Looking into a burst: frames, records and headers of the packets that are still lent.

use std::ops::{ControlFlow, Range};

use mvmp_wire::descriptor::ARG_OUTBOUND;
use mvmp_wire::packet::{LayerKind, Link, Stack, StackLayer, TunnelPorts, parse, walk_stack};
use mvmp_wire::record::FLAG_OUTBOUND;
use mvmp_wire::{Descriptor, Record};

use crate::burst::Which;
use crate::error::NfError;
use crate::frame::Frames;
use crate::lent::Lent;
use crate::session::Session;

/// A burst whose connection was found sound.
#[derive(Clone, Copy, Debug)]
pub struct Readable<'a> {
    pub(crate) packets: &'a [Lent],
    pub(crate) session: Option<&'a Session>,
}

impl<'a> Readable<'a> {
    /// As [`crate::Burst::frame`].
    ///
    /// # Errors
    /// [`NfError::NotHeld`]; [`NfError::Closed`] for a descriptor that points nowhere.
    #[inline(always)]
    pub fn frame(&self, index: usize) -> Result<&'a [u8], NfError> {
        let (descriptor, frames) = self.place(index)?;
        frames.delivered(&descriptor).ok_or_else(nowhere)
    }

    /// The bytes of packet `index`, and what the first of them is.
    ///
    /// # Errors
    /// As [`Self::frame`].
    #[inline(always)]
    pub fn packet(&self, index: usize) -> Result<(&'a [u8], Link), NfError> {
        let (descriptor, frames) = self.place(index)?;
        Ok((
            frames.delivered(&descriptor).ok_or_else(nowhere)?,
            link(descriptor.arg),
        ))
    }

    /// The frame of packet `index` as it was received, with what a policy has jumped over for this
    /// NF, and what its first byte is.
    ///
    /// # Errors
    /// As [`Self::frame`].
    #[inline(always)]
    pub fn received(&self, index: usize) -> Result<(&'a [u8], Link), NfError> {
        let (descriptor, frames) = self.place(index)?;
        let record = frames.record(&descriptor);
        let frame = frames.received(&descriptor, &record).ok_or_else(nowhere)?;
        Ok((frame, record.link))
    }

    /// Whether something was jumped over: packet `index` is less than the frame received.
    ///
    /// # Errors
    /// As [`Self::frame`].
    #[inline(always)]
    pub fn is_inner(&self, index: usize) -> Result<bool, NfError> {
        let (descriptor, frames) = self.place(index)?;
        let record = frames.record(&descriptor);
        Ok((descriptor.offset, descriptor.length) != (record.offset, record.length))
    }

    /// Whether packet `index` goes out of a port; false: it came in.
    ///
    /// # Errors
    /// As [`Self::frame`].
    #[inline(always)]
    pub fn is_outbound(&self, index: usize) -> Result<bool, NfError> {
        let (descriptor, frames) = self.place(index)?;
        let record = frames.record(&descriptor);
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
            .and_then(StackLayer::id)
            .map_or(-1, |id| id as i32))
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
            .and_then(StackLayer::id)
            .map_or(-1, i64::from))
    }

    /// UDP destination ports that mean a tunnel on the platform that the packets came from; `None`
    /// for a burst that was never filled.
    pub fn tunnel_ports(&self) -> Option<&'a TunnelPorts> {
        self.session.map(|session| &session.tunnel_ports)
    }

    /// All layers of packet `index` as received. The platform's `tunnel_ports` say what is a tunnel.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub fn stack(&self, index: usize) -> Result<Stack, NfError> {
        let (frame, link) = self.received(index)?;
        let ports = self.tunnel_ports().ok_or_else(nowhere)?;
        let mut stack = Stack::default();
        walk_stack(frame, link, ports, &mut stack);
        Ok(stack)
    }

    /// As [`crate::Burst::record`].
    ///
    /// # Errors
    /// As [`Self::frame`].
    #[inline(always)]
    pub fn record(&self, index: usize) -> Result<Record, NfError> {
        let (descriptor, frames) = self.place(index)?;
        Ok(frames.record(&descriptor))
    }

    /// Asks the CPU for the starts of the named packets, which will be read soon.
    pub fn prefetch_some(&self, which: &Which) {
        let _ = self.each(which, |run| {
            let mut seen = 0;
            for descriptor in run.descriptors() {
                run.frames.prefetch(&descriptor);
                seen += 1;
            }
            seen
        });
    }

    /// Appends the bytes of the named packets, and what the first of each are: [`Self::packet`] for many.
    ///
    /// # Errors
    /// As [`Self::frame`], for any of them.
    pub fn packets(&self, which: &Which, into: &mut Vec<(&'a [u8], Link)>) -> Result<(), NfError> {
        self.each(which, |run| run.append_packets(into))
    }

    /// Appends one value for each of the named packets, from its record: [`Self::record`] for many.
    ///
    /// # Errors
    /// As [`Self::frame`], for any of them.
    #[inline(always)]
    pub fn records<T>(
        &self,
        which: &Which,
        value: impl Fn(&Record) -> T,
        into: &mut Vec<T>,
    ) -> Result<(), NfError> {
        self.each(which, |run| {
            let before = into.len();
            let records = run.descriptors().map(|packet| run.frames.record(&packet));
            into.extend(records.map(|record| value(&record)));
            into.len() - before
        })
    }

    /// Calls `see` with the named packets, those of one pool together; it says how many it has seen,
    /// which is all of them up to one that points nowhere.
    #[inline(always)]
    fn each(
        &self,
        which: &Which,
        mut see: impl FnMut(Run<'_, 'a>) -> usize,
    ) -> Result<(), NfError> {
        let mut look = |mut numbers: Range<usize>| {
            while !numbers.is_empty() {
                let (first, frames) = self.place(numbers.start)?;
                let seen = see(Run {
                    packets: &self.packets[numbers.clone()],
                    pool: first.pool,
                    frames,
                });
                if seen == 0 {
                    return Err(nowhere());
                }
                numbers.start += seen;
            }
            Ok(())
        };
        let seen = which.runs(self.packets.len(), |numbers| match look(numbers) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        });
        match seen {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    #[inline(always)]
    fn place(&self, index: usize) -> Result<(Descriptor, Frames<'a>), NfError> {
        let Some(packet) = self.packets.get(index).filter(|packet| packet.is_held()) else {
            return Err(NfError::NotHeld(index));
        };
        let pool = self.session.and_then(|session| session.pool(packet.pool()));
        Ok((packet.descriptor(), pool.ok_or_else(nowhere)?.frames()))
    }
}

/// Packets side by side, of which the first ones are still lent and of one pool.
struct Run<'b, 'a> {
    packets: &'b [Lent],
    pool: u8,
    frames: Frames<'a>,
}

impl<'a> Run<'_, 'a> {
    #[inline(always)]
    fn descriptors(&self) -> impl Iterator<Item = Descriptor> {
        self.packets
            .iter()
            .take_while(|packet| packet.is_held() && packet.pool() == self.pool)
            .map(|packet| packet.descriptor())
    }

    /// A function of its own, so that nothing else is in the registers.
    #[inline(never)]
    fn append_packets(&self, into: &mut Vec<(&'a [u8], Link)>) -> usize {
        let (before, frames) = (into.len(), self.frames);
        into.extend(self.descriptors().map_while(|descriptor| {
            let frame = frames.delivered(&descriptor)?;
            Some((frame, link(descriptor.arg)))
        }));
        into.len() - before
    }
}

#[cold]
fn nowhere() -> NfError {
    NfError::Closed("the platform delivered a descriptor that points outside of its pools".into())
}

/// What the first byte is, by a delivered descriptor's `arg`.
pub(crate) fn link(arg: u8) -> Link {
    Link::from_bits(arg & !ARG_OUTBOUND)
}
