//! SIGTERM ends `bursts()` in order: an NF may be PID 1 of its container, where the default does nothing.
//!
//! The handler is set when the first `Nf` is made, only in the main thread, only where the
//! disposition is the default and no `Platform` lives in this process; it is restored when the
//! last `Nf` that wanted it is closed. Outside of a loop over bursts it raises `SystemExit(143)`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Platforms that live in this process; `platform.rs` counts them.
pub static PLATFORMS: AtomicUsize = AtomicUsize::new(0);

static STOP: AtomicBool = AtomicBool::new(false);
static LOOPS: AtomicUsize = AtomicUsize::new(0);
static USERS: Mutex<usize> = Mutex::new(0);

/// 128 + SIGTERM, as a shell reports it.
const TERMINATED: i32 = 143;

/// SIGTERM came while a loop over bursts was on.
pub fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Held by a loop over bursts.
#[derive(Debug)]
pub struct Looping;

impl Looping {
    pub fn begin() -> Self {
        LOOPS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Looping {
    fn drop(&mut self) {
        LOOPS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[pyclass(frozen)]
struct OnTerm;

#[pymethods]
impl OnTerm {
    #[pyo3(signature = (*_arguments))]
    fn __call__(&self, _arguments: &Bound<'_, PyAny>) -> PyResult<()> {
        if LOOPS.load(Ordering::Relaxed) == 0 {
            return Err(PySystemExit::new_err(TERMINATED));
        }
        STOP.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn in_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    Ok(threading
        .call_method0("current_thread")?
        .is(&threading.call_method0("main_thread")?))
}

/// Sets the handler for one more `Nf`; true if that `Nf` must give it back.
pub fn acquire(py: Python<'_>) -> PyResult<bool> {
    if !in_main_thread(py)? {
        return Ok(false);
    }
    let Ok(mut users) = USERS.lock() else {
        return Ok(false);
    };
    if *users == 0 {
        let signal = py.import("signal")?;
        let term = signal.getattr("SIGTERM")?;
        let is_default = signal
            .call_method1("getsignal", (&term,))?
            .eq(signal.getattr("SIG_DFL")?)?;
        if !is_default || PLATFORMS.load(Ordering::Relaxed) > 0 {
            return Ok(false);
        }
        signal.call_method1("signal", (&term, Py::new(py, OnTerm)?))?;
    }
    *users += 1;
    Ok(true)
}

/// Gives back what [`acquire`] took. The last one restores the default.
pub fn release(py: Python<'_>) -> PyResult<()> {
    let Ok(mut users) = USERS.lock() else {
        return Ok(());
    };
    *users = users.saturating_sub(1);
    if *users > 0 || !in_main_thread(py)? {
        return Ok(());
    }
    STOP.store(false, Ordering::Relaxed);
    let signal = py.import("signal")?;
    let term = signal.getattr("SIGTERM")?;
    // Someone may have set another handler since: that one stays.
    if signal
        .call_method1("getsignal", (&term,))?
        .cast::<OnTerm>()
        .is_ok()
    {
        signal.call_method(
            "signal",
            (&term, signal.getattr("SIG_DFL")?),
            None::<&Bound<'_, PyDict>>,
        )?;
    }
    Ok(())
}
