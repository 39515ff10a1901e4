//! `encap`: what a port puts in front of packets that leave by it, innermost first.
//!
//! ```text
//! { vlan = 42 }   { vlan = { id = 42, pcp = 3 } }   { vlan = "pop" }   { vxlan = { vni = 42, local = …, remote = … } }
//! [{ vxlan = { … } }, { vlan = 7 }]                 the tag stands outside
//! ```

use std::net::IpAddr;

use mvmp_wire::packet::encap::{Encap, EncapLayer, EncapSpec, Tunnel};

use super::keys;
use super::reader::{Fields, Place, Result, shortened};
use super::spec::Ethernet;

const VXLAN_PORT: u16 = 4789;
const GENEVE_PORT: u16 = 6081;
const TTL: u8 = 64;
const C_TAG: u16 = 0x8100;
const TAGS: [u16; 3] = [C_TAG, 0x88a8, 0x9100];

pub(super) fn read(place: &Place<'_>) -> Result<EncapSpec> {
    let items = match place.is_list() {
        true => place.list()?,
        false => vec![place.clone()],
    };
    if items.is_empty() {
        let error = place.fail("names no layer");
        return Err(error.with_hint("leave `encap` away to send packets as they are"));
    }
    let layers = items.iter().map(layer).collect::<Result<Vec<_>>>()?;
    // What carries Ethernet may begin with IP at run time; a tag never does.
    let tagged = layers.windows(2).position(|pair| {
        matches!(
            pair,
            [
                EncapLayer::Vlan { .. } | EncapLayer::PopVlan,
                EncapLayer::IpIp { .. }
            ]
        )
    });
    match tagged.and_then(|tag| items.get(tag + 1)) {
        Some(ipip) => {
            Err(ipip.fail("IP-in-IP carries IP packets, and a tag is part of an Ethernet header"))
        }
        None => Ok(EncapSpec { layers }),
    }
}

/// Refuses what no packet could leave with: layers that cannot carry each other, or too many.
pub(super) fn check(
    place: &Place<'_>,
    encap: &EncapSpec,
    ethernet: Option<Ethernet>,
) -> Result<()> {
    match Encap::new(encap, ethernet.map(|ethernet| ethernet.header())) {
        Ok(_) => Ok(()),
        Err(error) => Err(place.fail(error.to_string())),
    }
}

/// One layer: a table with one key.
fn layer(place: &Place<'_>) -> Result<EncapLayer> {
    let fields = place.fields(keys::ENCAP)?;
    match place.entries()?.as_slice() {
        [(key, value)] => match *key {
            "vlan" => vlan(value),
            "gre" => gre(value),
            "vxlan" => vxlan(value),
            "geneve" => geneve(value),
            _ => ipip(value),
        },
        [] => Err(fields
            .fail("names no layer")
            .with_hint("write { vlan = 42 } or { vxlan = { … } }")),
        [_, (second, beyond), ..] => Err(beyond
            .fail_key(format!("`{second}` is a second layer in one table"))
            .with_hint("several layers are a list, innermost first: [{ … }, { … }]")),
    }
}

fn vlan(place: &Place<'_>) -> Result<EncapLayer> {
    let id = |place: &Place<'_>| place.integer(0..=4_094).map(|id| id as u16);
    if place.is_string() {
        return match place.string()? {
            "pop" => Ok(EncapLayer::PopVlan),
            other => Err(place
                .fail(format!("\"{}\" is not a VLAN id", shortened(other)))
                .with_hint("write a number, or \"pop\" to take the outermost tag off")),
        };
    }
    if !place.is_table() {
        return Ok(EncapLayer::Vlan {
            tpid: C_TAG,
            id: id(place)?,
            pcp: 0,
        });
    }
    let fields = place.fields(keys::ENCAP_VLAN)?;
    Ok(EncapLayer::Vlan {
        tpid: fields.read("tpid", tpid)?.unwrap_or(C_TAG),
        id: required(&fields, "id", id)?,
        pcp: fields.read("pcp", |p| p.integer(0..=7))?.unwrap_or(0) as u8,
    })
}

fn tpid(place: &Place<'_>) -> Result<u16> {
    let number = place.integer(0..=0xffff)? as u16;
    if TAGS.contains(&number) {
        return Ok(number);
    }
    Err(place
        .fail(format!("{number:#06x} does not announce a tag"))
        .with_hint("it is one of 0x8100, 0x88a8, 0x9100"))
}

fn gre(place: &Place<'_>) -> Result<EncapLayer> {
    let fields = place.fields(keys::ENCAP_GRE)?;
    let key = fields.read("key", |p| p.integer(0..=i64::from(u32::MAX)))?;
    Ok(EncapLayer::Gre {
        key: key.map(|key| key as u32),
        tunnel: tunnel(&fields)?,
    })
}

fn vxlan(place: &Place<'_>) -> Result<EncapLayer> {
    let fields = place.fields(keys::ENCAP_VXLAN)?;
    Ok(EncapLayer::Vxlan {
        vni: required(&fields, "vni", vni)?,
        port: fields.read("port", udp_port)?.unwrap_or(VXLAN_PORT),
        tunnel: tunnel(&fields)?,
    })
}

fn geneve(place: &Place<'_>) -> Result<EncapLayer> {
    let fields = place.fields(keys::ENCAP_GENEVE)?;
    Ok(EncapLayer::Geneve {
        vni: required(&fields, "vni", vni)?,
        port: fields.read("port", udp_port)?.unwrap_or(GENEVE_PORT),
        tunnel: tunnel(&fields)?,
    })
}

fn ipip(place: &Place<'_>) -> Result<EncapLayer> {
    let fields = place.fields(keys::ENCAP_IPIP)?;
    Ok(EncapLayer::IpIp {
        tunnel: tunnel(&fields)?,
    })
}

fn vni(place: &Place<'_>) -> Result<u32> {
    place.integer(0..=0xff_ffff).map(|vni| vni as u32)
}

fn udp_port(place: &Place<'_>) -> Result<u16> {
    place.integer(1..=65_535).map(|port| port as u16)
}

/// The outer addresses: of one family, and such as a packet can have.
fn tunnel(fields: &Fields<'_>) -> Result<Tunnel> {
    let local = required(fields, "local", address)?;
    let remote = required(fields, "remote", address)?;
    let at = |key: &str, message: String| match fields.get(key) {
        Some(place) => place.fail(message),
        None => fields.fail(message),
    };
    if local.is_multicast() {
        return Err(at("local", format!("{local} cannot be a source address")));
    }
    if local.is_ipv4() != remote.is_ipv4() {
        let message = format!("{remote} is not of the same family as {local}");
        return Err(at("remote", message).with_hint("both are IPv4, or both are IPv6"));
    }
    let ttl = fields.read("ttl", |p| p.integer(1..=255))?;
    Ok(Tunnel {
        local,
        remote,
        ttl: ttl.map_or(TTL, |ttl| ttl as u8),
    })
}

fn address(place: &Place<'_>) -> Result<IpAddr> {
    let text = place.string()?;
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() => Ok(address),
        Ok(_) => Err(place.fail(format!("{text} is no machine's address"))),
        Err(_) => {
            let error = place.fail(format!("\"{}\" is not an IP address", shortened(text)));
            Err(error.with_hint("write it as \"192.0.2.1\" or \"2001:db8::1\""))
        }
    }
}

fn required<'a, T>(
    fields: &Fields<'a>,
    key: &str,
    read: impl FnOnce(&Place<'a>) -> Result<T>,
) -> Result<T> {
    fields
        .read(key, read)?
        .ok_or_else(|| fields.fail(format!("`{key}` is missing")))
}
