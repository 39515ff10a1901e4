//! Qualifiers: how the id behind them is to be read.

use std::net::IpAddr;

use super::ast::{Direction, Family, Primitive, Transport};
use super::names;
use super::value::{self, Fault};

/// How the id behind it is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Qualifier {
    pub(super) of: Of,
    pub(super) what: What,
    pub(super) direction: Direction,
}

/// What the qualifiers narrow it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Any,
    Family(Family),
    Transport(Transport),
    Ether,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// After a bare `src` or `dst`: a host, or a net if it is written as one.
    HostOrNet,
    Host,
    Net,
    Port,
    PortRange,
    Proto,
    Vlan,
}

impl What {
    pub(super) fn named(word: &str) -> Option<Self> {
        Some(match word {
            "host" => Self::Host,
            "net" => Self::Net,
            "port" => Self::Port,
            "portrange" => Self::PortRange,
            "proto" => Self::Proto,
            _ => return None,
        })
    }

    /// What has to stand behind it, for messages.
    pub(super) fn wants(self) -> &'static str {
        match self {
            Self::HostOrNet | Self::Host => "an address",
            Self::Net => "a network",
            Self::Port => "a port",
            Self::PortRange => "a range of ports",
            Self::Proto => "a protocol",
            Self::Vlan => "a VLAN id",
        }
    }
}

impl Qualifier {
    /// The question that the qualifiers and this id make.
    pub(super) fn primitive(self, word: &str, mask: Option<&str>) -> Result<Primitive, Fault> {
        let direction = self.direction;
        Ok(match (self.what, self.of) {
            (What::Host | What::HostOrNet, Of::Ether) => Primitive::EtherHost {
                direction,
                mac: value::mac(word)?,
            },
            (What::HostOrNet, _) if word.contains('/') => self.net(word, None)?,
            (What::Host | What::HostOrNet, _) => self.host(word)?,
            (What::Net, _) => self.net(word, mask)?,
            (What::Port, _) => {
                let port = value::number(word, names::PORT)?;
                self.ports(port, port)
            }
            (What::PortRange, _) => {
                let (low, high) = value::range(word, names::PORT)?;
                self.ports(low, high)
            }
            (What::Proto, Of::Ether) => Primitive::EtherProto(value::ether_type(word)?),
            (What::Proto, _) => Primitive::IpProto {
                family: self.family(),
                number: value::number(word, names::IP_PROTOCOL)? as u8,
            },
            (What::Vlan, _) => Primitive::Vlan(Some(value::number(word, names::VLAN_ID)?)),
        })
    }

    fn host(self, word: &str) -> Result<Primitive, Fault> {
        let address = value::address(word)?;
        self.fits(address)?;
        Ok(Primitive::Host {
            family: self.family(),
            direction: self.direction,
            address,
        })
    }

    fn net(self, word: &str, mask: Option<&str>) -> Result<Primitive, Fault> {
        let net = value::net(word, mask)?;
        self.fits(net.address)?;
        Ok(Primitive::Net {
            family: self.family(),
            direction: self.direction,
            net,
        })
    }

    fn ports(self, low: u16, high: u16) -> Primitive {
        let transport = match self.of {
            Of::Transport(transport) => Some(transport),
            _ => None,
        };
        Primitive::Port {
            transport,
            direction: self.direction,
            low,
            high,
        }
    }

    fn family(self) -> Option<Family> {
        match self.of {
            Of::Family(family) => Some(family),
            _ => None,
        }
    }

    /// `ip` with an IPv6 address, or the other way round, could never match.
    fn fits(self, address: IpAddr) -> Result<(), Fault> {
        let (asks, found, instead) = match (self.family(), address) {
            (Some(Family::Ip), IpAddr::V6(_)) => ("`ip`", "IPv6", "ip6"),
            (Some(Family::Arp), IpAddr::V6(_)) => ("`arp`", "IPv6", "ip6"),
            (Some(Family::Ip6), IpAddr::V4(_)) => ("`ip6`", "IPv4", "ip"),
            _ => return Ok(()),
        };
        Err(Fault {
            message: format!("{address} is an {found} address, which {asks} cannot have"),
            hint: Some(format!("write `{instead}`, or leave {asks} away")),
        })
    }
}
