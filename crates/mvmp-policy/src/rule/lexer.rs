//! From text to tokens. A word is anything between blanks and operators; what it means is the
//! parser's business, so that a wrong one is pointed at as a whole.

use super::ast::Comparison;
use super::error::RuleError;

/// A rule is at most this long.
pub(super) const TEXT_BYTES_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Word(&'a str),
    And,
    Or,
    Not,
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
    Compare(Comparison),
    End,
}

/// A token and where it begins, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) offset: usize,
}

impl Token<'_> {
    /// As the user wrote it, for messages.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            Kind::Word(word) => format!("`{}`", shortened(word)),
            Kind::And => "`and`".into(),
            Kind::Or => "`or`".into(),
            Kind::Not => "`not`".into(),
            Kind::Open => "`(`".into(),
            Kind::Close => "`)`".into(),
            Kind::OpenList => "`{`".into(),
            Kind::CloseList => "`}`".into(),
            Kind::Comma => "`,`".into(),
            Kind::Compare(comparison) => format!("`{}`", comparison.sign()),
            Kind::End => "the end of the rule".into(),
        }
    }
}

/// A word cut to a length that fits in a message.
pub(super) fn shortened(word: &str) -> String {
    match word.char_indices().nth(40) {
        Some((cut, _)) => format!("{}…", &word[..cut]),
        None => word.into(),
    }
}

/// Splits `text`, from the byte `start` on. The last token is always [`Kind::End`].
pub(super) fn tokens(text: &str, start: usize) -> Result<Vec<Token<'_>>, RuleError> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the rule is longer than {TEXT_BYTES_MAX} bytes");
        return Err(RuleError::at(text, TEXT_BYTES_MAX, message, None));
    }
    let mut tokens = Vec::new();
    let mut offset = start;
    while let Some(first) = text[offset..].chars().next() {
        if first.is_whitespace() {
            offset += first.len_utf8();
            continue;
        }
        let (kind, bytes) = token(text, offset)?;
        tokens.push(Token { kind, offset });
        offset += bytes;
    }
    let end = text.trim_end().len().max(start);
    tokens.push(Token {
        kind: Kind::End,
        offset: end,
    });
    Ok(tokens)
}

fn token(text: &str, offset: usize) -> Result<(Kind<'_>, usize), RuleError> {
    let rest = &text[offset..];
    let kind = match rest.as_bytes()[0] {
        b'(' => (Kind::Open, 1),
        b')' => (Kind::Close, 1),
        b'{' => (Kind::OpenList, 1),
        b'}' => (Kind::CloseList, 1),
        b',' => (Kind::Comma, 1),
        b'<' if rest.starts_with("<=") => (Kind::Compare(Comparison::AtMost), 2),
        b'<' => (Kind::Compare(Comparison::Less), 1),
        b'>' if rest.starts_with(">=") => (Kind::Compare(Comparison::AtLeast), 2),
        b'>' => (Kind::Compare(Comparison::Greater), 1),
        b'=' if rest.starts_with("==") => (Kind::Compare(Comparison::Equal), 2),
        b'=' => (Kind::Compare(Comparison::Equal), 1),
        b'!' if rest.starts_with("!=") => (Kind::Compare(Comparison::Unequal), 2),
        b'!' => (Kind::Not, 1),
        b'&' if rest.starts_with("&&") => (Kind::And, 2),
        b'|' if rest.starts_with("||") => (Kind::Or, 2),
        _ => {
            let end = rest.find(is_delimiter).unwrap_or(rest.len());
            if end == 0 {
                return Err(refused(text, offset));
            }
            (word(&rest[..end]), end)
        }
    };
    Ok(kind)
}

fn word(text: &str) -> Kind<'_> {
    match text {
        "and" => Kind::And,
        "or" => Kind::Or,
        "not" => Kind::Not,
        _ => Kind::Word(text),
    }
}

fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || "()!&|{}[]<>=+*,;\"'".contains(c)
}

/// What to write instead of `tcp[13] & 2 != 0`.
pub(super) const BYTES_HINT: &str = "there are `tcp flags syn`, `icmp type 8`, `length > 100`; or write a libpcap filter: `pcap: …`";

/// A sign that does not belong to the language.
fn refused(text: &str, offset: usize) -> RuleError {
    let rest = &text[offset..];
    let sign: String = rest.chars().take(1).collect();
    let (message, hint) = match sign.as_str() {
        "[" | "]" | "+" | "*" => (
            format!("`{sign}`: this dialect does not compare bytes of the packet"),
            Some(BYTES_HINT.into()),
        ),
        "&" => ("a single `&`".into(), Some("write `and` or `&&`".into())),
        "|" => ("a single `|`".into(), Some("write `or` or `||`".into())),
        _ => (format!("`{sign}` is not part of a rule"), None),
    };
    RuleError::at(text, offset, message, hint)
}
