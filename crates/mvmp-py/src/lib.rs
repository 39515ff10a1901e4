//! The compiled half of the Python package: the one place that knows Python.
//!
//! Imported as `mvmp._mvmp` by `python/mvmp`, never by users. `errors` is the one file where a
//! Rust error becomes an exception; `waiting` the one where the GIL is let go.
//!
//! Invariants: importing it initialises nothing; unsafe code lives in `packet` alone (the buffer protocol).

#![deny(unsafe_code)]

mod burst;
mod bursts;
mod bytes;
mod columns;
mod errors;
mod lending;
mod nf;
mod nf_handle;
mod outer;
mod packet;
mod policy;
mod select;
mod signals;
mod tree;
mod waiting;

#[cfg(feature = "platform")]
mod platform;
#[cfg(feature = "platform")]
mod rehearsal;

/// The compiled half of the `mvmp` package.
#[pyo3::pymodule]
mod _mvmp {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::burst::Burst;
    #[pymodule_export]
    use crate::bursts::Bursts;
    #[pymodule_export]
    use crate::nf::Nf;
    #[pymodule_export]
    use crate::nf_handle::NfHandle;
    #[pymodule_export]
    use crate::outer::OuterPacket;
    #[pymodule_export]
    use crate::packet::Packet;
    #[pymodule_export]
    use crate::policy::Policy;
    #[pymodule_export]
    use crate::policy::explain_policy;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::errors::register(module)?;
        #[cfg(feature = "platform")]
        crate::platform::register(module)?;
        Ok(())
    }
}
