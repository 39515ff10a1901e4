//! The dialect `pcap:`: a libpcap filter, bit for bit, on the frame as received.

use std::sync::Arc;

use mvmp_bpf::{LINK_ETHERNET, LINK_RAW, Program};
use mvmp_wire::packet::Link;

use super::error::RuleError;
use super::lexer::TEXT_BYTES_MAX;

/// What a rule of this dialect begins with.
pub(super) const PREFIX: &str = "pcap:";

/// A compiled libpcap filter.
#[derive(Debug)]
pub struct Filter {
    ethernet: Program,
    /// For frames that begin with IP; `None`: the expression asks what those have not.
    ip: Option<Program>,
}

impl Filter {
    /// Compiles what stands in `text` from the byte `start` on.
    pub(super) fn parse(text: &str, start: usize) -> Result<Arc<Self>, RuleError> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("the rule is longer than {TEXT_BYTES_MAX} bytes");
            return Err(RuleError::at(text, TEXT_BYTES_MAX, message, None));
        }
        let expression = text[start..].trim();
        let begin = text.len() - text[start..].trim_start().len();
        match Program::compile(expression, LINK_ETHERNET) {
            Ok(ethernet) => Ok(Arc::new(Self {
                ethernet,
                ip: Program::compile(expression, LINK_RAW).ok(),
            })),
            Err(error) => {
                let message = error.to_string();
                // Where libpcap quotes a word, that is the place.
                let quoted = message
                    .split(['\'', '"'])
                    .nth(1)
                    .filter(|word| !word.is_empty());
                let at = quoted
                    .and_then(|word| text[begin..].find(word))
                    .unwrap_or(0);
                let hint = "this dialect is libpcap's: see pcap-filter(7), or leave `pcap:` away";
                Err(RuleError::at(text, begin + at, message, Some(hint.into())))
            }
        }
    }

    /// Whether a frame matches, as it was received; `wire_bytes` is its length on the wire.
    pub fn matches(&self, frame: &[u8], link: Link, wire_bytes: u32) -> bool {
        match link {
            Link::Ethernet => self.ethernet.matches(frame, wire_bytes),
            Link::Ipv4 | Link::Ipv6 => self
                .ip
                .as_ref()
                .is_some_and(|program| program.matches(frame, wire_bytes)),
        }
    }

    /// Instructions of the program for Ethernet, the most that a packet can cost but for loops.
    pub fn instructions(&self) -> usize {
        self.ethernet.instructions()
    }
}
