//! Packet headers: what one pass over a frame finds.
//!
//! The platform parses each frame once, at reception ([`parse_into`]); policies are matched on the
//! [`Headers`] that come out, and the layer offsets travel to the NFs in the record. Where a
//! policy asks for tunnels, [`walk_on`] goes on from there and notes every layer of the frame; the
//! [`Stack`] says where to deliver it from, and the headers of what is in a tunnel come along.
//! Nothing here reads past the frame, whatever its length fields claim, and nothing panics.

mod checksum;
mod common;
pub mod encap;
mod fragment;
mod hash;
mod layer_set;
#[cfg(test)]
mod nest;
mod network;
mod parse;
#[cfg(test)]
mod pseudowire_tests;
mod stack;
mod stack_layer;
#[cfg(test)]
mod stack_properties;
#[cfg(test)]
mod stack_tests;
#[cfg(test)]
mod tests;
mod transport;
mod tunnel;
mod tunnel_ports;
mod usual;

pub use fragment::FragmentOf;
pub use layer_set::LayerSet;
pub use parse::{parse, parse_into};
pub use stack::{DEPTH_MAX, Stack, Stop, View};
pub use stack_layer::StackLayer;
pub use tunnel::{walk_on, walk_stack};
pub use tunnel_ports::TunnelPorts;

/// What the first byte of a frame belongs to. The values are those of the `link` column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Link {
    /// Ethernet II or 802.3.
    #[default]
    Ethernet = 1,
    /// A bare IPv4 packet.
    Ipv4 = 4,
    /// A bare IPv6 packet.
    Ipv6 = 6,
}

impl Link {
    /// The link with this number; an unknown number is [`Link::Ethernet`].
    pub const fn from_bits(bits: u8) -> Self {
        match bits {
            4 => Self::Ipv4,
            6 => Self::Ipv6,
            _ => Self::Ethernet,
        }
    }
}

/// The kind of a layer. Five bits in a record; 0 means "no layer".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LayerKind {
    /// No layer here.
    #[default]
    None = 0,
    /// Ethernet II or 802.3 header.
    Ethernet = 1,
    /// 802.1Q or 802.1ad tag (offset: of the TCI).
    Vlan = 2,
    /// ARP.
    Arp = 3,
    /// IPv4.
    Ipv4 = 4,
    /// IPv6 (fixed header; extension headers belong to it).
    Ipv6 = 5,
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 7,
    /// ICMP.
    Icmp = 8,
    /// ICMPv6.
    Icmp6 = 9,
    /// SCTP.
    Sctp = 10,
    /// One MPLS label. This and what follows is found in a [`Stack`] only.
    Mpls = 11,
    /// PPPoE session header, with the PPP protocol behind it.
    Pppoe = 12,
    /// GRE of version 0 or 1.
    Gre = 13,
    /// GRE that carries Ethernet under a key (RFC 7637).
    Nvgre = 14,
    /// ERSPAN, type I (no header of its own), II or III.
    Erspan = 15,
    /// VXLAN.
    Vxlan = 16,
    /// GENEVE; its options belong to it.
    Geneve = 17,
    /// GTP-U with a user's packet; its extension headers belong to it.
    Gtpu = 18,
}

impl LayerKind {
    /// The kind with this number; an unknown number is [`LayerKind::None`].
    #[inline(always)]
    pub const fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Ethernet,
            2 => Self::Vlan,
            3 => Self::Arp,
            4 => Self::Ipv4,
            5 => Self::Ipv6,
            6 => Self::Tcp,
            7 => Self::Udp,
            8 => Self::Icmp,
            9 => Self::Icmp6,
            10 => Self::Sctp,
            11 => Self::Mpls,
            12 => Self::Pppoe,
            13 => Self::Gre,
            14 => Self::Nvgre,
            15 => Self::Erspan,
            16 => Self::Vxlan,
            17 => Self::Geneve,
            18 => Self::Gtpu,
            _ => Self::None,
        }
    }
}

/// One layer: its kind and where its header begins, packed as `kind << 11 | offset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Layer(pub u16);

impl Layer {
    /// The largest offset that a layer can have; what lies deeper is not recorded.
    pub const MAX_OFFSET: u16 = 0x7ff;

    /// A layer of this kind that begins `offset` bytes into the frame (at most [`Self::MAX_OFFSET`]).
    pub const fn new(kind: LayerKind, offset: u16) -> Self {
        Self((kind as u16) << 11 | (offset & Self::MAX_OFFSET))
    }

    /// What it is.
    #[inline(always)]
    pub const fn kind(self) -> LayerKind {
        LayerKind::from_bits((self.0 >> 11) as u8)
    }

    /// Where its header begins, in bytes from the first byte of the frame.
    #[inline(always)]
    pub const fn offset(self) -> u16 {
        self.0 & Self::MAX_OFFSET
    }
}

/// No such offset.
pub const NONE_OFFSET: u16 = u16::MAX;

/// Everything that policies and columns ask about one frame. All numbers are in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The first four layers.
    pub layers: [Layer; 4],
    /// There were more than four layers, or one deeper than [`Layer::MAX_OFFSET`].
    pub more: bool,
    /// What the first byte of the frame is.
    pub link: Link,
    /// EtherType after all VLAN tags; 0 where there is none (802.3 length, frames under 14 bytes). 0x0800/0x86dd for bare IP.
    pub ether_type: u16,
    /// VLAN id of the outermost tag, −1 without a tag.
    pub vlan: i16,
    /// Where the IPv4 or IPv6 header begins, or [`NONE_OFFSET`].
    pub l3_offset: u16,
    /// Where the transport header begins, or [`NONE_OFFSET`] (also for later fragments and truncated frames).
    pub l4_offset: u16,
    /// Where the payload of the deepest whole header that was parsed begins.
    pub payload_offset: u16,
    /// Bytes of payload present in the frame, padding beyond the IP length excluded.
    pub payload_length: u16,
    /// 4, 6, or 0.
    pub ip_version: u8,
    /// A fragment of an IP packet, the first included.
    pub fragment: bool,
    /// TCP flags as on the wire (FIN = 1 … CWR = 128, NS = 256), 0 without TCP.
    pub tcp_flags: u16,
    /// IP protocol (after IPv6 extension headers), −1 without IP.
    pub protocol: i16,
    /// Source port of TCP, UDP or SCTP, −1 where there is none to be read.
    pub src_port: i32,
    /// Destination port, likewise.
    pub dst_port: i32,
    /// IPv4 source address, 0 unless IPv4. IPv6 addresses stay in the frame, 8 and 24 bytes after `l3_offset`.
    pub src: u32,
    /// IPv4 destination address, 0 unless IPv4.
    pub dst: u32,
    /// Symmetric hash of addresses, protocol and ports; 0 without IP. All fragments of a datagram hash alike (no ports).
    pub flow_hash: u32,
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            layers: [Layer(0); 4],
            more: false,
            link: Link::Ethernet,
            ether_type: 0,
            vlan: -1,
            l3_offset: NONE_OFFSET,
            l4_offset: NONE_OFFSET,
            payload_offset: 0,
            payload_length: 0,
            ip_version: 0,
            fragment: false,
            tcp_flags: 0,
            protocol: -1,
            src_port: -1,
            dst_port: -1,
            src: 0,
            dst: 0,
            flow_hash: 0,
        }
    }
}

impl Headers {
    /// The IPv6 source address, read from the frame that these headers were parsed from.
    pub fn src6(&self, frame: &[u8]) -> Option<[u8; 16]> {
        self.address6(frame, 8)
    }

    /// The IPv6 destination address, likewise.
    pub fn dst6(&self, frame: &[u8]) -> Option<[u8; 16]> {
        self.address6(frame, 24)
    }

    fn address6(&self, frame: &[u8], within: usize) -> Option<[u8; 16]> {
        if self.ip_version != 6 {
            return None;
        }
        parse::at::<16>(frame, usize::from(self.l3_offset) + within).copied()
    }

    /// The layers that were recorded, outermost first.
    pub fn layers(&self) -> impl Iterator<Item = Layer> + '_ {
        self.layers
            .iter()
            .copied()
            .take_while(|layer| layer.kind() != LayerKind::None)
    }
}
