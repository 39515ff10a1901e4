//! The policy language: which packets a handle receives.
//!
//! ```text
//! text ──lexer──▶ tokens ──parser──▶ Rule (ast) ──compile──▶ Matcher, evaluated per burst
//!                                     │   ▲ print
//!                                     └──▶ naive: the oracle of the tests
//! ```
//!
//! A rule is evaluated on the packet as the handle sees it. Address, port and protocol words speak
//! of one header stack, VLAN tags skipped, so `tcp port 80` matches tagged frames too:
//!
//! * `ip`, `ip6`, `arp` and `ether proto N` ask the EtherType behind all tags.
//! * `tcp`, `udp`, `sctp`, `icmp`, `icmp6` and `proto N` ask the IP protocol, behind IPv6's extension
//!   headers; later fragments have it, too.
//! * `host` and `net` ask IPv4 and IPv6 addresses and, as tcpdump does, those in ARP; `ip host`,
//!   `arp host`, … narrow that.
//! * `port` and `portrange` ask TCP, UDP and SCTP; `tcp port` narrows that. Later fragments have no ports.
//! * `vlan` and `vlan 42` are true if there is such a tag anywhere.
//! * `ether host`, `ether src`, `ether dst` ask MAC addresses.
//!
//! `not` binds tighter than `and`, and `and` tighter than `or` (tcpdump reads the two from left to
//! right). An id without qualifiers takes those before it: `port 80 or 443`.

mod ast;
mod compile;
mod error;
mod explain;
mod hints;
mod lexer;
mod matcher;
mod naive;
mod names;
mod parser;
mod primary;
mod print;
mod qualifier;
mod test;
mod value;

use std::fmt;
use std::str::FromStr;

use mvmp_wire::packet::Link;

pub use ast::{Direction, Expr, Family, Net, Primitive, Protocol, Transport};
pub use error::RuleError;
pub use matcher::Matcher;

/// A rule that was understood. `Display` prints its canonical text.
///
/// ```
/// use mvmp_policy::Rule;
///
/// let rule = Rule::parse("tcp port 80 or https")?;
/// assert_eq!(rule.to_string(), "tcp port 80 or tcp port 443");
/// # Ok::<(), mvmp_policy::RuleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rule {
    text: String,
    expr: Expr,
}

impl Rule {
    /// Reads a rule, with or without the prefix `match:`.
    ///
    /// # Errors
    /// Says where the text stops making sense, and what was probably meant.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        Ok(Self {
            expr: parser::parse(text)?,
            text: text.into(),
        })
    }

    /// The rule that every packet matches.
    pub fn all() -> Self {
        Self {
            text: "all".into(),
            expr: Expr::All,
        }
    }

    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The form that workers evaluate.
    pub fn compile(&self) -> Matcher {
        compile::compile(&self.expr)
    }

    /// What it says in plain words: canonical text, a tree, and notes on what surprises people.
    pub fn explain(&self) -> String {
        explain::explain(&self.expr, &self.compile())
    }

    /// Whether a frame matches, found the slow and plain way: the oracle for [`Matcher`].
    pub fn naive_matches(&self, frame: &[u8], link: Link) -> bool {
        naive::matches(&self.expr, frame, link)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        Self::parse(text)
    }
}

/// Two rules are equal if they say the same, however they were spelt.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.expr == other.expr
    }
}

impl Eq for Rule {}
