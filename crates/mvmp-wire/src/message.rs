//! Control messages: JSON objects of bounded size, one per SEQPACKET datagram.
//!
//! `docs/protocol.md` shows the order: hello → welcome (+ fds) → mapped → ready; open → opened
//! (+ fds) → mapped → ready; close → closed; alive at any time. A message of a type that the
//! receiver does not know is ignored, so that either side may be newer.

use serde::{Deserialize, Serialize};

use crate::packet::TunnelPorts;

/// The largest control message, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The most file descriptors that travel with one message.
pub const MAX_MESSAGE_FDS: usize = 200;

/// What an NF says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToPlatform {
    /// Who is there. The first message.
    Hello {
        /// [`crate::PROTOCOL_VERSION`] of the NF's library.
        protocol: u32,
        /// The role in the authorization table.
        role: String,
        /// Name and version of the library, for the log.
        #[serde(default)]
        library: String,
    },
    /// The regions of the last `welcome` or `opened` (then with its handle) are mapped.
    Mapped {
        /// The handle whose regions they are; absent after `welcome` and `pools`.
        #[serde(default)]
        handle: Option<u8>,
    },
    /// Opens a device.
    Open {
        /// Its name.
        device: String,
        /// Whether to receive; absent: what the table grants.
        #[serde(default)]
        rx: Option<bool>,
        /// Whether to send; absent: what the table grants.
        #[serde(default)]
        tx: Option<bool>,
        /// A rule that narrows what is received.
        #[serde(default, rename = "match")]
        rule: Option<String>,
        /// Rx ring slots; absent: the platform's default.
        #[serde(default)]
        ring: Option<u32>,
        /// The device itself, as the table of the configuration file: it is the NF's own, and lives
        /// as long as the handle is open. `device` is its name among those of this NF.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        define: Option<serde_json::Value>,
    },
    /// Closes a handle.
    Close {
        /// Its number.
        handle: u8,
    },
    /// Asks for the counters of a handle.
    Stats {
        /// Its number.
        handle: u8,
    },
    /// A sign of life, once a second.
    Alive,
    /// Any type that this version does not know.
    #[serde(other)]
    Unknown,
}

/// One pool, as an NF maps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolGeometry {
    /// Its number in descriptors.
    pub pool: u8,
    /// The worker that owns it: returns go to this worker's return ring.
    pub worker: u8,
    /// Bytes to map of the pool.
    pub bytes: u64,
    /// Granules, and so records.
    pub granules: u32,
}

/// One worker, as an NF sees it at hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerGeometry {
    /// Slots of the return ring in the up region.
    pub return_slots: u32,
}

/// One (worker, handle) pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneGeometry {
    /// Which worker.
    pub worker: u8,
    /// Slots of the rx ring in the down region.
    pub ring_slots: u32,
}

/// UDP destination ports by which the platform knows tunnels; NFs look for the same ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelPortLists {
    /// VXLAN.
    pub vxlan: Vec<u16>,
    /// GENEVE.
    pub geneve: Vec<u16>,
    /// GTP-U.
    pub gtpu: Vec<u16>,
}

impl Default for TunnelPortLists {
    fn default() -> Self {
        Self {
            vxlan: TunnelPorts::VXLAN.into(),
            geneve: TunnelPorts::GENEVE.into(),
            gtpu: TunnelPorts::GTPU.into(),
        }
    }
}

impl From<&TunnelPortLists> for TunnelPorts {
    fn from(lists: &TunnelPortLists) -> Self {
        Self::new(&lists.vxlan, &lists.geneve, &lists.gtpu)
    }
}

/// A port of a device, as its NFs see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortFacts {
    /// Its name.
    pub name: String,
    /// Its number in the `in_port` column.
    pub number: u16,
    /// Its MAC address, where it has one.
    #[serde(default)]
    pub mac: Option<[u8; 6]>,
    /// The largest IP packet that can be sent to it over this device, in bytes.
    pub mtu: u32,
}

/// What the platform says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromPlatform {
    /// Accepted. Fds: for each worker its up region, its status region, the write end of its
    /// wake pipe; then the private region.
    Welcome {
        /// [`crate::PROTOCOL_VERSION`] of the platform.
        protocol: u32,
        /// Version of the platform, for the log.
        platform: String,
        /// The instance's name, `role/0`.
        instance: String,
        /// Up-region geometry, one per worker.
        workers: Vec<WorkerGeometry>,
        /// Bytes of the private region.
        private_bytes: u64,
        /// All sources are lossless captures: sending waits instead of dropping.
        lossless: bool,
        /// By which UDP ports tunnels are known.
        #[serde(default)]
        tunnel_ports: TunnelPortLists,
    },
    /// What was mapped last is in use from now on.
    Ready {
        /// The handle, after `opened`.
        #[serde(default)]
        handle: Option<u8>,
    },
    /// A device is open. Fds: for each new pool its memory and its records; then for each lane
    /// its down region and the read end of its wake pipe.
    Opened {
        /// The handle's number: `arg` of what is sent over it.
        handle: u8,
        /// The handle's number within the platform, as descriptors carry it.
        slot: u8,
        /// May receive.
        rx: bool,
        /// May send.
        tx: bool,
        /// The device has no ports.
        rootless: bool,
        /// One per worker that delivers to this handle.
        lanes: Vec<LaneGeometry>,
        /// Pools that were not announced to this NF before.
        pools: Vec<PoolGeometry>,
        /// The device's ports.
        ports: Vec<PortFacts>,
    },
    /// More pools can now reach this NF. Fds: memory and records of each. Answered by `mapped` without a handle.
    Pools {
        /// The new ones.
        pools: Vec<PoolGeometry>,
    },
    /// The ports of a handle's device are these now, or can take something else.
    Ports {
        /// Its number.
        handle: u8,
        /// All of them.
        ports: Vec<PortFacts>,
    },
    /// A handle is closed.
    Closed {
        /// Its number.
        handle: u8,
    },
    /// The counters of a handle.
    Stats {
        /// As in `mvmp status -o json`.
        stats: serde_json::Value,
    },
    /// The platform has taken a handle, or everything, away.
    Detached {
        /// The handle; absent: all.
        #[serde(default)]
        handle: Option<u8>,
        /// Why.
        reason: String,
    },
    /// The request failed.
    Error {
        /// What kind, as the NF's library names it.
        code: ErrorCode,
        /// What, where, what to do.
        message: String,
        /// For [`ErrorCode::Policy`]: where in the rule.
        #[serde(default)]
        line: u32,
        /// Likewise.
        #[serde(default)]
        column: u32,
        /// What to try.
        #[serde(default)]
        hint: Option<String>,
    },
    /// The platform is going down in order.
    Bye,
    /// Any type that this version does not know.
    #[serde(other)]
    Unknown,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Versions differ.
    Version,
    /// The authorization table does not grant it.
    NotAuthorized,
    /// All instances of the role are taken.
    NameInUse,
    /// No such device, handle or the like.
    Config,
    /// The rule is wrong.
    Policy,
    /// The platform has no room: slots, handles, buffers.
    NoRoom,
    /// The message was not understood.
    Malformed,
    /// What could not be known beforehand.
    #[serde(other)]
    Other,
}
