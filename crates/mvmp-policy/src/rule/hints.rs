//! What was probably meant: the errors of primitives, with their hints.

use super::ast::{LayerWord, Protocol};
use super::error::RuleError;
use super::lexer::{Token, shortened};
use super::names::{self, WORDS};
use super::parser::Parser;
use super::primary::{family_of, protocol_named, transport_of};
use super::qualifier::Qualifier;
use super::value::{Fault, Looks, looks};
use crate::suggest::did_you_mean;

impl<'a> Parser<'a> {
    /// `tcp 80`: the word that is missing between.
    pub(super) fn bare_id(&self, word: &str, protocol: Protocol, next: &str) -> RuleError {
        let shown = shortened(next);
        let has_ports = transport_of(protocol).is_some();
        let joint = if family_of(protocol).is_some() {
            ""
        } else {
            " and"
        };
        let hint = match looks(next) {
            Looks::Number if has_ports => format!("did you mean `{word} port {shown}`?"),
            Looks::Range if has_ports => format!("did you mean `{word} portrange {shown}`?"),
            Looks::Address => format!("did you mean `{word}{joint} host {shown}`?"),
            Looks::Network => format!("did you mean `{word}{joint} net {shown}`?"),
            Looks::Name if has_ports && names::PORT.number(next).is_some() => {
                format!("did you mean `{word} port {shown}`?")
            }
            _ => did_you_mean(
                next,
                own_words(protocol).into_iter().chain(WORDS.iter().copied()),
            )
            .unwrap_or_else(|| format!("write `and` or `or` between: `{word} and …`")),
        };
        let token = self.peek();
        if let Some(error) = self.refused(token, next) {
            return error;
        }
        let message = format!("`{shown}` cannot stand behind `{word}`");
        self.fail(token, &message, Some(hint))
    }

    pub(super) fn no_id(&self, token: Token<'a>, qualifier: Qualifier) -> RuleError {
        let wants = qualifier.what.wants();
        let message = format!(
            "expected {wants} {}, found {}",
            self.before(),
            token.shown()
        );
        self.fail(token, &message, None)
    }

    /// A wrong id may also be a mistyped word: `port 80 or tpc`.
    pub(super) fn id_fault(&self, token: Token<'a>, word: &str, fault: Fault) -> RuleError {
        if let Some(error) = self.refused(token, word) {
            return error;
        }
        // A word in its right spelling is not meant to be another one.
        if WORDS.contains(&word) {
            let is_whole = protocol_named(word).is_some() || LayerWord::named(word).is_some();
            let whole = is_whole.then(|| format!("write `{word}`"));
            return self.fail(token, &fault.message, whole.or(fault.hint));
        }
        if looks(word) == Looks::Name
            && let Some(hint) = did_you_mean(word, WORDS.iter().copied())
        {
            return self.fail(
                token,
                &fault.message,
                Some(
                    fault
                        .hint
                        .filter(|hint| hint.starts_with("did you"))
                        .unwrap_or(hint),
                ),
            );
        }
        self.fail(token, &fault.message, fault.hint)
    }

    pub(super) fn unknown(&self, token: Token<'a>, word: &str) -> RuleError {
        if let Some(error) = self.refused(token, word) {
            return error;
        }
        let shown = shortened(word);
        let (message, hint) = match looks(word) {
            Looks::Number => (
                "a number alone",
                Some(format!("did you mean `port {shown}`?")),
            ),
            Looks::Range => (
                "a range alone",
                Some(format!("did you mean `portrange {shown}`?")),
            ),
            Looks::Address => (
                "an address alone",
                Some(format!("did you mean `host {shown}`?")),
            ),
            Looks::Network => (
                "a network alone",
                Some(format!("did you mean `net {shown}`?")),
            ),
            Looks::Mac => (
                "a MAC address alone",
                Some(format!("did you mean `ether host {shown}`?")),
            ),
            Looks::Name => ("an unknown word", self.unknown_hint(word)),
        };
        self.fail(token, &format!("`{shown}` is {message}"), hint)
    }

    fn unknown_hint(&self, word: &str) -> Option<String> {
        if names::PORT.number(word).is_some() {
            return Some(format!("did you mean `port {word}`?"));
        }
        if names::IP_PROTOCOL.number(word).is_some() {
            return Some(format!("did you mean `proto {word}`?"));
        }
        if names::ETHER_TYPE.number(word).is_some() {
            return Some(format!("did you mean `ether proto {word}`?"));
        }
        did_you_mean(word, WORDS.iter().copied())
    }

    pub(super) fn refused(&self, token: Token<'a>, word: &str) -> Option<RuleError> {
        let instead = names::refused(word)?;
        let message = format!("this dialect has no `{word}`");
        Some(self.fail(token, &message, Some(instead.into())))
    }
}

/// Words that only this protocol has behind it.
fn own_words(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Tcp => Some("flags"),
        Protocol::Icmp | Protocol::Icmp6 => Some("type"),
        _ => None,
    }
}
