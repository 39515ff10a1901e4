//! What of a packet the index looks up: its fields, packed into words, so that any set of fields,
//! each with a mask, is one masked comparison.
//!
//! ```text
//! FIELDS:  EtherType (16) | IP protocol (9) | source port (17) | destination port (17) | fragment (2) | IP version (3)
//! OWN:     source IPv4 (32) | destination IPv4 (32), of ARP where it is ARP      Class::V4
//!          an IPv6 address, half of it; OWN_LOW is the other                     Class::V6
//!          a MAC address                                                         Class::Mac
//!          kind of a layer, whether it has an id (1), id (32)                    Class::Layer
//! ```
//!
//! What a packet lacks, protocol or ports, is −1 in its headers: here all ones, one bit wider than any that it may have.

use mvmp_wire::packet::{Headers, LayerKind};

use crate::rule::packets::Packets;
use crate::rule::test::{self, Side};

/// The words of a key.
pub(super) type Key = [u64; 3];
pub(super) const FIELDS: usize = 0;
pub(super) const OWN: usize = 1;
pub(super) const OWN_LOW: usize = 2;

/// What the own words of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    V4,
    V6(Side),
    Mac(Side),
    /// A packet has one such key for each of its layers.
    Layer,
}

/// Where in the word `FIELDS` they begin.
pub(super) const ETHER_TYPE: u32 = 48;
pub(super) const PROTOCOL: u32 = 39;
pub(super) const SRC_PORT: u32 = 22;
pub(super) const DST_PORT: u32 = 5;

pub(super) const PROTOCOL_MASK: u64 = 0x1ff;
/// Of a port that may be none.
pub(super) const PORT_MASK: u64 = 0x1_ffff;
const FRAGMENT: u32 = 3;
pub(super) const IS_FRAGMENT: u64 = 1 << FRAGMENT;
/// Of the IP version, as it is in a header; ARP has a number of its own, one bit from IPv4's.
pub(super) const VERSION_MASK: u64 = 0b111;
pub(super) const IS_V4: u64 = 0b100;
pub(super) const IS_ARP: u64 = 0b101;
pub(super) const IS_V6: u64 = 0b110;
/// With this mask IPv4 and ARP are alike: both have IPv4's addresses.
pub(super) const V4_OR_ARP_MASK: u64 = 0b110;

const IN_ORDER: [u64; BURST] = {
    let mut all = [0; BURST];
    let mut at = 0;
    while at < BURST {
        all[at] = 1 << at;
        at += 1;
    }
    all
};

/// The most packets of a burst.
pub(super) const BURST: usize = 64;

/// The keys of one class, a column for each word, and the bit of each one's packet.
pub(super) struct Keys {
    pub(super) words: [[u64; BURST]; 3],
    pub(super) packets: [u64; BURST],
    pub(super) count: usize,
    /// Any of them is of IPv6.
    some_v6: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            words: [[0; BURST]; 3],
            packets: IN_ORDER,
            count: 0,
            some_v6: false,
        }
    }
}

impl Keys {
    /// A bit for each of them.
    #[inline(always)]
    pub(super) fn all(&self) -> u64 {
        u64::MAX
            .checked_shr((BURST - self.count) as u32)
            .unwrap_or(0)
    }

    /// Makes these those of [`Class::V4`], which all packets have.
    #[inline(always)]
    pub(super) fn gather(&mut self, packets: &Packets<'_>) {
        self.count = packets.headers.len().min(BURST);
        let [fields_of, addresses_of, _] = &mut self.words;
        let (mut any, mut every) = (0, u64::MAX);
        let columns = fields_of.iter_mut().zip(addresses_of);
        for ((fields, addresses), headers) in columns.zip(packets.headers) {
            *fields = self::fields(headers);
            *addresses = u64::from(headers.src) << 32 | u64::from(headers.dst);
            any |= *fields;
            every &= *fields;
        }
        // Both versions have one bit, and one has the other.
        self.some_v6 = any & (IS_V6 & !IS_V4) != 0;
        if every & (IS_V6 & IS_V4) == 0 {
            self.look_for_arp(packets);
        }
    }

    fn look_for_arp(&mut self, packets: &Packets<'_>) {
        for at in 0..self.count {
            let (headers, frame) = (&packets.headers[at], packets.frames[at]);
            let address = |side| test::arp_address(headers.link, frame, side).map(u64::from);
            if headers.ip_version == 0
                && headers.ether_type == test::ETHER_ARP
                && let (Some(src), Some(dst)) = (address(Side::Src), address(Side::Dst))
            {
                self.words[FIELDS][at] |= IS_ARP;
                self.words[OWN][at] = src << 32 | dst;
            }
        }
    }

    /// Those of another class, of the same packets; of layers those `deep` down.
    pub(super) fn of(&self, class: Class, packets: &Packets<'_>, deep: usize) -> Option<Self> {
        if matches!(class, Class::V6(_)) && !self.some_v6 {
            return None;
        }
        let mut keys = Self::default();
        let theirs = self.packets.iter().zip(&self.words[FIELDS]);
        for (i, (packet, fields)) in theirs.take(self.count).enumerate() {
            let own = match class {
                Class::V4 => None,
                Class::V6(_) if fields & VERSION_MASK != IS_V6 => None,
                Class::V6(side) => test::address6(&packets.headers[i], packets.frames[i], side)
                    .map(|address| [(address >> 64) as u64, address as u64]),
                Class::Mac(side) => test::mac_of(&packets.headers[i], packets.frames[i], side)
                    .map(|mac| [mac_word(mac), 0]),
                Class::Layer => packets
                    .stacks
                    .get(i)
                    .and_then(|stack| stack.layers().get(deep))
                    .map(|layer| [layer_word(layer.kind, layer.id()), 0]),
            };
            if let Some([own, low]) = own {
                keys.words[FIELDS][keys.count] = *fields;
                keys.words[OWN][keys.count] = own;
                keys.words[OWN_LOW][keys.count] = low;
                keys.packets[keys.count] = *packet;
                keys.count += 1;
            }
        }
        (keys.count > 0).then_some(keys)
    }
}

#[inline(always)]
fn fields(headers: &Headers) -> u64 {
    u64::from(headers.ether_type) << ETHER_TYPE
        | (headers.protocol as u64 & PROTOCOL_MASK) << PROTOCOL
        | (headers.src_port as u64 & PORT_MASK) << SRC_PORT
        | (headers.dst_port as u64 & PORT_MASK) << DST_PORT
        | u64::from(headers.fragment) << FRAGMENT
        | u64::from(headers.ip_version) & VERSION_MASK
}

/// The bit between says that there is an id.
pub(super) fn layer_word(kind: LayerKind, id: Option<u32>) -> u64 {
    (kind as u64) << 33 | id.map_or(0, |id| 1 << 32 | u64::from(id))
}

pub(super) fn mac_word(mac: [u8; 6]) -> u64 {
    mac.iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}
