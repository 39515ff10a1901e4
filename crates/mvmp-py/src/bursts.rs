//! The loop `for burst in nf.bursts(n)`: all handles fairly, until the stream or the platform ends.

use std::sync::Arc;

use mvmp_nf::{Handle, NfError, Wait};
use pyo3::prelude::*;

use crate::burst::Burst;
use crate::errors::{Place, config_error};
use crate::lending::Lending;
use crate::nf_handle::{NfHandle, check_size};
use crate::signals::{self, Looping};
use crate::waiting::waiting;

/// A loop over bursts. Asking for the next one releases what is left of the last.
#[pyclass(module = "mvmp")]
pub struct Bursts {
    handles: Vec<Py<NfHandle>>,
    n: usize,
    turn: usize,
    last: Option<Arc<Lending>>,
    looping: Option<Looping>,
}

impl Bursts {
    pub fn over(py: Python<'_>, handles: Vec<Py<NfHandle>>, n: usize) -> PyResult<Self> {
        check_size(n)?;
        let receives = |handle: &Py<NfHandle>| handle.bind(py).get().library().directions().0;
        let handles: Vec<_> = handles.into_iter().filter(receives).collect();
        if handles.is_empty() {
            let hint = Some("open a device with rx first".to_owned());
            return Err(config_error(
                "there is no handle that receives".into(),
                Place {
                    line: 0,
                    column: 0,
                    hint,
                },
            ));
        }
        Ok(Self {
            handles,
            n,
            turn: 0,
            last: None,
            looping: None,
        })
    }

    /// The next burst that is there now, each handle in its turn.
    fn ready(&mut self, py: Python<'_>) -> PyResult<Option<Burst>> {
        for step in 0..self.handles.len() {
            let at = (self.turn + step) % self.handles.len();
            let handle = self.handles[at].bind(py);
            if handle.get().library().closed_by_nf() {
                continue;
            }
            let lending = NfHandle::receive(handle, self.n)?;
            if lending.len() > 0 {
                self.turn = at + 1;
                self.last = Some(lending.clone());
                return Ok(Some(Burst::new(lending, handle.clone().unbind())));
            }
        }
        Ok(None)
    }

    /// Waits; true when there may be packets, false when the loop is over.
    fn wait(&self, py: Python<'_>) -> PyResult<bool> {
        let handles: Vec<Handle> = self
            .handles
            .iter()
            .map(|handle| handle.bind(py).get().library().clone())
            .collect();
        let waited = waiting(py, true, |interrupted| {
            match Handle::wait_all(&handles, None, interrupted) {
                Err(NfError::PlatformLost { in_order: true }) => Ok(Wait::Ended),
                other => other,
            }
        })?;
        Ok(!matches!(
            waited,
            None | Some(Wait::Ended | Wait::Interrupted)
        ))
    }

    fn end(&mut self) {
        if let Some(last) = self.last.take() {
            last.pass();
        }
        self.looping = None;
    }

    fn next(&mut self, py: Python<'_>) -> PyResult<Option<Burst>> {
        loop {
            if signals::stop_requested() {
                return Ok(None);
            }
            match self.ready(py) {
                Ok(Some(burst)) => return Ok(Some(burst)),
                Ok(None) => {}
                // In order, or not: `wait` knows the difference.
                Err(error) if error.is_instance_of::<crate::errors::PlatformLost>(py) => {}
                Err(error) => return Err(error),
            }
            if !self.wait(py)? {
                py.check_signals()?;
                return Ok(None);
            }
        }
    }
}

#[pymethods]
impl Bursts {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Burst>> {
        if let Some(last) = self.last.take() {
            last.pass();
        }
        self.looping.get_or_insert_with(Looping::begin);
        let next = self.next(py);
        if !matches!(next, Ok(Some(_))) {
            self.end();
        }
        next
    }
}

impl Drop for Bursts {
    fn drop(&mut self) {
        self.end();
    }
}
