//! What a configuration says, as typed values.
//!
//! The reader builds these and the platform acts on them. Every value here has been checked:
//! names are unique and resolve, numbers are within their limits.

use std::path::PathBuf;

mod device;

pub use device::{Absent, Cell, CellSend, DeviceSpec, Ethernet, Mode, Receive, SendPolicy, Toward};

/// `[platform]`: what holds for the daemon as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct PlatformSpec {
    /// CPUs that workers are pinned to; `None`: the last CPU that the process may use.
    pub workers: Option<Vec<usize>>,
    /// Packet buffers in each pool.
    pub buffers: u32,
    /// Any NF on the shared socket may connect and open anything.
    pub open: bool,
    /// UDP ports that announce tunnels.
    pub tunnel_ports: TunnelPorts,
    /// Seconds without progress after which an NF, or a lossless platform, counts as stuck.
    pub stall_s: f64,
    /// What happens to a handle that is stuck.
    pub on_stall: OnStall,
    /// Seconds between two signs of life of an NF; after three missed ones it is dead.
    pub alive_s: f64,
    /// Longest nap of an idle worker that has ports to poll, in microseconds; `None`: 100 for NICs, 1000 for kernel and file ports.
    pub idle_nap_us: Option<u32>,
    /// Slots of a handle's rx ring, where it does not ask for another number; a power of two.
    pub ring_slots: u32,
    /// NF instances that may be connected at a time.
    pub max_nfs: u32,
}

/// Default of `[platform] buffers`.
pub const BUFFERS_DEFAULT: u32 = 16_384;
/// Default of `[platform] ring`.
pub const RING_SLOTS_DEFAULT: u32 = 2_048;
/// Default of `[platform] stall_s`.
pub const STALL_S_DEFAULT: f64 = 5.0;
/// Default of `[platform] alive_s`.
pub const ALIVE_S_DEFAULT: f64 = 1.0;
/// NF connections at the most, and the default of `[platform] max_nfs`.
pub const NFS_MAX: u32 = 63;
/// Default of an NF's `memory`.
pub const MEMORY_BYTES_DEFAULT: u64 = 1 << 20;
/// Default `max_frame` of a capture.
pub const CAPTURE_FRAME_BYTES_DEFAULT: u32 = 9_600;

impl Default for PlatformSpec {
    fn default() -> Self {
        Self {
            workers: None,
            buffers: BUFFERS_DEFAULT,
            open: false,
            tunnel_ports: TunnelPorts::default(),
            stall_s: STALL_S_DEFAULT,
            on_stall: OnStall::Log,
            alive_s: ALIVE_S_DEFAULT,
            idle_nap_us: None,
            ring_slots: RING_SLOTS_DEFAULT,
            max_nfs: NFS_MAX,
        }
    }
}

/// UDP destination ports by which tunnels are recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelPorts {
    /// VXLAN.
    pub vxlan: Vec<u16>,
    /// GENEVE.
    pub geneve: Vec<u16>,
    /// GTP-U.
    pub gtpu: Vec<u16>,
}

impl Default for TunnelPorts {
    fn default() -> Self {
        Self {
            vxlan: vec![4789, 8472],
            geneve: vec![6081],
            gtpu: vec![2152],
        }
    }
}

/// What happens to a handle that does not take its packets for `stall_s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStall {
    /// It is logged and counted.
    #[default]
    Log,
    /// It is also closed and reclaimed.
    Detach,
}

impl OnStall {
    /// As written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Detach => "detach",
        }
    }
}

/// `[ports]`: one NIC, or what stands in for it.
#[derive(Clone, Debug, PartialEq)]
pub struct PortSpec {
    /// Its name in the configuration.
    pub name: String,
    /// What it is.
    pub kind: PortKind,
    /// Queues in each direction; 1 for now.
    pub queues: u16,
    /// Longest frame in bytes; `None` (never for captures): the interface's MTU + 22.
    pub max_frame: Option<u32>,
}

impl PortSpec {
    /// Reads an argument of `--port`: `NIC1=in.pcap,out=o.pcap,rate=lossless`, `NIC1=net_null0`,
    /// `NIC1=eth1`; roles of `wait_for` are joined by `+`.
    ///
    /// # Errors
    /// Says what does not describe a port.
    pub fn from_argument(argument: &str) -> Result<Self, super::ConfigError> {
        super::argument::read(argument)
    }

    /// The capture that this port plays or writes, if it is one.
    pub fn capture(&self) -> Option<&CaptureSpec> {
        match &self.kind {
            PortKind::Capture(capture) => Some(capture),
            _ => None,
        }
    }

    /// Packets come from a file that is played without loss.
    pub fn is_lossless(&self) -> bool {
        self.capture()
            .is_some_and(|capture| capture.rate == Rate::Lossless)
    }
}

/// What a port is.
#[derive(Clone, Debug, PartialEq)]
pub enum PortKind {
    /// Any DPDK device, by its devargs: a PCI address or `net_…`.
    Devargs {
        /// As DPDK reads them.
        devargs: String,
    },
    /// A kernel interface by name; af_xdp or af_packet, as found.
    Interface {
        /// Its name.
        interface: String,
    },
    /// A capture file to play, to write, or both.
    Capture(CaptureSpec),
}

/// A port that is a capture file.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureSpec {
    /// The file that is played; `None`: nothing is received here.
    pub pcap: Option<PathBuf>,
    /// The file that is written; `None`: what is sent here is counted and gone.
    pub out: Option<PathBuf>,
    /// How often the file is played; 0: for ever.
    pub loop_count: u64,
    /// How fast it is played.
    pub rate: Rate,
    /// What it waits for before it starts; `None`: the rule of the platform (every NF that is named for it).
    pub wait_for: Option<WaitFor>,
}

impl CaptureSpec {
    /// The file that is written is pcap, by its name, and so holds frames of one link type.
    pub fn writes_pcap(&self) -> bool {
        let extension = self.out.as_ref().and_then(|out| out.extension());
        ["pcap", "cap"]
            .iter()
            .any(|pcap| extension.is_some_and(|found| found.eq_ignore_ascii_case(pcap)))
    }
}

impl Default for CaptureSpec {
    fn default() -> Self {
        Self {
            pcap: None,
            out: None,
            loop_count: 1,
            rate: Rate::Lossless,
            wait_for: None,
        }
    }
}

/// How fast a capture is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// With the gaps of its timestamps.
    Recorded,
    /// At this many packets per second.
    Pps(f64),
    /// As fast as it can; full rings drop and count, as with a NIC.
    Max,
    /// It keeps what it has read until every ring that it feeds has room.
    Lossless,
}

/// What a capture waits for before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// An instance of each of these roles, with all its devices open.
    Roles(Vec<String>),
    /// This many handles on its devices.
    Count(u32),
}

/// `[nfs.NAME]`: a role, and what its instances may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NfSpec {
    /// The role.
    pub name: String,
    /// What it may open.
    pub devices: Vec<Right>,
    /// Instances that may be connected at a time.
    pub instances: u32,
    /// Bytes of private memory of each instance.
    pub memory_bytes: u64,
    /// The user who speaks for this role on the shared socket.
    pub uid: Option<u32>,
    /// (device, group): of the members of a group on a device, each flow has one.
    pub groups: Vec<(String, String)>,
    /// Ports over which its instances may define devices of their own.
    pub may_define: Vec<String>,
}

impl NfSpec {
    /// What it may do with this device, if it may open it.
    pub fn right(&self, device: &str) -> Option<&Right> {
        self.devices.iter().find(|right| right.device == device)
    }

    /// The group in which it receives from this device; `None`: it gets every packet.
    pub fn group(&self, device: &str) -> Option<&str> {
        let mut groups = self.groups.iter();
        let (_, group) = groups.find(|(name, _)| name == device)?;
        Some(group)
    }
}

/// One entry of an NF's `devices`: `"span0:rx"`, `"virt0"`. `Display` prints it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// The device.
    pub device: String,
    /// It may receive from it.
    pub rx: bool,
    /// It may send to it.
    pub tx: bool,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let suffix = match (self.rx, self.tx) {
            (true, false) => ":rx",
            (false, true) => ":tx",
            _ => "",
        };
        write!(f, "{}{suffix}", self.device)
    }
}
