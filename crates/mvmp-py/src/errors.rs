//! The one place where a Rust error becomes a Python exception.
//!
//! ```text
//! Error ─┬─ ConfigError      .line .column .hint
//!        ├─ PolicyError      .line .column .hint
//!        ├─ ConnectError, NotAuthorized, NameInUse, NotHeld, Busy
//!        └─ Closed ─┬─ PlatformLost
//!                   └─ Detached
//! ```

use mvmp_nf::NfError;
use mvmp_policy::RuleError;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt};
use pyo3::prelude::*;

create_exception!(
    mvmp,
    Error,
    PyException,
    "Everything that this package raises on its own account."
);
create_exception!(
    mvmp,
    ConfigError,
    Error,
    "A configuration, device or setting that cannot be used; has line, column and hint."
);
create_exception!(
    mvmp,
    PolicyError,
    Error,
    "A rule that cannot be used; has line, column and hint."
);
create_exception!(
    mvmp,
    ConnectError,
    Error,
    "There is no platform to talk to, or it speaks another protocol."
);
create_exception!(
    mvmp,
    NotAuthorized,
    Error,
    "The authorization table does not grant it."
);
create_exception!(
    mvmp,
    NameInUse,
    Error,
    "All instances of the role are taken."
);
create_exception!(
    mvmp,
    NotHeld,
    Error,
    "The packet has been sent or released."
);
create_exception!(
    mvmp,
    Busy,
    Error,
    "Another thread is in a call on the same handle or burst."
);
create_exception!(
    mvmp,
    Closed,
    Error,
    "The handle, the NF or the burst's connection is closed."
);
create_exception!(
    mvmp,
    PlatformLost,
    Closed,
    "The platform is gone; Nf.reconnect() opens the same handles again."
);
create_exception!(mvmp, Detached, Closed, "The platform took the handle away.");

/// Adds them to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    for (name, class) in [
        ("Error", py.get_type::<Error>()),
        ("ConfigError", py.get_type::<ConfigError>()),
        ("PolicyError", py.get_type::<PolicyError>()),
        ("ConnectError", py.get_type::<ConnectError>()),
        ("NotAuthorized", py.get_type::<NotAuthorized>()),
        ("NameInUse", py.get_type::<NameInUse>()),
        ("NotHeld", py.get_type::<NotHeld>()),
        ("Busy", py.get_type::<Busy>()),
        ("Closed", py.get_type::<Closed>()),
        ("PlatformLost", py.get_type::<PlatformLost>()),
        ("Detached", py.get_type::<Detached>()),
    ] {
        module.add(name, class)?;
    }
    for class in [py.get_type::<ConfigError>(), py.get_type::<PolicyError>()] {
        for attribute in ["line", "column", "hint"] {
            class.setattr(attribute, py.None())?;
        }
    }
    Ok(())
}

/// Where in a text something is wrong, and what to do about it.
pub struct Place {
    /// Line, from 1; 0: unknown.
    pub line: u32,
    /// Column in characters, from 1; 0: unknown.
    pub column: u32,
    /// What to try.
    pub hint: Option<String>,
}

impl Place {
    /// Not in a text, or nobody knows where.
    pub fn nowhere() -> Self {
        Self {
            line: 0,
            column: 0,
            hint: None,
        }
    }
}

fn placed(error: PyErr, place: Place) -> PyErr {
    let known = |number: u32| (number > 0).then_some(number);
    Python::attach(|py| {
        let value = error.value(py);
        let set = value
            .setattr("line", known(place.line))
            .and_then(|()| value.setattr("column", known(place.column)))
            .and_then(|()| value.setattr("hint", place.hint));
        set.err()
    })
    .unwrap_or(error)
}

/// A `ConfigError` with its place.
pub fn config_error(message: String, place: Place) -> PyErr {
    placed(ConfigError::new_err(message), place)
}

/// A `PolicyError` with its place.
pub fn policy_error(message: String, place: Place) -> PyErr {
    placed(PolicyError::new_err(message), place)
}

/// The exception for a rule that cannot be used.
pub fn from_rule(error: RuleError) -> PyErr {
    let message = error.to_string();
    policy_error(
        message,
        Place {
            line: error.line,
            column: error.column,
            hint: error.hint,
        },
    )
}

fn with_hint(message: String, hint: Option<&String>) -> String {
    match hint {
        Some(hint) if !message.contains(hint.as_str()) => format!("{message}\n  hint: {hint}"),
        _ => message,
    }
}

/// The exception for what an NF's call met.
pub fn from_nf(error: NfError) -> PyErr {
    let message = error.to_string();
    match error {
        NfError::Connect(_) => ConnectError::new_err(message),
        NfError::NotAuthorized(_) => NotAuthorized::new_err(message),
        NfError::NameInUse(_) => NameInUse::new_err(message),
        NfError::Config { hint, .. } => config_error(
            with_hint(message, hint.as_ref()),
            Place {
                line: 0,
                column: 0,
                hint,
            },
        ),
        NfError::Policy {
            line, column, hint, ..
        } => policy_error(
            with_hint(message, hint.as_ref()),
            Place { line, column, hint },
        ),
        NfError::Refused(_) => Error::new_err(message),
        NfError::NotHeld(_) => NotHeld::new_err(message),
        NfError::Busy => Busy::new_err(message),
        NfError::Closed(_) => Closed::new_err(message),
        NfError::PlatformLost { .. } => PlatformLost::new_err(message),
        NfError::Detached(_) => Detached::new_err(message),
        NfError::Interrupted => PyKeyboardInterrupt::new_err(message),
    }
}

/// The exception for a burst that another thread is using now.
pub fn busy() -> PyErr {
    from_nf(NfError::Busy)
}
