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
//! * `frag`, `tcp flags` and `icmp type` ask that stack, too; `ether host`, `ether src` and
//!   `ether dst` ask MAC addresses.
//! * `vlan`, `mpls`, `pppoe`, `gre`, `nvgre`, `erspan`, `vxlan`, `geneve`, `ipip` and `gtp`, with or
//!   without an id, are true if there is such a header anywhere in the frame as received.
//! * `outer(…)` asks the outermost network header of the frame as received; `length` its bytes on
//!   the wire.
//!
//! `not` binds tighter than `and`, and `and` tighter than `or` (tcpdump reads the two from left to
//! right). An id without qualifiers takes those before it: `port 80 or 443`.

mod ast;
mod classifier;
mod compile;
mod error;
mod explain;
mod fields;
mod hints;
mod layers;
mod lexer;
mod matcher;
mod naive;
mod names;
mod packets;
mod parser;
mod pcap;
mod primary;
mod print;
mod qualifier;
mod test;
mod value;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mvmp_wire::packet::{LayerSet, Link};

use matcher::Node;
use test::Test;

pub use ast::{
    Comparison, Direction, Expr, Family, LayerWord, Net, Primitive, Protocol, Transport,
};
pub use classifier::{CELLS_MAX, Classifier};
pub use error::RuleError;
pub use explain::Explanation;
pub use matcher::Matcher;
pub use packets::{Needs, Packets};
pub use pcap::Filter;

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
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    /// Our own language.
    Match(Expr),
    /// libpcap's.
    Pcap(Arc<Filter>),
}

impl Rule {
    /// Reads a rule: of our own language, with or without the prefix `match:`, or of libpcap's,
    /// with the prefix `pcap:`, which needs libpcap on this machine.
    ///
    /// # Errors
    /// Says where the text stops making sense, and what was probably meant.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let start = text.len() - text.trim_start().len();
        let body = if text[start..].starts_with(pcap::PREFIX) {
            Body::Pcap(Filter::parse(text, start + pcap::PREFIX.len())?)
        } else {
            Body::Match(parser::parse(text)?)
        };
        Ok(Self {
            body,
            text: text.into(),
        })
    }

    /// The rule that every packet matches.
    pub fn all() -> Self {
        Self {
            text: "all".into(),
            body: Body::Match(Expr::All),
        }
    }

    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says; `None` of a libpcap filter.
    pub fn expr(&self) -> Option<&Expr> {
        match &self.body {
            Body::Match(expr) => Some(expr),
            Body::Pcap(_) => None,
        }
    }

    /// The form that workers evaluate.
    pub fn compile(&self) -> Matcher {
        match &self.body {
            Body::Match(expr) => compile::compile(expr),
            Body::Pcap(filter) => Matcher::new(Node::Test(Test::Pcap(Arc::clone(filter)))),
        }
    }

    /// What it says in plain words: canonical text, a tree, what it costs, and notes on what surprises people.
    pub fn explain(&self) -> Explanation {
        explain::explain(self)
    }

    /// Whether a frame matches of which these layers are jumped over, found the slow and plain way: the oracle for
    /// [`Matcher`]. A libpcap filter has none here: its oracle is tcpdump.
    pub fn naive_matches(&self, frame: &[u8], link: Link, jump: LayerSet) -> bool {
        match &self.body {
            Body::Match(expr) => naive::matches(expr, frame, link, jump),
            Body::Pcap(filter) => filter.matches(frame, link, frame.len() as u32),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Match(expr) => expr.fmt(f),
            Body::Pcap(_) => f.write_str(self.text.trim()),
        }
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
        match (&self.body, &other.body) {
            (Body::Match(this), Body::Match(that)) => this == that,
            (Body::Pcap(_), Body::Pcap(_)) => self.to_string() == other.to_string(),
            _ => false,
        }
    }
}

impl Eq for Rule {}
