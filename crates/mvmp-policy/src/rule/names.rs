//! The words of the language, and well-known numbers by name.

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
    "ether",
    "and",
    "or",
    "not",
];

/// Words of later versions, and what to write meanwhile.
pub(super) const LATER: &[(&str, Option<&str>)] = &[
    (
        "mpls",
        Some("`ether proto mpls` finds frames that carry MPLS"),
    ),
    ("vxlan", Some("`udp dst port 4789` finds VXLAN by its port")),
    (
        "geneve",
        Some("`udp dst port 6081` finds GENEVE by its port"),
    ),
    ("gre", Some("`proto gre` finds GRE by its protocol number")),
    (
        "nvgre",
        Some("`proto gre` finds GRE by its protocol number"),
    ),
    ("gtp", Some("`udp dst port 2152` finds GTP-U by its port")),
    ("pppoe", Some("`ether proto pppoe` finds PPPoE sessions")),
    (
        "erspan",
        Some("`proto gre` finds GRE by its protocol number"),
    ),
    (
        "ipip",
        Some("`proto ipip` finds IP in IP by its protocol number"),
    ),
    ("outer", None),
    ("frag", None),
    ("length", None),
    ("len", None),
    ("less", None),
    ("greater", None),
    ("broadcast", Some("`ether dst ff:ff:ff:ff:ff:ff`")),
    ("multicast", Some("`net 224.0.0.0/4 or net ff00::/8`")),
    ("gateway", None),
    ("inbound", None),
    ("outbound", None),
    ("rarp", Some("`ether proto rarp`")),
    ("igmp", Some("`proto igmp`")),
    ("esp", Some("`proto esp`")),
    ("ah", Some("`proto ah`")),
    ("pim", Some("`proto pim`")),
    ("vrrp", Some("`proto vrrp`")),
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

/// One of the three tables of numbers that have names.
#[derive(Clone, Copy)]
pub(super) struct Table {
    /// What a number of it is called in messages.
    pub(super) noun: &'static str,
    pub(super) max: u32,
    names: &'static [(&'static str, u16)],
}

pub(super) const PORT: Table = Table {
    noun: "port",
    max: 65_535,
    names: PORTS,
};
pub(super) const IP_PROTOCOL: Table = Table {
    noun: "IP protocol",
    max: 255,
    names: IP_PROTOCOLS,
};
pub(super) const ETHER_TYPE: Table = Table {
    noun: "EtherType",
    max: 65_535,
    names: ETHER_TYPES,
};
pub(super) const VLAN_ID: Table = Table {
    noun: "VLAN id",
    max: 4_095,
    names: &[],
};

impl Table {
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

/// Why a word of a later version is refused, with what can be written now.
pub(super) fn later(word: &str) -> Option<Option<&'static str>> {
    LATER
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, instead)| *instead)
}
