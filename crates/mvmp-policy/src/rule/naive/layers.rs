//! All headers of a frame, tunnels included, and what is left of it when some are jumped over.
//!
//! Written from the RFCs and from what the words mean, and from nothing else of ours.

use mvmp_wire::packet::{LayerSet, Link};

use super::{upper4, upper6, word};
use crate::rule::LayerWord;

/// More headers than these are not looked at.
const DEPTH_MAX: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    /// A packet can be delivered from here.
    Start(Link),
    /// Something that has a word; IP directly in IP is a header of no bytes between the two.
    Word(LayerWord),
    /// Transport, ARP.
    Other,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    pub(super) what: What,
    pub(super) id: Option<u32>,
    at: usize,
    end: usize,
}

/// The headers, outermost first.
pub(super) fn layers(frame: &[u8], link: Link) -> Vec<Layer> {
    let frame = &frame[..frame.len().min(65_535)];
    let mut walk = Walk {
        frame,
        found: vec![],
        depth: 0,
    };
    match link {
        Link::Ethernet => walk.ethernet(0, frame.len()),
        Link::Ipv4 => walk.ip(0, frame.len(), 4, false),
        Link::Ipv6 => walk.ip(0, frame.len(), 6, false),
    }
    walk.found
}

/// What is delivered of a frame when these layers are jumped over.
pub(super) fn delivered(frame: &[u8], link: Link, jump: LayerSet) -> (&[u8], Link) {
    let layers = layers(frame, link);
    let is_named = |i: usize| match layers[i].what {
        What::Word(word) => {
            let next = layers.get(i + 1).map(|layer| layer.what);
            let set = |word| jump.contains(LayerSet::from_word(word).unwrap_or_default());
            match word {
                LayerWord::Gre if next == Some(What::Word(LayerWord::Erspan)) => set("erspan"),
                LayerWord::Nvgre => set("nvgre") || set("gre"),
                _ => set(word.word()),
            }
        }
        _ => false,
    };
    let is_tag = |i: usize| {
        matches!(
            layers[i].what,
            What::Word(LayerWord::Vlan | LayerWord::Mpls | LayerWord::Pppoe)
        )
    };
    let is_tunnel = |i: usize| matches!(layers[i].what, What::Word(_)) && !is_tag(i);
    let reach = (0..layers.len())
        .find(|&i| is_tunnel(i) && !is_named(i))
        .unwrap_or(layers.len());
    for jumped in (0..reach).rev().filter(|&i| is_named(i)) {
        let behind = (jumped + 1..reach).find_map(|i| match layers[i].what {
            What::Start(link) => Some((&frame[layers[i].at..layers[i].end], link)),
            _ => None,
        });
        if let Some(behind) = behind {
            return behind;
        }
    }
    (&frame[..frame.len().min(65_535)], link)
}

struct Walk<'a> {
    frame: &'a [u8],
    found: Vec<Layer>,
    depth: usize,
}

impl Walk<'_> {
    /// `bytes` bytes from `at` on, all of them before `end`.
    fn bytes(&self, at: usize, end: usize, bytes: usize) -> Option<&[u8]> {
        self.frame[..end].get(at..at + bytes)
    }

    fn push(&mut self, what: What, at: usize, end: usize, id: Option<u32>) -> bool {
        if self.depth == DEPTH_MAX {
            return false;
        }
        self.depth += 1;
        self.found.push(Layer { what, id, at, end });
        true
    }

    fn named(&mut self, word: LayerWord, at: usize, end: usize, id: Option<u32>) -> bool {
        self.push(What::Word(word), at, end, id)
    }

    fn ethernet(&mut self, at: usize, end: usize) {
        if let Some(header) = self.bytes(at, end, 14) {
            let ether_type = word(header, 12);
            if self.push(What::Start(Link::Ethernet), at, end, None) {
                self.carried(ether_type, at + 14, end);
            }
        }
    }

    fn carried(&mut self, ether_type: u16, at: usize, end: usize) {
        match ether_type {
            0x0800 => self.ip(at, end, 4, false),
            0x86dd => self.ip(at, end, 6, false),
            0x0806 => {
                if let Some(header) = self.bytes(at, end, 8) {
                    let bytes = 8 + 2 * (usize::from(header[4]) + usize::from(header[5]));
                    if at + bytes <= end {
                        self.push(What::Other, at, end, None);
                    }
                }
            }
            0x8100 | 0x88a8 | 0x9100 => {
                if let Some(tag) = self.bytes(at, end, 4) {
                    let (tci, next) = (word(tag, 0), word(tag, 2));
                    if self.named(LayerWord::Vlan, at, end, Some(u32::from(tci % 4096))) {
                        self.carried(next, at + 4, end);
                    }
                }
            }
            0x8847 | 0x8848 => self.mpls(at, end),
            0x8864 => self.pppoe(at, end),
            _ => {}
        }
    }

    fn mpls(&mut self, at: usize, end: usize) {
        let Some(entry) = self.bytes(at, end, 4) else {
            return;
        };
        let label = u32::from(word(entry, 0)) << 4 | u32::from(entry[2] >> 4);
        let bottom = entry[2] & 1 == 1;
        if !self.named(LayerWord::Mpls, at, end, Some(label)) {
            return;
        }
        let behind = at + 4;
        let nibble = self.bytes(behind, end, 1).map(|byte| byte[0] >> 4);
        let zeros = self.bytes(behind, end, 2) == Some(&[0, 0]);
        if !bottom {
            self.mpls(behind, end);
        } else if self.frames(behind, end, false) && !self.is_ip(behind, end) {
            self.ethernet(behind, end);
        } else if nibble == Some(0) && (zeros || self.frames(behind + 4, end, false)) {
            self.ethernet(behind + 4, end);
        } else {
            self.ip_of_any_version(behind, end);
        }
    }

    /// An Ethernet header, behind its first two tags at the most, names what really begins behind it. If that
    /// is IP, it may be asked to be sound.
    fn frames(&self, at: usize, end: usize, soundly: bool) -> bool {
        let tagged = |at| {
            self.bytes(at, end, 2)
                .is_some_and(|bytes| [0x8100, 0x88a8, 0x9100].contains(&word(bytes, 0)))
        };
        let mut at = at + 12;
        for _ in 0..2 {
            at += if tagged(at) { 4 } else { 0 };
        }
        let Some(ether_type) = self.bytes(at, end, 2) else {
            return false;
        };
        let at = at + 2;
        let begins_with = |bytes: &[u8]| self.bytes(at, end, bytes.len()) == Some(bytes);
        let first = self.bytes(at, end, 1).map_or(0, |byte| byte[0]);
        match word(ether_type, 0) {
            0x0800 if soundly => self.is_summed(at, end),
            0x0800 => first >> 4 == 4 && first & 15 >= 5,
            0x86dd if soundly => self.is_ipv6_with_a_usual_payload(at, end),
            0x86dd => first >> 4 == 6,
            0x0806 => begins_with(&[0, 1, 8, 0, 6, 4]),
            0x8864 => begins_with(&[0x11, 0]),
            0x8847 | 0x8848 => self.is_label_stack(at, end),
            _ => false,
        }
    }

    /// At most 16 labels that are alive (RFC 3032), none of which is the implicit null.
    fn is_label_stack(&self, at: usize, end: usize) -> bool {
        let rest = &self.frame[at.min(end)..end];
        let labels: Vec<_> = rest.chunks_exact(4).take(16).collect();
        let Some(bottom) = labels.iter().position(|entry| entry[2] & 1 == 1) else {
            return false;
        };
        let implicit_null = |entry: &[u8]| entry[..2] == [0, 0] && entry[2] >> 4 == 3;
        labels[..=bottom]
            .iter()
            .all(|entry| entry[3] != 0 && !implicit_null(entry))
    }

    fn is_ip(&self, at: usize, end: usize) -> bool {
        let six = self.is_ipv6_with_a_usual_payload(at, end) && !self.frames(at, end, true);
        six || self.is_summed(at, end) || self.is_ip_to_the_end(at, end)
    }

    /// A whole IPv4 header with the right checksum.
    fn is_summed(&self, at: usize, end: usize) -> bool {
        let first = self.bytes(at, end, 1).map_or(0, |byte| byte[0]);
        let bytes = 4 * usize::from(first & 15);
        let is_right = |header: &[u8]| {
            let words = (0..bytes).step_by(2).map(|i| u32::from(word(header, i)));
            words.sum::<u32>() % 0xffff == 0
        };
        let header = self.bytes(at, end, bytes);
        first >> 4 == 4 && bytes >= 20 && header.is_some_and(is_right)
    }

    /// IPv4, IPv6, TCP, UDP, SCTP, ICMPv6, GRE, ESP, or an extension header but hop-by-hop options.
    fn is_ipv6_with_a_usual_payload(&self, at: usize, end: usize) -> bool {
        let usual = [4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 60, 132];
        self.bytes(at, end, 7)
            .is_some_and(|header| header[0] >> 4 == 6 && usual.contains(&header[6]))
    }

    /// IP whose own length leaves nothing over but a check sequence or the padding of a short frame.
    fn is_ip_to_the_end(&self, at: usize, end: usize) -> bool {
        let Some(header) = self.bytes(at, end, 6) else {
            return false;
        };
        let least = 4 * usize::from(header[0] & 15);
        let length = match header[0] >> 4 {
            4 if least >= 20 => usize::from(word(header, 2)),
            6 => 40 + usize::from(word(header, 4)),
            _ => return false,
        };
        let sound = header[0] >> 4 == 6 || length >= least;
        sound && at + length <= end && (end <= at + length + 4 || end <= 64)
    }

    fn ip_of_any_version(&mut self, at: usize, end: usize) {
        let nibble = self.bytes(at, end, 1).map(|byte| byte[0] >> 4);
        if let Some(version @ (4 | 6)) = nibble {
            self.ip(at, end, version, false);
        }
    }

    fn pppoe(&mut self, at: usize, end: usize) {
        let Some(header) = self.bytes(at, end, 8) else {
            return;
        };
        let (session, length, protocol) = (word(header, 2), word(header, 4), word(header, 6));
        if (header[0], header[1]) != (0x11, 0) || length < 2 {
            return;
        }
        let end = end.min(at + 6 + usize::from(length));
        if self.named(LayerWord::Pppoe, at, end, Some(u32::from(session))) {
            match protocol {
                0x21 => self.ip(at + 8, end, 4, false),
                0x57 => self.ip(at + 8, end, 6, false),
                _ => {}
            }
        }
    }

    fn ip(&mut self, at: usize, end: usize, version: u8, in_ip: bool) {
        let Some(header) = self.bytes(at, end, if version == 4 { 20 } else { 40 }) else {
            return;
        };
        if header[0] >> 4 != version || version == 4 && header[0] & 15 < 5 {
            return;
        }
        let packet = &self.frame[at..end];
        let (upper, link) = match version {
            4 => (upper4(packet), Link::Ipv4),
            _ => (upper6(packet), Link::Ipv6),
        };
        let (protocol, fragment) = (upper.protocol, upper.fragment);
        let end = at + upper.end;
        let payload = upper.payload.map(<[u8]>::len);
        if self.depth == DEPTH_MAX {
            return;
        }
        if in_ip {
            self.found.push(Layer {
                what: What::Word(LayerWord::Ipip),
                id: None,
                at,
                end,
            });
        }
        self.push(What::Start(link), at, end, None);
        if let Some(bytes) = payload {
            self.transport(protocol, end - bytes, end, fragment);
        }
    }

    /// Of a first fragment nothing is looked at but the transport header.
    fn transport(&mut self, protocol: u8, at: usize, end: usize, fragment: bool) {
        let bytes = match protocol {
            6 => 20,
            17 | 1 | 58 => 8,
            132 => 12,
            _ => 0,
        };
        match protocol {
            6 | 17 | 1 | 58 | 132 => {
                let there = at + bytes <= end && self.push(What::Other, at, end, None);
                if there && protocol == 17 && !fragment {
                    self.udp(at, end);
                }
            }
            4 if !fragment => self.ip(at, end, 4, true),
            41 if !fragment => self.ip(at, end, 6, true),
            47 if !fragment => self.gre(at, end),
            _ => {}
        }
    }

    fn udp(&mut self, at: usize, end: usize) {
        let port = word(self.frame, at + 2);
        let end = match usize::from(word(self.frame, at + 4)) {
            0 => end,
            1..8 => return,
            length => end.min(at + length),
        };
        let Some(header) = self.bytes(at + 8, end, 8) else {
            return;
        };
        let at = at + 8;
        let number = u32::from(word(header, 4)) << 16 | u32::from(word(header, 6));
        match port {
            4789 | 8472 => {
                let valid = header[0] & 8 != 0;
                if valid && self.named(LayerWord::Vxlan, at, end, Some(number >> 8)) {
                    self.ethernet(at + 8, end);
                }
            }
            6081 => {
                let inner = word(header, 2);
                let behind = at + 8 + 4 * usize::from(header[0] & 63);
                let known = header[0] & 0xc0 == 0 && behind <= end;
                if known && self.named(LayerWord::Geneve, at, end, Some(number >> 8)) {
                    match inner {
                        0x6558 => self.ethernet(behind, end),
                        _ => self.carried(inner, behind, end),
                    }
                }
            }
            2152 => {
                let (flags, kind, length) = (header[0], header[1], word(header, 2));
                if flags >> 4 == 3 && kind == 255 {
                    self.gtp(at, end.min(at + 8 + usize::from(length)), flags, number);
                }
            }
            _ => {}
        }
    }

    fn gtp(&mut self, at: usize, end: usize, flags: u8, teid: u32) {
        let mut behind = at + 8;
        if flags & 7 != 0 {
            let Some(optional) = self.bytes(behind, end, 4) else {
                return;
            };
            let mut extension = if flags & 4 != 0 { optional[3] } else { 0 };
            behind += 4;
            let mut seen = 0;
            while extension != 0 {
                let words = self.bytes(behind, end, 1).map_or(0, |byte| byte[0]);
                behind += 4 * usize::from(words);
                seen += 1;
                let Some(next) = self.bytes(behind - 1, end, 1).filter(|_| words > 0) else {
                    return;
                };
                extension = next[0];
                if seen == 16 && extension != 0 {
                    return;
                }
            }
        }
        if self.named(LayerWord::Gtp, at, end, Some(teid)) {
            self.ip_of_any_version(behind, end);
        }
    }

    fn gre(&mut self, at: usize, end: usize) {
        let Some(header) = self.bytes(at, end, 4) else {
            return;
        };
        let (flags, inner) = (word(header, 0), word(header, 2));
        let (checksum, key, sequence) = (flags & 0x8000, flags & 0x2000, flags & 0x1000);
        match flags & 7 {
            0 if flags & 0x4000 == 0 => {}
            0 | 1 => {
                self.named(LayerWord::Gre, at, end, None);
                return;
            }
            _ => return,
        }
        let optional = [checksum, key, sequence].map(|bit| if bit != 0 { 4 } else { 0 });
        let behind = at + 4 + optional.iter().sum::<usize>();
        if behind > end {
            return;
        }
        let key = (key != 0).then(|| {
            let at = at + 4 + optional[0];
            u32::from(word(self.frame, at)) << 16 | u32::from(word(self.frame, at + 2))
        });
        let noted = match key {
            Some(key) if inner == 0x6558 => self.named(LayerWord::Nvgre, at, end, Some(key >> 8)),
            _ => self.named(LayerWord::Gre, at, end, key),
        };
        match inner {
            _ if !noted => {}
            0x6558 => self.ethernet(behind, end),
            // Type I has no header of its own: it is there if a frame is.
            0x88be if sequence == 0 => {
                let is_there = self.bytes(behind, end, 14).is_some();
                if is_there && self.named(LayerWord::Erspan, behind, end, None) {
                    self.ethernet(behind, end);
                }
            }
            0x88be => self.erspan(behind, end, 8),
            0x22eb => self.erspan(behind, end, 12),
            _ => self.carried(inner, behind, end),
        }
    }

    fn erspan(&mut self, at: usize, end: usize, bytes: usize) {
        let Some(header) = self.bytes(at, end, bytes) else {
            return;
        };
        let session = u32::from(word(header, 2) % 1024);
        let last = if bytes == 12 { word(header, 10) } else { 0 };
        let behind = at + bytes + if last & 1 == 1 { 8 } else { 0 };
        if self.named(LayerWord::Erspan, at, end, Some(session)) {
            match last >> 10 & 31 {
                0 => self.ethernet(behind, end),
                2 => self.ip_of_any_version(behind, end),
                _ => {}
            }
        }
    }
}

/// The whole key of the `number`th GRE header, which NVGRE splits.
pub(super) fn gre_key(frame: &[u8], layer: &Layer) -> Option<u32> {
    let checksum = word(frame, layer.at) & 0x8000 != 0;
    let at = layer.at + if checksum { 8 } else { 4 };
    Some(u32::from(word(frame, at)) << 16 | u32::from(word(frame, at + 2)))
}
