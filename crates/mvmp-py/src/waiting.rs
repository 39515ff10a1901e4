//! Waiting without the GIL, in ticks that obey Ctrl-C.

use std::sync::Mutex;
use std::time::Duration;

use mvmp_nf::{Interrupted, NfError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::from_nf;
use crate::signals;

/// How long a call may wait. Python: a number of seconds, or `None` for ever.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Timeout {
    /// What the handle's sources ask for: for ever if all are lossless, else not at all.
    BySources,
    /// At most so long.
    Within(Duration),
    /// For ever.
    Forever,
}

impl Timeout {
    /// No waiting.
    pub const NOW: Self = Self::Within(Duration::ZERO);

    /// As the library wants it.
    pub fn limit(self, lossless: bool) -> Option<Duration> {
        match self {
            Self::BySources if lossless => None,
            Self::BySources => Some(Duration::ZERO),
            Self::Within(limit) => Some(limit),
            Self::Forever => None,
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Timeout {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(Self::Forever);
        }
        seconds(value.extract::<f64>()?).map(Self::Within)
    }
}

/// A duration from a user's seconds.
pub fn seconds(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        PyValueError::new_err(format!(
            "a time of {seconds} s: give seconds from 0 on, or None for ever"
        ))
    })
}

/// Runs a call without the GIL. It is interrupted by a Python exception from a signal handler,
/// which is then raised, and, `until_sigterm`, by SIGTERM: `None`.
pub fn waiting<T: Send>(
    py: Python<'_>,
    until_sigterm: bool,
    call: impl FnOnce(Interrupted<'_>) -> Result<T, NfError> + Send,
) -> PyResult<Option<T>> {
    let raised = Mutex::new(None);
    let interrupted = || {
        let signal = Python::attach(|py| py.check_signals());
        let stop = signal.is_err() || (until_sigterm && signals::stop_requested());
        if let Err(error) = signal
            && let Ok(mut raised) = raised.lock()
        {
            *raised = Some(error);
        }
        stop
    };
    let result = py.detach(|| call(&interrupted));
    if let Ok(Some(error)) = raised.into_inner() {
        return Err(error);
    }
    match result {
        Ok(value) => Ok(Some(value)),
        Err(NfError::Interrupted) if until_sigterm => Ok(None),
        Err(error) => Err(from_nf(error)),
    }
}

/// As [`waiting`], where SIGTERM ends nothing.
pub fn blocking<T: Send>(
    py: Python<'_>,
    call: impl FnOnce(Interrupted<'_>) -> Result<T, NfError> + Send,
) -> PyResult<T> {
    waiting(py, false, call)?.ok_or_else(|| from_nf(NfError::Interrupted))
}
