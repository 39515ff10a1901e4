//! Plugging ports in and out: what a port's specification becomes.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use mvmp_policy::Config;
use mvmp_policy::config::{CAPTURE_FRAME_BYTES_DEFAULT, CaptureSpec, PortKind, PortSpec, Rate};
use serde_json::{Value, json};

use crate::capture::{CaptureError, CaptureSink, CaptureSource, Pacer, SinkOptions, SourceOptions};
use crate::control::{Control, LinkSource};
use crate::dpdk::{Eal, EthOptions, EthPort, InterfacePort, interface};
use crate::worker::Command;
use crate::worker::face::Face;
use crate::worker::port::{Capture, Io, Nic, Port};

use super::{devices, files};

/// Ethernet's usual MTU with two VLAN tags.
const FRAME_BYTES_DEFAULT: u32 = 1522;
/// Descriptors of a NIC queue.
const DESCRIPTORS: u16 = 512;

/// The longest frame that a port has.
pub fn max_frame(spec: &PortSpec) -> u32 {
    spec.max_frame.unwrap_or_else(|| match &spec.kind {
        PortKind::Capture(_) => CAPTURE_FRAME_BYTES_DEFAULT,
        PortKind::Interface { interface } => {
            interface::default_max_frame_bytes(interface).unwrap_or(FRAME_BYTES_DEFAULT)
        }
        PortKind::Devargs { .. } => FRAME_BYTES_DEFAULT,
    })
}

/// The longest frames that the kernel sends by a port, any and those with an 802.1Q tag first, where it is
/// the kernel that sends.
pub fn longest_sent(kind: &PortKind) -> Option<(u32, u32)> {
    match kind {
        PortKind::Interface { interface } => interface::longest_sent(interface),
        PortKind::Devargs { devargs } => interface::longest_sent_by(devargs),
        PortKind::Capture(_) => None,
    }
}

/// The longest IP packet of a port, as far as its specification says.
pub fn mtu(spec: &PortSpec) -> u32 {
    max_frame(spec).saturating_sub(22)
}

/// The data room that frames of these ports need, headroom included.
pub fn data_room(specs: &[&PortSpec], frame: u32) -> u16 {
    let plain = frame + dpdk_sys::RTE_PKTMBUF_HEADROOM;
    let interface = specs
        .iter()
        .any(|spec| matches!(spec.kind, PortKind::Interface { .. }));
    let needed = if interface {
        plain.max(interface::data_room_bytes(frame))
    } else {
        plain
    };
    needed
        .max(2048 + dpdk_sys::RTE_PKTMBUF_HEADROOM)
        .min(u16::MAX.into()) as u16
}

/// The longest frame that a data room of so many bytes, headroom included, has room for.
pub fn frame_room(data_room: u16) -> u32 {
    u32::from(data_room).saturating_sub(dpdk_sys::RTE_PKTMBUF_HEADROOM)
}

/// Buffers that a port's driver may keep.
pub fn reserve(spec: &PortSpec) -> u32 {
    match spec.kind {
        PortKind::Capture(_) => 0,
        _ => 2 * u32::from(DESCRIPTORS),
    }
}

impl Control {
    /// Makes a port and gives it to its worker.
    fn plug(&mut self, number: usize) -> Result<(), String> {
        let io = self.open_io(number)?;
        self.serve_port(number, io);
        Ok(())
    }

    /// What a port's cells are, by the numbers of their devices.
    pub(crate) fn faces(&self, port: &str) -> (Vec<Face>, Vec<Face>) {
        devices::faces(&self.config, port, |device| self.device_number(device))
    }

    /// Gives an opened port to its worker.
    pub(crate) fn serve_port(&mut self, number: usize, io: Io) {
        let faces = self.faces(&self.ports[number].spec.name);
        let entry = &mut self.ports[number];
        (entry.mac, entry.mtu) = (None, mtu(&entry.spec));
        if let Io::Nic(nic) = &io {
            let port = nic.port();
            entry.mac = Some(port.mac());
            entry.mtu = port.mtu().into();
            entry.notes = port.notes().to_vec();
            if let Nic::Interface(interface) = nic {
                entry.notes.extend(interface.changes().iter().cloned());
                let room = max_frame(&entry.spec).saturating_sub(interface::ETHERNET_BYTES);
                entry.mtu = interface.mtu().min(room);
            }
        }
        if let Io::Capture(capture) = &io {
            entry.faults = capture.faults();
            capture.sink.iter().for_each(CaptureSink::begin);
        }
        entry.link = match &io {
            Io::Nic(Nic::Interface(interface)) => {
                LinkSource::Kernel(Arc::clone(interface.carrier()))
            }
            Io::Nic(nic) => LinkSource::Dpdk(nic.port().port_id()),
            Io::Capture(_) => LinkSource::Always,
        };
        for note in &entry.notes {
            tracing::info!(port = entry.spec.name, "{note}");
        }
        entry.present = true;
        entry.started = false;
        entry.facts = devices::port_facts(&entry.spec);
        let facts = entry.facts;
        for worker in &self.workers {
            let port = number as u16;
            worker.tell(Command::Facts { port, facts });
        }
        // Its worker knows at which place it has the pool.
        let port = Port::new(number as u16, 0, io, faces, Arc::clone(&entry.counters));
        self.workers[entry.worker].tell(Command::AddPort {
            port: Box::new(port),
            pool: entry.pool as u8,
        });
    }

    pub(crate) fn open_io(&self, number: usize) -> Result<Io, String> {
        let entry = &self.ports[number];
        let pool = self.pool(entry.pool).ok_or("it has no pool")?;
        let pool = &pool.pool;
        let options = EthOptions {
            max_frame_bytes: max_frame(&entry.spec),
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
            ..EthOptions::default()
        };
        let eal = Eal::get().map_err(|error| error.to_string())?;
        match &entry.spec.kind {
            PortKind::Devargs { devargs } => EthPort::attach(eal, devargs, options, pool)
                .map(|port| Io::Nic(Nic::Eth(port)))
                .map_err(|error| error.to_string()),
            PortKind::Interface { interface } => {
                let attached = InterfacePort::attach(eal, interface, options, pool);
                attached
                    .map(|port| Io::Nic(Nic::Interface(port)))
                    .map_err(|error| error.to_string())
            }
            PortKind::Capture(spec) => {
                open_capture(spec, max_frame(&entry.spec), self.lossless).map(Io::Capture)
            }
        }
    }

    /// Adds a port that a device names and that is not there now.
    pub(crate) fn add_port(&mut self, name: &str, spec: &Value) -> Result<(), String> {
        let named = self.config.port(name).is_some();
        let number = self.port_number(name).filter(|_| named).ok_or_else(|| {
            format!(
                "no device names a port `{name}`; the configuration has {}",
                self.port_names()
            )
        })?;
        if self.ports[number].present {
            return Err(format!(
                "the port `{name}` is there already; remove it first"
            ));
        }
        let config = Config::from_json(
            &json!({ "ports": { name: spec }, "devices": { "d": { "mode": "direct", "ports": [name] } } }),
        );
        let new = config.map_err(|error| error.to_string())?.ports.remove(0);
        what_is_missing(&new.kind)?;
        let others = self.ports.iter().filter(|port| port.present);
        if let Some((_, why)) = files::conflict(others.map(|port| &port.spec).chain([&new])) {
            return Err(why);
        }
        let pool = self.pool(self.ports[number].pool);
        if pool.is_some_and(|pool| max_frame(&new) > frame_room(pool.pool.data_room_bytes())) {
            return Err(format!(
                "frames of {} bytes do not fit this domain's buffers; set `max_frame`",
                max_frame(&new)
            ));
        }
        if self.lossless && !new.is_lossless() {
            return Err("this platform is lossless as a whole: the port must be a capture with rate = \"lossless\"".into());
        }
        let before = std::mem::replace(&mut self.ports[number].spec, new);
        self.ports[number].counters.ended.set(0);
        self.plug(number)
            .inspect_err(|_| self.ports[number].spec = before)?;
        self.tell_port_facts();
        Ok(())
    }

    fn port_names(&self) -> String {
        self.config
            .ports
            .iter()
            .map(|port| port.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Takes a port out of service; `done` hears when it is.
    pub(crate) fn remove_port(&mut self, name: &str, done: Sender<Result<(), String>>) {
        let Some(number) = self.ports.iter().position(|port| port.spec.name == name) else {
            return drop(done.send(Err(format!(
                "there is no port `{name}`; there is {}",
                self.port_names()
            ))));
        };
        if !self.ports[number].present {
            return drop(done.send(Err(format!("the port `{name}` is not there now"))));
        }
        self.ports[number].removing = Some(done);
        self.workers[self.ports[number].worker].tell(Command::RemovePort {
            port: number as u16,
        });
    }

    /// A worker has given a port back; it is closed by whoever holds it, right after this.
    pub(crate) fn port_removed(&mut self, number: usize) {
        let entry = &mut self.ports[number];
        entry.present = false;
        if let Some(done) = entry.removing.take() {
            drop(done.send(Ok(())));
        }
    }
}

/// What a port stands on and that is not there: to be said before anything about its frames.
pub(crate) fn what_is_missing(kind: &PortKind) -> Result<(), String> {
    let there = |path: &Path, of: &Path, action| {
        let found = std::fs::metadata(path);
        found.map(drop).map_err(|source| {
            let path = of.to_owned();
            let error = CaptureError::Io {
                path,
                action,
                source,
            };
            error.to_string()
        })
    };
    match kind {
        PortKind::Devargs { .. } => Ok(()),
        PortKind::Interface { interface } => interface::default_max_frame_bytes(interface)
            .map(drop)
            .map_err(|error| error.to_string()),
        PortKind::Capture(spec) => {
            if let Some(path) = &spec.pcap {
                there(path, path, "open")?;
            }
            match &spec.out {
                Some(path) => {
                    let folder = path
                        .parent()
                        .filter(|folder| !folder.as_os_str().is_empty());
                    there(folder.unwrap_or(Path::new(".")), path, "create")
                }
                None => Ok(()),
            }
        }
    }
}

fn open_capture(
    spec: &CaptureSpec,
    frame_bytes_max: u32,
    lossless: bool,
) -> Result<Capture, String> {
    let source = |path| {
        let options = SourceOptions {
            loop_count: spec.loop_count,
            frame_bytes_max,
            ..SourceOptions::default()
        };
        CaptureSource::open(path, options).map_err(|error| error.to_string())
    };
    let sink = |path| {
        CaptureSink::create(
            path,
            SinkOptions {
                frame_bytes_max,
                ..SinkOptions::default()
            },
        )
        .map_err(|error| error.to_string())
    };
    Ok(Capture {
        source: spec.pcap.as_ref().map(source).transpose()?,
        sink: spec.out.as_ref().map(sink).transpose()?,
        pacer: match spec.rate {
            Rate::Recorded => Pacer::recorded(),
            Rate::Pps(packets) => Pacer::per_second((packets as u64).max(1)),
            Rate::Max | Rate::Lossless => Pacer::unpaced(),
        },
        lossless,
        started: false,
    })
}
