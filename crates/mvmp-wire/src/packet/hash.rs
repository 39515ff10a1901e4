//! The symmetric flow hash.
//!
//! Each end of a flow becomes one 64-bit word, and the two words are multiplied: multiplication
//! commutes, so both directions of a flow hash alike by construction, with no comparison. The
//! 128-bit product is folded and multiplied once more, which spreads neighbouring addresses and
//! ports over all 32 bits. The constants are odd words without structure (digits of π). It is a
//! hash for balance, not against an adversary: no key.

const END: u64 = 0x243f_6a88_85a3_08d3;
const FOLD: u64 = 0x1319_8a2e_0370_7345;
const LAST: u64 = 0xa409_3822_299f_31d1;

/// Over IPv4 addresses, protocol and, for whole TCP, UDP and SCTP packets, ports.
#[inline(always)]
pub(super) fn ipv4(src: u32, dst: u32, protocol: u8, ports: Option<(u16, u16)>) -> u32 {
    let (src_port, dst_port) = ports.unwrap_or((0, 0));
    let protocol = u64::from(protocol);
    let end = |address: u32, port: u16| u64::from(address) << 24 | u64::from(port) << 8 | protocol;
    both_ends(end(src, src_port), end(dst, dst_port))
}

/// Over IPv6 addresses (16 bytes each), protocol and ports likewise.
#[inline]
pub(super) fn ipv6(src: &[u8], dst: &[u8], protocol: u8, ports: Option<(u16, u16)>) -> u32 {
    let (src_port, dst_port) = ports.unwrap_or((0, 0));
    let protocol = u64::from(protocol);
    let end = |address: &[u8], port: u16| {
        let (high, low) = address.split_at(address.len() / 2);
        fold(word(high) ^ FOLD, word(low) ^ END) ^ (u64::from(port) << 8 | protocol)
    };
    both_ends(end(src, src_port), end(dst, dst_port))
}

#[inline(always)]
fn both_ends(one: u64, other: u64) -> u32 {
    let product = fold(one ^ END, other ^ END);
    ((product ^ product >> 32).wrapping_mul(LAST) >> 32) as u32
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

fn word(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
