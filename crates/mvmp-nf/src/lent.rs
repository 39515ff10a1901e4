//! One packet of a burst, packed as its descriptor came, and what changes in it on its way up.

use mvmp_wire::descriptor::{ANY_PORT, ReleaseReason, Words};
use mvmp_wire::{Descriptor, Op};

/// What a descriptor's second word keeps on the way up.
const KEPT: u64 = Descriptor {
    length: u16::MAX,
    hop: u8::MAX,
    ..Descriptor::ZERO
}
.to_words()[1];

/// The lowest bit of the op. On the way down that is 0, `Deliver`; here it says "refused".
const REFUSED: u64 = Descriptor {
    op: 1,
    ..Descriptor::ZERO
}
.to_words()[1];

/// One packet: a descriptor's two words. The first is 0 once the packet has left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lent(Words);

impl Lent {
    #[inline(always)]
    pub(crate) fn of(delivered: Words) -> Self {
        Self(delivered)
    }

    #[inline(always)]
    pub(crate) fn descriptor(self) -> Descriptor {
        Descriptor::from_words(self.0)
    }

    #[inline(always)]
    pub(crate) fn is_held(self) -> bool {
        self.descriptor().token != 0
    }

    #[inline(always)]
    pub(crate) fn pool(self) -> u8 {
        self.descriptor().pool
    }

    #[inline(always)]
    pub(crate) fn leave(&mut self) {
        self.0[0] = 0;
    }

    /// The NF wanted to send it and there was no room.
    pub(crate) fn note_refused(&mut self) {
        self.0[1] |= REFUSED;
    }

    /// Why it is released, if it is.
    pub(crate) fn reason(self) -> ReleaseReason {
        if self.0[1] & REFUSED == 0 {
            ReleaseReason::Done
        } else {
            ReleaseReason::TxRingFull
        }
    }
}

/// What a descriptor's second word says on the way up, beside what it keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upward {
    word: u64,
    /// What the burst keeps of a share: everything or nothing.
    keeps: u64,
}

impl Upward {
    /// To send over handle number `handle`; `slot` is where the packet was received.
    pub(crate) fn send(op: Op, slot: u8, handle: u8, in_port: Option<u16>) -> Self {
        Self::new(op, slot, handle, in_port.unwrap_or(ANY_PORT))
    }

    /// To release what was received at `slot`.
    pub(crate) fn release(slot: u8, reason: ReleaseReason) -> Self {
        Self::new(Op::Release, slot, reason as u8, ANY_PORT)
    }

    fn new(op: Op, slot: u8, arg: u8, in_port: u16) -> Self {
        let descriptor = Descriptor {
            offset: in_port,
            slot,
            op: op as u8,
            arg,
            ..Descriptor::ZERO
        };
        Self {
            word: descriptor.to_words()[1],
            keeps: if op == Op::Mirror { u64::MAX } else { 0 },
        }
    }

    /// Whether the share ends.
    pub(crate) fn leaves(self) -> bool {
        self.keeps == 0
    }

    /// The descriptor that goes up, with which the packet leaves if it does.
    #[inline(always)]
    pub(crate) fn take(self, packet: &mut Lent) -> Words {
        let [share, bounds] = packet.0;
        packet.0[0] &= self.keeps;
        [share, bounds & KEPT | self.word]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delivery() -> impl Strategy<Value = Descriptor> {
        (any::<u64>(), any::<u64>()).prop_map(|(share, bounds)| Descriptor {
            op: Op::Deliver as u8,
            ..Descriptor::from_words([share, bounds])
        })
    }

    proptest! {
        #[test]
        fn a_packet_goes_up_with_its_share_length_and_hop(delivered in delivery(), slot: u8, handle: u8, in_port: Option<u16>, refused: bool) {
            let mut packet = Lent::of(delivered.to_words());
            prop_assert_eq!(packet.descriptor(), delivered);
            if refused {
                packet.note_refused();
            }
            let reason = if refused { ReleaseReason::TxRingFull } else { ReleaseReason::Done };
            prop_assert_eq!(packet.reason(), reason);
            for op in [Op::Forward, Op::Mirror] {
                let sent = Descriptor { offset: in_port.unwrap_or(ANY_PORT), slot, op: op as u8, arg: handle, ..delivered };
                let mut sending = packet;
                prop_assert_eq!(Upward::send(op, slot, handle, in_port).take(&mut sending), sent.to_words());
                prop_assert_eq!(sending.is_held(), op == Op::Mirror && delivered.token != 0);
            }
            let released = Descriptor { offset: ANY_PORT, slot, op: Op::Release as u8, arg: reason as u8, ..delivered };
            prop_assert_eq!(Upward::release(slot, reason).take(&mut packet), released.to_words());
            prop_assert!(!packet.is_held());
        }
    }
}
