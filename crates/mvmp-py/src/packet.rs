//! `mvmp.Packet`: one packet of a burst, with its columns as scalars and its bytes as a view.
//!
//! The one unsafe room of this crate: the buffer protocol. A view points into the pool's mapping;
//! `Lending` counts it, so that the packet can neither be sent nor released while it lives, and
//! keeps mapping and connection.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::Arc;

use mvmp_nf::{Headers, NfError, Readable, Record};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::from_nf;
use crate::lending::Lending;
use crate::outer::OuterPacket;

/// One packet of a burst.
#[pyclass(frozen, module = "mvmp")]
pub struct Packet {
    lending: Arc<Lending>,
    index: u32,
}

impl Packet {
    pub fn new(lending: Arc<Lending>, index: u32) -> Self {
        Self { lending, index }
    }

    fn parsed<T>(&self, read: impl FnOnce(&Headers, &[u8]) -> T) -> PyResult<T> {
        let burst = self.lending.held(self.index as usize)?;
        let readable = burst.readable().map_err(from_nf)?;
        let (frame, link) = readable.packet(self.index as usize).map_err(from_nf)?;
        Ok(read(&mvmp_nf::parse(frame, link), frame))
    }

    fn readable<T>(
        &self,
        read: impl FnOnce(&Readable<'_>, usize) -> Result<T, NfError>,
    ) -> PyResult<T> {
        let index = self.index as usize;
        let burst = self.lending.held(index)?;
        let readable = burst.readable().map_err(from_nf)?;
        read(&readable, index).map_err(from_nf)
    }

    fn recorded<T>(&self, read: impl FnOnce(&Record) -> T) -> PyResult<T> {
        let burst = self.lending.held(self.index as usize)?;
        let record = burst.record(self.index as usize).map_err(from_nf)?;
        Ok(read(&record))
    }
}

#[pymethods]
#[allow(
    unsafe_op_in_unsafe_fn,
    reason = "pyo3's wrapper calls the two unsafe slots without a block of its own"
)]
impl Packet {
    fn __len__(&self) -> PyResult<usize> {
        self.parsed(|_, frame| frame.len())
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.parsed(|_, frame| PyBytes::new(py, frame))
    }

    /// The packet as scapy sees it: a copy.
    fn scapy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        scapy_class(py, self.link()?)?.call1((self.__bytes__(py)?,))
    }

    /// The frame that it was received in; `None` when nothing was jumped over.
    #[getter]
    fn outer(&self) -> PyResult<Option<OuterPacket>> {
        OuterPacket::of(&self.lending, self.index)
    }

    fn __repr__(&self) -> String {
        match self.__len__() {
            Ok(length) => format!("<Packet {} of {length} bytes>", self.index),
            Err(_) => format!("<Packet {}, not readable now>", self.index),
        }
    }

    /// # Safety
    /// Called by Python with a `Py_buffer` to fill in.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        // SAFETY: Python's promise, passed on.
        unsafe { lend_buffer(&slf, view, flags) }
    }

    /// # Safety
    /// Called by Python once for each buffer that was filled in.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.lending.drop_view(self.index as usize);
    }
}

macro_rules! scalars {
    ($($name:ident: $kind:ty = $by:ident($read:expr)),* $(,)?) => {
        #[pymethods]
        impl Packet {
            $(
                #[getter]
                fn $name(&self) -> PyResult<$kind> {
                    self.$by($read)
                }
            )*
        }
    };
}

scalars! {
    in_port: u16 = recorded(|record| record.in_port),
    length: u32 = parsed(|_, frame| frame.len() as u32),
    wire_length: u32 = recorded(|record| record.wire_length),
    timestamp_ns: i64 = recorded(|record| record.timestamp_ns),
    direction: u8 = readable(|burst, index| burst.is_outbound(index).map(u8::from)),
    link: u8 = parsed(|headers, _| headers.link as u8),
    l3_offset: u16 = parsed(|headers, _| headers.l3_offset),
    payload_offset: u16 = parsed(|headers, _| headers.payload_offset),
    payload_length: u16 = parsed(|headers, _| headers.payload_length),
    ether_type: u16 = parsed(|headers, _| headers.ether_type),
    vlan: i32 = readable(|burst, index| burst.vlan(index)),
    vni: i64 = readable(|burst, index| burst.vni(index)),
    ip_version: u8 = parsed(|headers, _| headers.ip_version),
    protocol: i16 = parsed(|headers, _| headers.protocol),
    src: u32 = parsed(|headers, _| headers.src),
    dst: u32 = parsed(|headers, _| headers.dst),
    src6: Address = parsed(|headers, frame| Address(headers.src6(frame).unwrap_or_default())),
    dst6: Address = parsed(|headers, frame| Address(headers.dst6(frame).unwrap_or_default())),
    src_port: i32 = parsed(|headers, _| headers.src_port),
    dst_port: i32 = parsed(|headers, _| headers.dst_port),
    tcp_flags: u16 = parsed(|headers, _| headers.tcp_flags),
    fragment: bool = parsed(|headers, _| headers.fragment),
    flow_hash: u32 = parsed(|headers, _| headers.flow_hash),
}

/// The class of scapy for bytes that begin with this link.
pub fn scapy_class(py: Python<'_>, link: u8) -> PyResult<Bound<'_, PyAny>> {
    let (module, class) = match link {
        4 => ("scapy.layers.inet", "IP"),
        6 => ("scapy.layers.inet6", "IPv6"),
        _ => ("scapy.layers.l2", "Ether"),
    };
    // All of scapy's layers, so that what follows is dissected too.
    py.import("scapy.all")?;
    py.import(module)?.getattr(class)
}

/// Sixteen bytes, as Python's `bytes`.
pub struct Address(pub [u8; 16]);

impl<'py> IntoPyObject<'py> for Address {
    type Target = PyBytes;
    type Output = Bound<'py, PyBytes>;
    type Error = std::convert::Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        Ok(PyBytes::new(py, &self.0))
    }
}

/// Lends a packet's bytes, read-only.
///
/// # Safety
/// `view` is a `Py_buffer` that may be filled in.
unsafe fn lend_buffer(
    packet: &Bound<'_, Packet>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let this = packet.get();
    let index = this.index as usize;
    if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
        return Err(PyBufferError::new_err(
            "packets are read-only; build a new frame and send() it",
        ));
    }
    let burst = this.lending.held(index)?;
    let frame = burst.frame(index).map_err(from_nf)?;
    // SAFETY: the bytes stay mapped and unwritten while the view lives: it is counted below under
    // the lock, which keeps the packet lent, and `packet`, which `view` refers to, keeps the lending.
    let filled = unsafe {
        ffi::PyBuffer_FillInfo(
            view,
            packet.as_ptr(),
            frame.as_ptr().cast_mut().cast(),
            frame.len() as isize,
            1,
            flags,
        )
    };
    if filled != 0 {
        return Err(PyErr::fetch(packet.py()));
    }
    this.lending.add_view(&burst, index);
    Ok(())
}
