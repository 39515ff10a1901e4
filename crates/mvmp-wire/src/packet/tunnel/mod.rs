//! The walk over all layers of a frame, into tunnels: [`walk_on`].
//!
//! Three gaits. *Straight* ([`straight`]): the frames that nearly all traffic has, alone or in VXLAN,
//! with no loop. *Level by level* ([`level`]): the frame as it came, and what begins behind each thing
//! that can be jumped over, is parsed as a frame is, and if it is a flow, all its layers are noted
//! in one go. *Header by header* for what is between and for all
//! else: small steps, each of which reads one header, notes it in the [`Stack`] and says what comes
//! [`Next`]. Nesting costs no recursion, and the depth is bounded by the stack alone. The steps
//! live by what they read: [`link`] (Ethernet, tags, PPPoE), [`mpls`], [`ip`] (IP and transport),
//! [`gre`] and [`udp`] (tunnels). Property tests hold the first two against the third.
//!
//! Invariants: no step reads at or beyond [`Walker::end`], which only shrinks and never exceeds
//! the frame; every step moves forward or ends, or is followed by one that does; what a length
//! field says counts, clipped to what is there; up to the first IP packet the stack says what
//! [`super::parse`] says.

mod gre;
mod ip;
mod level;
mod link;
mod mpls;
mod straight;
mod udp;

use super::parse::parse;
use super::stack::{Stack, Stop};
use super::tunnel_ports::{TunnelPorts, UdpTunnel};
use super::usual::{IPV4_UDP, Usual};
use super::{Headers, LayerKind, Link};

/// Walks all layers of one frame, and overwrites `stack` with them. What lies beyond the frame's
/// first 65,535 bytes is not looked at.
pub fn walk_stack(frame: &[u8], link: Link, ports: &TunnelPorts, stack: &mut Stack) {
    let (outer, mut inner) = (parse(frame, link), Headers::default());
    walk_on(frame, &outer, ports, stack, &mut inner);
}

/// [`walk_stack`] of a frame that was parsed already: `outer` is what [`parse`] says of it. Nothing
/// is parsed twice; `inner` becomes what [`parse`] says of the part that [`Stack::level`] shows.
pub fn walk_on(
    frame: &[u8],
    outer: &Headers,
    ports: &TunnelPorts,
    stack: &mut Stack,
    inner: &mut Headers,
) {
    let Some(usual) = Usual::of(outer) else {
        return walk_levels(frame, outer, ports, stack, inner);
    };
    match usual.tunnel(outer, ports) {
        Some(None) if straight::alone(frame, outer, usual, stack, inner) => {}
        Some(Some(UdpTunnel::Vxlan)) if std::ptr::eq(usual, &IPV4_UDP) => {
            walk_vxlan(frame, outer, ports, stack, inner);
        }
        _ => walk_levels(frame, outer, ports, stack, inner),
    }
}

/// [`walk_on`], for UDP over IPv4 that is VXLAN by its port.
#[inline(never)]
fn walk_vxlan(
    frame: &[u8],
    outer: &Headers,
    ports: &TunnelPorts,
    stack: &mut Stack,
    inner: &mut Headers,
) {
    if !straight::in_vxlan(frame, outer, ports, stack, inner) {
        walk_levels(frame, outer, ports, stack, inner);
    }
}

/// [`walk_on`], for all frames.
#[inline(never)]
fn walk_levels(
    frame: &[u8],
    outer: &Headers,
    ports: &TunnelPorts,
    stack: &mut Stack,
    inner: &mut Headers,
) {
    let frame = &frame[..frame.len().min(usize::from(u16::MAX))];
    stack.begin(outer.link, frame.len());
    // The number of the layer that the last level begins with.
    let mut level = 0;
    let first = Place::first(outer.link, frame.len());
    let mut place = match level::flow(frame, outer, ports, stack, first) {
        Some(behind) => behind,
        None => walk(frame, ports, stack, first),
    };
    while !place.next.ends() {
        let noted = match place.next.starts() {
            Some(link) if level::enter(frame, link, place, stack, inner, &mut level) => {
                level::flow(frame, inner, ports, stack, place)
            }
            _ => None,
        };
        place = match noted {
            Some(behind) => behind,
            None => walk(frame, ports, stack, place),
        };
    }
    stack.finish(place.next.stop());
    if level == 0 {
        *inner = *outer;
    } else {
        stack.set_level(stack.part(level));
    }
}

/// Header by header, from any place on to the end or to where the next level begins.
#[inline(never)]
fn walk(frame: &[u8], ports: &TunnelPorts, stack: &mut Stack, place: Place) -> Place {
    let packet = ip::Packet::hashed(stack.innermost_hash());
    let mut walker = Walker {
        frame,
        ports,
        stack,
        end: place.end,
        packet,
    };
    let mut next = walker.step(place.next);
    while !next.ends() && (next.starts().is_none() || walker.stack.behind().is_empty()) {
        next = walker.step(next);
    }
    walker.stack.note_hash(walker.packet.hash(frame));
    Place::new(next, walker.end)
}

/// What [`walk_stack`] says, all of it header by header.
#[cfg(test)]
pub(super) fn walk_slowly(frame: &[u8], link: Link, ports: &TunnelPorts, stack: &mut Stack) {
    stack.begin(link, frame.len());
    let mut place = Place::first(link, frame.len());
    while !place.next.ends() {
        place = walk(frame, ports, stack, place);
    }
    stack.finish(place.next.stop());
}

/// Where a walk is; two words, to live in registers.
#[derive(Clone, Copy)]
struct Place {
    next: Next,
    /// One past the last byte that all length fields so far allow; at most the frame's end.
    end: usize,
}

impl Place {
    #[inline(always)]
    const fn new(next: Next, end: usize) -> Self {
        Self { next, end }
    }

    /// At the beginning of a frame of this length.
    #[inline(always)]
    const fn first(link: Link, length: usize) -> Self {
        Self::new(Next::start(link, 0), length)
    }
}

/// What the walk reads next, in one word: a header (8 bits), a number (16) and where the header begins (32). The
/// number is an EtherType, an IP protocol, a UDP destination port, or why the walk ends.
#[derive(Clone, Copy)]
struct Next(u64);

/// The starts have the numbers of their links.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Header {
    Ethernet = Link::Ethernet as u8,
    EtherType = 2,
    Mpls = 3,
    Ipv4 = Link::Ipv4 as u8,
    Upper = 5,
    Ipv6 = Link::Ipv6 as u8,
    Gre = 7,
    Udp = 8,
    End = 9,
}

impl Next {
    #[inline(always)]
    const fn new(header: Header, number: u16, at: usize) -> Self {
        Self(header as u64 | (number as u64) << 16 | (at as u64) << 32)
    }

    #[inline(always)]
    const fn header(self) -> Header {
        match self.0 as u8 {
            1 => Header::Ethernet,
            2 => Header::EtherType,
            3 => Header::Mpls,
            4 => Header::Ipv4,
            5 => Header::Upper,
            6 => Header::Ipv6,
            7 => Header::Gre,
            8 => Header::Udp,
            _ => Header::End,
        }
    }

    #[inline(always)]
    const fn number(self) -> u16 {
        (self.0 >> 16) as u16
    }

    #[inline(always)]
    const fn at(self) -> usize {
        (self.0 >> 32) as usize
    }

    #[inline(always)]
    const fn end(stop: Stop) -> Self {
        Self::new(Header::End, stop as u16, 0)
    }

    #[inline(always)]
    const fn upper(protocol: u8, at: usize) -> Self {
        Self::new(Header::Upper, protocol as u16, at)
    }

    #[inline(always)]
    const fn start(link: Link, at: usize) -> Self {
        Self(link as u64 | (at as u64) << 32)
    }

    /// An IP packet whose version only its first nibble tells.
    #[inline(always)]
    fn ip_by_nibble(packet: &[u8], at: usize) -> Self {
        match super::parse::at::<1>(packet, at).map(|first| first[0] >> 4) {
            Some(4) => Self::start(Link::Ipv4, at),
            Some(6) => Self::start(Link::Ipv6, at),
            Some(_) => WHOLE,
            None => TRUNCATED,
        }
    }

    /// This, if the layer before it could be noted.
    #[inline(always)]
    const fn behind(self, noted: bool) -> Self {
        if noted { self } else { TOO_DEEP }
    }

    /// What a view that begins here begins with, if one can.
    #[inline(always)]
    const fn starts(self) -> Option<Link> {
        match self.header() {
            Header::Ethernet => Some(Link::Ethernet),
            Header::Ipv4 => Some(Link::Ipv4),
            Header::Ipv6 => Some(Link::Ipv6),
            _ => None,
        }
    }

    #[inline(always)]
    const fn ends(self) -> bool {
        matches!(self.header(), Header::End)
    }

    /// Why the walk ends here.
    #[inline(always)]
    const fn stop(self) -> Stop {
        const TRUNCATED: u16 = Stop::Truncated as u16;
        const FRAGMENT: u16 = Stop::Fragment as u16;
        const TOO_DEEP: u16 = Stop::TooDeep as u16;
        match self.number() {
            TRUNCATED => Stop::Truncated,
            FRAGMENT => Stop::Fragment,
            TOO_DEEP => Stop::TooDeep,
            _ => Stop::Whole,
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
    /// Reads one header.
    #[inline(always)]
    fn step(&mut self, next: Next) -> Next {
        let (number, at) = (next.number(), next.at());
        match next.header() {
            Header::Ethernet => self.ethernet(at),
            Header::EtherType => self.ether_type(number, at),
            Header::Mpls => self.mpls(at),
            Header::Ipv4 => self.ipv4(at),
            Header::Ipv6 => self.ipv6(at),
            Header::Upper => self.upper(number as u8, at),
            Header::Gre => self.gre(at),
            Header::Udp => self.udp(number, at),
            Header::End => next,
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
    fn layer(&mut self, kind: LayerKind, offset: usize, id: Option<u32>) -> bool {
        self.stack.push(kind, offset, id, self.end)
    }

    /// An IP packet whose version only its first nibble tells.
    #[inline(always)]
    fn ip_by_nibble(&self, offset: usize) -> Next {
        Next::ip_by_nibble(&self.frame[..self.end], offset)
    }

    /// Notes a layer without an id, and goes on if there is room for it.
    #[inline(always)]
    fn note(&mut self, kind: LayerKind, offset: usize, next: Next) -> Next {
        next.behind(self.layer(kind, offset, None))
    }

    #[inline(always)]
    fn note_id(&mut self, kind: LayerKind, offset: usize, id: u32, next: Next) -> Next {
        next.behind(self.layer(kind, offset, Some(id)))
    }
}

const TRUNCATED: Next = Next::end(Stop::Truncated);
const WHOLE: Next = Next::end(Stop::Whole);
const TOO_DEEP: Next = Next::end(Stop::TooDeep);
