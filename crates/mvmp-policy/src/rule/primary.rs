//! Primitives: qualifiers, and the ids that they stand before.
//!
//! ```text
//! qualified := [ip|ip6|arp] [dir] (host|net) ids     [tcp|udp|sctp] [dir] (port|portrange) ids
//!            | ether [dir] [host] ids   | [ether|ip|ip6] proto ids  | dir ids (a host, or a net)
//!            | ip | ip6 | arp | tcp | udp | icmp | icmp6 | sctp | words of their own (see `fields`)
//! dir       := src | dst | src or dst | src and dst
//! ids       := id | "not" ids | "(" or ")" | "{" id { "," id } "}"
//! ```

use super::ast::{Direction, Expr, Family, Primitive, Protocol, Transport};
use super::error::RuleError;
use super::lexer::{Kind, Token};
use super::names::WORDS;
use super::parser::Parser;
use super::qualifier::{Of, Qualifier, What};

pub(super) const BROADCAST: Expr = Expr::Is(Primitive::EtherHost {
    direction: Direction::Dst,
    mac: [0xff; 6],
});

pub(super) fn protocol_named(word: &str) -> Option<Protocol> {
    Some(match word {
        "ip" => Protocol::Ip,
        "ip6" => Protocol::Ip6,
        "arp" => Protocol::Arp,
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "icmp" => Protocol::Icmp,
        "icmp6" => Protocol::Icmp6,
        "sctp" => Protocol::Sctp,
        _ => return None,
    })
}

pub(super) fn family_of(protocol: Protocol) -> Option<Family> {
    match protocol {
        Protocol::Ip => Some(Family::Ip),
        Protocol::Ip6 => Some(Family::Ip6),
        Protocol::Arp => Some(Family::Arp),
        _ => None,
    }
}

pub(super) fn transport_of(protocol: Protocol) -> Option<Transport> {
    match protocol {
        Protocol::Tcp => Some(Transport::Tcp),
        Protocol::Udp => Some(Transport::Udp),
        Protocol::Sctp => Some(Transport::Sctp),
        _ => None,
    }
}

impl<'a> Parser<'a> {
    /// A primitive that begins with this word.
    pub(super) fn word(&mut self, token: Token<'a>, word: &'a str) -> Result<Expr, RuleError> {
        if let Some(protocol) = protocol_named(word) {
            self.advance();
            return self.after_protocol(token, word, protocol);
        }
        match word {
            "ether" => {
                self.advance();
                self.after_ether(token)
            }
            "src" | "dst" => self.directed(Of::Any),
            _ if What::named(word).is_some() => self.directed(Of::Any),
            // A word keeps its meaning, even where it names a number too.
            _ => match (self.own_words(word)?, self.carried) {
                (Some(expr), _) => Ok(expr),
                (None, Some(carried)) => match self.refused(token, word) {
                    Some(error) => Err(error),
                    None => self.id(carried),
                },
                (None, None) => Err(self.unknown(token, word)),
            },
        }
    }

    /// `tcp`, or what it qualifies: `tcp dst port 80`.
    fn after_protocol(
        &mut self,
        token: Token<'a>,
        word: &str,
        protocol: Protocol,
    ) -> Result<Expr, RuleError> {
        let Kind::Word(next) = self.peek().kind else {
            self.carried = None;
            return Ok(Expr::Is(Primitive::Protocol(protocol)));
        };
        if let Some(expr) = self.own_fields(protocol, next)? {
            return Ok(expr);
        }
        if !matches!(next, "src" | "dst") && What::named(next).is_none() {
            return Err(self.bare_id(word, protocol, next));
        }
        let what = self.what_ahead();
        let family = family_of(protocol);
        let transport = transport_of(protocol);
        let of = match what {
            Some(What::Port | What::PortRange) => transport.map(Of::Transport),
            Some(What::Proto) if protocol == Protocol::Arp => None,
            _ => family.map(Of::Family),
        };
        match of {
            Some(of) => self.directed(of),
            None => Err(self.fail(
                token,
                &format!(
                    "`{word}` does not qualify {}",
                    what.unwrap_or(What::Host).wants()
                ),
                Some(format!("write `{word} and {next} …`")),
            )),
        }
    }

    fn after_ether(&mut self, token: Token<'a>) -> Result<Expr, RuleError> {
        let hint =
            "write `ether host`, `ether src`, `ether dst` with a MAC address, or `ether proto`";
        match self.what_ahead() {
            Some(What::Host | What::Proto) => self.directed(Of::Ether),
            Some(_) => Err(self.fail(
                token,
                "`ether` has MAC addresses and EtherTypes",
                Some(hint.into()),
            )),
            None if matches!(self.peek().kind, Kind::Word("src" | "dst")) => {
                self.directed(Of::Ether)
            }
            None if self.take(Kind::Word("broadcast")) => self.constant(BROADCAST),
            None => {
                let message = format!(
                    "expected `host`, `src`, `dst` or `proto` after `ether`, found {}",
                    self.peek().shown()
                );
                Err(self.fail(self.peek(), &message, Some(hint.into())))
            }
        }
    }

    /// The type word behind the direction words that come next, without taking any.
    fn what_ahead(&self) -> Option<What> {
        let ahead = (0..4).find(|&ahead| {
            !matches!(
                self.peek_at(ahead).kind,
                Kind::Word("src" | "dst") | Kind::And | Kind::Or
            )
        })?;
        match self.peek_at(ahead).kind {
            Kind::Word(word) => What::named(word),
            _ => None,
        }
    }

    /// Direction and type words, then ids.
    fn directed(&mut self, of: Of) -> Result<Expr, RuleError> {
        let start = self.peek();
        let direction = self.direction()?;
        let token = self.peek();
        let what = match token.kind {
            Kind::Word(word) => What::named(word),
            _ => None,
        };
        if what.is_some() {
            self.advance();
        }
        if what == Some(What::Proto) && direction != Direction::Either {
            return Err(self.fail(start, "a protocol has no source and destination", None));
        }
        let what = what.unwrap_or(What::HostOrNet);
        self.ids(Qualifier {
            of,
            what,
            direction,
        })
    }

    fn direction(&mut self) -> Result<Direction, RuleError> {
        let first = self.peek();
        let Kind::Word(word @ ("src" | "dst")) = first.kind else {
            return Ok(Direction::Either);
        };
        self.advance();
        let joint = self.peek().kind;
        let Kind::Word(second @ ("src" | "dst")) = self.peek_at(1).kind else {
            return Ok(if word == "src" {
                Direction::Src
            } else {
                Direction::Dst
            });
        };
        if !matches!(joint, Kind::And | Kind::Or) {
            return Ok(if word == "src" {
                Direction::Src
            } else {
                Direction::Dst
            });
        }
        self.advance();
        let token = self.advance();
        if word == second {
            return Err(self.fail(token, &format!("`{word}` twice"), None));
        }
        Ok(if joint == Kind::And {
            Direction::Both
        } else {
            Direction::Either
        })
    }

    pub(super) fn ids(&mut self, qualifier: Qualifier) -> Result<Expr, RuleError> {
        let token = self.peek();
        self.carried = Some(qualifier);
        match token.kind {
            Kind::Not => {
                self.advance();
                // The qualifier is carried over to the id behind it.
                let inner = self.deeper(token, Self::carried_ids)?;
                Ok(Expr::Not(Box::new(inner)))
            }
            Kind::Open => self.parenthesised(),
            Kind::OpenList => self
                .list(|parser| Ok(vec![parser.id(qualifier)?]))
                .map(Expr::or),
            _ => self.id(qualifier),
        }
    }

    /// `{ a, b }`: alternatives; each is what `element` reads, and there is at least one.
    pub(super) fn list<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<Vec<T>, RuleError>,
    ) -> Result<Vec<T>, RuleError> {
        let open = self.advance();
        let mut all = Vec::new();
        loop {
            all.extend(element(self)?);
            let token = self.peek();
            match token.kind {
                Kind::Comma => self.advance(),
                Kind::CloseList => {
                    self.advance();
                    return Ok(all);
                }
                Kind::End => return Err(self.fail(open, "this `{` is never closed", None)),
                _ => {
                    let message = format!(
                        "expected `,` or `}}` {}, found {}",
                        self.before(),
                        token.shown()
                    );
                    return Err(self.fail(token, &message, None));
                }
            };
        }
    }

    fn carried_ids(&mut self) -> Result<Expr, RuleError> {
        match self.carried {
            Some(qualifier) => self.ids(qualifier),
            None => Err(self.fail(self.peek(), "expected an address or a number", None)),
        }
    }

    /// One id, read as the qualifier says.
    fn id(&mut self, qualifier: Qualifier) -> Result<Expr, RuleError> {
        let token = self.peek();
        let word = match token.kind {
            Kind::Word(word) => word,
            _ => return Err(self.no_id(token, qualifier)),
        };
        if WORDS.contains(&word) && !qualifier.names(word) {
            return Err(self.no_id(token, qualifier));
        }
        self.advance();
        let mask = self.mask(qualifier)?;
        let primitive = qualifier
            .primitive(word, mask)
            .map_err(|fault| self.id_fault(token, word, fault))?;
        self.carried = Some(qualifier);
        Ok(Expr::Is(primitive))
    }

    fn mask(&mut self, qualifier: Qualifier) -> Result<Option<&'a str>, RuleError> {
        if qualifier.what != What::Net || !self.take(Kind::Word("mask")) {
            return Ok(None);
        }
        let token = self.advance();
        match token.kind {
            Kind::Word(word) => Ok(Some(word)),
            _ => Err(self.fail(
                token,
                &format!("expected a mask after `mask`, found {}", token.shown()),
                None,
            )),
        }
    }
}
