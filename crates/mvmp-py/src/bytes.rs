//! Bytes from Python: `bytes`, a packet, or anything with the buffer protocol.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

/// Bytes that stay as they are while they are used.
pub enum Bytes {
    /// Python's own, borrowed.
    Backed(PyBackedBytes),
    /// A copy.
    Copied(Vec<u8>),
}

impl Bytes {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Backed(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Bytes {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = value.cast::<pyo3::types::PyBytes>() {
            return Ok(Self::Backed(bytes.to_owned().into()));
        }
        let buffer = PyBuffer::<u8>::get(&value)?;
        Ok(Self::Copied(buffer.to_vec(value.py())?))
    }
}
