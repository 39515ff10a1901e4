//! Headers anywhere in the stack of a frame: `vlan`, `vxlan 42`, `ipip`.

use std::sync::LazyLock;

use mvmp_wire::packet::{LayerKind, Stack, StackLayer, TunnelPorts, walk_stack};

use super::ast::LayerWord;
use super::packets::Packets;

/// Where nobody says which UDP ports are tunnels.
static USUAL_PORTS: LazyLock<TunnelPorts> = LazyLock::new(TunnelPorts::default);

/// Ids from the first to the second; none: all headers, with an id or without.
pub(super) type Ids = Option<(u32, u32)>;

/// Whether packet `i` has such a header with one of these ids.
pub(super) fn has(packets: &Packets<'_>, i: usize, word: LayerWord, ids: Ids) -> bool {
    let frame = packets.outer_frames[i];
    if let Some(stack) = packets.stacks.get(i) {
        return in_stack(stack, frame, word, ids);
    }
    let mut stack = Stack::default();
    walk_stack(frame, packets.outer_link(i), &USUAL_PORTS, &mut stack);
    in_stack(&stack, frame, word, ids)
}

fn in_stack(stack: &Stack, frame: &[u8], word: LayerWord, ids: Ids) -> bool {
    let inside = |id: Option<u32>| {
        ids.is_none_or(|(low, high)| id.is_some_and(|id| (low..=high).contains(&id)))
    };
    if word == LayerWord::Ipip {
        let is_ip = |layer: &StackLayer| matches!(layer.kind, LayerKind::Ipv4 | LayerKind::Ipv6);
        let mut pairs = stack.layers().array_windows::<2>();
        return pairs.any(|[outer, inner]| is_ip(outer) && is_ip(inner));
    }
    let kind = kind_of(word);
    let within_nvgre = word == LayerWord::Gre && stack.has(LayerKind::Nvgre);
    if !stack.has(kind) && !within_nvgre {
        return false;
    }
    stack.layers().iter().any(|layer| {
        if layer.kind == kind {
            inside(layer.id())
        } else {
            word == LayerWord::Gre
                && layer.kind == LayerKind::Nvgre
                && inside(gre_key(frame, layer))
        }
    })
}

/// The kind that a word is about; `gre` is about NVGRE, too.
pub(super) fn kind_of(word: LayerWord) -> LayerKind {
    match word {
        LayerWord::Vlan => LayerKind::Vlan,
        LayerWord::Mpls => LayerKind::Mpls,
        LayerWord::Pppoe => LayerKind::Pppoe,
        LayerWord::Gre => LayerKind::Gre,
        LayerWord::Nvgre => LayerKind::Nvgre,
        LayerWord::Erspan => LayerKind::Erspan,
        LayerWord::Vxlan => LayerKind::Vxlan,
        LayerWord::Geneve => LayerKind::Geneve,
        LayerWord::Gtp => LayerKind::Gtpu,
        LayerWord::Ipip => LayerKind::None,
    }
}

/// All 32 bits of the key that NVGRE splits into subnet and flow.
fn gre_key(frame: &[u8], layer: &StackLayer) -> Option<u32> {
    let header = frame.get(usize::from(layer.offset)..)?;
    // The checksum, if there is one, stands before the key (RFC 2890).
    let at = if header.first()? & 0x80 == 0 { 4 } else { 8 };
    let key = header.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*key))
}
