//! What stands behind the qualifiers: addresses, networks, numbers and names.
//!
//! Each function reads one word and says in plain words what is wrong with it; the parser adds
//! the place.

use std::net::{IpAddr, Ipv4Addr};

use super::ast::{Net, mask4};
use super::lexer::shortened;
use super::names::Table;
use crate::suggest::did_you_mean;

/// What is wrong with a word, and what to do about it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(super) fn new(message: String) -> Self {
        Self {
            message,
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What a word looks like, for suggestions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks {
    Number,
    Range,
    Address,
    Network,
    Mac,
    Name,
}

pub(super) fn looks(word: &str) -> Looks {
    let is_range = |word: &str| {
        word.split_once('-')
            .is_some_and(|(low, high)| digits(low).is_some() && digits(high).is_some())
    };
    if word.parse::<IpAddr>().is_ok() {
        Looks::Address
    } else if word
        .split_once('/')
        .is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok())
    {
        Looks::Network
    } else if digits(word).is_some() {
        Looks::Number
    } else if is_range(word) {
        Looks::Range
    } else if mac(word).is_ok() {
        Looks::Mac
    } else {
        Looks::Name
    }
}

/// An IP address; names are not resolved.
pub(super) fn address(word: &str) -> Result<IpAddr, Fault> {
    if let Ok(address) = word.parse() {
        return Ok(address);
    }
    let shown = shortened(word);
    let fault = Fault::new(format!("`{shown}` is not an IP address"));
    Err(match looks(word) {
        Looks::Network => fault.hint(format!("a network is `net {shown}`")),
        Looks::Mac => fault.hint(format!("a MAC address is `ether host {shown}`")),
        Looks::Number => fault.hint(format!("a port is `port {shown}`")),
        _ => fault.hint("write it in numbers: names are not resolved"),
    })
}

/// An address, or the first and the last of several: `10.0.0.1-10.0.0.9`.
pub(super) fn addresses(word: &str) -> Result<(IpAddr, IpAddr), Fault> {
    let (low, high) = match word.split_once('-') {
        Some((low, high)) if low.parse::<IpAddr>().is_ok() => (address(low)?, address(high)?),
        _ => {
            let address = address(word)?;
            (address, address)
        }
    };
    if low.is_ipv4() != high.is_ipv4() {
        return Err(Fault::new(format!(
            "`{}` begins with one IP version and ends with the other",
            shortened(word)
        )));
    }
    if low > high {
        return Err(Fault::new(format!("the range {low}-{high} is empty"))
            .hint(format!("did you mean `{high}-{low}`?")));
    }
    Ok((low, high))
}

/// A network: `10.0.0.0/8`, `2001:db8::/32`, or tcpdump's `10`, `192.168`, `192.0.2`.
/// `mask` is the word behind `mask`.
pub(super) fn net(word: &str, mask: Option<&str>) -> Result<Net, Fault> {
    let (address, prefix) = match (word.split_once('/'), mask) {
        (Some((address, prefix)), None) => (net_address(address)?, Some(prefix)),
        (None, _) if word.parse::<IpAddr>().is_err() => return short_net(word, mask),
        (None, _) => (net_address(word)?, None),
        (Some(_), Some(_)) => {
            return Err(Fault::new("a prefix length and a mask".into()).hint("write one of them"));
        }
    };
    let prefix = match (prefix, mask, address) {
        (Some(prefix), _, _) => prefix_length(prefix, address)?,
        (_, Some(mask), IpAddr::V4(_)) => mask_length(mask)?,
        (_, Some(_), IpAddr::V6(_)) => {
            return Err(
                Fault::new("`mask` is for IPv4".into()).hint(format!("write `net {address}/64`"))
            );
        }
        (None, None, _) => {
            let example = if address.is_ipv4() { 24 } else { 64 };
            return Err(Fault::new(format!(
                "`net {address}` does not say how long the prefix is"
            ))
            .hint(format!(
                "write `net {address}/{example}`, or `host {address}` for the one address"
            )));
        }
    };
    checked_net(address, prefix)
}

fn net_address(word: &str) -> Result<IpAddr, Fault> {
    word.parse().map_err(|_| not_an_address(word))
}

fn not_an_address(word: &str) -> Fault {
    Fault::new(format!("`{}` is not an IP address", shortened(word)))
        .hint("write a network as `net 192.0.2.0/24`")
}

fn checked_net(address: IpAddr, prefix: u8) -> Result<Net, Fault> {
    let net = Net::of(address, prefix);
    if net.address == address {
        return Ok(net);
    }
    Err(Fault::new(format!(
        "{address}/{prefix} is not a network: bits are set behind the prefix"
    ))
    .hint(format!(
        "the network is {}/{prefix}; the one address is `host {address}`",
        net.address
    )))
}

/// `net 10` is 10.0.0.0/8, `net 192.168` is 192.168.0.0/16.
fn short_net(word: &str, mask: Option<&str>) -> Result<Net, Fault> {
    let mut bytes = [0; 4];
    let mut count = 0;
    for part in word.split('.') {
        let byte = digits(part).and_then(|number| u8::try_from(number).ok());
        let (Some(byte), Some(place)) = (byte, bytes.get_mut(count)) else {
            return Err(not_an_address(word));
        };
        *place = byte;
        count += 1;
    }
    let address = IpAddr::V4(Ipv4Addr::from(bytes));
    match mask {
        Some(mask) => checked_net(address, mask_length(mask)?),
        None => Ok(Net::of(address, count as u8 * 8)),
    }
}

fn prefix_length(word: &str, address: IpAddr) -> Result<u8, Fault> {
    let max = if address.is_ipv4() { 32 } else { 128 };
    match digits(word) {
        Some(length) if length <= max => Ok(length as u8),
        _ if word.parse::<Ipv4Addr>().is_ok() => {
            let length = mask_length(word)?;
            Err(
                Fault::new(format!("`/{word}` is a mask, not a prefix length"))
                    .hint(format!("write `net {address}/{length}`")),
            )
        }
        _ => Err(Fault::new(format!(
            "`/{}` is not a prefix length: it goes from 0 to {max}",
            shortened(word)
        ))),
    }
}

fn mask_length(word: &str) -> Result<u8, Fault> {
    let Ok(mask) = word.parse::<Ipv4Addr>() else {
        return Err(Fault::new(format!("`{}` is not a mask", shortened(word)))
            .hint("write it as `mask 255.255.255.0`"));
    };
    let length = u32::from(mask).leading_ones() as u8;
    if mask4(length) == u32::from(mask) {
        return Ok(length);
    }
    Err(Fault::new(format!(
        "{mask} is not a mask: its ones have gaps"
    )))
}

/// Only digits, and not too many of them.
fn digits(word: &str) -> Option<u32> {
    is_decimal(word).then(|| word.parse().ok()).flatten()
}

fn is_decimal(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

fn hexadecimal(word: &str) -> Option<u32> {
    u32::from_str_radix(hex_digits(word)?, 16).ok()
}

/// Those behind `0x`, if there is nothing else.
fn hex_digits(word: &str) -> Option<&str> {
    let hex = word
        .strip_prefix("0x")
        .or_else(|| word.strip_prefix("0X"))?;
    (!hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hex)
}

/// A number in decimal or `0x…`, or a name of the table. A backslash before it, as tcpdump's
/// words need in places, is allowed.
pub(super) fn number(word: &str, table: Table) -> Result<u32, Fault> {
    let word = word.strip_prefix('\\').unwrap_or(word);
    let noun = table.noun;
    let article = table.article();
    match digits(word).or_else(|| hexadecimal(word)) {
        Some(number) if number <= table.max => return Ok(number),
        None if !is_decimal(word) && hex_digits(word).is_none() => {}
        too_large => {
            let number = too_large.map_or_else(|| shortened(word), |number| number.to_string());
            return Err(Fault::new(format!(
                "{number} is not {article} {noun}: it goes from 0 to {}",
                table.max
            )));
        }
    }
    if let Some(number) = table.number(word) {
        return Ok(u32::from(number));
    }
    let mut fault = Fault::new(format!("`{}` is not a known {noun}", shortened(word)));
    fault.hint = did_you_mean(word, table.names()).or_else(|| match looks(word) {
        Looks::Range if !table.several.is_empty() => {
            Some(format!("several in a row are `{}{word}`", table.several))
        }
        Looks::Address => Some(format!("an address is `host {word}`")),
        _ => Some("write it as a number".into()),
    });
    Err(fault)
}

/// `8000-8080`, or a single number.
pub(super) fn range(word: &str, table: Table) -> Result<(u32, u32), Fault> {
    let named = table.number(word).is_some();
    let (low, high) = match word.split_once('-') {
        Some((low, high)) if !named => (number(low, table)?, number(high, table)?),
        _ => {
            let number = number(word, table)?;
            (number, number)
        }
    };
    if low > high {
        return Err(Fault::new(format!("the range {low}-{high} is empty"))
            .hint(format!("did you mean `{high}-{low}`?")));
    }
    Ok((low, high))
}

/// `00:11:22:33:44:55`, with dashes too.
pub(super) fn mac(word: &str) -> Result<[u8; 6], Fault> {
    let fault = || {
        let fault = Fault::new(format!("`{}` is not a MAC address", shortened(word)));
        match word.parse::<IpAddr>() {
            Ok(address) => fault.hint(format!("an IP address is `host {address}`")),
            Err(_) => fault.hint("write it as `00:11:22:33:44:55`"),
        }
    };
    let separator = if word.contains(':') { ':' } else { '-' };
    let mut mac = [0; 6];
    let mut parts = word.split(separator);
    for byte in &mut mac {
        let part = parts.next().ok_or_else(fault)?;
        let hex = part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex || part.is_empty() || part.len() > 2 {
            return Err(fault());
        }
        *byte = u8::from_str_radix(part, 16).map_err(|_| fault())?;
    }
    if parts.next().is_some() {
        Err(fault())
    } else {
        Ok(mac)
    }
}

/// An EtherType that a frame behind its tags can have.
pub(super) fn ether_type(word: &str) -> Result<u16, Fault> {
    let number = number(word, super::names::ETHER_TYPE)? as u16;
    match number {
        0x8100 | 0x88a8 | 0x9100 => Err(Fault::new(format!(
            "{number:#06x} is a VLAN tag, and `ether proto` asks behind all tags"
        ))
        .hint("write `vlan`")),
        0..0x0600 => {
            let fault = Fault::new(format!(
                "{number} ({number:#06x}) is not an EtherType: they begin at 0x0600"
            ));
            Err(match hexadecimal(&format!("0x{word}")) {
                Some(hex) if (0x0600..=0xffff).contains(&hex) => {
                    fault.hint(format!("did you mean `0x{word}`?"))
                }
                _ => fault,
            })
        }
        _ => Ok(number),
    }
}
