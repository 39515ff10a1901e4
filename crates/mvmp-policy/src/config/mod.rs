//! The configuration: a TOML file, or the same as JSON, read into checked, typed values.
//!
//! ```text
//! TOML ──┐                                              ┌─▶ check(): warnings
//!        ├─▶ tree (with places) ─▶ reader, by section ─▶ Config ─▶ domains(), reach()
//! JSON ──┘                          keys: known, later  ├─▶ replace_port(): --port
//!                                                       ├─▶ to_json(): what holds, defaults included
//!                                                       └─▶ diff(): what an `apply` would change
//! ```
//!
//! `mvmp up`, `mvmp check` and the Python `Platform` call [`Config::from_toml`] or
//! [`Config::from_json`]. What belongs to later versions is known here by name and refused with
//! "not supported yet", so that no setting is ever silently without effect.

mod argument;
mod cells;
mod check;
mod devices;
mod diff;
mod domain;
mod encap;
mod error;
mod keys;
mod names;
mod nfs;
mod platform;
mod ports;
mod reader;
mod schema;
mod source;
mod spec;
mod tree;
mod write;

pub use diff::{Change, Detail, Item, Kind, Section};
pub use domain::Domain;
pub use error::{ConfigError, Warning};
pub use spec::{
    ALIVE_S_DEFAULT, Absent, BUFFERS_DEFAULT, CAPTURE_FRAME_BYTES_DEFAULT, CaptureSpec, Cell,
    CellSend, DeviceSpec, Ethernet, MEMORY_BYTES_DEFAULT, Mode, NFS_MAX, NfSpec, OnStall,
    PlatformSpec, PortKind, PortSpec, RING_SLOTS_DEFAULT, Rate, Receive, Right, STALL_S_DEFAULT,
    SendPolicy, Toward, TunnelPorts, WaitFor,
};

use reader::Place;
use source::Source;

/// A whole configuration, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `[platform]`.
    pub platform: PlatformSpec,
    /// `[ports]`, in the order of the file.
    pub ports: Vec<PortSpec>,
    /// `[devices]`, in the order of the file.
    pub devices: Vec<DeviceSpec>,
    /// `[nfs]`, in the order of the file.
    pub nfs: Vec<NfSpec>,
}

impl Config {
    /// Reads a TOML file. `file` is its name, for messages alone.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, ConfigError> {
        let source = Source {
            file,
            text: Some(text),
        };
        let root = tree::from_toml(&source)?;
        Self::read(&Place::root(&source, &root))
    }

    /// Reads the same as JSON (a Python dict). Errors have no line: 0.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, ConfigError> {
        let source = Source {
            file: "configuration",
            text: None,
        };
        let root = tree::from_json(&source, value, 0)?;
        Self::read(&Place::root(&source, &root))
    }

    fn read(root: &Place<'_>) -> Result<Self, ConfigError> {
        let fields = root.fields(keys::ROOT)?;
        let platform = fields.read("platform", platform::read)?.unwrap_or_default();
        let ports = fields.read("ports", |place| {
            names::read(place, names::PORTS, ports::read)
        })?;
        let ports = ports.unwrap_or_default();
        let devices = fields.read("devices", |place| {
            names::read(place, names::DEVICES, |name, place| {
                devices::read(name, place, &ports)
            })
        })?;
        let devices = devices.unwrap_or_default();
        let nfs = fields.read("nfs", |place| {
            names::read(place, names::ROLES, |name, place| {
                let open = platform.open;
                nfs::read(
                    name,
                    place,
                    &nfs::Known {
                        devices: &devices,
                        ports: &ports,
                        open,
                    },
                )
            })
        })?;
        let config = Self {
            platform,
            ports,
            devices,
            nfs: nfs.unwrap_or_default(),
        };
        if let Some(place) = fields.get("ports") {
            config.check_waits(place)?;
        }
        Ok(config)
    }

    /// Reads one device as JSON, the table that the file would have, over ports that exist: for NFs
    /// that define devices of their own.
    ///
    /// # Errors
    /// The first thing that is wrong with it; lines are 0.
    pub fn from_device_json(
        name: &str,
        value: &serde_json::Value,
        ports: &[PortSpec],
    ) -> Result<DeviceSpec, ConfigError> {
        let source = Source {
            file: "device",
            text: None,
        };
        let root = tree::from_json(&source, value, 0)?;
        let place = Place {
            path: reader::dotted("", name),
            ..Place::root(&source, &root)
        };
        names::check(name, &place, names::DEVICES)?;
        devices::read(name, &place, ports)
    }

    /// The same configuration as JSON, with its defaults: [`Config::from_json`] reads it back.
    pub fn to_json(&self) -> serde_json::Value {
        write::config(self)
    }

    /// What an `apply` of `new` to this one would change, item by item, and what of it a running
    /// platform cannot do.
    pub fn diff(&self, new: &Self) -> Change {
        diff::diff(self, new)
    }

    /// The roles that captures wait for exist. They come last in the file, so this is read last.
    fn check_waits(&self, ports: &Place<'_>) -> Result<(), ConfigError> {
        for (_, port) in ports.entries()?.iter().filter(|(_, port)| port.is_table()) {
            let Some(waits) = port.fields(keys::PORT)?.get("wait_for").cloned() else {
                continue;
            };
            if waits.is_list() {
                for (role, place) in waits.strings()? {
                    let known = self.nfs.iter().map(|nf| nf.name.as_str());
                    names::resolve(role, &place, names::ROLES, known)?;
                }
            }
        }
        Ok(())
    }

    /// The JSON Schema of the file.
    pub fn schema() -> serde_json::Value {
        schema::schema()
    }

    /// What is allowed but perhaps not meant, and who can read whose packets.
    pub fn check(&self) -> Vec<Warning> {
        check::check(self)
    }

    /// Replaces the port of that name, for `--port`; it keeps its place.
    ///
    /// # Errors
    /// There is no such port, or it waits for a role that does not exist.
    pub fn replace_port(&mut self, port: PortSpec) -> Result<(), ConfigError> {
        let source = Source {
            file: "--port",
            text: None,
        };
        let mut place = Place::root(&source, &tree::KEY_ONLY);
        let known: Vec<_> = self.ports.iter().map(|port| port.name.as_str()).collect();
        names::resolve(&port.name, &place, names::PORTS, known.iter().copied())?;
        place.path = reader::dotted("", &port.name);
        if let Some(CaptureSpec {
            wait_for: Some(WaitFor::Roles(roles)),
            ..
        }) = port.capture()
        {
            let known: Vec<_> = self.nfs.iter().map(|nf| nf.name.as_str()).collect();
            for role in roles {
                names::resolve(role, &place, names::ROLES, known.iter().copied())?;
            }
        }
        if let Some(old) = self.ports.iter_mut().find(|old| old.name == port.name) {
            *old = port;
        }
        Ok(())
    }

    /// Connected components of ports, by their first port's place in the file. Every port is in exactly one.
    pub fn domains(&self) -> Vec<Domain> {
        domain::domains(self)
    }

    /// For each role, in the order of `nfs`: the domains (indices into [`Self::domains`], ascending)
    /// whose packets it can be handed, over rootless devices too. It maps their pools.
    pub fn reach(&self) -> Vec<Vec<usize>> {
        domain::reach(self)
    }

    /// The port with this name.
    pub fn port(&self, name: &str) -> Option<&PortSpec> {
        self.ports.iter().find(|port| port.name == name)
    }

    /// The device with this name.
    pub fn device(&self, name: &str) -> Option<&DeviceSpec> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// The role with this name.
    pub fn nf(&self, name: &str) -> Option<&NfSpec> {
        self.nfs.iter().find(|nf| nf.name == name)
    }

    /// Place of this port in [`Config::ports`].
    pub fn port_index(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.name == name)
    }

    /// Place of this device in [`Config::devices`].
    pub fn device_index(&self, name: &str) -> Option<usize> {
        self.devices.iter().position(|device| device.name == name)
    }

    /// Every port plays or writes a capture without loss: the platform is lossless as a whole.
    pub fn is_lossless(&self) -> bool {
        !self.ports.is_empty() && self.ports.iter().all(PortSpec::is_lossless)
    }
}
