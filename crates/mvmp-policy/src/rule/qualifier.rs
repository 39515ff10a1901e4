//! Qualifiers: how the id behind them is to be read.

use std::net::IpAddr;

use super::ast::{Direction, Family, LayerWord, Primitive, Transport};
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
    Layer(LayerWord),
    /// ICMP's, or ICMPv6's.
    IcmpType {
        six: bool,
    },
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
    pub(super) fn wants(self) -> String {
        match self {
            Self::HostOrNet | Self::Host => "an address".into(),
            Self::Net => "a network".into(),
            Self::Port => "a port".into(),
            Self::PortRange => "a range of ports".into(),
            Self::Proto => "a protocol".into(),
            Self::Layer(word) => match names::ids_of(word) {
                Some((_, table)) => format!("{} {}", table.article(), table.noun),
                None => "nothing".into(),
            },
            Self::IcmpType { .. } => "an ICMP type".into(),
        }
    }
}

impl Qualifier {
    /// Whether a word of the language may be meant as the name of a number here: `port vxlan`.
    pub(super) fn names(self, word: &str) -> bool {
        match self.what {
            What::Proto => true,
            What::Port | What::PortRange => names::PORT.number(word).is_some(),
            _ => false,
        }
    }

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
                let port = value::number(word, names::PORT)? as u16;
                self.ports(port, port)
            }
            (What::PortRange, _) => {
                let (low, high) = value::range(word, names::PORT)?;
                self.ports(low as u16, high as u16)
            }
            (What::Proto, Of::Ether) => Primitive::EtherProto(value::ether_type(word)?),
            (What::Proto, _) => Primitive::IpProto {
                family: self.family(),
                number: value::number(word, names::IP_PROTOCOL)? as u8,
            },
            (What::Layer(layer), _) => {
                let Some((_, table)) = names::ids_of(layer) else {
                    return Err(Fault::new(format!("`{}` has no number", layer.word())));
                };
                Primitive::Layer {
                    word: layer,
                    ids: Some(value::range(word, table)?),
                }
            }
            (What::IcmpType { six }, _) => {
                let table = if six {
                    names::ICMP6_TYPE
                } else {
                    names::ICMP_TYPE
                };
                let (low, high) = value::range(word, table)?;
                Primitive::Icmp {
                    six,
                    types: (low as u8, high as u8),
                    codes: None,
                }
            }
        })
    }

    fn host(self, word: &str) -> Result<Primitive, Fault> {
        let (low, high) = value::addresses(word)?;
        self.fits(low)?;
        let (family, direction) = (self.family(), self.direction);
        Ok(if low == high {
            Primitive::Host {
                family,
                direction,
                address: low,
            }
        } else {
            Primitive::HostRange {
                family,
                direction,
                low,
                high,
            }
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
