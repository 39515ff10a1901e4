//! Packets within packets: a random packet, wrapped a few times.

use mvmp_wire::packet::Link;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Ids of all kinds of tunnels: few, so that rules and packets meet.
pub const IDS: [u32; 5] = [0, 7, 42, 1_023, u32::MAX];

/// Destinations, some of which begin as a control word, IPv4 or IPv6 does.
const MACS: [[u8; 6]; 5] = [
    [2, 0, 0, 0, 0, 1],
    [0, 0, 0x5e, 0, 1, 1],
    [0x4c, 0xed, 0xfb, 0, 0, 1],
    [0x46, 0, 0, 0, 0, 1],
    [0x60, 0, 0, 0, 0, 1],
];

/// Random choices for one wrapping; each way takes what it needs.
#[derive(Clone, Debug)]
struct Wrap {
    way: u8,
    id: u32,
    bits: u8,
    flags: u8,
    fragment: u16,
    length_error: i32,
}

fn wrap() -> impl Strategy<Value = Wrap> {
    (
        0..14u8,
        select(IDS.to_vec()),
        any::<u8>(),
        any::<u8>(),
        prop_oneof![8 => Just(0u16), 1 => Just(0x2000), 1 => Just(9)],
        prop_oneof![10 => Just(0i32), 1 => -30..30i32],
    )
        .prop_map(|(way, id, bits, flags, fragment, length_error)| Wrap {
            way,
            id,
            bits,
            flags,
            fragment,
            length_error,
        })
}

/// `inner` wrapped up to six times.
pub fn wrapped(
    inner: impl Strategy<Value = (Vec<u8>, Link)>,
) -> impl Strategy<Value = (Vec<u8>, Link)> {
    (inner, vec(wrap(), 1..6)).prop_map(|(packet, wraps)| {
        wraps
            .iter()
            .fold(packet, |(bytes, link), wrap| wrap.around(&bytes, link))
    })
}

fn ether_type(link: Link) -> u16 {
    match link {
        Link::Ethernet => 0x6558,
        Link::Ipv4 => 0x0800,
        Link::Ipv6 => 0x86dd,
    }
}

impl Wrap {
    fn around(&self, inner: &[u8], link: Link) -> (Vec<u8>, Link) {
        let small = u16::try_from(self.id).unwrap_or(0);
        match (self.way, link) {
            (0..=1, Link::Ethernet) if inner.len() >= 14 => {
                let tpid: u16 = [0x8100, 0x88a8, 0x9100][usize::from(self.bits % 3)];
                let tag = [tpid.to_be_bytes(), small.to_be_bytes()].concat();
                ([&inner[..12], &tag, &inner[12..]].concat(), link)
            }
            (0..=1, _) => (self.ethernet(ether_type(link), inner), Link::Ethernet),
            (2..=3, _) => (self.mpls(inner, link), Link::Ethernet),
            (4, Link::Ipv4 | Link::Ipv6) => (self.pppoe(inner, link), Link::Ethernet),
            (5, Link::Ipv4 | Link::Ipv6) => self.ip(if link == Link::Ipv4 { 4 } else { 41 }, inner),
            (6, Link::Ipv4 | Link::Ipv6) => self.udp(2152, &self.gtp(inner)),
            (7..=8, Link::Ethernet) => {
                let port = if self.bits & 1 == 0 { 4789 } else { 8472 };
                let flags = if self.bits & 0x0e == 0 { 0 } else { 8 };
                let vni = (self.id << 8).to_be_bytes();
                self.udp(port, &[&[flags, 0, 0, 0][..], &vni, inner].concat())
            }
            (9..=10, _) => {
                let options = usize::from(self.bits & 3);
                let mut header = vec![options as u8, self.flags];
                header.extend(ether_type(link).to_be_bytes());
                header.extend((self.id << 8).to_be_bytes());
                header.extend(vec![0; 4 * options]);
                self.udp(6081, &[&header[..], inner].concat())
            }
            (11, Link::Ethernet) => self.erspan(inner),
            _ => {
                let gre = self.gre(ether_type(link), self.bits & 0xb0, inner);
                self.ip(47, &gre)
            }
        }
    }

    fn ethernet(&self, ether_type: u16, inner: &[u8]) -> Vec<u8> {
        let mut frame = MACS[usize::from(self.flags) % MACS.len()].to_vec();
        frame.extend([2, 0, 0, 0, 0, 2]);
        frame.extend(ether_type.to_be_bytes());
        frame.extend(inner);
        // Padding of the outermost frame, or a trailer.
        frame.extend(vec![0; usize::from(self.bits & 3)]);
        frame
    }

    /// A pseudowire has a control word, one with bits that are to be ignored, or none.
    fn mpls(&self, inner: &[u8], link: Link) -> Vec<u8> {
        let control: &[u8] = match (link, self.bits & 0x18) {
            (Link::Ethernet, 0) => &[0; 4],
            (Link::Ethernet, 8) => &[2, 0, 0, 9],
            _ => &[],
        };
        let label = |bottom: u32| (self.id << 12 | bottom << 8 | 64).to_be_bytes();
        let first = if self.bits & 4 == 0 {
            label(0).to_vec()
        } else {
            vec![]
        };
        let stack = [&first[..], &label(1), control, inner].concat();
        self.ethernet(0x8847 + u16::from(self.bits >> 7), &stack)
    }

    fn pppoe(&self, inner: &[u8], link: Link) -> Vec<u8> {
        let length = (inner.len() as i32 + 2 + self.length_error).max(0) as u16;
        let mut header = vec![0x11, u8::from(self.bits & 0xf0 == 0)];
        header.extend((self.id as u16).to_be_bytes());
        header.extend(length.to_be_bytes());
        header.extend([0, if link == Link::Ipv4 { 0x21 } else { 0x57 }]);
        self.ethernet(0x8864, &[&header[..], inner].concat())
    }

    fn gre(&self, proto: u16, flags: u8, inner: &[u8]) -> Vec<u8> {
        let version = if self.flags & 0xf8 == 0 {
            self.flags
        } else {
            0
        };
        let mut header = vec![flags, version];
        header.extend(proto.to_be_bytes());
        for (bit, word) in [(0x80, 0), (0x20, self.id), (0x10, 1)] {
            if flags & bit != 0 {
                header.extend(u32::to_be_bytes(word));
            }
        }
        [&header[..], inner].concat()
    }

    fn erspan(&self, inner: &[u8]) -> (Vec<u8>, Link) {
        let session = (self.id as u16 & 0x3ff).to_be_bytes();
        let (proto, flags, header) = match self.bits % 3 {
            0 => (0x88be, 0, vec![]),
            1 => (0x88be, 0x10, [&[0x10, 0][..], &session, &[0; 4]].concat()),
            _ => {
                let platform = self.flags & 1;
                let mut header = [&[0x20, 0][..], &session, &[0; 7], &[platform]].concat();
                header.extend(vec![0; usize::from(platform) * 8]);
                (0x22eb, 0x10, header)
            }
        };
        let gre = self.gre(proto, flags, &[&header[..], inner].concat());
        self.ip(47, &gre)
    }

    fn gtp(&self, inner: &[u8]) -> Vec<u8> {
        let flags = 0x30 | self.flags & 7;
        let mut optional = vec![];
        if flags & 7 != 0 {
            optional.extend([0, 0, 0, if flags & 4 != 0 { 0x85 } else { 0 }]);
        }
        if flags & 4 != 0 {
            optional.extend([1, 0, 0, 0]);
        }
        let length = (inner.len() + optional.len()) as i32 + self.length_error;
        let mut header = vec![flags, if self.bits & 0xf0 == 0 { 1 } else { 255 }];
        header.extend((length.max(0) as u16).to_be_bytes());
        header.extend(self.id.to_be_bytes());
        [&header[..], &optional, inner].concat()
    }

    fn udp(&self, port: u16, payload: &[u8]) -> (Vec<u8>, Link) {
        let length = (payload.len() as i32 + 8 + self.length_error).max(0) as u16;
        let mut udp = vec![0xc0, 0];
        udp.extend(port.to_be_bytes());
        udp.extend(length.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(payload);
        self.ip(17, &udp)
    }

    fn ip(&self, protocol: u8, payload: &[u8]) -> (Vec<u8>, Link) {
        if self.bits & 0x40 == 0 {
            let mut ip = vec![0x45, 0];
            ip.extend(((payload.len() + 20) as u16).to_be_bytes());
            ip.extend([0, 0]);
            ip.extend(self.fragment.to_be_bytes());
            ip.extend([64, protocol, 0, 0, 192, 0, 2, 7, 10, 0, 0, 1]);
            ip.extend(payload);
            return (ip, Link::Ipv4);
        }
        let extension: &[u8] = if self.flags & 8 == 0 {
            &[]
        } else {
            &[protocol, 0, 1, 4, 0, 0, 0, 0]
        };
        let mut ip = vec![0x60, 0, 0, 0];
        ip.extend(((payload.len() + extension.len()) as u16).to_be_bytes());
        ip.extend([if extension.is_empty() { protocol } else { 60 }, 64]);
        ip.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        ip.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        ip.extend(extension);
        ip.extend(payload);
        (ip, Link::Ipv6)
    }
}
