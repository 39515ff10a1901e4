//! `mvmp.OuterPacket`: the frame as it was received, where a policy has jumped over layers for this NF.

use std::sync::Arc;

use mvmp_nf::{Headers, LayerKind, Link};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::from_nf;
use crate::lending::Lending;
use crate::packet::{Address, scapy_class};

/// The frame that a packet was received in.
#[pyclass(frozen, module = "mvmp")]
pub struct OuterPacket {
    lending: Arc<Lending>,
    index: u32,
}

impl OuterPacket {
    /// Of this packet, if something was jumped over.
    pub fn of(lending: &Arc<Lending>, index: u32) -> PyResult<Option<Self>> {
        let burst = lending.held(index as usize)?;
        let readable = burst.readable().map_err(from_nf)?;
        let inner = readable.is_inner(index as usize).map_err(from_nf)?;
        Ok(inner.then(|| Self {
            lending: lending.clone(),
            index,
        }))
    }

    fn received<T>(&self, read: impl FnOnce(&[u8], Link) -> T) -> PyResult<T> {
        let burst = self.lending.held(self.index as usize)?;
        let readable = burst.readable().map_err(from_nf)?;
        let (frame, link) = readable.received(self.index as usize).map_err(from_nf)?;
        Ok(read(frame, link))
    }

    fn parsed<T>(&self, read: impl FnOnce(&Headers, &[u8]) -> T) -> PyResult<T> {
        self.received(|frame, link| read(&mvmp_nf::parse(frame, link), frame))
    }
}

#[pymethods]
impl OuterPacket {
    fn __len__(&self) -> PyResult<usize> {
        self.received(|frame, _| frame.len())
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.received(|frame, _| PyBytes::new(py, frame))
    }

    /// The frame as scapy sees it: a copy.
    fn scapy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        scapy_class(py, self.link()?)?.call1((self.__bytes__(py)?,))
    }

    fn __repr__(&self) -> String {
        match self.__len__() {
            Ok(length) => format!("<OuterPacket {} of {length} bytes>", self.index),
            Err(_) => format!("<OuterPacket {}, not readable now>", self.index),
        }
    }

    /// Every layer from the outside in: its name, where it begins, and its number if it has one.
    #[getter]
    fn layers(&self) -> PyResult<Vec<(&'static str, u16, Option<u32>)>> {
        let burst = self.lending.held(self.index as usize)?;
        let readable = burst.readable().map_err(from_nf)?;
        let stack = readable.stack(self.index as usize).map_err(from_nf)?;
        Ok(stack
            .layers()
            .iter()
            .map(|layer| (layer_name(layer.kind), layer.offset, layer.id()))
            .collect())
    }

    #[getter]
    fn length(&self) -> PyResult<u32> {
        self.received(|frame, _| frame.len() as u32)
    }

    #[getter]
    fn link(&self) -> PyResult<u8> {
        self.received(|_, link| link as u8)
    }

    #[getter]
    fn ether_type(&self) -> PyResult<u16> {
        self.parsed(|headers, _| headers.ether_type)
    }

    #[getter]
    fn vlan(&self) -> PyResult<i32> {
        self.parsed(|headers, _| i32::from(headers.vlan))
    }

    #[getter]
    fn ip_version(&self) -> PyResult<u8> {
        self.parsed(|headers, _| headers.ip_version)
    }

    #[getter]
    fn protocol(&self) -> PyResult<i16> {
        self.parsed(|headers, _| headers.protocol)
    }

    #[getter]
    fn src(&self) -> PyResult<u32> {
        self.parsed(|headers, _| headers.src)
    }

    #[getter]
    fn dst(&self) -> PyResult<u32> {
        self.parsed(|headers, _| headers.dst)
    }

    #[getter]
    fn src6(&self) -> PyResult<Address> {
        self.parsed(|headers, frame| Address(headers.src6(frame).unwrap_or_default()))
    }

    #[getter]
    fn dst6(&self) -> PyResult<Address> {
        self.parsed(|headers, frame| Address(headers.dst6(frame).unwrap_or_default()))
    }

    #[getter]
    fn src_port(&self) -> PyResult<i32> {
        self.parsed(|headers, _| headers.src_port)
    }

    #[getter]
    fn dst_port(&self) -> PyResult<i32> {
        self.parsed(|headers, _| headers.dst_port)
    }
}

/// The word of a rule or of `decap` for a layer.
fn layer_name(kind: LayerKind) -> &'static str {
    match kind {
        LayerKind::None => "",
        LayerKind::Ethernet => "ether",
        LayerKind::Vlan => "vlan",
        LayerKind::Arp => "arp",
        LayerKind::Ipv4 => "ip",
        LayerKind::Ipv6 => "ip6",
        LayerKind::Tcp => "tcp",
        LayerKind::Udp => "udp",
        LayerKind::Icmp => "icmp",
        LayerKind::Icmp6 => "icmp6",
        LayerKind::Sctp => "sctp",
        LayerKind::Mpls => "mpls",
        LayerKind::Pppoe => "pppoe",
        LayerKind::Gre => "gre",
        LayerKind::Nvgre => "nvgre",
        LayerKind::Erspan => "erspan",
        LayerKind::Vxlan => "vxlan",
        LayerKind::Geneve => "geneve",
        LayerKind::Gtpu => "gtp",
    }
}
