//! Rules as data: the policy language and the configuration file.
//!
//! The platform and its command line read a [`Config`] here (TOML, or JSON for a Python dict) and
//! compile each [`Rule`] that it holds into a [`Matcher`], which the workers evaluate per burst.
//!
//! Invariants:
//! * Nothing in this crate is unsafe or does I/O, but that rules of the dialect `pcap:` are compiled
//!   by the machine's libpcap (`mvmp-bpf`); it turns text into checked values.
//! * No text, however wrong or long, panics: it yields a [`RuleError`] or a [`ConfigError`] that
//!   says where, what, and what to do about it.
//! * A [`Config`] that was returned is consistent: every name resolves, every limit holds.

#![forbid(unsafe_code)]

pub mod config;
pub mod rule;
mod suggest;

pub use config::{Config, ConfigError, Warning};
pub use rule::{Classifier, Matcher, Needs, Packets, Rule, RuleError};
