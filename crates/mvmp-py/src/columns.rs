//! Columns: one number per packet of a burst, as numpy arrays of their own.
//!
//! Each is one pass over the packets; the parser is inlined into it, so that what a column does
//! not ask for is not computed. The start of a frame is prefetched while earlier ones are parsed.

use mvmp_nf::{Headers, NfError, Readable, Record};
use numpy::{Element, IntoPyArray, PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::errors::from_nf;

/// How many packets ahead a frame is asked for.
const AHEAD: usize = 8;

/// The columns, in the order of the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Column {
    InPort,
    Length,
    WireLength,
    TimestampNs,
    Direction,
    Link,
    L3Offset,
    PayloadOffset,
    PayloadLength,
    EtherType,
    Vlan,
    Vni,
    IpVersion,
    Protocol,
    Src,
    Dst,
    Src6,
    Dst6,
    SrcPort,
    DstPort,
    TcpFlags,
    Fragment,
    FlowHash,
}

impl Column {
    pub const COUNT: usize = Self::FlowHash as usize + 1;
}

/// The packets of a column: a burst that can be read, and which of it.
pub struct Rows<'a> {
    pub burst: Readable<'a>,
    pub indices: Option<&'a [u32]>,
    pub len: usize,
}

impl Rows<'_> {
    fn len(&self) -> usize {
        self.indices.map_or(self.len, <[u32]>::len)
    }

    #[inline(always)]
    fn at(&self, row: usize) -> usize {
        match self.indices {
            Some(indices) => indices[row] as usize,
            None => row,
        }
    }

    /// One value per packet, from its headers and bytes.
    #[inline(always)]
    fn parsed<T: Element>(
        &self,
        py: Python<'_>,
        value: impl Fn(&Headers, &[u8]) -> T,
    ) -> PyResult<Py<PyAny>> {
        let rows = self.len();
        let mut column = Vec::with_capacity(rows);
        for row in 0..rows.min(AHEAD) {
            self.burst.prefetch(self.at(row));
        }
        for row in 0..rows {
            if row + AHEAD < rows {
                self.burst.prefetch(self.at(row + AHEAD));
            }
            let (frame, link) = self.burst.packet(self.at(row)).map_err(from_nf)?;
            column.push(value(&mvmp_nf::parse(frame, link), frame));
        }
        Ok(column.into_pyarray(py).into_any().unbind())
    }

    /// One value per packet, from its record alone.
    #[inline(always)]
    fn recorded<T: Element>(
        &self,
        py: Python<'_>,
        value: impl Fn(&Record) -> T,
    ) -> PyResult<Py<PyAny>> {
        let rows =
            (0..self.len()).map(|row| self.burst.record(self.at(row)).map(|record| value(&record)));
        let column = rows.collect::<Result<Vec<T>, _>>().map_err(from_nf)?;
        Ok(column.into_pyarray(py).into_any().unbind())
    }

    /// One value per packet, from its bounds alone.
    #[inline(always)]
    fn bounded<T: Element>(
        &self,
        py: Python<'_>,
        value: impl Fn(&[u8], u8) -> T,
    ) -> PyResult<Py<PyAny>> {
        let rows = (0..self.len()).map(|row| {
            self.burst
                .packet(self.at(row))
                .map(|(frame, link)| value(frame, link as u8))
        });
        let column = rows.collect::<Result<Vec<T>, _>>().map_err(from_nf)?;
        Ok(column.into_pyarray(py).into_any().unbind())
    }

    /// One value per packet, that the library knows.
    #[inline(always)]
    fn asked<T: Element>(
        &self,
        py: Python<'_>,
        ask: impl Fn(&Readable<'_>, usize) -> Result<T, NfError>,
    ) -> PyResult<Py<PyAny>> {
        let rows = (0..self.len()).map(|row| ask(&self.burst, self.at(row)));
        let column = rows.collect::<Result<Vec<T>, _>>().map_err(from_nf)?;
        Ok(column.into_pyarray(py).into_any().unbind())
    }

    /// Sixteen bytes per packet.
    fn addresses(
        &self,
        py: Python<'_>,
        value: impl Fn(&Headers, &[u8]) -> Option<[u8; 16]>,
    ) -> PyResult<Py<PyAny>> {
        let mut bytes = Vec::with_capacity(self.len() * 16);
        for row in 0..self.len() {
            let (frame, link) = self.burst.packet(self.at(row)).map_err(from_nf)?;
            bytes
                .extend_from_slice(&value(&mvmp_nf::parse(frame, link), frame).unwrap_or_default());
        }
        Ok(bytes
            .into_pyarray(py)
            .reshape([self.len(), 16])?
            .into_any()
            .unbind())
    }

    /// Computes a column.
    pub fn column(&self, py: Python<'_>, column: Column) -> PyResult<Py<PyAny>> {
        match column {
            Column::InPort => self.recorded(py, |record| record.in_port),
            Column::WireLength => self.recorded(py, |record| record.wire_length),
            Column::TimestampNs => self.recorded(py, |record| record.timestamp_ns),
            Column::Direction => {
                self.asked(py, |burst, index| burst.is_outbound(index).map(u8::from))
            }
            Column::Length => self.bounded(py, |frame, _| frame.len() as u32),
            Column::Link => self.bounded(py, |_, link| link),
            Column::Vlan => self.asked(py, |burst, index| burst.vlan(index)),
            Column::Vni => self.asked(py, |burst, index| burst.vni(index)),
            Column::L3Offset => self.parsed(py, |headers, _| headers.l3_offset),
            Column::PayloadOffset => self.parsed(py, |headers, _| headers.payload_offset),
            Column::PayloadLength => self.parsed(py, |headers, _| headers.payload_length),
            Column::EtherType => self.parsed(py, |headers, _| headers.ether_type),
            Column::IpVersion => self.parsed(py, |headers, _| headers.ip_version),
            Column::Protocol => self.parsed(py, |headers, _| headers.protocol),
            Column::Src => self.parsed(py, |headers, _| headers.src),
            Column::Dst => self.parsed(py, |headers, _| headers.dst),
            Column::Src6 => self.addresses(py, Headers::src6),
            Column::Dst6 => self.addresses(py, Headers::dst6),
            Column::SrcPort => self.parsed(py, |headers, _| headers.src_port),
            Column::DstPort => self.parsed(py, |headers, _| headers.dst_port),
            Column::TcpFlags => self.parsed(py, |headers, _| headers.tcp_flags),
            Column::Fragment => self.parsed(py, |headers, _| headers.fragment),
            Column::FlowHash => self.parsed(py, |headers, _| headers.flow_hash),
        }
    }

    /// The first `width` bytes from a place in each packet, zeros where there are none: (rows, width) u8.
    pub fn headers<'py>(
        &self,
        py: Python<'py>,
        width: usize,
        at: From,
    ) -> PyResult<Bound<'py, PyArray2<u8>>> {
        let mut bytes = vec![0; self.len() * width];
        for (row, into) in bytes.chunks_exact_mut(width.max(1)).enumerate() {
            let (frame, link) = self.burst.packet(self.at(row)).map_err(from_nf)?;
            let headers = mvmp_nf::parse(frame, link);
            let start = match at {
                From::Start => 0,
                From::L3 => headers.l3_offset.into(),
                From::Payload => headers.payload_offset.into(),
            };
            let end = if at == From::Payload {
                start + usize::from(headers.payload_length)
            } else {
                frame.len()
            };
            let there = frame.get(start..end.min(frame.len())).unwrap_or_default();
            let count = there.len().min(width);
            into[..count].copy_from_slice(&there[..count]);
        }
        let array = bytes.into_pyarray(py).reshape([self.len(), width])?;
        debug_assert_eq!(array.shape()[1], width);
        Ok(array)
    }
}

/// Where `headers(n, at=…)` begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Start,
    L3,
    Payload,
}
