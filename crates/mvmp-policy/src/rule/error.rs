//! What is wrong with the text of a rule, and where.

use std::fmt;

/// A rule that cannot be used. `Display` shows the line with a caret under the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct RuleError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line that it is about, cut to a readable length, and the caret's place in it.
    excerpt: String,
    caret: usize,
    /// Where in the text it is, in bytes.
    pub(crate) offset: usize,
}

/// Characters of the line that are shown on either side of the caret.
const EXCERPT_CHARS: usize = 60;

impl RuleError {
    /// An error at the byte `offset` of `text`.
    pub(crate) fn at(text: &str, offset: usize, message: String, hint: Option<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_text = text[start..].lines().next().unwrap_or_default();
        let column = before[start..].chars().count();
        let skipped = column.saturating_sub(EXCERPT_CHARS);
        let shown = line_text.chars().skip(skipped).take(2 * EXCERPT_CHARS);
        Self {
            line: before.matches('\n').count() as u32 + 1,
            column: column as u32 + 1,
            message,
            hint,
            excerpt: shown
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
            caret: column - skipped,
            offset: before.len(),
        }
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            message,
            excerpt,
            caret,
            ..
        } = self;
        write!(
            f,
            "{line}:{column}: {message}\n  {excerpt}\n  {:caret$}^",
            ""
        )?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}
