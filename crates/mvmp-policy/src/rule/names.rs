//! The words of the language, and well-known numbers by name.

use super::ast::LayerWord;

/// Words that can begin or qualify a primitive, for suggestions.
pub(super) const WORDS: &[&str] = &[
    "all",
    "none",
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "sctp",
    "host",
    "net",
    "port",
    "portrange",
    "proto",
    "src",
    "dst",
    "vlan",
    "mpls",
    "pppoe",
    "gre",
    "nvgre",
    "erspan",
    "vxlan",
    "geneve",
    "ipip",
    "gtp",
    "outer",
    "frag",
    "length",
    "less",
    "greater",
    "broadcast",
    "ether",
    "and",
    "or",
    "not",
];

/// tcpdump's words that this dialect does not have, and what to write instead.
const REFUSED: &[(&str, &str)] = &[
    ("multicast", "write `net 224.0.0.0/4 or net ff00::/8`"),
    (
        "ah",
        "write `ip proto ah`; behind IPv6's extension headers the protocol is what follows",
    ),
    ("gateway", "write `ether host …` and `not host …`"),
    ("inbound", "say it beside the rule: `direction = \"in\"`"),
    ("outbound", "say it beside the rule: `direction = \"out\"`"),
];

/// tcpdump's short words for one protocol: EtherType or IP protocol.
pub(super) const SHORT: &[(&str, Short)] = &[
    ("rarp", Short::EtherType(0x8035)),
    ("igmp", Short::IpProtocol(2)),
    ("esp", Short::IpProtocol(50)),
    ("pim", Short::IpProtocol(103)),
    ("vrrp", Short::IpProtocol(112)),
];

/// What a short word stands for.
#[derive(Clone, Copy)]
pub(super) enum Short {
    EtherType(u16),
    IpProtocol(u8),
}

/// TCP flags as on the wire.
pub(super) const TCP_FLAGS: [(&str, u16); 9] = [
    ("fin", 0x001),
    ("syn", 0x002),
    ("rst", 0x004),
    ("psh", 0x008),
    ("ack", 0x010),
    ("urg", 0x020),
    ("ece", 0x040),
    ("cwr", 0x080),
    ("ns", 0x100),
];

const ICMP_TYPES: &[(&str, u16)] = &[
    ("echo-reply", 0),
    ("unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
];

const ICMP6_TYPES: &[(&str, u16)] = &[
    ("unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-query", 130),
    ("mld-report", 131),
    ("mld-done", 132),
    ("router-solicitation", 133),
    ("router-advertisement", 134),
    ("neighbour-solicitation", 135),
    ("neighbor-solicitation", 135),
    ("neighbour-advertisement", 136),
    ("neighbor-advertisement", 136),
    ("redirect", 137),
    ("mld2-report", 143),
];

const PORTS: &[(&str, u16)] = &[
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("dns", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("http", 80),
    ("www", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("ntp", 123),
    ("netbios-ns", 137),
    ("netbios-dgm", 138),
    ("netbios-ssn", 139),
    ("imap", 143),
    ("imap2", 143),
    ("snmp", 161),
    ("snmp-trap", 162),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("isakmp", 500),
    ("syslog", 514),
    ("rtsp", 554),
    ("submission", 587),
    ("ldaps", 636),
    ("ftps", 990),
    ("imaps", 993),
    ("pop3s", 995),
    ("socks", 1080),
    ("openvpn", 1194),
    ("radius", 1812),
    ("mqtt", 1883),
    ("gtpu", 2152),
    ("nfs", 2049),
    ("mysql", 3306),
    ("rdp", 3389),
    ("stun", 3478),
    ("ipsec-nat-t", 4500),
    ("vxlan", 4789),
    ("sip", 5060),
    ("sips", 5061),
    ("mdns", 5353),
    ("postgresql", 5432),
    ("amqp", 5672),
    ("geneve", 6081),
    ("redis", 6379),
    ("http-alt", 8080),
    ("wireguard", 51820),
];

const IP_PROTOCOLS: &[(&str, u16)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmp6", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

const ETHER_TYPES: &[(&str, u16)] = &[
    ("ip", 0x0800),
    ("arp", 0x0806),
    ("rarp", 0x8035),
    ("ip6", 0x86dd),
    ("mpls", 0x8847),
    ("mpls-multicast", 0x8848),
    ("pppoed", 0x8863),
    ("pppoe", 0x8864),
    ("eapol", 0x888e),
    ("lldp", 0x88cc),
    ("macsec", 0x88e5),
    ("ptp", 0x88f7),
    ("loopback", 0x9000),
];

/// Numbers of one kind, some of which have names.
#[derive(Clone, Copy)]
pub(super) struct Table {
    /// What a number of it is called in messages.
    pub(super) noun: &'static str,
    pub(super) max: u32,
    /// How several in a row are written, before the range.
    pub(super) several: &'static str,
    names: &'static [(&'static str, u16)],
}

pub(super) const PORT: Table = Table {
    noun: "port",
    max: 65_535,
    several: "portrange ",
    names: PORTS,
};
pub(super) const IP_PROTOCOL: Table = Table {
    noun: "IP protocol",
    max: 255,
    several: "",
    names: IP_PROTOCOLS,
};
pub(super) const ETHER_TYPE: Table = Table {
    noun: "EtherType",
    max: 65_535,
    several: "",
    names: ETHER_TYPES,
};
pub(super) const ICMP_TYPE: Table = Table {
    noun: "ICMP type",
    max: 255,
    several: "icmp type ",
    names: ICMP_TYPES,
};
pub(super) const ICMP6_TYPE: Table = Table {
    noun: "ICMPv6 type",
    max: 255,
    several: "icmp6 type ",
    names: ICMP6_TYPES,
};
pub(super) const ICMP_CODE: Table = bare("ICMP code", 255);
pub(super) const LENGTH: Table = bare("number of bytes", u32::MAX);

const fn bare(noun: &'static str, max: u32) -> Table {
    Table {
        noun,
        max,
        several: "",
        names: &[],
    }
}

/// The word that may stand before a layer's id, and what its ids are; `None`: it has none.
pub(super) const fn ids_of(word: LayerWord) -> Option<(&'static str, Table)> {
    Some(match word {
        LayerWord::Vlan => ("id", bare("VLAN id", 4_095)),
        LayerWord::Mpls => ("label", bare("MPLS label", (1 << 20) - 1)),
        LayerWord::Pppoe => ("session", bare("PPPoE session", 65_535)),
        LayerWord::Gre => ("key", bare("GRE key", u32::MAX)),
        LayerWord::Nvgre => ("vsid", bare("NVGRE subnet id", (1 << 24) - 1)),
        LayerWord::Erspan => ("session", bare("ERSPAN session", 1_023)),
        LayerWord::Vxlan => ("vni", bare("VXLAN network id", (1 << 24) - 1)),
        LayerWord::Geneve => ("vni", bare("GENEVE network id", (1 << 24) - 1)),
        LayerWord::Gtp => ("teid", bare("GTP endpoint id", u32::MAX)),
        LayerWord::Ipip => return None,
    })
}

impl Table {
    /// "a" or "an", as its noun wants.
    pub(super) fn article(&self) -> &'static str {
        // As the abbreviations are spoken: an MPLS label, an NVGRE subnet.
        if self.noun.starts_with(['I', 'E', 'M', 'N']) {
            "an"
        } else {
            "a"
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<u16> {
        self.names
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, number)| *number)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().map(|(name, _)| *name)
    }
}

/// What to write instead of a word of tcpdump's that this dialect does not have.
pub(super) fn refused(word: &str) -> Option<&'static str> {
    REFUSED
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, instead)| *instead)
}

/// What a short word stands for.
pub(super) fn short(word: &str) -> Option<Short> {
    SHORT
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, short)| *short)
}
