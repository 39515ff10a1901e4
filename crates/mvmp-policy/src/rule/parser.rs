//! Recursive descent over the tokens: `or` binds loosest, then `and`, then `not`.
//!
//! ```text
//! or        := and  { "or"  and }
//! and       := not  { "and" not }
//! not       := "not" not | primary
//! primary   := "(" or ")" | "outer" "(" or ")" | "all" | "none" | qualified (see `primary`) | id
//! ```
//!
//! tcpdump gives `and` and `or` the same rank; we follow nearly every other language, and
//! [`super::Rule::explain`] shows what was understood. Like tcpdump's, an id without qualifiers
//! takes those of the id before it: `port 80 or 443`.
//!
//! Depth is bounded by [`DEPTH_MAX`], so recursion here and in all that walks the tree is too.

use super::ast::Expr;
use super::error::RuleError;
use super::lexer::{self, Kind, Token};
use super::qualifier::Qualifier;

/// `(` and `not` may be nested this deep.
pub(super) const DEPTH_MAX: usize = 64;

pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    depth: usize,
    /// The qualifiers of the last id, which one without any takes over.
    pub(super) carried: Option<Qualifier>,
}

/// Reads a whole rule.
pub(super) fn parse(text: &str) -> Result<Expr, RuleError> {
    let start = text.len() - text.trim_start().len();
    let body = &text[start..];
    let prefix = if body.starts_with("match:") {
        "match:".len()
    } else {
        0
    };
    let mut parser = Parser {
        text,
        tokens: lexer::tokens(text, start + prefix)?,
        next: 0,
        depth: 0,
        carried: None,
    };
    parser.whole()
}

impl<'a> Parser<'a> {
    fn whole(&mut self) -> Result<Expr, RuleError> {
        if self.peek().kind == Kind::End {
            let hint = "write `all` to receive everything, `none` for nothing";
            return Err(self.fail(self.peek(), "the rule is empty", Some(hint.into())));
        }
        let expr = self.or()?;
        let token = self.peek();
        match token.kind {
            Kind::End => Ok(expr),
            Kind::Close => Err(self.fail(token, "`)` without a `(` before it", None)),
            _ => Err(self.not_joined(token)),
        }
    }

    fn or(&mut self) -> Result<Expr, RuleError> {
        let mut parts = vec![self.and()?];
        while self.take(Kind::Or) {
            parts.push(self.and()?);
        }
        Ok(Expr::or(parts))
    }

    fn and(&mut self) -> Result<Expr, RuleError> {
        let mut parts = vec![self.not()?];
        while self.take(Kind::And) {
            parts.push(self.not()?);
        }
        Ok(Expr::and(parts))
    }

    fn not(&mut self) -> Result<Expr, RuleError> {
        let token = self.peek();
        if !self.take(Kind::Not) {
            return self.primary();
        }
        let inner = self.deeper(token, Self::not)?;
        Ok(Expr::Not(Box::new(inner)))
    }

    fn primary(&mut self) -> Result<Expr, RuleError> {
        let token = self.peek();
        match token.kind {
            Kind::Open => self.parenthesised(),
            Kind::Word("all") => {
                self.advance();
                self.constant(Expr::All)
            }
            Kind::Word("none") => {
                self.advance();
                self.constant(Expr::None)
            }
            Kind::Word("outer") => self.outer(),
            Kind::Word(word) => self.word(token, word),
            Kind::End if self.next == 0 => Err(self.fail(token, "the rule is empty", None)),
            _ => {
                let before = self.before();
                let message = format!("expected a condition {before}, found {}", token.shown());
                Err(self.fail(token, &message, None))
            }
        }
    }

    fn outer(&mut self) -> Result<Expr, RuleError> {
        self.advance();
        if self.peek().kind != Kind::Open {
            let message = format!("expected `(` after `outer`, found {}", self.peek().shown());
            let hint = "write `outer(host 192.0.2.1)`: the outermost network header as received";
            return Err(self.fail(self.peek(), &message, Some(hint.into())));
        }
        // Qualifiers reach neither in nor out.
        self.carried = None;
        let inner = self.parenthesised()?;
        self.carried = None;
        Ok(Expr::Outer(Box::new(inner)))
    }

    /// A condition that takes no id and leaves no qualifier for the next one.
    pub(super) fn constant(&mut self, expr: Expr) -> Result<Expr, RuleError> {
        self.carried = None;
        Ok(expr)
    }

    pub(super) fn parenthesised(&mut self) -> Result<Expr, RuleError> {
        let open = self.advance();
        let carried = self.carried;
        let expr = self.deeper(open, Self::or)?;
        if self.carried != carried {
            // Qualifiers from within parentheses do not reach out of them.
            self.carried = None;
        }
        let close = self.peek();
        match close.kind {
            Kind::Close => {
                self.advance();
                Ok(expr)
            }
            Kind::End => Err(self.fail(open, "this `(` is never closed", None)),
            _ => Err(self.not_joined(close)),
        }
    }

    pub(super) fn deeper(
        &mut self,
        token: Token<'a>,
        parse: fn(&mut Self) -> Result<Expr, RuleError>,
    ) -> Result<Expr, RuleError> {
        if self.depth == DEPTH_MAX {
            let message = format!("`(` and `not` are nested more than {DEPTH_MAX} deep");
            return Err(self.fail(token, &message, None));
        }
        self.depth += 1;
        let expr = parse(self);
        self.depth -= 1;
        expr
    }

    /// Two conditions without a word between them.
    fn not_joined(&self, token: Token<'a>) -> RuleError {
        let message = format!(
            "expected `and`, `or` or the end {}, found {}",
            self.before(),
            token.shown()
        );
        let hint = match token.kind {
            Kind::Word(word) => crate::suggest::did_you_mean(word, ["and", "or"])
                .unwrap_or_else(|| "write `and` or `or` between two conditions".into()),
            Kind::Comma => "alternatives in a list stand in braces: `port { 80, 443 }`".into(),
            Kind::Compare(_) => lexer::BYTES_HINT.into(),
            _ => "write `and` or `or` between two conditions".into(),
        };
        self.fail(token, &message, Some(hint))
    }

    /// "after `port`": the token before the next one, for messages.
    pub(super) fn before(&self) -> String {
        match self
            .next
            .checked_sub(1)
            .and_then(|last| self.tokens.get(last))
        {
            Some(token) => format!("after {}", token.shown()),
            None => "at the beginning".into(),
        }
    }

    pub(super) fn fail(&self, token: Token<'_>, message: &str, hint: Option<String>) -> RuleError {
        RuleError::at(self.text, token.offset, message.into(), hint)
    }

    pub(super) fn peek(&self) -> Token<'a> {
        self.peek_at(0)
    }

    /// The token `ahead` of the next one; behind the end there are only more ends.
    pub(super) fn peek_at(&self, ahead: usize) -> Token<'a> {
        let last = self.tokens.len() - 1;
        self.tokens[(self.next + ahead).min(last)]
    }

    pub(super) fn advance(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next += 1;
        token
    }

    pub(super) fn take(&mut self, kind: Kind<'_>) -> bool {
        let found = self.peek().kind == kind;
        if found {
            self.advance();
        }
        found
    }
}
