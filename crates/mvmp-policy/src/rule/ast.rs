//! What a rule says: an expression over primitives.
//!
//! The parser builds it, everything else reads it. Two expressions that are written differently
//! but associate alike are equal: `and` and `or` are lists that never nest in themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Every packet.
    All,
    /// No packet.
    None,
    /// One question to the packet.
    Is(Primitive),
    /// Not this.
    Not(Box<Expr>),
    /// All of these; at least two, none of them an `And`.
    And(Vec<Expr>),
    /// At least one of these; at least two, none of them an `Or`.
    Or(Vec<Expr>),
    /// This, asked of the outermost network header of the frame as received.
    Outer(Box<Expr>),
}

impl Expr {
    /// All of `parts`, flattened.
    pub(crate) fn and(parts: Vec<Expr>) -> Expr {
        let flat = parts.into_iter().flat_map(|part| match part {
            Expr::And(inner) => inner,
            other => vec![other],
        });
        single_or(flat.collect(), Expr::And, Expr::All)
    }

    /// Any of `parts`, flattened.
    pub(crate) fn or(parts: Vec<Expr>) -> Expr {
        let flat = parts.into_iter().flat_map(|part| match part {
            Expr::Or(inner) => inner,
            other => vec![other],
        });
        single_or(flat.collect(), Expr::Or, Expr::None)
    }
}

fn single_or(mut parts: Vec<Expr>, list: fn(Vec<Expr>) -> Expr, empty: Expr) -> Expr {
    match parts.len() {
        0 => empty,
        1 => parts.remove(0),
        _ => list(parts),
    }
}

/// One question to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primitive {
    /// `ip`, `tcp`, …: the packet is of this protocol.
    Protocol(Protocol),
    /// `proto 47`, `ip proto 47`: the IP protocol number.
    IpProto {
        /// Only in this IP version.
        family: Option<Family>,
        /// The number.
        number: u8,
    },
    /// `ether proto 0x88cc`: the EtherType behind all tags.
    EtherProto(u16),
    /// `ether host 00:11:22:33:44:55`.
    EtherHost {
        /// Which side.
        direction: Direction,
        /// The address.
        mac: [u8; 6],
    },
    /// `vlan`, `vxlan 42`: such a header is anywhere in the stack of the frame as received.
    Layer {
        /// Which header.
        word: LayerWord,
        /// Its first and its last id; `None`: any, or none at all.
        ids: Option<(u32, u32)>,
    },
    /// `host 192.0.2.1`.
    Host {
        /// Only in this protocol.
        family: Option<Family>,
        /// Which side.
        direction: Direction,
        /// The address.
        address: IpAddr,
    },
    /// `host 192.0.2.1-192.0.2.9`.
    HostRange {
        /// Only in this protocol.
        family: Option<Family>,
        /// Which side.
        direction: Direction,
        /// The first address.
        low: IpAddr,
        /// The last one, of the same IP version.
        high: IpAddr,
    },
    /// `net 192.0.2.0/24`.
    Net {
        /// Only in this protocol.
        family: Option<Family>,
        /// Which side.
        direction: Direction,
        /// The network.
        net: Net,
    },
    /// `port 80`, `portrange 8000-8080`.
    Port {
        /// Only of this transport.
        transport: Option<Transport>,
        /// Which side.
        direction: Direction,
        /// First port.
        low: u16,
        /// Last port.
        high: u16,
    },
    /// `tcp flags syn,!ack`.
    TcpFlags {
        /// All of these are set, as on the wire (FIN = 1 … CWR = 128, NS = 256).
        set: u16,
        /// None of these is.
        clear: u16,
    },
    /// `icmp type 3 code 1`.
    Icmp {
        /// ICMPv6.
        six: bool,
        /// First and last type.
        types: (u8, u8),
        /// First and last code, if it matters.
        codes: Option<(u8, u8)>,
    },
    /// `frag`: a fragment of an IP packet, the first included.
    Fragment,
    /// `length > 1000`: bytes on the wire, as received.
    Length(Comparison, u32),
}

/// A header that may be anywhere in the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerWord {
    /// An 802.1Q or 802.1ad tag; its id is the VLAN's.
    Vlan,
    /// An MPLS label.
    Mpls,
    /// A PPPoE session.
    Pppoe,
    /// GRE, that of NVGRE and ERSPAN too; its id is the key.
    Gre,
    /// GRE that carries Ethernet under a key (RFC 7637); its id is the virtual subnet's.
    Nvgre,
    /// ERSPAN; its id is the session's.
    Erspan,
    /// VXLAN; its id is the network's (VNI).
    Vxlan,
    /// GENEVE; its id is the network's (VNI).
    Geneve,
    /// IP directly in IP; it has no id.
    Ipip,
    /// GTP-U; its id is the endpoint's (TEID).
    Gtp,
}

impl LayerWord {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Vlan,
        Self::Mpls,
        Self::Pppoe,
        Self::Gre,
        Self::Nvgre,
        Self::Erspan,
        Self::Vxlan,
        Self::Geneve,
        Self::Ipip,
        Self::Gtp,
    ];

    /// The word that is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vlan => "vlan",
            Self::Mpls => "mpls",
            Self::Pppoe => "pppoe",
            Self::Gre => "gre",
            Self::Nvgre => "nvgre",
            Self::Erspan => "erspan",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Ipip => "ipip",
            Self::Gtp => "gtp",
        }
    }

    /// The header with this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.word() == word)
    }
}

/// How a length is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `!=`
    Unequal,
    /// `>=`
    AtLeast,
    /// `>`
    Greater,
}

impl Comparison {
    /// The sign that is written.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Equal => "=",
            Self::Unequal => "!=",
            Self::AtLeast => ">=",
            Self::Greater => ">",
        }
    }
}

/// A protocol that has a word of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// ARP.
    Arp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// ICMPv6.
    Icmp6,
    /// SCTP.
    Sctp,
}

/// What addresses belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// ARP.
    Arp,
}

/// What ports belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// Its IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// Which side of a packet is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Source or destination.
    #[default]
    Either,
    /// Source.
    Src,
    /// Destination.
    Dst,
    /// Source and destination.
    Both,
}

/// A network in CIDR; no bit of the address is set behind the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// Its first address.
    pub address: IpAddr,
    /// Bits that are fixed: at most 32 or 128.
    pub prefix: u8,
}

impl Net {
    /// The network of `address` with this prefix, host bits cleared.
    pub fn of(address: IpAddr, prefix: u8) -> Self {
        let address = match address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask4(prefix))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask6(prefix))),
        };
        Self { address, prefix }
    }
}

/// The netmask of an IPv4 prefix.
pub(crate) const fn mask4(prefix: u8) -> u32 {
    match prefix {
        0 => 0,
        1..=31 => u32::MAX << (32 - prefix),
        _ => u32::MAX,
    }
}

/// The netmask of an IPv6 prefix.
pub(crate) const fn mask6(prefix: u8) -> u128 {
    match prefix {
        0 => 0,
        1..=127 => u128::MAX << (128 - prefix),
        _ => u128::MAX,
    }
}
