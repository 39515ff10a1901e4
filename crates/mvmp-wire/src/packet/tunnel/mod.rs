//! The walk over all layers of a frame, into tunnels: [`walk_stack`].
//!
//! One loop over small steps. Each step reads one header at an offset, notes it in the [`Stack`]
//! and says what comes [`Next`]; so nesting costs no recursion, and the depth is bounded by the
//! stack alone. The steps live by what they read: [`link`] (Ethernet, tags, MPLS, PPPoE), [`ip`]
//! (IP and transport), [`gre`] and [`udp`] (tunnels). What nearly all traffic is made of is read at
//! fixed places before ([`common`]).
//!
//! Invariants: no step reads at or beyond [`Walker::end`], which only shrinks and never exceeds
//! the frame; every step moves forward or ends, or is followed by one that does; what a length
//! field says counts, clipped to what is there; up to the first IP packet the stack says what
//! [`super::parse`] says.

mod common;
mod gre;
mod ip;
mod link;
mod udp;

use common::{Common, common};

use super::stack::{NO_ID, Stack, Stop};
use super::tunnel_ports::TunnelPorts;
use super::{LayerKind, Link};

/// Walks all layers of one frame, and overwrites `stack` with them. What lies beyond the frame's
/// first 65,535 bytes is not looked at.
#[inline]
pub fn walk_stack(frame: &[u8], link: Link, ports: &TunnelPorts, stack: &mut Stack) {
    let frame = &frame[..frame.len().min(usize::from(u16::MAX))];
    stack.begin(link, frame.len());
    if link == Link::Ethernet {
        match common(frame, ports, stack) {
            Common::No => {}
            Common::Whole(hash) => return stack.finish(Stop::Whole, hash),
            Common::Inside { at, end, outer } => {
                return walk(frame, ports, stack, (Next::Ethernet(at), end, outer));
            }
        }
    }
    let whole = (Next::first(link), frame.len(), ip::Packet::NONE);
    walk(frame, ports, stack, whole);
}

/// The general way, from any place on: what is next, where it ends at the latest, and the
/// innermost packet so far.
#[inline(never)]
fn walk(
    frame: &[u8],
    ports: &TunnelPorts,
    stack: &mut Stack,
    (next, end, packet): (Next, usize, ip::Packet),
) {
    let mut walker = Walker {
        frame,
        ports,
        stack,
        end,
        packet,
    };
    let stop = walker.run(next);
    let hash = walker.packet.hash(frame);
    walker.stack.finish(stop, hash);
}

/// The general way from the frame's start: what [`walk_stack`] says without its fast one.
#[cfg(test)]
pub(super) fn walk_slowly(frame: &[u8], link: Link, ports: &TunnelPorts, stack: &mut Stack) {
    stack.begin(link, frame.len());
    let whole = (Next::first(link), frame.len(), ip::Packet::NONE);
    walk(frame, ports, stack, whole);
}

/// What the walk reads next, and where it begins.
enum Next {
    Ethernet(usize),
    EtherType(u16, usize),
    Mpls(usize),
    Ipv4(usize),
    Ipv6(usize),
    Upper(u8, usize),
    Gre(usize),
    Udp(usize),
    End(Stop),
}

impl Next {
    const fn first(link: Link) -> Self {
        match link {
            Link::Ethernet => Self::Ethernet(0),
            Link::Ipv4 => Self::Ipv4(0),
            Link::Ipv6 => Self::Ipv6(0),
        }
    }
}

/// The state of one walk.
struct Walker<'a> {
    frame: &'a [u8],
    ports: &'a TunnelPorts,
    stack: &'a mut Stack,
    /// One past the last byte that all length fields so far allow; at most the frame's end.
    end: usize,
    /// The innermost IP packet.
    packet: ip::Packet,
}

impl Walker<'_> {
    #[inline(always)]
    fn run(&mut self, mut next: Next) -> Stop {
        loop {
            next = match next {
                Next::Ethernet(at) => self.ethernet(at),
                Next::EtherType(ether_type, at) => self.ether_type(ether_type, at),
                Next::Mpls(at) => self.mpls(at),
                Next::Ipv4(at) => self.ipv4(at),
                Next::Ipv6(at) => self.ipv6(at),
                Next::Upper(protocol, at) => self.upper(protocol, at),
                Next::Gre(at) => self.gre(at),
                Next::Udp(at) => self.udp(at),
                Next::End(stop) => return stop,
            }
        }
    }

    /// `N` bytes from `offset` on, if the innermost length field allows them.
    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        super::parse::at::<N>(&self.frame[..self.end], offset)
    }

    /// Whether `bytes` bytes from `offset` on are there.
    #[inline(always)]
    fn has(&self, offset: usize, bytes: usize) -> bool {
        offset + bytes <= self.end
    }

    /// Nothing that is carried reaches beyond this; a length longer than what is there is clipped.
    #[inline(always)]
    fn ends_by(&mut self, end: usize) {
        self.end = self.end.min(end);
    }

    #[inline(always)]
    #[must_use]
    fn layer(&mut self, kind: LayerKind, offset: usize, id: u32) -> bool {
        self.stack.push(kind, offset, id, self.end)
    }

    /// Notes a layer without an id, and goes on if there is room for it.
    #[inline(always)]
    fn note(&mut self, kind: LayerKind, offset: usize, next: Next) -> Next {
        self.note_id(kind, offset, NO_ID, next)
    }

    #[inline(always)]
    fn note_id(&mut self, kind: LayerKind, offset: usize, id: u32, next: Next) -> Next {
        if self.layer(kind, offset, id) {
            next
        } else {
            Next::End(Stop::TooDeep)
        }
    }

    /// An IP packet whose version only its first nibble tells.
    #[inline(always)]
    fn ip_by_nibble(&self, offset: usize) -> Next {
        match self.at::<1>(offset).map(|first| first[0] >> 4) {
            Some(4) => Next::Ipv4(offset),
            Some(6) => Next::Ipv6(offset),
            Some(_) => Next::End(Stop::Whole),
            None => Next::End(Stop::Truncated),
        }
    }
}

const TRUNCATED: Next = Next::End(Stop::Truncated);
const WHOLE: Next = Next::End(Stop::Whole);
