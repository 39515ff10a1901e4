//! `mvmp.Burst`: packets lent to the NF, whole or in part.

use std::sync::{Arc, Mutex, PoisonError};

use mvmp_nf::Which;
use numpy::{IntoPyArray, PyArray1, PyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyTuple};

use crate::columns::{Column, From, Rows};
use crate::errors::from_nf;
use crate::lending::Lending;
use crate::nf_handle::NfHandle;
use crate::packet::Packet;
use crate::policy::{Asked, CHUNK, Policy};
use crate::select::{Named, Selection, subscript};

type Cache = [Option<Py<PyAny>>; Column::COUNT];

/// Packets lent to this NF.
#[pyclass(frozen, module = "mvmp")]
pub struct Burst {
    lending: Arc<Lending>,
    selection: Selection,
    handle: Py<NfHandle>,
    columns: Mutex<Option<Box<Cache>>>,
}

impl Burst {
    pub fn new(lending: Arc<Lending>, handle: Py<NfHandle>) -> Self {
        Self::of(lending, None, handle)
    }

    fn of(lending: Arc<Lending>, selection: Selection, handle: Py<NfHandle>) -> Self {
        Self {
            lending,
            selection,
            handle,
            columns: Mutex::new(None),
        }
    }

    pub fn lending(&self) -> &Arc<Lending> {
        &self.lending
    }

    /// The packets that it is about, in numbers of the whole burst; `None`: all.
    pub fn indices(&self) -> Option<&[u32]> {
        self.selection.as_deref()
    }

    /// The same for the library.
    pub fn which(&self) -> Which<'_> {
        self.indices().map_or(Which::All, Which::Indices)
    }

    pub fn len(&self) -> usize {
        self.indices().map_or(self.lending.len(), <[u32]>::len)
    }

    fn rows<T>(&self, read: impl FnOnce(&Rows<'_>) -> PyResult<T>) -> PyResult<T> {
        let burst = self.lending.lock()?;
        let rows = Rows {
            burst: burst.readable().map_err(from_nf)?,
            indices: self.indices(),
            len: self.lending.len(),
        };
        read(&rows)
    }

    fn column(&self, py: Python<'_>, column: Column) -> PyResult<Py<PyAny>> {
        let at = column as usize;
        let cached = |cache: &Option<Box<Cache>>| {
            cache
                .as_ref()
                .and_then(|cache| cache[at].as_ref().map(|array| array.clone_ref(py)))
        };
        if let Some(array) = cached(&self.columns.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(array);
        }
        let array = self.rows(|rows| rows.column(py, column))?;
        let mut cache = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get_or_insert_with(|| Box::new([const { None }; Column::COUNT]))[at] =
            Some(array.clone_ref(py));
        Ok(array)
    }
}

#[pymethods]
impl Burst {
    fn __len__(&self) -> usize {
        self.len()
    }

    fn __bool__(&self) -> bool {
        self.len() > 0
    }

    /// Packets still lent.
    #[getter]
    fn held(&self) -> PyResult<usize> {
        let burst = self.lending.lock()?;
        Ok(if self.selection.is_none() {
            burst.held()
        } else {
            burst.count_held(&self.which())
        })
    }

    /// The handle that received it.
    #[getter]
    fn handle(&self, py: Python<'_>) -> Py<NfHandle> {
        self.handle.clone_ref(py)
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match subscript(key, self.indices(), self.len())? {
            Named::One(index) => {
                drop(self.lending.held(index as usize)?);
                Ok(Bound::new(py, Packet::new(self.lending.clone(), index))?.into_any())
            }
            Named::Some(indices) => {
                let part = Self::of(
                    self.lending.clone(),
                    Some(indices),
                    self.handle.clone_ref(py),
                );
                Ok(Bound::new(py, part)?.into_any())
            }
        }
    }

    /// Its packets, one by one: the slow way.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.lending
            .lock()?
            .check_held(&self.which())
            .map_err(from_nf)?;
        let packet = |row: usize| {
            let index = self.indices().map_or(row as u32, |indices| indices[row]);
            Bound::new(py, Packet::new(self.lending.clone(), index))
        };
        let packets = (0..self.len()).map(packet).collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, packets)?.try_iter()
    }

    /// Moves what is still lent to a handle's device; as `handle.tx_burst(burst)`.
    fn forward(slf: &Bound<'_, Self>, handle: &Bound<'_, NfHandle>) -> PyResult<usize> {
        handle.get().transmit(
            slf.py(),
            slf.get(),
            None,
            crate::waiting::Timeout::BySources,
            None,
        )
    }

    /// Sends and keeps; as `handle.mirror(burst)`.
    fn mirror(slf: &Bound<'_, Self>, handle: &Bound<'_, NfHandle>) -> PyResult<usize> {
        handle.get().mirror_burst(
            slf.py(),
            slf.get(),
            None,
            crate::waiting::Timeout::BySources,
            None,
        )
    }

    /// Gives back what is still lent.
    fn release(&self) -> PyResult<()> {
        let mut burst = self.lending.lock()?;
        self.lending.check_views(self.indices())?;
        burst.release_some(&self.which());
        Ok(())
    }

    /// Keeps the packets when a loop asks for its next burst; they go home with this object.
    fn keep(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf.get().lending.keep();
        slf
    }

    /// What a loop does with its last burst: releases all but kept and viewed packets.
    fn pass_on(&self) {
        self.lending.pass();
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release()
    }

    /// Which packets match a policy, as `nf.open(match=…)` would say.
    #[pyo3(name = "match")]
    fn matches<'py>(
        &self,
        py: Python<'py>,
        policy: &Bound<'py, Policy>,
    ) -> PyResult<Bound<'py, PyArray1<bool>>> {
        let policy = policy.get();
        let mut mask = Vec::with_capacity(self.len());
        self.rows(|rows| {
            let Some(ports) = rows.burst.tunnel_ports() else {
                return Ok(());
            };
            let mut ask = |packets: &[Asked<'_>]| {
                let bits = policy.mask(packets, ports);
                mask.extend((0..packets.len()).map(|bit| bits >> bit & 1 == 1));
            };
            if policy.asks_of_received() {
                return rows.each_received(CHUNK, ask);
            }
            rows.each_chunk(CHUNK, |packets| {
                let whole = packets
                    .iter()
                    .map(|&(frame, link)| Asked::whole(frame, link));
                ask(&whole.collect::<Vec<_>>());
            })
        })?;
        Ok(mask.into_pyarray(py))
    }

    /// The first `n` bytes of each packet from the start, the L3 header or the payload: a copy, zeros where there are none.
    #[pyo3(signature = (n, at = "start"))]
    fn headers<'py>(
        &self,
        py: Python<'py>,
        n: usize,
        at: &str,
    ) -> PyResult<Bound<'py, PyArray2<u8>>> {
        let from = match at {
            "start" => From::Start,
            "l3" => From::L3,
            "payload" => From::Payload,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "at={at:?}: give \"start\", \"l3\" or \"payload\""
                )));
            }
        };
        if n > usize::from(u16::MAX) {
            return Err(PyValueError::new_err("a frame has at most 65535 bytes"));
        }
        self.rows(|rows| rows.headers(py, n, from))
    }

    fn __repr__(&self) -> String {
        match self.held() {
            Ok(held) => format!("<Burst of {} packets, {held} held>", self.len()),
            Err(_) => format!(
                "<Burst of {} packets, in use by another thread>",
                self.len()
            ),
        }
    }
}

macro_rules! column_getters {
    ($($name:ident = $column:ident),* $(,)?) => {
        #[pymethods]
        impl Burst {
            $(
                #[getter]
                fn $name(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
                    self.column(py, Column::$column)
                }
            )*
        }
    };
}

column_getters! {
    in_port = InPort,
    length = Length,
    wire_length = WireLength,
    timestamp_ns = TimestampNs,
    direction = Direction,
    link = Link,
    l3_offset = L3Offset,
    payload_offset = PayloadOffset,
    payload_length = PayloadLength,
    ether_type = EtherType,
    vlan = Vlan,
    vni = Vni,
    ip_version = IpVersion,
    protocol = Protocol,
    src = Src,
    dst = Dst,
    src6 = Src6,
    dst6 = Dst6,
    src_port = SrcPort,
    dst_port = DstPort,
    tcp_flags = TcpFlags,
    fragment = Fragment,
    flow_hash = FlowHash,
}
