//! Link type numbers (tcpdump.org's registry) and what a frame of each begins with.

use mvmp_wire::packet::Link;

pub(super) const ETHERNET: u32 = 1;
pub(super) const RAW: u32 = 101;
pub(super) const IPV4: u32 = 228;
pub(super) const IPV6: u32 = 229;

/// What the frames of a file or interface begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkType {
    /// Always this.
    Fixed(Link),
    /// Raw IP: the version nibble of each frame says which.
    RawIp,
    /// Not supported; the number is for the error message.
    Unknown(u32),
}

impl LinkType {
    pub(super) fn from_number(number: u32) -> Self {
        match number {
            ETHERNET => Self::Fixed(Link::Ethernet),
            IPV4 => Self::Fixed(Link::Ipv4),
            IPV6 => Self::Fixed(Link::Ipv6),
            // 12 and 14 are what BSDs wrote for raw IP before 101 was assigned.
            RAW | 12 | 14 => Self::RawIp,
            other => Self::Unknown(other),
        }
    }

    /// The link of one frame, if its type is supported. Raw IP of no known version counts as IPv4,
    /// and parses as nothing.
    pub(super) fn link(self, frame: &[u8]) -> Option<Link> {
        match self {
            Self::Fixed(link) => Some(link),
            Self::RawIp if frame.first().is_some_and(|byte| byte >> 4 == 6) => Some(Link::Ipv6),
            Self::RawIp => Some(Link::Ipv4),
            Self::Unknown(_) => None,
        }
    }
}

/// How a link is called to users.
pub(super) fn link_name(link: Link) -> &'static str {
    match link {
        Link::Ethernet => "Ethernet",
        Link::Ipv4 => "raw IPv4",
        Link::Ipv6 => "raw IPv6",
    }
}

/// The registry's name for the numbers that are met most; "unknown" for the rest.
pub(super) fn name(number: u32) -> &'static str {
    match number {
        0 => "BSD loopback",
        6 => "IEEE 802.5",
        7 => "ARCNET",
        8 => "SLIP",
        9 => "PPP",
        50 => "PPP over serial",
        51 => "PPPoE",
        100 => "ATM",
        104 => "Cisco HDLC",
        105 => "IEEE 802.11",
        107 => "Frame Relay",
        108 => "OpenBSD loopback",
        113 => "Linux cooked capture",
        119 => "Prism 802.11",
        127 => "802.11 with radiotap",
        129 => "Linux ARCNET",
        147..=162 => "user defined",
        189 | 220 => "USB",
        187 | 201 => "Bluetooth HCI",
        192 => "PPI",
        195 | 230 | 283 => "IEEE 802.15.4",
        239 => "NFLOG",
        253 => "Netlink",
        276 => "Linux cooked capture v2",
        _ => "unknown",
    }
}
