//! The canonical text of a rule: what `Display` prints parses to the same rule again.

use std::fmt::{self, Display, Formatter};

use super::ast::{Direction, Expr, Family, Net, Primitive, Protocol, Transport};
use super::names;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::All => f.write_str("all"),
            Expr::None => f.write_str("none"),
            Expr::Is(primitive) => primitive.fmt(f),
            Expr::Not(inner) => {
                f.write_str("not ")?;
                enclosed(inner, matches!(**inner, Expr::And(_) | Expr::Or(_)), f)
            }
            Expr::And(parts) => joined(parts, " and ", |part| matches!(part, Expr::Or(_)), f),
            Expr::Or(parts) => joined(parts, " or ", |_| false, f),
            Expr::Outer(inner) => write!(f, "outer({inner})"),
        }
    }
}

fn joined(
    parts: &[Expr],
    word: &str,
    enclose: fn(&Expr) -> bool,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            f.write_str(word)?;
        }
        enclosed(part, enclose(part), f)?;
    }
    Ok(())
}

fn enclosed(expr: &Expr, enclose: bool, f: &mut Formatter<'_>) -> fmt::Result {
    if enclose {
        write!(f, "({expr})")
    } else {
        expr.fmt(f)
    }
}

impl Display for Primitive {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(protocol) => protocol.fmt(f),
            Self::IpProto { family, number } => {
                write!(f, "{}proto {number}", before(family))
            }
            Self::EtherProto(ether_type) => write!(f, "ether proto {ether_type:#06x}"),
            Self::EtherHost {
                direction,
                mac: [a, b, c, d, e, g],
            } => write!(
                f,
                "ether {direction}host {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"
            ),
            Self::Layer { word, ids } => {
                f.write_str(word.word())?;
                match ids {
                    None => Ok(()),
                    Some(ids) => write!(f, " {}", span(ids)),
                }
            }
            Self::HostRange {
                family,
                direction,
                low,
                high,
            } => {
                write!(f, "{}{direction}host {low}-{high}", before(family))
            }
            Self::Host {
                family,
                direction,
                address,
            } => {
                write!(f, "{}{direction}host {address}", before(family))
            }
            Self::Net {
                family,
                direction,
                net,
            } => {
                write!(f, "{}{direction}net {net}", before(family))
            }
            Self::Port {
                transport,
                direction,
                low,
                high,
            } => {
                let before = before(transport);
                if low == high {
                    write!(f, "{before}{direction}port {low}")
                } else {
                    write!(f, "{before}{direction}portrange {low}-{high}")
                }
            }
            Self::TcpFlags { set, clear } => {
                let mut sign = "tcp flags ";
                for (name, bit) in names::TCP_FLAGS {
                    for (asked, not) in [(set, ""), (clear, "!")] {
                        if asked & bit != 0 {
                            write!(f, "{sign}{not}{name}")?;
                            sign = ",";
                        }
                    }
                }
                Ok(())
            }
            Self::Icmp { six, types, codes } => {
                let word = if *six { "icmp6" } else { "icmp" };
                write!(f, "{word} type {}", span(types))?;
                match codes {
                    None => Ok(()),
                    Some(codes) => write!(f, " code {}", span(codes)),
                }
            }
            Self::Fragment => f.write_str("frag"),
            Self::Length(comparison, bytes) => write!(f, "length {} {bytes}", comparison.sign()),
        }
    }
}

/// One number, or the first and the last of several.
pub(super) fn span<T: Display + PartialEq>((low, high): &(T, T)) -> String {
    if low == high {
        low.to_string()
    } else {
        format!("{low}-{high}")
    }
}

/// The word and a blank, or nothing.
fn before(word: &Option<impl Display>) -> String {
    word.as_ref()
        .map(|word| format!("{word} "))
        .unwrap_or_default()
}

/// With a blank behind it, unless it goes without saying.
impl Display for Direction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Either => "",
            Self::Src => "src ",
            Self::Dst => "dst ",
            Self::Both => "src and dst ",
        })
    }
}

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Arp => "arp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmp6 => "icmp6",
            Self::Sctp => "sctp",
        })
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Arp => "arp",
        })
    }
}

impl Display for Transport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl Display for Net {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
