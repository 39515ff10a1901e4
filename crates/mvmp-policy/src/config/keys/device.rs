//! The keys of `[devices.NAME]`, its cells, and what a cell adds when sending.

use super::{Field, later, now};

const LAYERS: &str = r#"{"anyOf": [{"const": "auto"}, {"type": "array", "items": {"enum": ["vlan", "mpls", "pppoe", "gre", "nvgre", "erspan", "vxlan", "geneve", "ipip", "gtp", "auto"]}, "uniqueItems": true}]}"#;
const MAC: &str = r#"{"type": "string", "pattern": "^[0-9A-Fa-f]{1,2}([:-][0-9A-Fa-f]{1,2}){5}$"}"#;
const VNI: &str = r#"{"type": "integer", "minimum": 0, "maximum": 16777215}"#;
const VLAN_ID: &str = r#"{"type": "integer", "minimum": 0, "maximum": 4094}"#;

pub(in super::super) const DEVICE: &[Field] = &[
    now(
        "mode",
        r#"{"enum": ["direct", "bond", "bridge", "rootless"]}"#,
        "direct (one port), bond and bridge (two or more), rootless (none).",
    ),
    now(
        "ports",
        r#"{"type": "array", "items": {"type": "string"}, "uniqueItems": true, "maxItems": 32}"#,
        "Its ports, by name.",
    ),
    now(
        "receive",
        r##"{"type": "object", "additionalProperties": {"$ref": "#/$defs/receive"}}"##,
        "What is received, port by port. Absent: all from every port; a port that is left out: nothing.",
    ),
    now(
        "send",
        r##"{"$ref": "#/$defs/send"}"##,
        "How packets are sent.",
    ),
    now(
        "absent",
        r#"{"enum": ["drop", "bypass"], "default": "drop"}"#,
        "What happens to packets while no NF is there to send them on: dropped, or sent on by the platform.",
    ),
    later("addresses", "Addresses of the device."),
    later("copy", "Copies into the receiver's pool."),
    later("via", "Whether packets may travel from NF to NF."),
];

pub(in super::super) const RECEIVE: &[Field] = &[
    now(
        "match",
        r#"{"type": "string", "default": "all"}"#,
        "A rule in tcpdump's words; a string alone is short for this.",
    ),
    now(
        "decap",
        LAYERS,
        "Layers that are jumped over; they go out again when the packet is sent.",
    ),
    now("strip", LAYERS, "Layers that are removed for good."),
    now(
        "direction",
        r#"{"enum": ["in", "out", "inout"], "default": "in"}"#,
        "What came by the port, what others send to it, or both.",
    ),
];

pub(in super::super) const SEND: &[Field] = &[now(
    "policy",
    r#"{"enum": ["round-robin", "hash", "active-backup", "opposite"]}"#,
    "How the port is chosen. Bonds: round-robin (the default), hash (of the innermost 5-tuple), active-backup. Bridges: opposite, by the port that the packet did not come from.",
)];

pub(in super::super) const SEND_CELL: &[Field] = &[
    now(
        "encap",
        r##"{"anyOf": [{"$ref": "#/$defs/encap"}, {"type": "array", "items": {"$ref": "#/$defs/encap"}, "minItems": 1}]}"##,
        "Headers that are put in front, innermost first.",
    ),
    now(
        "ethernet",
        r##"{"$ref": "#/$defs/ethernet"}"##,
        "Addresses of the Ethernet header in front of what begins with IP.",
    ),
];

pub(in super::super) const ETHERNET: &[Field] = &[
    now("src", MAC, "Source address."),
    now("dst", MAC, "Destination address."),
];

pub(in super::super) const ENCAP: &[Field] = &[
    now(
        "vlan",
        r##"{"anyOf": [{"type": "integer", "minimum": 0, "maximum": 4094}, {"const": "pop"}, {"$ref": "#/$defs/encap_vlan"}]}"##,
        "A tag, by its id; \"pop\" takes the outermost one off.",
    ),
    now(
        "gre",
        r##"{"$ref": "#/$defs/encap_gre"}"##,
        "GRE (RFC 2784, 2890).",
    ),
    now(
        "vxlan",
        r##"{"$ref": "#/$defs/encap_vxlan"}"##,
        "VXLAN (RFC 7348).",
    ),
    now(
        "geneve",
        r##"{"$ref": "#/$defs/encap_geneve"}"##,
        "GENEVE (RFC 8926).",
    ),
    now(
        "ipip",
        r##"{"$ref": "#/$defs/encap_ipip"}"##,
        "IP in IP (RFC 2003, 2473, 4213).",
    ),
];

pub(in super::super) const ENCAP_VLAN: &[Field] = &[
    now("id", VLAN_ID, "VLAN id."),
    now(
        "pcp",
        r#"{"type": "integer", "minimum": 0, "maximum": 7, "default": 0}"#,
        "Priority.",
    ),
    now(
        "tpid",
        r#"{"enum": [33024, 34984, 37120], "default": 33024}"#,
        "What announces the tag: 0x8100 (802.1Q), 0x88a8 (802.1ad), 0x9100.",
    ),
];

const LOCAL: Field = now("local", r#"{"type": "string"}"#, "Outer source address.");
const REMOTE: Field = now(
    "remote",
    r#"{"type": "string"}"#,
    "Outer destination address, of the same family.",
);
const TTL: Field = now(
    "ttl",
    r#"{"type": "integer", "minimum": 1, "maximum": 255, "default": 64}"#,
    "Outer TTL or hop limit.",
);
const VXLAN_PORT: &str = r#"{"type": "integer", "minimum": 1, "maximum": 65535, "default": 4789}"#;
const GENEVE_PORT: &str = r#"{"type": "integer", "minimum": 1, "maximum": 65535, "default": 6081}"#;

pub(in super::super) const ENCAP_GRE: &[Field] = &[
    now(
        "key",
        r#"{"type": "integer", "minimum": 0, "maximum": 4294967295}"#,
        "Key. Absent: none is sent.",
    ),
    LOCAL,
    REMOTE,
    TTL,
];

pub(in super::super) const ENCAP_VXLAN: &[Field] = &[
    now("vni", VNI, "Network identifier."),
    now("port", VXLAN_PORT, "UDP destination port."),
    LOCAL,
    REMOTE,
    TTL,
];

pub(in super::super) const ENCAP_GENEVE: &[Field] = &[
    now("vni", VNI, "Network identifier."),
    now("port", GENEVE_PORT, "UDP destination port."),
    LOCAL,
    REMOTE,
    TTL,
];

pub(in super::super) const ENCAP_IPIP: &[Field] = &[LOCAL, REMOTE, TTL];
