//! Every key that a configuration can have: the reader refuses others, the schema lists these.

mod device;

pub(super) use device::*;

/// Whether a key has an effect already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Now,
    /// Known by name, and refused with "not supported yet".
    Later,
}

/// A key of ours.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) status: Status,
    pub(super) doc: &'static str,
    /// The JSON Schema of its value, without the description.
    pub(super) schema: &'static str,
}

const fn now(name: &'static str, schema: &'static str, doc: &'static str) -> Field {
    Field {
        name,
        status: Status::Now,
        doc,
        schema,
    }
}

const fn later(name: &'static str, doc: &'static str) -> Field {
    Field {
        name,
        status: Status::Later,
        doc,
        schema: r#"{"not": {}}"#,
    }
}

const UDP_PORTS: &str =
    r#"{"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}}"#;

pub(super) const ROOT: &[Field] = &[
    now(
        "platform",
        r##"{"$ref": "#/$defs/platform"}"##,
        "What holds for the daemon as a whole.",
    ),
    now(
        "ports",
        r##"{"type": "object", "propertyNames": {"$ref": "#/$defs/name"}, "additionalProperties": {"$ref": "#/$defs/port"}, "maxProperties": 32}"##,
        "NICs, and what stands in for them, by name.",
    ),
    now(
        "devices",
        r##"{"type": "object", "propertyNames": {"$ref": "#/$defs/name"}, "additionalProperties": {"$ref": "#/$defs/device"}, "maxProperties": 64}"##,
        "Virtual devices over ports, by name.",
    ),
    now(
        "nfs",
        r##"{"type": "object", "propertyNames": {"$ref": "#/$defs/name"}, "additionalProperties": {"$ref": "#/$defs/nf"}}"##,
        "The authorization table: roles and what they may do. Who is not named may not connect unless platform.open = true.",
    ),
];

pub(super) const PLATFORM: &[Field] = &[
    now(
        "workers",
        r#"{"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 1023}, "minItems": 1, "uniqueItems": true}"#,
        "CPUs that workers are pinned to. Default: the last allowed CPU.",
    ),
    now(
        "buffers",
        r#"{"type": "integer", "minimum": 256, "maximum": 8388608, "default": 16384}"#,
        "Packet buffers in each pool.",
    ),
    now(
        "open",
        r#"{"type": "boolean", "default": false}"#,
        "Any NF on the shared socket may connect and open anything.",
    ),
    now(
        "tunnel_ports",
        r##"{"$ref": "#/$defs/tunnel_ports"}"##,
        "UDP destination ports by which tunnels are recognised.",
    ),
    now(
        "stall_s",
        r#"{"type": "number", "minimum": 0.01, "maximum": 86400, "default": 5}"#,
        "Seconds without progress after which an NF, or a lossless platform, counts as stuck.",
    ),
    now(
        "on_stall",
        r#"{"enum": ["log", "detach"], "default": "log"}"#,
        "What happens to a handle that is stuck: logged and counted, or also closed and reclaimed.",
    ),
    now(
        "alive_s",
        r#"{"type": "number", "minimum": 0.05, "maximum": 3600, "default": 1}"#,
        "Seconds between an NF's signs of life; after three missed ones it is dead.",
    ),
    now(
        "idle_nap_us",
        r#"{"type": "integer", "minimum": 0, "maximum": 1000000}"#,
        "Longest nap of an idle worker in microseconds. Default: 100 for NICs, 1000 for kernel and file ports.",
    ),
    now(
        "ring",
        r#"{"type": "integer", "minimum": 64, "maximum": 32768, "default": 2048}"#,
        "Slots of a handle's rx ring where it asks for no other number; a power of two.",
    ),
    now(
        "max_nfs",
        r#"{"type": "integer", "minimum": 1, "maximum": 63, "default": 63}"#,
        "NF instances that may be connected at a time.",
    ),
];

pub(super) const TUNNEL_PORTS: &[Field] = &[
    now("vxlan", UDP_PORTS, "VXLAN. Default: 4789, 8472."),
    now("geneve", UDP_PORTS, "GENEVE. Default: 6081."),
    now("gtpu", UDP_PORTS, "GTP-U. Default: 2152."),
];

pub(super) const PORT: &[Field] = &[
    now(
        "devargs",
        r#"{"type": "string", "minLength": 1}"#,
        "Any DPDK device: a PCI address or net_…; a string alone is short for this.",
    ),
    now(
        "interface",
        r#"{"type": "string", "minLength": 1, "maxLength": 15}"#,
        "A kernel interface by name; af_xdp or af_packet, as found.",
    ),
    now(
        "pcap",
        r#"{"type": "string", "minLength": 1}"#,
        "A capture file (pcap or pcapng) that is played.",
    ),
    now(
        "out",
        r#"{"type": "string", "minLength": 1}"#,
        "A capture file that is written with what is sent.",
    ),
    now(
        "loop",
        r#"{"type": "integer", "minimum": 0, "default": 1}"#,
        "How often the capture is played; 0: for ever.",
    ),
    now(
        "rate",
        r#"{"anyOf": [{"enum": ["recorded", "max", "lossless"]}, {"type": "number", "exclusiveMinimum": 0}], "default": "lossless"}"#,
        "With the recorded gaps, in packets per second, as fast as it can, or without loss.",
    ),
    now(
        "wait_for",
        r#"{"anyOf": [{"type": "array", "items": {"type": "string"}, "uniqueItems": true}, {"type": "integer", "minimum": 0, "maximum": 4096}]}"#,
        "Roles, or a number of handles, that must be there before the capture starts.",
    ),
    now(
        "queues",
        r#"{"type": "integer", "minimum": 1, "maximum": 64, "default": 1}"#,
        "Queues in each direction; more than one is not supported yet.",
    ),
    now(
        "max_frame",
        r#"{"type": "integer", "minimum": 64, "maximum": 9600}"#,
        "Longest frame in bytes. Default: the interface's MTU + 22; captures 9600.",
    ),
];

pub(super) const NF: &[Field] = &[
    now(
        "devices",
        r#"{"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]*(:rx|:tx)?$"}, "uniqueItems": true}"#,
        "What it may open: NAME:rx, NAME:tx, or NAME for both.",
    ),
    now(
        "instances",
        r#"{"type": "integer", "minimum": 1, "maximum": 63, "default": 1}"#,
        "Instances that may be connected at a time.",
    ),
    now(
        "memory",
        r#"{"anyOf": [{"type": "string", "pattern": "^[0-9]+[KMG]?$"}, {"type": "integer", "minimum": 65536}], "default": "1M"}"#,
        "Private memory of each instance: 64K to 1G.",
    ),
    now(
        "uid",
        r#"{"type": "integer", "minimum": 0, "maximum": 4294967294}"#,
        "The user who speaks for this role on the shared socket.",
    ),
    now(
        "groups",
        r##"{"type": "object", "additionalProperties": {"$ref": "#/$defs/name"}}"##,
        "By device, the group in which its instances receive: of the members of a group, each flow has one. Without: every instance gets every packet.",
    ),
    now(
        "may_define",
        r#"{"type": "array", "items": {"type": "string"}, "uniqueItems": true}"#,
        "Ports over which its instances may define devices of their own.",
    ),
    later("grants", "Who may map this NF's private memory."),
];
