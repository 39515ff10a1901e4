//! Rules as people write them, and frames that they want: 5-tuples varied, the same in every run.

use mvmp_policy::{Matcher, Packets, Rule};
use mvmp_wire::packet::{Link, parse};

/// Devices that a set of rules is dealt out to; the first [`RECEIVING`] of them have an NF.
pub const DEVICES: usize = 16;
pub const RECEIVING: usize = 2;
/// As long as the frames of `net_null` in the other cases.
const FRAME_BYTES: usize = 64;
/// Ethernet, IPv4, UDP and VXLAN in front of a frame.
const VXLAN_BYTES: usize = 50;

/// A sequence of numbers that looks like chance and is the same in every run.
pub struct Draw(u64);

impl Draw {
    pub fn new() -> Self {
        Self(7)
    }

    fn below(&mut self, bound: u16) -> u16 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((self.0 >> 33) % u64::from(bound)) as u16
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;

struct Flow {
    protocol: u8,
    source: [u8; 4],
    destination: [u8; 4],
    ports: [u16; 2],
}

impl Flow {
    /// Between addresses that no rule of [`rule`] speaks of.
    fn any(draw: &mut Draw) -> Self {
        Self {
            protocol: [TCP, UDP][usize::from(draw.below(2))],
            source: [100, 64 + draw.byte() % 64, draw.byte(), draw.byte()],
            destination: [203, 0, 113, draw.byte()],
            ports: [
                32_768 + draw.below(28_000),
                [443, 80, 53, 8_080][usize::from(draw.below(4))],
            ],
        }
    }

    /// One that rule `i` wants; none where that would not go into 64 bytes (IPv6).
    fn wanted_by(i: usize, draw: &mut Draw) -> Option<Self> {
        let (high, low) = high_and_low(i);
        let mut flow = Self::any(draw);
        match kind(i) {
            0 => (flow.protocol, flow.ports[1]) = (TCP, 1_024 + i as u16),
            1 => (flow.protocol, flow.source) = (UDP, [10, high, low, draw.byte()]),
            2 => return None,
            3 => flow.destination = [192, 0, high, low],
            4 => (flow.source, flow.ports[1]) = ([172, 16, high, low], 443),
            _ => {
                flow.protocol = TCP;
                flow.destination = [198, high, low, draw.byte()];
                flow.ports[1] = 80;
            }
        }
        Some(flow)
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = headers(self, FRAME_BYTES);
        if self.protocol == TCP {
            frame[46..48].copy_from_slice(&[0x50, 0x10]);
        }
        frame
    }
}

/// Ethernet, IPv4 with its checksum, and ports; of UDP the length too.
fn headers(flow: &Flow, bytes: usize) -> Vec<u8> {
    let mut frame = vec![0; bytes];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    let ip = &mut frame[14..34];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(bytes as u16 - 14).to_be_bytes());
    (ip[8], ip[9]) = (64, flow.protocol);
    ip[12..16].copy_from_slice(&flow.source);
    ip[16..20].copy_from_slice(&flow.destination);
    let words = ip
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame[34..36].copy_from_slice(&flow.ports[0].to_be_bytes());
    frame[36..38].copy_from_slice(&flow.ports[1].to_be_bytes());
    if flow.protocol == UDP {
        frame[38..40].copy_from_slice(&(bytes as u16 - 34).to_be_bytes());
    }
    frame
}

fn kind(i: usize) -> usize {
    // Every device gets rules of every kind, though they are dealt out in turn.
    (i + i / DEVICES) % 6
}

fn high_and_low(i: usize) -> (u8, u8) {
    ((i / 250) as u8, (i % 250) as u8)
}

/// Rule `i` of those that differ in their numbers.
pub fn rule(i: usize) -> String {
    let (high, low) = high_and_low(i);
    match kind(i) {
        0 => format!("tcp dst port {} or {}", 1_024 + i, 10_000 + i),
        1 => format!("net 10.{high}.{low}.0/24 and udp"),
        2 => format!("ip6 host 2001:db8::{i:x}"),
        3 => format!("host 192.0.{high}.{low}"),
        4 => format!("src host 172.16.{high}.{low} and dst port 443"),
        _ => format!("dst net 198.{high}.{low}.0/24 and tcp port 80 and not frag"),
    }
}

/// What each of the [`DEVICES`] receives when so many rules are dealt out to them, from number `first` on.
pub fn dealt(first: usize, count: usize) -> Vec<String> {
    (0..DEVICES)
        .map(|device| {
            let rules: Vec<String> = (first + device..first + count)
                .step_by(DEVICES)
                .map(|i| format!("({})", rule(i)))
                .collect();
            if rules.is_empty() {
                "none".into()
            } else {
                rules.join(" or ")
            }
        })
        .collect()
}

fn wants(matcher: &Matcher, frame: &[u8]) -> bool {
    let headers = parse(frame, Link::Ethernet);
    matcher.match_packets(&Packets::plain(&[headers], &[frame])) == 1
}

/// Frames of which each is wanted by exactly one of the receiving devices, by any of its rules: one
/// that two of them want would be there twice after the first round.
pub fn wanted(frames: usize, rules: usize) -> Vec<Vec<u8>> {
    let receiving: Vec<Matcher> = dealt(0, rules)[..RECEIVING]
        .iter()
        .map(|text| {
            Rule::parse(text)
                .expect("the rules of this file are sound")
                .compile()
        })
        .collect();
    let theirs: Vec<usize> = (0..rules).filter(|i| i % DEVICES < RECEIVING).collect();
    let mut draw = Draw::new();
    let mut found = Vec::new();
    while found.len() < frames {
        let i = theirs[usize::from(draw.below(theirs.len() as u16))];
        let Some(flow) = Flow::wanted_by(i, &mut draw) else {
            continue;
        };
        let frame = flow.frame();
        if receiving.iter().filter(|rule| wants(rule, &frame)).count() == 1 {
            found.push(frame);
        }
    }
    found
}

/// Frames between addresses that no rule of [`rule`] speaks of, TCP and UDP.
pub fn plain(frames: usize) -> Vec<Vec<u8>> {
    let mut draw = Draw::new();
    (0..frames).map(|_| Flow::any(&mut draw).frame()).collect()
}

/// The same in VXLAN: 114 bytes.
pub fn in_vxlan(frames: usize) -> Vec<Vec<u8>> {
    let mut draw = Draw::new();
    (0..frames)
        .map(|_| {
            let outer = Flow {
                protocol: UDP,
                source: [192, 0, 2, 1],
                destination: [192, 0, 2, 7],
                ports: [49_152 + draw.below(16_000), 4_789],
            };
            let inner = Flow::any(&mut draw).frame();
            let mut frame = headers(&outer, VXLAN_BYTES + inner.len());
            frame[42..50].copy_from_slice(&[8, 0, 0, 0, 0, 0, 42, 0]);
            frame[VXLAN_BYTES..].copy_from_slice(&inner);
            frame
        })
        .collect()
}
