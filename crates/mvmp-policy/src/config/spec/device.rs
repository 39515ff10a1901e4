//! `[devices]`: virtual devices, and their cells of Table 1.

use mvmp_wire::packet::LayerSet;
use mvmp_wire::packet::encap::EncapSpec;

use crate::rule::Rule;

/// `[devices.NAME]`: a virtual device over N ≥ 0 ports.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceSpec {
    /// Its name.
    pub name: String,
    /// Which kind of device.
    pub mode: Mode,
    /// Its cells, one a port, in the order of `ports`.
    pub cells: Vec<Cell>,
    /// How the port is chosen by which a packet leaves; `None`: there is nothing to choose (direct, rootless).
    pub send: Option<SendPolicy>,
    /// What happens while no NF is there to send.
    pub absent: Absent,
}

impl DeviceSpec {
    /// The names of its ports, in the order of the file.
    pub fn ports(&self) -> impl Iterator<Item = &str> {
        self.cells.iter().map(|cell| cell.port.as_str())
    }

    /// The cell of this port; `None`: the port is not of this device.
    pub fn cell(&self, port: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.port == port)
    }

    /// What is received from this port; `None`: nothing is, or the port is not of this device.
    pub fn receive(&self, port: &str) -> Option<&Receive> {
        self.cell(port)?.receive.as_ref()
    }

    /// It receives what others send to this port.
    pub fn receives_outbound(&self, port: &str) -> bool {
        self.receive(port)
            .is_some_and(|receive| receive.direction != Toward::In)
    }
}

/// The kinds of virtual devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One port: what is sent leaves by it.
    Direct,
    /// Two ports or more that carry the same traffic: what is sent leaves by one of them.
    Bond,
    /// Two ports or more: what came by one leaves by another.
    Bridge,
    /// No port: what one NF sends, every other NF that receives here gets.
    Rootless,
}

impl Mode {
    /// As written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Bond => "bond",
            Self::Bridge => "bridge",
            Self::Rootless => "rootless",
        }
    }

    /// The send policy of a device of this mode that names none.
    pub const fn send_policy(self) -> Option<SendPolicy> {
        match self {
            Self::Bond => Some(SendPolicy::RoundRobin),
            Self::Bridge => Some(SendPolicy::Opposite),
            Self::Direct | Self::Rootless => None,
        }
    }
}

/// `send.policy`: how the port is chosen by which a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendPolicy {
    /// Bond: the ports in turn.
    RoundRobin,
    /// Bond: by a symmetric hash of the innermost 5-tuple, so that a flow keeps its port.
    Hash,
    /// Bond: the first port, in the order of `ports`, that is there and has a link.
    ActiveBackup,
    /// Bridge: by the port that the packet did not come from.
    Opposite,
}

impl SendPolicy {
    /// As written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Hash => "hash",
            Self::ActiveBackup => "active-backup",
            Self::Opposite => "opposite",
        }
    }
}

/// `absent`: what happens to the packets of a device while no NF is there to send them on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Absent {
    /// The named drop `no_nf`.
    #[default]
    Drop,
    /// The worker sends them on itself, as the send policy says.
    Bypass,
}

impl Absent {
    /// As written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Bypass => "bypass",
        }
    }
}

/// A cell of Table 1: the policy of one port in one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The port.
    pub port: String,
    /// What is received from it; `None`: the cell is empty, nothing is.
    pub receive: Option<Receive>,
    /// What is added to packets that leave by it.
    pub send: CellSend,
}

/// The receiving half of a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Receive {
    /// Which packets, as the NF will see them.
    pub rule: Rule,
    /// Layers that are jumped over; they go out again when the packet is sent to a port.
    pub decap: LayerSet,
    /// Layers that are removed for good. No layer is in both.
    pub strip: LayerSet,
    /// Which way the packets travel.
    pub direction: Toward,
}

impl Receive {
    /// Everything that comes in, as it comes.
    pub fn all() -> Self {
        Self {
            rule: Rule::all(),
            decap: LayerSet::default(),
            strip: LayerSet::default(),
            direction: Toward::In,
        }
    }
}

/// `direction`: which way packets travel that a cell receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Toward {
    /// They came by the port.
    #[default]
    In,
    /// Others send them to the port.
    Out,
    /// Both.
    InOut,
}

impl Toward {
    /// As written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::InOut => "inout",
        }
    }
}

/// The sending half of a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CellSend {
    /// Headers that are put in front, innermost first.
    pub encap: Option<EncapSpec>,
    /// Addresses of the Ethernet header in front of what begins with IP.
    pub ethernet: Option<Ethernet>,
}

impl CellSend {
    /// Packets leave as they are.
    pub fn is_plain(&self) -> bool {
        self.encap.is_none() && self.ethernet.is_none()
    }
}

/// The addresses of an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ethernet {
    /// Source MAC address.
    pub src: [u8; 6],
    /// Destination MAC address.
    pub dst: [u8; 6],
}

impl Ethernet {
    /// As a header begins: destination, source.
    pub fn header(&self) -> [u8; 12] {
        let mut header = [0; 12];
        header[..6].copy_from_slice(&self.dst);
        header[6..].copy_from_slice(&self.src);
        header
    }

    /// An address as it is written.
    pub fn text(address: [u8; 6]) -> String {
        address.map(|byte| format!("{byte:02x}")).join(":")
    }
}
