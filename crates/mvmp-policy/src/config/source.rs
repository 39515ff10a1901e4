//! Where a configuration comes from, and how a place in it becomes line and column.

use std::ops::Range;

use super::ConfigError;
use crate::rule::RuleError;

/// The file's name and, if there is one, its text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: Option<&'a str>,
}

impl Source<'_> {
    /// An error at the beginning of `span`.
    pub(super) fn error(
        &self,
        span: Option<Range<usize>>,
        key: String,
        message: String,
        hint: Option<String>,
    ) -> ConfigError {
        let (line, column) = match (self.text, span) {
            (Some(text), Some(span)) => line_and_column(text, span.start),
            _ => (0, 0),
        };
        ConfigError {
            file: self.file.into(),
            line,
            column,
            key,
            message,
            hint,
        }
    }

    pub(super) fn too_deep(&self, span: Option<Range<usize>>) -> ConfigError {
        self.error(
            span,
            String::new(),
            "tables and lists are nested too deep".into(),
            None,
        )
    }

    /// An error in a rule, at its place within the string that holds the rule.
    pub(super) fn rule_error(
        &self,
        span: Option<Range<usize>>,
        key: String,
        error: RuleError,
    ) -> ConfigError {
        match (self.text, span) {
            (Some(text), Some(span)) => {
                let offset = offset_in_string(text, span, error.offset);
                self.error(Some(offset..offset), key, error.message, error.hint)
            }
            _ => {
                let place = match error.line {
                    1 => format!("column {} of the rule", error.column),
                    line => format!("line {line}, column {} of the rule", error.column),
                };
                self.error(None, key, format!("{place}: {}", error.message), error.hint)
            }
        }
    }
}

/// Both from 1; columns are characters.
fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let column = before[start..].chars().count() + 1;
    (line as u32, column as u32)
}

/// Where in the file the byte `decoded` of a TOML string's value is written. `span` is the string
/// with its quotes.
fn offset_in_string(text: &str, span: Range<usize>, decoded: usize) -> usize {
    let Some(raw) = text.get(span.clone()) else {
        return span.start;
    };
    let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") {
        3
    } else {
        1
    };
    let mut at = quotes;
    if quotes == 3 {
        // A newline right behind the opening quotes does not count.
        at += raw[at..].starts_with("\r\n") as usize * 2 + raw[at..].starts_with('\n') as usize;
    }
    let escapes = raw.starts_with('"');
    let mut value_bytes = 0;
    while value_bytes < decoded {
        let Some(c) = raw.get(at..).and_then(|rest| rest.chars().next()) else {
            break;
        };
        let (written, meant) = match c {
            '\\' if escapes => escape(&raw[at..]),
            _ => (c.len_utf8(), c.len_utf8()),
        };
        at += written;
        value_bytes += meant;
    }
    span.start + skip_continuation(raw, at, escapes).min(raw.len())
}

/// How many bytes an escape takes in the file, and in the value.
fn escape(raw: &str) -> (usize, usize) {
    let code = |digits: usize| {
        let character = raw
            .get(2..2 + digits)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let bytes = character.and_then(char::from_u32).map_or(1, char::len_utf8);
        (2 + digits, bytes)
    };
    match raw.as_bytes().get(1) {
        Some(b'x') => code(2),
        Some(b'u') => code(4),
        Some(b'U') => code(8),
        // A backslash at the end of a line swallows the blanks behind it.
        Some(b' ' | b'\t' | b'\r' | b'\n') => {
            let rest = raw[1..].trim_start_matches([' ', '\t', '\r', '\n']);
            (raw.len() - rest.len(), 0)
        }
        _ => (2, 1),
    }
}

/// The place behind a continuation, if there is one at `at`: nobody looks for an error before it.
fn skip_continuation(raw: &str, at: usize, escapes: bool) -> usize {
    match raw.get(at..) {
        Some(rest) if escapes && rest.starts_with('\\') => match escape(rest) {
            (written, 0) => at + written,
            _ => at,
        },
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(raw: &str, decoded: usize) -> &str {
        &raw[offset_in_string(raw, 0..raw.len(), decoded)..]
    }

    #[test]
    fn a_plain_string_is_one_to_one() {
        assert_eq!(place(r#""tcp prt""#, 4), r#"prt""#);
        assert_eq!(place("'tcp prt'", 4), "prt'");
    }

    #[test]
    fn escapes_count_for_what_they_mean() {
        assert_eq!(place(r#""tcp\tprt""#, 4), r#"prt""#);
        assert_eq!(place(r#""\u0074cp prt""#, 4), r#"prt""#);
        assert_eq!(place(r"'a\tprt'", 3), "prt'");
    }

    #[test]
    fn the_first_newline_and_continued_lines_do_not_count() {
        assert_eq!(place("\"\"\"\ntcp prt\"\"\"", 4), "prt\"\"\"");
        assert_eq!(place("\"\"\"tcp \\\n   prt\"\"\"", 4), "prt\"\"\"");
    }
}
