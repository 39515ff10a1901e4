//! `mvmp.Nf`: the connection of one NF.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mvmp_nf::{ConnectOptions, OpenOptions};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use serde_json::Value;

use crate::bursts::Bursts;
use crate::errors::from_nf;
use crate::nf_handle::NfHandle;
use crate::signals;
use crate::tree::from_python;
use crate::waiting::{blocking, seconds};

/// One NF instance.
#[pyclass(frozen, module = "mvmp")]
pub struct Nf {
    nf: mvmp_nf::Nf,
    handles: Mutex<Vec<Py<NfHandle>>>,
    owes_signal: AtomicBool,
}

impl Nf {
    fn open_handles(&self, py: Python<'_>) -> Vec<Py<NfHandle>> {
        let handles = self.not_closed(py);
        handles.iter().map(|handle| handle.clone_ref(py)).collect()
    }

    /// The handles, without those that the NF has closed: these keep nothing any more.
    fn not_closed(&self, py: Python<'_>) -> MutexGuard<'_, Vec<Py<NfHandle>>> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|handle| !handle.bind(py).get().library().closed_by_nf());
        handles
    }
}

impl Nf {
    /// A table that describes a device: its name (`name`, else one by its place) and the rest of it.
    fn own_device(&self, table: &Bound<'_, PyAny>) -> PyResult<(String, Option<Value>)> {
        let mut define = from_python(table)?;
        let Some(fields) = define.as_object_mut() else {
            return Err(PyTypeError::new_err(
                "a device is a name, or a dict as in the configuration file",
            ));
        };
        let name = match fields.remove("name") {
            Some(Value::String(name)) => name,
            Some(_) => return Err(PyTypeError::new_err("`name` is a string")),
            None => format!(
                "own{}",
                self.handles
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .len()
            ),
        };
        Ok((name, Some(define)))
    }
}

#[pymethods]
impl Nf {
    #[new]
    #[pyo3(signature = (role, socket = None, wait = 0.0))]
    fn new(py: Python<'_>, role: &str, socket: Option<PathBuf>, wait: f64) -> PyResult<Self> {
        let options = ConnectOptions {
            socket,
            wait: seconds(wait)?,
        };
        let nf = blocking(py, |interrupted| {
            mvmp_nf::Nf::connect_interruptibly(role, options, interrupted)
        })?;
        let owes_signal = AtomicBool::new(signals::acquire(py)?);
        Ok(Self {
            nf,
            handles: Mutex::new(Vec::new()),
            owes_signal,
        })
    }

    /// Opens a device.
    #[pyo3(signature = (device, rx = None, tx = None, r#match = None, ring = None))]
    fn open(
        &self,
        py: Python<'_>,
        device: &Bound<'_, PyAny>,
        rx: Option<bool>,
        tx: Option<bool>,
        r#match: Option<String>,
        ring: Option<u32>,
    ) -> PyResult<Py<NfHandle>> {
        let (device, define) = match device.extract::<String>() {
            Ok(name) => (name, None),
            Err(_) => self.own_device(device)?,
        };
        let options = OpenOptions {
            rx,
            tx,
            rule: r#match,
            ring,
            define,
        };
        let handle = blocking(py, |interrupted| {
            self.nf.open_interruptibly(&device, options, interrupted)
        })?;
        let handle = Py::new(py, NfHandle::new(handle))?;
        self.not_closed(py).push(handle.clone_ref(py));
        Ok(handle)
    }

    /// A loop over bursts of all handles that are open now.
    #[pyo3(signature = (n = 32))]
    fn bursts(&self, py: Python<'_>, n: usize) -> PyResult<Bursts> {
        Bursts::over(py, self.open_handles(py), n)
    }

    /// The handles that are open, in the order of opening.
    #[getter]
    fn handles(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        Ok(PyTuple::new(py, self.open_handles(py))?.unbind())
    }

    /// The name that the platform gave this instance.
    #[getter]
    fn instance(&self) -> String {
        self.nf.instance()
    }

    /// Whether all sources are lossless captures.
    #[getter]
    fn lossless(&self) -> bool {
        self.nf.lossless()
    }

    /// Readable while any of the handles is.
    fn fileno(&self) -> PyResult<i32> {
        self.nf.fileno().map_err(from_nf)
    }

    /// Connects again and opens the same handles again.
    #[pyo3(signature = (wait = None))]
    fn reconnect(&self, py: Python<'_>, wait: Option<f64>) -> PyResult<()> {
        let wait: Option<Duration> = wait.map(seconds).transpose()?;
        blocking(py, |interrupted| self.nf.reconnect(wait, interrupted))
    }

    /// Closes all handles and the connection.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let closed = blocking(py, |interrupted| self.nf.close_interruptibly(interrupted));
        if self.owes_signal.swap(false, Ordering::Relaxed) {
            signals::release(py)?;
        }
        closed
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<Nf {}>", self.nf.instance())
    }
}
