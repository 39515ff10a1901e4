//! The whole stack of headers of a frame, tunnels included, and where a policy delivers it from.
//!
//! [`super::parse`] stops at the first transport header; [`walk_on`](super::walk_on) goes
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

use super::parse::at;
use super::stack_layer::StackLayer;
use super::usual::Usual;
use super::{Headers, LayerKind, LayerSet, Link};

/// Layers that a stack can hold; a frame with more is [`Stop::TooDeep`].
pub const DEPTH_MAX: usize = 24;

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
/// Made to be reused: a walk overwrites it, and clears no more than it must. A usual frame within
/// a usual tunnel touches two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Stack {
    head: Head,
    /// Where what begins at the layer ends: for IP its own end, else that of the layer around it.
    ends: [u16; DEPTH_MAX],
    layers: [StackLayer; DEPTH_MAX],
}

const _: () = assert!(std::mem::offset_of!(Stack, layers) + 7 * size_of::<StackLayer>() <= 128);

/// What is known of all layers together.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Head {
    /// Bit k: a layer of kind k is there. In two words, because what is written in two sizes stalls
    /// when it is read again.
    kinds: [u16; 2],
    hash: u32,
    /// Who jumps over all of these, and over nothing in `inside`, sees the last level; others may.
    needed: LayerSet,
    /// What could be jumped over within the last level.
    inside: LayerSet,
    /// What could be jumped over here at all.
    jumpable: LayerSet,
    /// The frame's own length.
    length: u16,
    /// The last level, see [`Stack::level`]: where it begins (0: it is the whole frame), and ends.
    start: u16,
    end: u16,
    /// What the last level begins with.
    shown: Link,
    link: Link,
    stop: Stop,
    count: u8,
}

impl Head {
    /// Nothing is known yet of a frame.
    #[inline(always)]
    const fn of(link: Link, length: u16) -> Self {
        Self {
            kinds: [0; 2],
            hash: 0,
            needed: LayerSet::EMPTY,
            inside: LayerSet::EMPTY,
            jumpable: LayerSet::EMPTY,
            length,
            start: 0,
            end: length,
            shown: link,
            link,
            stop: Stop::Whole,
            count: 0,
        }
    }
}

impl Default for Stack {
    fn default() -> Self {
        Self {
            head: Head::of(Link::Ethernet, 0),
            ends: [0; DEPTH_MAX],
            layers: [StackLayer::new(LayerKind::None, 0, None); DEPTH_MAX],
        }
    }
}

/// The same layers, of the same frame; how they were found makes no difference.
impl PartialEq for Stack {
    fn eq(&self, other: &Self) -> bool {
        let found = |stack: &Self| {
            let Head {
                kinds,
                hash,
                jumpable,
                length,
                link,
                stop,
                ..
            } = stack.head;
            (kinds, hash, jumpable, length, link, stop)
        };
        self.layers() == other.layers()
            && self.ends[..self.layers().len()] == other.ends[..other.layers().len()]
            && found(self) == found(other)
    }
}

impl Eq for Stack {}

impl Stack {
    /// The layers, outermost first.
    #[inline(always)]
    pub fn layers(&self) -> &[StackLayer] {
        &self.layers[..usize::from(self.head.count).min(DEPTH_MAX)]
    }

    /// Why the walk ended.
    pub fn stop(&self) -> Stop {
        self.head.stop
    }

    /// Whether a layer of this kind is there.
    #[inline(always)]
    pub fn has(&self, kind: LayerKind) -> bool {
        self.head.kinds[kind as usize / 16] >> (kind as u32 % 16) & 1 == 1
    }

    /// Symmetric hash of addresses, protocol and ports of the innermost IP packet: the `flow_hash`
    /// of a parse there. 0 without IP.
    #[inline(always)]
    pub fn innermost_hash(&self) -> u32 {
        self.head.hash
    }

    /// Where the frame is delivered from when these layers are jumped over.
    #[inline(always)]
    pub fn view(&self, jump: LayerSet) -> View {
        if self.shows_level(jump) {
            self.level()
        } else if self.head.jumpable.intersects(jump) {
            self.view_within(jump)
        } else {
            self.whole()
        }
    }

    /// What these jump to is [`Self::level`]. False where it takes [`Self::view`] to tell.
    #[inline(always)]
    pub fn shows_level(&self, jump: LayerSet) -> bool {
        jump.contains(self.head.needed) && !self.head.inside.intersects(jump)
    }

    /// The last level: what begins behind the last layer that can be jumped over and is not a tag
    /// within a flow, or the whole frame. Most views are this one, and its headers are known.
    #[inline(always)]
    pub fn level(&self) -> View {
        View {
            start: self.head.start,
            end: self.head.end,
            link: self.head.shown,
        }
    }

    /// [`Self::view`], found layer by layer.
    pub(super) fn view_within(&self, jump: LayerSet) -> View {
        let mut start = None;
        let mut jumped = false;
        let mut outer = LayerKind::None;
        for (number, layer) in self.layers().iter().enumerate() {
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
        start.map_or(self.whole(), |number| self.part(number))
    }

    /// What begins at this layer; nothing if there is none.
    #[inline(always)]
    pub(super) fn part(&self, number: usize) -> View {
        let Some((layer, end)) = self.layers.get(number).zip(self.ends.get(number)) else {
            return View {
                end: 0,
                ..self.whole()
            };
        };
        View {
            start: layer.offset,
            end: *end,
            link: LINKS[layer.kind as usize],
        }
    }

    fn whole(&self) -> View {
        View {
            start: 0,
            end: self.head.length,
            link: self.head.link,
        }
    }

    fn is_erspan(&self, number: usize) -> bool {
        let layer = self.layers().get(number);
        layer.is_some_and(|layer| layer.kind == LayerKind::Erspan)
    }

    /// Begins a new walk.
    #[inline(always)]
    pub(super) fn begin(&mut self, link: Link, length: usize) {
        self.head = Head::of(link, length as u16);
    }

    /// The words any of which jumps over what is directly before the next layer, if that is a start.
    #[inline(always)]
    pub(super) fn behind(&self) -> LayerSet {
        match self.layers().last() {
            Some(last) => behind(last.kind),
            None => LayerSet::EMPTY,
        }
    }

    /// Begins a level with the next layer, which is a start; returns its number.
    #[inline(always)]
    pub(super) fn begin_level(&mut self) -> usize {
        let (behind, head) = (self.behind(), &mut self.head);
        head.jumpable = head.jumpable.union(behind);
        head.needed = head.jumpable.without(LayerSet::TAGS).union(behind);
        head.inside = LayerSet::EMPTY;
        usize::from(head.count)
    }

    /// Whether another layer can be noted.
    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        usize::from(self.head.count) < DEPTH_MAX
    }

    /// Notes a layer that begins at `offset`, and where what begins there ends; both below
    /// 65,536. False, and nothing is noted, if there are too many.
    #[inline(always)]
    #[must_use]
    pub(super) fn push(
        &mut self,
        kind: LayerKind,
        offset: usize,
        id: Option<u32>,
        end: usize,
    ) -> bool {
        let number = usize::from(self.head.count);
        if number >= DEPTH_MAX {
            return false;
        }
        self.set(number, kind, offset, id, end);
        self.found(names_of(kind));
        true
    }

    /// As [`Self::push`], for an IPv4 or IPv6 header, which IP may carry directly.
    #[inline(always)]
    #[must_use]
    pub(super) fn push_ip(&mut self, kind: LayerKind, offset: usize, end: usize) -> bool {
        if self.behind() == LayerSet::IPIP {
            self.found(LayerSet::IPIP);
        }
        self.push(kind, offset, None, end)
    }

    /// Notes the layers of a usual flow that begins at `at`; `ends` is where Ethernet's frame and
    /// where the IP packet does. Few stores, which is what a walk costs.
    #[inline(always)]
    #[must_use]
    pub(super) fn push_usual(&mut self, usual: &Usual, at: usize, ends: (usize, usize)) -> bool {
        let first = usize::from(self.head.count);
        let (Some(layers), Some(three)) = (
            first_of::<3, _>(&mut self.layers, first),
            first_of::<3, _>(&mut self.ends, first),
        ) else {
            return false;
        };
        *layers = usual.layers;
        if at != 0 {
            for layer in layers {
                layer.offset += at as u16;
            }
        }
        let (end, ip_end) = (ends.0 as u16, ends.1 as u16);
        *three = [end, ip_end, ip_end];
        self.head.kinds[0] |= usual.kinds;
        self.head.count += 3;
        true
    }

    /// Notes the layers of any other flow of at most four layers; `packet` is the frame up to where
    /// the IP packet ends.
    #[must_use]
    pub(super) fn push_unusual(
        &mut self,
        packet: &[u8],
        headers: &Headers,
        at: usize,
        end: usize,
    ) -> bool {
        let first = usize::from(self.head.count);
        if first + headers.layers.len() > DEPTH_MAX {
            return false;
        }
        for (layer, number) in headers.layers().zip(first..) {
            let (kind, offset) = (layer.kind(), at + usize::from(layer.offset()));
            let (id, end) = match kind {
                LayerKind::Ethernet => (None, end),
                LayerKind::Vlan => (Some(vlan_id(packet, offset)), end),
                _ => (None, packet.len()),
            };
            self.set(number, kind, offset, id, end);
            self.found(names_of(kind));
        }
        true
    }

    #[inline(always)]
    fn set(&mut self, number: usize, kind: LayerKind, offset: usize, id: Option<u32>, end: usize) {
        self.layers[number] = StackLayer::new(kind, offset as u16, id);
        self.ends[number] = end as u16;
        self.head.count = (number + 1) as u8;
        self.head.kinds[kind as usize / 16] |= 1 << (kind as u32 % 16);
    }

    /// These words name something here.
    #[inline(always)]
    fn found(&mut self, names: LayerSet) {
        let head = &mut self.head;
        head.jumpable = head.jumpable.union(names);
        head.inside = head.inside.union(names);
    }

    /// Notes the hash of the innermost IP packet so far.
    #[inline(always)]
    pub(super) fn note_hash(&mut self, hash: u32) {
        self.head.hash = hash;
    }

    /// Ends a walk.
    #[inline(always)]
    pub(super) fn finish(&mut self, stop: Stop) {
        self.head.stop = stop;
    }

    /// The last level is this part of the frame, and not the whole.
    #[inline(always)]
    pub(super) fn set_level(&mut self, View { start, end, link }: View) {
        (self.head.start, self.head.end, self.head.shown) = (start, end, link);
    }
}

fn first_of<const N: usize, T>(all: &mut [T], from: usize) -> Option<&mut [T; N]> {
    all.get_mut(from..)?.first_chunk_mut()
}

/// Of a tag that is there: its frame was parsed.
fn vlan_id(packet: &[u8], offset: usize) -> u32 {
    at::<2>(packet, offset).map_or(0, |tci| u32::from(u16::from_be_bytes(*tci) & 0x0fff))
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

/// The words any of which jumps over what ends with this layer, if a start follows.
const fn behind(kind: LayerKind) -> LayerSet {
    match kind {
        LayerKind::Ipv4 | LayerKind::Ipv6 => LayerSet::IPIP,
        kind => names_of(kind),
    }
}

/// By kind: what a view that begins with a layer begins with.
const LINKS: [Link; 32] = {
    let mut links = [Link::Ethernet; 32];
    links[LayerKind::Ipv4 as usize] = Link::Ipv4;
    links[LayerKind::Ipv6 as usize] = Link::Ipv6;
    links
};

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
