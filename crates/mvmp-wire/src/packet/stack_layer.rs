//! One layer of a [`Stack`](super::Stack): eight bytes, so that a walk costs few stores.

use super::LayerKind;

/// One layer of a [`Stack`](super::Stack).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackLayer {
    /// What it is.
    pub kind: LayerKind,
    /// Any number can be an id, so that there is one is said apart.
    has_id: bool,
    /// Where its header begins, in bytes from the first byte of the frame (VLAN: its TCI).
    pub offset: u16,
    /// 0 where there is none.
    id: u32,
}

impl StackLayer {
    #[inline(always)]
    pub(super) const fn new(kind: LayerKind, offset: u16, id: Option<u32>) -> Self {
        let (has_id, id) = match id {
            Some(id) => (true, id),
            None => (false, 0),
        };
        Self {
            kind,
            has_id,
            offset,
            id,
        }
    }

    /// VLAN id, MPLS label, PPPoE session, GRE key, NVGRE VSID, ERSPAN session, VNI or TEID, where there is one.
    #[inline(always)]
    pub const fn id(&self) -> Option<u32> {
        if self.has_id { Some(self.id) } else { None }
    }
}
