//! `mvmp.NfHandle`: one opening of one device.

use std::sync::Arc;
use std::time::Duration;

use mvmp_nf::{Handle, Link, Wait, Which};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::burst::Burst;
use crate::bursts::Bursts;
use crate::bytes::Bytes;
use crate::errors::{Place, config_error, from_nf};
use crate::lending::Lending;
use crate::select;
use crate::waiting::{Timeout, blocking};

/// What `async for` asks for at a time.
const ASYNC_BURST: usize = 32;

/// One opening of one device.
#[pyclass(frozen, module = "mvmp")]
pub struct NfHandle {
    handle: Handle,
}

/// What sending does with the packets.
#[derive(Clone, Copy, PartialEq)]
enum Sending {
    Forward,
    Mirror,
}

impl NfHandle {
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }

    pub fn library(&self) -> &Handle {
        &self.handle
    }

    /// What is there now.
    pub fn receive(slf: &Bound<'_, Self>, n: usize) -> PyResult<Arc<Lending>> {
        let mut burst = mvmp_nf::Burst::with_capacity(n);
        slf.get().handle.rx_burst(n, &mut burst).map_err(from_nf)?;
        Ok(Arc::new(Lending::new(burst)))
    }

    pub fn transmit(
        &self,
        py: Python<'_>,
        burst: &Burst,
        mask: Option<&Bound<'_, PyAny>>,
        timeout: Timeout,
        in_port: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        self.put(py, burst, mask, timeout, in_port, Sending::Forward)
    }

    pub fn mirror_burst(
        &self,
        py: Python<'_>,
        burst: &Burst,
        mask: Option<&Bound<'_, PyAny>>,
        timeout: Timeout,
        in_port: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        self.put(py, burst, mask, timeout, in_port, Sending::Mirror)
    }

    fn put(
        &self,
        py: Python<'_>,
        burst: &Burst,
        mask: Option<&Bound<'_, PyAny>>,
        timeout: Timeout,
        in_port: Option<&Bound<'_, PyAny>>,
        sending: Sending,
    ) -> PyResult<usize> {
        let named = mask
            .map(|mask| select::some(mask, burst.indices(), burst.len()))
            .transpose()?;
        let in_port = in_port.map(|port| self.port_number(port)).transpose()?;
        let lending = burst.lending();
        let mut lent = lending.lock()?;
        let indices = named.as_deref().or(burst.indices());
        let which = indices.map_or(Which::All, Which::Indices);
        if named.is_some() {
            Lending::check_held(&lent, &which)?;
        }
        if sending == Sending::Forward {
            lending.check_views(indices)?;
        }
        let limit = timeout.limit(self.handle.lossless());
        if limit == Some(Duration::ZERO) {
            let result = match sending {
                Sending::Forward => self.handle.tx_burst(&mut lent, &which, in_port),
                Sending::Mirror => self.handle.mirror(&mut lent, &which, in_port),
            };
            return result.map_err(from_nf);
        }
        let lent = &mut *lent;
        blocking(py, |interrupted| match sending {
            Sending::Forward => {
                self.handle
                    .tx_burst_within(lent, &which, in_port, limit, interrupted)
            }
            Sending::Mirror => self
                .handle
                .mirror_within(lent, &which, in_port, limit, interrupted),
        })
    }

    fn port_number(&self, port: &Bound<'_, PyAny>) -> PyResult<u16> {
        if let Ok(number) = port.extract::<u16>() {
            return Ok(number);
        }
        let name: String = port.extract()?;
        let ports = self.handle.ports();
        if let Some(port) = ports.iter().find(|port| port.name == name) {
            return Ok(port.number);
        }
        let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
        let hint = format!("its ports are: {}", names.join(", "));
        let message = format!(
            "device {} has no port {name}\n  hint: {hint}",
            self.handle.device()
        );
        Err(config_error(
            message,
            Place {
                line: 0,
                column: 0,
                hint: Some(hint),
            },
        ))
    }
}

/// What frames begin with, by a value of the `link` column.
fn link_of(number: u8) -> PyResult<Link> {
    let link = Link::from_bits(number);
    if link as u8 != number {
        return Err(PyValueError::new_err(format!(
            "link={number}: give 1 (Ethernet), 4 (IPv4) or 6 (IPv6), as in the column `link`"
        )));
    }
    Ok(link)
}

/// Refuses bursts of nothing.
pub fn check_size(n: usize) -> PyResult<()> {
    if n == 0 || n > 1 << 20 {
        return Err(PyValueError::new_err(format!(
            "a burst of {n} packets: give 1 to {}",
            1 << 20
        )));
    }
    Ok(())
}

#[pymethods]
impl NfHandle {
    /// Receives up to `n` packets.
    #[pyo3(signature = (n, timeout = Timeout::NOW), text_signature = "($self, n, timeout=0)")]
    fn rx_burst(slf: &Bound<'_, Self>, n: usize, timeout: Timeout) -> PyResult<Burst> {
        check_size(n)?;
        let mut lending = Self::receive(slf, n)?;
        if lending.len() == 0 && timeout != Timeout::NOW {
            let handle = &slf.get().handle;
            if blocking(slf.py(), |interrupted| {
                handle.wait(timeout.limit(false), interrupted)
            })? == Wait::Packets
            {
                lending = Self::receive(slf, n)?;
            }
            // A signal's exception is raised even when the handle gives no rest.
            slf.py().check_signals()?;
        }
        Ok(Burst::new(lending, slf.clone().unbind()))
    }

    /// Moves packets to this handle's device.
    #[pyo3(signature = (burst, mask = None, *, timeout = Timeout::BySources, in_port = None), text_signature = "($self, burst, mask=None, *, timeout=0, in_port=None)")]
    fn tx_burst(
        &self,
        py: Python<'_>,
        burst: &Bound<'_, Burst>,
        mask: Option<&Bound<'_, PyAny>>,
        timeout: Timeout,
        in_port: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        self.transmit(py, burst.get(), mask, timeout, in_port)
    }

    /// Sends packets and keeps them.
    #[pyo3(signature = (burst, mask = None, *, timeout = Timeout::BySources, in_port = None), text_signature = "($self, burst, mask=None, *, timeout=0, in_port=None)")]
    fn mirror(
        &self,
        py: Python<'_>,
        burst: &Bound<'_, Burst>,
        mask: Option<&Bound<'_, PyAny>>,
        timeout: Timeout,
        in_port: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        self.mirror_burst(py, burst.get(), mask, timeout, in_port)
    }

    /// Sends frames that the NF built, which begin with `link`.
    #[pyo3(signature = (frames, in_port = None, link = Link::Ethernet as u8, *, timeout = Timeout::BySources), text_signature = "($self, frames, in_port=None, link=1, *, timeout=0)")]
    fn send(
        &self,
        py: Python<'_>,
        frames: Vec<Bytes>,
        in_port: Option<&Bound<'_, PyAny>>,
        link: u8,
        timeout: Timeout,
    ) -> PyResult<usize> {
        let in_port = in_port.map(|port| self.port_number(port)).transpose()?;
        let link = link_of(link)?;
        let frames: Vec<&[u8]> = frames.iter().map(Bytes::as_slice).collect();
        let limit = timeout.limit(self.handle.lossless());
        if limit == Some(Duration::ZERO) {
            return self.handle.send(&frames, in_port, link).map_err(from_nf);
        }
        blocking(py, |interrupted| {
            self.handle
                .send_within(&frames, in_port, link, limit, interrupted)
        })
    }

    /// A loop over bursts of this handle.
    #[pyo3(signature = (n = 32))]
    fn bursts(slf: &Bound<'_, Self>, n: usize) -> PyResult<Bursts> {
        Bursts::over(slf.py(), vec![slf.clone().unbind()], n)
    }

    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py()
            .import("mvmp._aio")?
            .call_method1("bursts", (slf, ASYNC_BURST))
    }

    /// Readable while packets wait, at the end, on close and on loss.
    fn fileno(&self) -> PyResult<i32> {
        self.handle.fileno().map_err(from_nf)
    }

    /// The platform's counters of this handle, and the library's own.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let stats = blocking(py, |interrupted| self.handle.stats(interrupted))?;
        py.import("json")?
            .call_method1("loads", (stats.to_string(),))
    }

    /// Nothing more will come.
    #[getter]
    fn ended(&self) -> bool {
        self.handle.ended()
    }

    /// Calls on it fail.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.closed()
    }

    /// The device's name.
    #[getter]
    fn device(&self) -> &str {
        self.handle.device()
    }

    /// Whether it receives.
    #[getter]
    fn rx(&self) -> bool {
        self.handle.directions().0
    }

    /// Whether it sends.
    #[getter]
    fn tx(&self) -> bool {
        self.handle.directions().1
    }

    /// The device's ports, name to number as in the `in_port` column.
    #[getter]
    fn ports<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let ports = PyDict::new(py);
        for port in self.handle.ports() {
            ports.set_item(port.name, port.number)?;
        }
        Ok(ports)
    }

    /// The MAC address of the first port that has one.
    #[getter]
    fn mac(&self) -> Option<String> {
        let mac = self.handle.ports().iter().find_map(|port| port.mac)?;
        Some(mac.map(|byte| format!("{byte:02x}")).join(":"))
    }

    /// The largest IP packet that every port carries with what `encap` puts around it, in bytes.
    #[getter]
    fn mtu(&self) -> Option<u32> {
        self.handle.ports().iter().map(|port| port.mtu).min()
    }

    /// The device's own IP addresses.
    #[getter]
    fn addresses<'py>(&self, py: Python<'py>) -> Bound<'py, PyTuple> {
        PyTuple::empty(py)
    }

    /// Closes it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, |interrupted| {
            self.handle.close_interruptibly(interrupted)
        })
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        let state = if self.closed() { ", closed" } else { "" };
        format!("<NfHandle on {}{state}>", self.handle.device())
    }
}
