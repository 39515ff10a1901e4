//! What a policy says of encapsulation.

use std::net::IpAddr;

/// Layers to be put around a packet, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncapSpec {
    /// In the order in which they are put on.
    pub layers: Vec<EncapLayer>,
}

/// One layer to be put around a packet, or taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncapLayer {
    /// Takes the outermost VLAN tag off, if there is one.
    PopVlan,
    /// Puts a tag on.
    Vlan {
        /// 0x8100, or 0x88a8 for the outer tag of 802.1ad.
        tpid: u16,
        /// 0 to 4094.
        id: u16,
        /// 0 to 7.
        pcp: u8,
    },
    /// GRE of version 0 (RFC 2784, RFC 2890); Ethernet is carried as 0x6558.
    Gre {
        /// The key, if there is to be one.
        key: Option<u32>,
        /// The ends.
        tunnel: Tunnel,
    },
    /// VXLAN (RFC 7348); carries Ethernet only.
    Vxlan {
        /// 24 bits.
        vni: u32,
        /// UDP destination port.
        port: u16,
        /// The ends.
        tunnel: Tunnel,
    },
    /// GENEVE without options (RFC 8926); carries Ethernet, IPv4 or IPv6.
    Geneve {
        /// 24 bits.
        vni: u32,
        /// UDP destination port.
        port: u16,
        /// The ends.
        tunnel: Tunnel,
    },
    /// IP in IP (RFC 2003, RFC 2473, RFC 4213); carries IPv4 or IPv6.
    IpIp {
        /// The ends.
        tunnel: Tunnel,
    },
}

impl EncapLayer {
    /// Whether it is more than a tag of the packet's own Ethernet header.
    pub fn is_tunnel(&self) -> bool {
        !matches!(self, Self::PopVlan | Self::Vlan { .. })
    }
}

/// The two ends of a tunnel, of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Source address of the outer packet.
    pub local: IpAddr,
    /// Destination address of the outer packet.
    pub remote: IpAddr,
    /// TTL or hop limit of the outer packet.
    pub ttl: u8,
}

/// Why a specification cannot be carried out for any packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncapError {
    /// A VNI of more than 24 bits.
    #[error("vni {0} does not fit: a VNI has 24 bits, so at most 16777215")]
    Vni(u32),
    /// A VLAN id beyond 4094.
    #[error("vlan {0} does not exist: ids are 0 to 4094")]
    VlanId(u16),
    /// A priority beyond 7.
    #[error("pcp {0} does not exist: priorities are 0 to 7")]
    Priority(u8),
    /// A TPID that is none of ours.
    #[error("tpid {0:#06x} is no VLAN tag: take 0x8100, 0x88a8 or 0x9100")]
    Tpid(u16),
    /// Ends of different families.
    #[error("local and remote must both be IPv4 or both IPv6 addresses")]
    Families,
    /// A hop limit of 0.
    #[error("ttl 0 would never leave: take 1 to 255")]
    Ttl,
    /// VXLAN around what begins with IP.
    #[error(
        "vxlan carries Ethernet, and what the layer before it makes begins with IP: take geneve, gre or ipip"
    )]
    NotEthernet,
    /// A tag between two tunnels.
    #[error(
        "a vlan tag between two tunnels has no Ethernet header to sit in: put it before the first or after the last"
    )]
    TagBetween,
    /// A tag around a tunnel, and no addresses for the Ethernet header that it sits in.
    #[error(
        "a vlan tag around a tunnel needs an Ethernet header: say ethernet = {{ src = …, dst = … }}"
    )]
    NoEthernet,
    /// A tag is taken off where none can be.
    #[error("vlan = \"pop\" after a tunnel finds no tag: put it first")]
    NothingToPop,
    /// More tags off than any packet has.
    #[error("at most {most} tags come off one packet")]
    TooManyPops {
        /// So many may.
        most: usize,
    },
    /// More header bytes than there is room for.
    #[error("these layers have {0} bytes of headers; there is room for {max}", max = super::ENCAP_BYTES_MAX)]
    TooLong(usize),
}
