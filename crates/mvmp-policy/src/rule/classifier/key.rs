//! What of a packet the index looks up: its fields, packed into words, so that any set of fields,
//! each with a mask, is one masked comparison.
//!
//! ```text
//! addresses: source IPv4 (32) | destination IPv4 (32)                 ARP's addresses, where it is ARP
//! fields:    EtherType (16) | IP protocol (8) | source port (16) | destination port (16) | flags (8)
//! ```

use mvmp_wire::packet::{Headers, LayerKind, StackLayer};

use crate::rule::test::{self, Side};

/// Words of a key; which fields they hold is the class's.
pub(super) type Key = [u64; 3];

/// What the fields of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Addresses, fields.
    V4,
    /// An IPv6 address in two words, fields.
    V6(Side),
    /// A MAC address, fields.
    Mac(Side),
    /// A layer of the stack with its id, fields; a packet has one such key for each of its layers.
    Layer,
}

/// Where in the word `fields` they begin.
pub(super) const ETHER_TYPE: u32 = 48;
pub(super) const PROTOCOL: u32 = 40;
pub(super) const SRC_PORT: u32 = 24;
pub(super) const DST_PORT: u32 = 8;

pub(super) const IS_V4: u64 = 1;
pub(super) const IS_ARP: u64 = 1 << 1;
pub(super) const IS_V6: u64 = 1 << 2;
pub(super) const HAS_PORTS: u64 = 1 << 3;
pub(super) const IS_FRAGMENT: u64 = 1 << 4;
pub(super) const HAS_PROTOCOL: u64 = 1 << 5;
/// IPv4's addresses, or ARP's.
pub(super) const HAS_V4: u64 = 1 << 6;

impl Class {
    /// The word of the key that `fields` is.
    pub(super) const fn fields_at(self) -> usize {
        match self {
            Self::V6(_) => 2,
            _ => 1,
        }
    }
}

/// The key of a packet; `None` if it has no such fields. `Class::Layer` goes by [`layer`].
#[inline(always)]
pub(super) fn of_packet(class: Class, headers: &Headers, frame: &[u8]) -> Option<Key> {
    match class {
        Class::V4 => Some(v4(headers, frame)),
        Class::V6(side) => {
            let address = test::address6(headers, frame, side)?;
            Some([(address >> 64) as u64, address as u64, fields(headers)])
        }
        Class::Mac(side) => {
            let mac = test::mac_of(headers, frame, side)?;
            Some([mac_word(mac), fields(headers), 0])
        }
        Class::Layer => None,
    }
}

#[inline(always)]
fn v4(headers: &Headers, frame: &[u8]) -> Key {
    let mut fields = fields(headers);
    let mut addresses = u64::from(headers.src) << 32 | u64::from(headers.dst);
    if headers.ip_version == 4 {
        fields |= HAS_V4;
    } else if headers.ether_type == test::ETHER_ARP
        && let (Some(src), Some(dst)) = (
            test::arp_address(headers.link, frame, Side::Src),
            test::arp_address(headers.link, frame, Side::Dst),
        )
    {
        addresses = u64::from(src) << 32 | u64::from(dst);
        fields |= HAS_V4 | IS_ARP;
    }
    [addresses, fields, 0]
}

#[inline(always)]
pub(super) fn fields(headers: &Headers) -> u64 {
    let mut fields = u64::from(headers.ether_type) << ETHER_TYPE;
    if headers.protocol >= 0 {
        fields |= u64::from(headers.protocol as u8) << PROTOCOL | HAS_PROTOCOL;
    }
    if headers.src_port >= 0 {
        fields |= u64::from(headers.src_port as u16) << SRC_PORT
            | u64::from(headers.dst_port as u16) << DST_PORT
            | HAS_PORTS;
    }
    fields
        | (u64::from(headers.ip_version == 4) * IS_V4)
        | (u64::from(headers.ip_version == 6) * IS_V6)
        | (u64::from(headers.fragment) * IS_FRAGMENT)
}

#[inline(always)]
pub(super) fn layer(layer: &StackLayer, fields: u64) -> Key {
    [layer_word(layer.kind, layer.id), fields, 0]
}

pub(super) fn layer_word(kind: LayerKind, id: u32) -> u64 {
    (kind as u64) << 32 | u64::from(id)
}

pub(super) fn mac_word(mac: [u8; 6]) -> u64 {
    mac.iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}
