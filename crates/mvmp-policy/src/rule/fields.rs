//! Words with a grammar of their own: headers in the stack, TCP flags, ICMP types, lengths.
//!
//! ```text
//! layer  := (vlan|mpls|pppoe|gre|nvgre|erspan|vxlan|geneve|gtp) [[id-word] ids] | ipip
//! flags  := tcp flags flag { "," flag }        flag := ["!"] (fin|syn|rst|psh|ack|urg|ece|cwr|ns)
//! icmp   := (icmp|icmp6) type values [code values]
//! length := length comparison number | less number | greater number
//! others := frag | [ether] broadcast | igmp | esp | pim | vrrp | rarp
//! ```

use super::ast::{Comparison, Direction, Expr, LayerWord, Primitive, Protocol};
use super::error::RuleError;
use super::lexer::{Kind, shortened};
use super::names::{self, Short, Table};
use super::parser::Parser;
use super::primary::BROADCAST;
use super::qualifier::{Of, Qualifier, What};
use super::value::{self, Looks, looks};
use crate::suggest::did_you_mean;

/// `icmp type` with lists of types and codes makes at most this many questions.
const ICMP_QUESTIONS_MAX: usize = 1_024;

impl<'a> Parser<'a> {
    /// A condition that begins with a word of its own; `None` if `word`, which comes next, is none.
    pub(super) fn own_words(&mut self, word: &str) -> Result<Option<Expr>, RuleError> {
        let expr = if let Some(layer) = LayerWord::named(word) {
            self.advance();
            self.layer(layer)?
        } else if let Some(short) = names::short(word) {
            self.advance();
            self.constant(Expr::Is(match short {
                Short::EtherType(ether_type) => Primitive::EtherProto(ether_type),
                Short::IpProtocol(number) => Primitive::IpProto {
                    family: None,
                    number,
                },
            }))?
        } else {
            let expr: fn(&mut Self) -> Result<Expr, RuleError> = match word {
                "frag" => |parser| parser.constant(Expr::Is(Primitive::Fragment)),
                "broadcast" => |parser| parser.constant(BROADCAST),
                "less" => |parser| parser.bytes(Comparison::AtMost),
                "greater" => |parser| parser.bytes(Comparison::AtLeast),
                "length" | "len" => Self::length,
                _ => return Ok(None),
            };
            self.advance();
            expr(self)?
        };
        Ok(Some(expr))
    }

    /// `vxlan`, `vxlan 42`, `vxlan vni 42`.
    fn layer(&mut self, word: LayerWord) -> Result<Expr, RuleError> {
        let qualifier = Qualifier {
            of: Of::Any,
            what: What::Layer(word),
            direction: Direction::Either,
        };
        let ids = names::ids_of(word);
        match (self.peek().kind, ids) {
            (Kind::Word(next), Some((id_word, _))) if next == id_word => {
                self.advance();
                self.ids(qualifier)
            }
            (Kind::OpenList, Some(_)) => self.ids(qualifier),
            (Kind::Word(next), Some(_)) if is_number(next) => self.ids(qualifier),
            (Kind::Word(next), _) => Err(self.not_an_id(word, next)),
            _ => self.constant(Expr::Is(Primitive::Layer { word, ids: None })),
        }
    }

    fn not_an_id(&self, layer: LayerWord, next: &str) -> RuleError {
        let (word, token) = (layer.word(), self.peek());
        let shown = shortened(next);
        let Some((id_word, table)) = names::ids_of(layer) else {
            let message = format!("`{shown}` cannot stand behind `{word}`");
            let hint = format!("write `{word}` alone, or `{word} and …`");
            return self.fail(token, &message, Some(hint));
        };
        let message = format!("`{shown}` is not {} {}", table.article(), table.noun);
        let hint = did_you_mean(next, [id_word])
            .unwrap_or_else(|| format!("write `{word}`, `{word} 42`, or `{word} and …`"));
        self.fail(token, &message, Some(hint))
    }

    /// What TCP and ICMP have beside ports; `None` if `next`, which comes next, is nothing of it.
    pub(super) fn own_fields(
        &mut self,
        protocol: Protocol,
        next: &str,
    ) -> Result<Option<Expr>, RuleError> {
        Ok(match (protocol, next) {
            (Protocol::Tcp, "flags") => {
                self.advance();
                Some(self.tcp_flags()?)
            }
            (Protocol::Icmp | Protocol::Icmp6, "type") => {
                self.advance();
                Some(self.icmp(protocol == Protocol::Icmp6)?)
            }
            (Protocol::Icmp | Protocol::Icmp6, "code") => {
                let hint = "a code belongs to a type: `icmp type 3 code 1`";
                return Err(self.fail(self.peek(), "a code without a type", Some(hint.into())));
            }
            _ => None,
        })
    }

    fn tcp_flags(&mut self) -> Result<Expr, RuleError> {
        let (mut set, mut clear) = (0, 0);
        loop {
            let unset = self.take(Kind::Not);
            let token = self.peek();
            let Kind::Word(word) = token.kind else {
                return Err(self.not_a_flag());
            };
            let Some((name, bit)) = names::TCP_FLAGS.into_iter().find(|(name, _)| *name == word)
            else {
                return Err(self.not_a_flag());
            };
            self.advance();
            if (set | clear) & bit != 0 {
                return Err(self.fail(token, &format!("`{name}` twice"), None));
            }
            *(if unset { &mut clear } else { &mut set }) |= bit;
            if !self.take(Kind::Comma) {
                break;
            }
        }
        self.constant(Expr::Is(Primitive::TcpFlags { set, clear }))
    }

    fn not_a_flag(&self) -> RuleError {
        let token = self.peek();
        let message = format!(
            "expected a TCP flag {}, found {}",
            self.before(),
            token.shown()
        );
        let flags = names::TCP_FLAGS.map(|(name, _)| name);
        let hint = match token.kind {
            Kind::Word(word) => did_you_mean(word, flags),
            Kind::OpenList => Some("write `tcp flags syn or tcp flags fin`".into()),
            _ => None,
        };
        let all = || {
            format!(
                "the flags are {}; `!` asks for one not set",
                flags.join(", ")
            )
        };
        self.fail(token, &message, Some(hint.unwrap_or_else(all)))
    }

    fn icmp(&mut self, six: bool) -> Result<Expr, RuleError> {
        let start = self.peek();
        let table = if six {
            names::ICMP6_TYPE
        } else {
            names::ICMP_TYPE
        };
        let what = What::IcmpType { six };
        let qualifier = Qualifier {
            of: Of::Any,
            what,
            direction: Direction::Either,
        };
        if matches!(self.peek().kind, Kind::Not | Kind::Open) {
            return self.ids(qualifier);
        }
        let types = self.values(table)?;
        let codes = if self.take(Kind::Word("code")) {
            self.values(names::ICMP_CODE)?
                .into_iter()
                .map(Some)
                .collect()
        } else {
            vec![None]
        };
        if types.len().saturating_mul(codes.len()) > ICMP_QUESTIONS_MAX {
            let message = "types times codes are more than 1,024 questions";
            return Err(self.fail(
                start,
                message,
                Some("write ranges: `icmp type 0-20`".into()),
            ));
        }
        let questions = types.iter().flat_map(|&types| {
            let question = move |codes| Expr::Is(Primitive::Icmp { six, types, codes });
            codes.iter().copied().map(question)
        });
        let expr = Expr::or(questions.collect());
        self.carried = Some(qualifier);
        Ok(expr)
    }

    /// One number or range, or a list of them.
    fn values(&mut self, table: Table) -> Result<Vec<(u8, u8)>, RuleError> {
        if self.peek().kind == Kind::OpenList {
            return self.list(|parser| Ok(vec![parser.value(table)?]));
        }
        Ok(vec![self.value(table)?])
    }

    fn value(&mut self, table: Table) -> Result<(u8, u8), RuleError> {
        let (low, high) = self.one_of(table, value::range)?;
        // Both tables end at 255.
        Ok((low as u8, high as u8))
    }

    fn one_of<T>(
        &mut self,
        table: Table,
        read: fn(&str, Table) -> Result<T, value::Fault>,
    ) -> Result<T, RuleError> {
        let token = self.peek();
        let Kind::Word(word) = token.kind else {
            let message = format!(
                "expected {} {} {}, found {}",
                table.article(),
                table.noun,
                self.before(),
                token.shown()
            );
            return Err(self.fail(token, &message, None));
        };
        self.advance();
        read(word, table).map_err(|fault| self.fail(token, &fault.message, fault.hint))
    }

    fn length(&mut self) -> Result<Expr, RuleError> {
        let token = self.peek();
        match token.kind {
            Kind::Compare(comparison) => {
                self.advance();
                self.bytes(comparison)
            }
            _ => {
                let message = format!(
                    "expected a comparison after `length`, found {}",
                    token.shown()
                );
                let hint = "write `length > 1000`, with `<`, `<=`, `=`, `!=`, `>=` or `>`";
                Err(self.fail(token, &message, Some(hint.into())))
            }
        }
    }

    fn bytes(&mut self, comparison: Comparison) -> Result<Expr, RuleError> {
        let bytes = self.one_of(names::LENGTH, value::number)?;
        self.constant(Expr::Is(Primitive::Length(comparison, bytes)))
    }
}

fn is_number(word: &str) -> bool {
    matches!(looks(word), Looks::Number | Looks::Range) || word.starts_with("0x")
}
