//! Rules that can be broken on purpose, so that the tests which defend them can be shown to notice.
//!
//! Only with the feature `break-rules`, which no wheel has; `MVMP_BREAK_RULE` then names the one that is broken. Without
//! the feature every question is answered when this is compiled, and costs nothing.

macro_rules! rules {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// A rule of the ledger.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Rule { $($(#[doc = $doc])* $name,)* }

        #[cfg(feature = "break-rules")]
        impl Rule {
            const ALL: &[(Rule, &str)] = &[$((Rule::$name, $text),)*];
        }
    };
}

rules! {
    /// A share is closed only by its own token.
    TokenCheck = "token-check",
    /// A slot holds a buffer at most once.
    OpenOnce = "open-once",
    /// A share that was closed is closed.
    CloseOnce = "close-once",
    /// The sweep sends home what nobody else holds.
    Sweep = "sweep",
    /// An NF names no slot but its own.
    SlotCheck = "slot-check",
    /// What was returned before a close is taken before the sweep.
    Drain = "drain",
}

/// Whether this rule is broken in this process.
#[cfg(not(feature = "break-rules"))]
#[inline(always)]
pub(crate) const fn is_broken(_: Rule) -> bool {
    false
}

/// Whether this rule is broken in this process.
#[cfg(feature = "break-rules")]
pub(crate) fn is_broken(rule: Rule) -> bool {
    static BROKEN: std::sync::OnceLock<Option<Rule>> = std::sync::OnceLock::new();
    let chosen = BROKEN.get_or_init(|| {
        let name = std::env::var("MVMP_BREAK_RULE").ok()?;
        let known = Rule::ALL.iter().find(|(_, text)| *text == name);
        Some(
            known
                .unwrap_or_else(|| panic!("MVMP_BREAK_RULE: there is no rule `{name}`"))
                .0,
        )
    });
    *chosen == Some(rule)
}
