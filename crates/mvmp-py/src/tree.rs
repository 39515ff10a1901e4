//! Trees of values (statistics, configurations, devices given as a dict): they cross as JSON text, by
//! Python's own json module.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;

/// A tree as Python has it.
#[cfg(feature = "platform")]
pub fn to_python(py: Python<'_>, value: &Value) -> PyResult<Py<PyAny>> {
    Ok(py
        .import("json")?
        .call_method1("loads", (value.to_string(),))?
        .unbind())
}

/// A tree as Rust has it.
pub fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    let kwargs = PyDict::new(value.py());
    // Paths and the like are taken as their text.
    kwargs.set_item("default", value.py().get_type::<pyo3::types::PyString>())?;
    let text: String = value
        .py()
        .import("json")?
        .call_method("dumps", (value,), Some(&kwargs))?
        .extract()?;
    serde_json::from_str(&text).map_err(|error| PyValueError::new_err(error.to_string()))
}
