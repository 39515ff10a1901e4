//! Columns: one number per packet of a burst, as numpy arrays of their own.
//!
//! Each is made some packets at a time: where their bytes lie is found out for all of them, then they
//! are parsed. The parser is inlined there, so that what a column does not ask for is not computed.
//! The starts of the next frames are prefetched meanwhile.

use std::ops::Range;

use mvmp_nf::{Headers, Link, NfError, Readable, Record, Which};
use numpy::{Element, IntoPyArray, PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::errors::from_nf;
use crate::policy::Asked;

/// So many packets are looked at together; the same number is prefetched meanwhile.
const TOGETHER: usize = 16;

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

    /// The packets of some rows, for the library.
    fn which(&self, rows: Range<usize>) -> Which<'_> {
        match self.indices {
            Some(indices) => Which::Indices(&indices[rows]),
            None => Which::Range(rows),
        }
    }

    /// Calls `see` with the bytes of up to `most` rows at a time, and what the first byte of each is.
    #[inline(always)]
    pub fn each_chunk(&self, most: usize, mut see: impl FnMut(&[(&[u8], Link)])) -> PyResult<()> {
        let chunk = |start: usize| start.min(self.len())..(start + most).min(self.len());
        let mut packets = Vec::with_capacity(most);
        self.burst.prefetch_some(&self.which(chunk(0)));
        for start in (0..self.len()).step_by(most) {
            self.burst.prefetch_some(&self.which(chunk(start + most)));
            packets.clear();
            let which = self.which(chunk(start));
            self.burst.packets(&which, &mut packets).map_err(from_nf)?;
            see(&packets);
        }
        Ok(())
    }

    /// Calls `see` with up to `most` rows at a time, as they were delivered and as they were received.
    pub fn each_received(&self, most: usize, mut see: impl FnMut(&[Asked<'_>])) -> PyResult<()> {
        let asked = |row: usize| {
            let index = self.at(row);
            Ok(Asked {
                delivered: self.burst.packet(index)?,
                received: self.burst.received(index)?,
                wire_length: self.burst.record(index)?.wire_length,
            })
        };
        for start in (0..self.len()).step_by(most) {
            let rows = start..(start + most).min(self.len());
            let packets: Result<Vec<_>, NfError> = rows.map(asked).collect();
            see(&packets.map_err(from_nf)?);
        }
        Ok(())
    }

    /// One value per packet, from its bytes and what the first of them is.
    #[inline(always)]
    fn read<T: Element>(
        &self,
        py: Python<'_>,
        value: impl Fn(&[u8], Link) -> T,
    ) -> PyResult<Py<PyAny>> {
        let mut column = Vec::with_capacity(self.len());
        self.each_chunk(TOGETHER, |packets| {
            column.extend(packets.iter().map(|&(frame, link)| value(frame, link)));
        })?;
        Ok(column.into_pyarray(py).into_any().unbind())
    }

    /// One value per packet, from its headers.
    #[inline(always)]
    fn parsed<T: Element>(
        &self,
        py: Python<'_>,
        value: impl Fn(&Headers) -> T,
    ) -> PyResult<Py<PyAny>> {
        self.read(py, |frame, link| value(&mvmp_nf::parse(frame, link)))
    }

    /// One value per packet, from its record alone.
    #[inline(always)]
    fn recorded<T: Element>(
        &self,
        py: Python<'_>,
        value: impl Fn(&Record) -> T,
    ) -> PyResult<Py<PyAny>> {
        let mut column = Vec::with_capacity(self.len());
        let which = self.which(0..self.len());
        self.burst
            .records(&which, value, &mut column)
            .map_err(from_nf)?;
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
        self.each_chunk(TOGETHER, |packets| {
            for &(frame, link) in packets {
                let address = value(&mvmp_nf::parse(frame, link), frame);
                bytes.extend_from_slice(&address.unwrap_or_default());
            }
        })?;
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
            Column::Length => self.read(py, |frame, _| frame.len() as u32),
            Column::Link => self.read(py, |_, link| link as u8),
            Column::Vlan => self.asked(py, |burst, index| burst.vlan(index)),
            Column::Vni => self.asked(py, |burst, index| burst.vni(index)),
            Column::L3Offset => self.parsed(py, |headers| headers.l3_offset),
            Column::PayloadOffset => self.parsed(py, |headers| headers.payload_offset),
            Column::PayloadLength => self.parsed(py, |headers| headers.payload_length),
            Column::EtherType => self.parsed(py, |headers| headers.ether_type),
            Column::IpVersion => self.parsed(py, |headers| headers.ip_version),
            Column::Protocol => self.parsed(py, |headers| headers.protocol),
            Column::Src => self.parsed(py, |headers| headers.src),
            Column::Dst => self.parsed(py, |headers| headers.dst),
            Column::Src6 => self.addresses(py, Headers::src6),
            Column::Dst6 => self.addresses(py, Headers::dst6),
            Column::SrcPort => self.parsed(py, |headers| headers.src_port),
            Column::DstPort => self.parsed(py, |headers| headers.dst_port),
            Column::TcpFlags => self.parsed(py, |headers| headers.tcp_flags),
            Column::Fragment => self.parsed(py, |headers| headers.fragment),
            Column::FlowHash => self.parsed(py, |headers| headers.flow_hash),
        }
    }

    /// The first `width` bytes from a place in each packet, zeros where there are none: (rows, width) u8.
    pub fn headers<'py>(
        &self,
        py: Python<'py>,
        width: usize,
        at: From,
    ) -> PyResult<Bound<'py, PyArray2<u8>>> {
        let mut bytes = Vec::with_capacity(self.len() * width);
        self.each_chunk(TOGETHER, |packets| {
            for &(frame, link) in packets {
                let there = at.of(frame, link);
                let there = &there[..there.len().min(width)];
                bytes.extend_from_slice(there);
                bytes.resize(bytes.len() + width - there.len(), 0);
            }
        })?;
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

impl From {
    /// What a frame has from there on.
    fn of(self, frame: &[u8], link: Link) -> &[u8] {
        let headers = mvmp_nf::parse(frame, link);
        let start = match self {
            Self::Start => 0,
            Self::L3 => headers.l3_offset.into(),
            Self::Payload => headers.payload_offset.into(),
        };
        let end = match self {
            Self::Payload => start + usize::from(headers.payload_length),
            _ => frame.len(),
        };
        frame.get(start..end.min(frame.len())).unwrap_or_default()
    }
}
