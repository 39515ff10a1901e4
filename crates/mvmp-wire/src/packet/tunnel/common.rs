//! The fast way: Ethernet, IPv4 without options, TCP or UDP, at fixed places; plain, and once
//! more within VXLAN.
//!
//! It says of a frame exactly what the walk says, or nothing; a property test holds the two
//! against each other. Where only the inside of a VXLAN is unusual, the walk goes on there.

use super::super::network::FRAGMENT_BITS;
use super::super::parse::{ETHERNET_BYTES, at};
use super::super::stack::{NO_ID, Stack};
use super::super::transport::{TCP, UDP};
use super::super::tunnel_ports::{TunnelPorts, UdpTunnel};
use super::super::{LayerKind, hash};
use super::ip::Packet;
use super::udp::{VXLAN_BYTES, VXLAN_I};

const IP_AT: usize = ETHERNET_BYTES;
const L4_AT: usize = IP_AT + 20;
const UDP_END: usize = L4_AT + 8;
const TCP_END: usize = L4_AT + 20;
const INNER_AT: usize = UDP_END + VXLAN_BYTES;

/// What the fast way has found.
pub(super) enum Common {
    /// Nothing: walk from the start. Nothing was noted.
    No,
    /// All there is, with the flow hash of the innermost packet.
    Whole(u32),
    /// Four layers up to a VXLAN header: walk on at the Ethernet header, up to `end`.
    Inside {
        at: usize,
        end: usize,
        outer: Packet,
    },
}

#[inline(always)]
pub(super) fn common(frame: &[u8], ports: &TunnelPorts, stack: &mut Stack) -> Common {
    let length = frame.len();
    let Some(outer) = Flow::read(frame, 0) else {
        return Common::No;
    };
    if outer.protocol == TCP {
        outer.note::<0>(stack, 0, length);
        return Common::Whole(outer.hash());
    }
    let end = match ports.tunnel(outer.ports.1) {
        None => {
            outer.note::<0>(stack, 0, length);
            return Common::Whole(outer.hash());
        }
        Some(UdpTunnel::Vxlan) => match usize::from(outer.udp_length) {
            0 => outer.end,
            length if length < UDP_END - L4_AT + VXLAN_BYTES => return Common::No,
            length => outer.end.min(L4_AT + length),
        },
        Some(_) => return Common::No,
    };
    let vni = match at::<VXLAN_BYTES>(&frame[..end], UDP_END) {
        Some([flags, _, _, _, a, b, c, _]) if flags & VXLAN_I != 0 => {
            u32::from_be_bytes([0, *a, *b, *c])
        }
        _ => return Common::No,
    };
    outer.note::<0>(stack, 0, length);
    stack.set(3, LayerKind::Vxlan, UDP_END, vni, end);
    match Flow::read(&frame[..end], INNER_AT) {
        Some(inner) if inner.protocol == TCP || ports.tunnel(inner.ports.1).is_none() => {
            inner.note::<4>(stack, INNER_AT, end);
            Common::Whole(inner.hash())
        }
        _ => Common::Inside {
            at: INNER_AT,
            end,
            outer: Packet::of_flow(IP_AT, outer.protocol, outer.ports),
        },
    }
}

/// One Ethernet frame of the common shape.
struct Flow {
    protocol: u8,
    src: u32,
    dst: u32,
    ports: (u16, u16),
    udp_length: u16,
    /// Where the IP packet ends.
    end: usize,
}

impl Flow {
    /// Reads it at `at`; none if it is anything else, or not whole.
    #[inline(always)]
    fn read(frame: &[u8], at: usize) -> Option<Self> {
        let head = frame.get(at..)?.first_chunk::<UDP_END>()?;
        let number = |i: usize| u16::from_be_bytes([head[i], head[i + 1]]);
        let address =
            |i: usize| u32::from_be_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        // EtherType, version and header length in one comparison, with the TOS beside them masked out.
        let unusual = ((address(12) & 0xffff_ff00) ^ 0x0800_4500)
            | u32::from(number(IP_AT + 6) & FRAGMENT_BITS);
        let protocol = head[IP_AT + 9];
        if unusual != 0 || (protocol != TCP && protocol != UDP) {
            return None;
        }
        let end = frame.len().min(at + IP_AT + usize::from(number(IP_AT + 2)));
        let l4_end = if protocol == TCP { TCP_END } else { UDP_END };
        if end < at + l4_end {
            return None;
        }
        Some(Self {
            protocol,
            src: address(IP_AT + 12),
            dst: address(IP_AT + 16),
            ports: (number(L4_AT), number(L4_AT + 2)),
            udp_length: number(L4_AT + 4),
            end,
        })
    }

    /// Notes its three layers from number `N` on; `around` is where the Ethernet frame ends.
    #[inline(always)]
    fn note<const N: usize>(&self, stack: &mut Stack, at: usize, around: usize) {
        let kind = if self.protocol == TCP {
            LayerKind::Tcp
        } else {
            LayerKind::Udp
        };
        stack.set(N, LayerKind::Ethernet, at, NO_ID, around);
        stack.set(N + 1, LayerKind::Ipv4, at + IP_AT, NO_ID, self.end);
        stack.set(N + 2, kind, at + L4_AT, NO_ID, self.end);
    }

    #[inline(always)]
    fn hash(&self) -> u32 {
        hash::ipv4(self.src, self.dst, self.protocol, Some(self.ports))
    }
}
