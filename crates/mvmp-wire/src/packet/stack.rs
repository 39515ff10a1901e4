//! The whole stack of headers of a frame, tunnels included, and where a policy delivers it from.
//!
//! [`super::parse`] stops at the first transport header; [`walk_stack`](super::walk_stack) goes
//! on into tunnels and notes every layer. A policy that jumps over layers asks the [`Stack`] for
//! a [`View`]: nothing is copied, the packet merely begins further in.
//!
//! ```text
//! Ethernet │ VLAN 7 │ IPv4 │ UDP │ VXLAN 42 │ Ethernet │ IPv4 │ TCP │ payload │ padding
//! └ view({})                                  │          └ view({ipip}) ∌: nothing to jump
//!                                             └ view({vxlan}) ─────────────────▶ end
//! ```
//!
//! What may begin a view: an Ethernet, IPv4 or IPv6 header. From the outside in, each layer that
//! is named is jumped over, as often as it occurs; a *tag* (VLAN, MPLS, PPPoE) that is not named
//! stands in nobody's way, a *tunnel* that is not named ends the search. The view begins at the
//! first possible start behind the last layer jumped over, so what is not named but lies between
//! goes too; a layer with no possible start behind it (ARP behind a tag) is not jumped over.

use super::{LayerKind, LayerSet, Link};

/// Layers that a stack can hold; a frame with more is [`Stop::TooDeep`].
pub const DEPTH_MAX: usize = 24;

/// The id of a layer that has none.
pub const NO_ID: u32 = u32::MAX;

/// One layer of a [`Stack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackLayer {
    /// What it is.
    pub kind: LayerKind,
    /// Where its header begins, in bytes from the first byte of the frame (VLAN: its TCI).
    pub offset: u16,
    /// VLAN id, MPLS label, PPPoE session, GRE key, NVGRE VSID, ERSPAN session, VNI or TEID; [`NO_ID`] where there is none.
    pub id: u32,
}

/// Why a walk ended where it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// Everything that we can read was read.
    #[default]
    Whole,
    /// A header was cut short, by the frame's end or by a length field, or is not what the one before it announced.
    Truncated,
    /// A fragment of an IP packet (the first included): what it carries is not whole.
    Fragment,
    /// There were more than [`DEPTH_MAX`] layers.
    TooDeep,
}

/// Where a frame is delivered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Bytes from the first byte of the frame.
    pub start: u16,
    /// One past the last byte, from the first byte of the frame. Once something was jumped over,
    /// what outer length fields exclude (padding, trailers) is excluded.
    pub end: u16,
    /// What the first byte is.
    pub link: Link,
}

impl View {
    /// The bytes of this frame that the view shows. Empty if the frame is not the one it was made from and ends before.
    #[inline]
    pub fn of<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame
            .get(usize::from(self.start)..usize::from(self.end))
            .unwrap_or_default()
    }
}

/// Every layer of a frame as received, outermost first, down to the innermost transport header.
///
/// Made to be reused: a walk overwrites it, and clears no more than it must.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    layers: [StackLayer; DEPTH_MAX],
    /// Where what begins at the layer ends: for IP its own end, else that of the layer around it.
    ends: [u16; DEPTH_MAX],
    count: u8,
    stop: Stop,
    link: Link,
    /// The frame's own length.
    length: u16,
    /// Bit k: a layer of kind k is there.
    kinds: u32,
    /// What could be jumped over here at all.
    jumpable: LayerSet,
    hash: u32,
}

impl Default for Stack {
    fn default() -> Self {
        let nothing = StackLayer {
            kind: LayerKind::None,
            offset: 0,
            id: NO_ID,
        };
        Self {
            layers: [nothing; DEPTH_MAX],
            ends: [0; DEPTH_MAX],
            count: 0,
            stop: Stop::Whole,
            link: Link::Ethernet,
            length: 0,
            kinds: 0,
            jumpable: LayerSet::EMPTY,
            hash: 0,
        }
    }
}

impl PartialEq for Stack {
    fn eq(&self, other: &Self) -> bool {
        let count = self.layers().len();
        self.layers() == other.layers()
            && self.ends[..count] == other.ends[..count]
            && (self.stop, self.link, self.length) == (other.stop, other.link, other.length)
            && (self.kinds, self.jumpable, self.hash) == (other.kinds, other.jumpable, other.hash)
    }
}

impl Eq for Stack {}

impl Stack {
    /// The layers, outermost first.
    #[inline(always)]
    pub fn layers(&self) -> &[StackLayer] {
        &self.layers[..usize::from(self.count).min(DEPTH_MAX)]
    }

    /// Why the walk ended.
    pub fn stop(&self) -> Stop {
        self.stop
    }

    /// Whether a layer of this kind is there.
    #[inline(always)]
    pub fn has(&self, kind: LayerKind) -> bool {
        self.kinds >> kind as u32 & 1 == 1
    }

    /// Symmetric hash of addresses, protocol and ports of the innermost IP packet: the `flow_hash`
    /// of a parse there. 0 without IP.
    #[inline(always)]
    pub fn innermost_hash(&self) -> u32 {
        self.hash
    }

    /// Where the frame is delivered from when these layers are jumped over.
    #[inline(always)]
    pub fn view(&self, jump: LayerSet) -> View {
        if self.jumpable.intersects(jump) {
            self.view_within(jump)
        } else {
            self.whole()
        }
    }

    fn view_within(&self, jump: LayerSet) -> View {
        let mut start = None;
        let mut jumped = false;
        let mut outer = LayerKind::None;
        let layers = self.layers();
        for (number, layer) in layers.iter().enumerate() {
            if STARTS >> layer.kind as u32 & 1 == 1 {
                if is_ip(outer) {
                    if !jump.contains(LayerSet::IPIP) {
                        break;
                    }
                    jumped = true;
                }
                if jumped {
                    start = Some(number);
                    jumped = false;
                }
            } else {
                let mut names = NAMES[layer.kind as usize];
                if layer.kind == LayerKind::Gre && self.is_erspan(number + 1) {
                    names = LayerSet::ERSPAN;
                }
                if names.intersects(jump) {
                    jumped = true;
                } else if !LayerSet::TAGS.contains(names) {
                    break;
                }
            }
            outer = layer.kind;
        }
        match start {
            None => self.whole(),
            Some(number) => View {
                start: layers[number].offset,
                end: self.ends[number],
                link: link_of(layers[number].kind),
            },
        }
    }

    fn whole(&self) -> View {
        View {
            start: 0,
            end: self.length,
            link: self.link,
        }
    }

    fn is_erspan(&self, number: usize) -> bool {
        let layer = self.layers().get(number);
        layer.is_some_and(|layer| layer.kind == LayerKind::Erspan)
    }

    /// Begins a new walk.
    #[inline(always)]
    pub(super) fn begin(&mut self, link: Link, length: usize) {
        self.count = 0;
        self.link = link;
        self.length = length as u16;
        self.kinds = 0;
        self.jumpable = LayerSet::EMPTY;
        self.hash = 0;
    }

    /// Notes a layer that begins at `offset`, and where what begins there ends; both below
    /// 65,536. False, and nothing is noted, if there are too many.
    #[inline(always)]
    #[must_use]
    pub(super) fn push(&mut self, kind: LayerKind, offset: usize, id: u32, end: usize) -> bool {
        let number = usize::from(self.count);
        if number >= DEPTH_MAX {
            return false;
        }
        self.set(number, kind, offset, id, end);
        true
    }

    /// Notes layer `number`, which is the next: [`Self::push`] for a number that the compiler knows.
    #[inline(always)]
    pub(super) fn set(
        &mut self,
        number: usize,
        kind: LayerKind,
        offset: usize,
        id: u32,
        end: usize,
    ) {
        debug_assert_eq!(number, usize::from(self.count));
        self.layers[number] = StackLayer {
            kind,
            offset: offset as u16,
            id,
        };
        self.ends[number] = end as u16;
        self.count = number as u8 + 1;
        self.kinds |= 1 << kind as u32;
        self.jumpable = self.jumpable.union(names_of(kind));
    }

    /// As [`Self::push`], for an IPv4 or IPv6 header, which IP may carry directly.
    #[inline(always)]
    #[must_use]
    pub(super) fn push_ip(&mut self, kind: LayerKind, offset: usize, end: usize) -> bool {
        if is_ip(self.last()) {
            self.jumpable = self.jumpable.union(LayerSet::IPIP);
        }
        self.push(kind, offset, NO_ID, end)
    }

    /// Ends a walk.
    #[inline(always)]
    pub(super) fn finish(&mut self, stop: Stop, hash: u32) {
        self.stop = stop;
        self.hash = hash;
    }

    /// The kind of the last layer noted.
    #[inline(always)]
    fn last(&self) -> LayerKind {
        self.layers()
            .last()
            .map_or(LayerKind::None, |layer| layer.kind)
    }
}

/// Bit k: a view can begin with a layer of kind k.
const STARTS: u32 =
    1 << LayerKind::Ethernet as u32 | 1 << LayerKind::Ipv4 as u32 | 1 << LayerKind::Ipv6 as u32;

/// By kind: the words that jump over a layer.
const NAMES: [LayerSet; 32] = {
    let mut names = [LayerSet::EMPTY; 32];
    let mut kind = 0;
    while kind < names.len() {
        names[kind] = names_of(LayerKind::from_bits(kind as u8));
        kind += 1;
    }
    names
};

/// What a view that begins with a layer of this kind begins with.
const fn link_of(kind: LayerKind) -> Link {
    match kind {
        LayerKind::Ipv4 => Link::Ipv4,
        LayerKind::Ipv6 => Link::Ipv6,
        _ => Link::Ethernet,
    }
}

#[inline(always)]
const fn is_ip(kind: LayerKind) -> bool {
    matches!(kind, LayerKind::Ipv4 | LayerKind::Ipv6)
}

/// The words any of which jumps over a layer; none: it is no obstacle. GRE that carries ERSPAN is
/// jumped over by ERSPAN's word instead.
const fn names_of(kind: LayerKind) -> LayerSet {
    match kind {
        LayerKind::Vlan => LayerSet::VLAN,
        LayerKind::Mpls => LayerSet::MPLS,
        LayerKind::Pppoe => LayerSet::PPPOE,
        LayerKind::Gre => LayerSet::GRE,
        LayerKind::Nvgre => LayerSet::GRE.union(LayerSet::NVGRE),
        LayerKind::Erspan => LayerSet::ERSPAN,
        LayerKind::Vxlan => LayerSet::VXLAN,
        LayerKind::Geneve => LayerSet::GENEVE,
        LayerKind::Gtpu => LayerSet::GTP,
        _ => LayerSet::EMPTY,
    }
}
