//! An [`EncapSpec`] compiled, and the headers of one packet.
//!
//! Compiling sorts the layers into three groups that every sensible order has: tags of the packet
//! itself, then tunnels, then tags around the outermost tunnel. Building writes them from the
//! inside out, so that each length and checksum is known when it is needed.

use super::spec::{EncapError, EncapLayer, EncapSpec};
use super::template::{ETHER_IPV4, ETHER_IPV6, Inner, Misfit, Template, ether_type};
use crate::packet::Link;
use crate::packet::parse::{ETHERNET_BYTES, TAG_BYTES, at, is_tag};

/// Header bytes that an encapsulation can have; the headroom of a packet buffer.
pub const ENCAP_BYTES_MAX: usize = 128;
/// Tags that come off one packet.
const POPS_MAX: usize = 8;
/// Bytes of a packet in whose place others are written: addresses, and tags that come off.
pub const SKIP_BYTES_MAX: usize = ADDRESSES_BYTES + POPS_MAX * TAG_BYTES;

const ADDRESSES_BYTES: usize = 12;
/// The EtherType of an 802.1Q tag.
const VLAN: [u8; 2] = [0x81, 0x00];

/// A compiled encapsulation.
#[derive(Clone, Debug, Default)]
pub struct Encap {
    /// Tags to take off the packet itself.
    pops: usize,
    /// Tags to put on the packet itself, outermost first, TPID and all.
    tags: Vec<[u8; TAG_BYTES]>,
    /// Innermost first.
    tunnels: Vec<Template>,
    /// Tags around the outermost tunnel, outermost first.
    outer_tags: Vec<[u8; TAG_BYTES]>,
    /// Addresses for an Ethernet header in front of what begins with IP: destination, source.
    ethernet: Option<[u8; ADDRESSES_BYTES]>,
    overhead: usize,
}

/// What [`Encap::build`] made: the outgoing packet is `out[..headers]`, then `frame[skip..]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// Bytes written to the front of `out`.
    pub headers: usize,
    /// Bytes of the frame that those replace.
    pub skip: usize,
    /// What the outgoing packet begins with.
    pub link: Link,
}

/// Why a packet cannot leave with these headers. It is dropped under that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEncap {
    /// It begins with IP, and VXLAN or a tag needs Ethernet.
    #[error("the packet begins with IP, and what is put around it needs an Ethernet header")]
    NoEthernet,
    /// It begins with Ethernet, and IP-in-IP carries IP only.
    #[error("the packet begins with Ethernet, and ipip carries IP only")]
    NotIp,
    /// It would be longer than an IP length field can say.
    #[error("the packet would be longer than 65,535 bytes")]
    TooLong,
    /// It is shorter than its own Ethernet header.
    #[error("the packet is shorter than an Ethernet header")]
    Short,
}

impl From<Misfit> for NoEncap {
    fn from(misfit: Misfit) -> Self {
        match misfit {
            Misfit::NoEthernet => Self::NoEthernet,
            Misfit::NotIp => Self::NotIp,
            Misfit::TooLong => Self::TooLong,
        }
    }
}

impl Encap {
    /// Compiles a specification. `ethernet` (destination, source) goes in front of what begins
    /// with IP when all layers are on.
    ///
    /// # Errors
    ///
    /// What no packet could leave with: values out of range, layers that cannot carry each other,
    /// more than [`ENCAP_BYTES_MAX`] bytes.
    pub fn new(spec: &EncapSpec, ethernet: Option<[u8; 12]>) -> Result<Self, EncapError> {
        let mut encap = Self {
            ethernet,
            ..Self::default()
        };
        for layer in &spec.layers {
            if let Some(template) = Template::new(layer)? {
                encap.add_tunnel(template)?;
            } else if let EncapLayer::Vlan { tpid, id, pcp } = *layer {
                encap.add_tag(tag(tpid, id, pcp)?)?;
            } else {
                encap.pop_tag()?;
            }
        }
        encap.measure()?;
        Ok(encap)
    }

    /// The most bytes by which a packet grows.
    pub fn overhead(&self) -> usize {
        self.overhead
    }

    /// What is left no more of an MTU for the IP packet of a frame that leaves with these headers: all
    /// that comes to lie between the frame's own Ethernet header and that packet, apart from one 802.1Q
    /// tag, which links take on top.
    pub fn mtu_bytes(&self) -> usize {
        let tunnels: usize = self.tunnels.iter().map(Template::length).sum();
        let (in_front, carried) = match self.tunnels.first() {
            None => (&self.tags, 0),
            Some(inmost) if inmost.carries_ethernet() => {
                let tags = self.tags.len() * TAG_BYTES;
                (&self.outer_tags, ETHERNET_BYTES + tags)
            }
            Some(_) => (&self.outer_tags, 0),
        };
        let on_top = in_front.first().is_some_and(|tag| tag[..2] == VLAN);
        tunnels + carried + (in_front.len() - usize::from(on_top)) * TAG_BYTES
    }

    /// Whether every packet leaves as it is.
    pub fn is_empty(&self) -> bool {
        self.pops == 0 && self.tags.is_empty() && self.tunnels.is_empty() && self.ethernet.is_none()
    }

    fn add_tunnel(&mut self, template: Template) -> Result<(), EncapError> {
        if !self.outer_tags.is_empty() {
            return Err(EncapError::TagBetween);
        }
        if !self.tunnels.is_empty() && !template.carries_ip() {
            return Err(EncapError::NotEthernet);
        }
        self.tunnels.push(template);
        Ok(())
    }

    fn add_tag(&mut self, tag: [u8; TAG_BYTES]) -> Result<(), EncapError> {
        if self.tunnels.is_empty() {
            self.tags.insert(0, tag);
        } else if self.ethernet.is_some() {
            self.outer_tags.insert(0, tag);
        } else {
            return Err(EncapError::NoEthernet);
        }
        Ok(())
    }

    fn pop_tag(&mut self) -> Result<(), EncapError> {
        let on_it = if self.tunnels.is_empty() {
            &mut self.tags
        } else {
            &mut self.outer_tags
        };
        if !on_it.is_empty() {
            on_it.remove(0);
        } else if self.tunnels.is_empty() {
            self.pops += 1;
            if self.pops > POPS_MAX {
                return Err(EncapError::TooManyPops { most: POPS_MAX });
            }
        } else {
            return Err(EncapError::NothingToPop);
        }
        Ok(())
    }

    fn measure(&mut self) -> Result<(), EncapError> {
        let tunnels: usize = self.tunnels.iter().map(Template::length).sum();
        let tags = (self.tags.len() + self.outer_tags.len()) * TAG_BYTES;
        let front = self.ethernet.map_or(0, |_| ETHERNET_BYTES);
        self.overhead = tunnels + tags + front;
        // Changing tags of the packet itself takes its addresses along.
        let written = self.overhead + ADDRESSES_BYTES;
        if written > ENCAP_BYTES_MAX {
            return Err(EncapError::TooLong(written));
        }
        Ok(())
    }

    /// Builds the headers for one packet that begins with `link`.
    ///
    /// # Errors
    ///
    /// Why this packet cannot leave with them; what is in `out` then means nothing.
    pub fn build(
        &self,
        frame: &[u8],
        link: Link,
        flow_hash: u32,
        out: &mut [u8; ENCAP_BYTES_MAX],
    ) -> Result<Built, NoEncap> {
        let edit = self.edit(frame, link)?;
        let begins = if self.tunnels.is_empty() {
            link
        } else {
            self.tunnels[self.tunnels.len() - 1].link()
        };
        let front = self.front(begins)?;
        let front_tags = if self.tunnels.is_empty() {
            &self.tags
        } else {
            &self.outer_tags
        };
        let front_bytes = front.map_or(0, |_| ETHERNET_BYTES + front_tags.len() * TAG_BYTES);
        let tunnels: usize = self.tunnels.iter().map(Template::length).sum();
        let headers = front_bytes + tunnels + edit.bytes;
        // In bounds from here on: `measure` counted all of this.
        let out = &mut out[..headers];
        let mut start = front_bytes + tunnels;
        if edit.bytes > 0 {
            let head = &mut out[start..];
            head[..ADDRESSES_BYTES].copy_from_slice(&frame[..ADDRESSES_BYTES]);
            head[ADDRESSES_BYTES..].copy_from_slice(self.tags.as_flattened());
        }
        let mut inner = Inner {
            link,
            length: edit.bytes + frame.len() - edit.skip,
            rest: &frame[edit.skip..],
            flow_hash,
            tos: if self.tunnels.is_empty() {
                0
            } else {
                tos(frame, link)
            },
        };
        for template in &self.tunnels {
            start -= template.length();
            template.write(out, start, &inner)?;
            inner.length += template.length();
            inner.link = template.link();
        }
        if let Some(addresses) = front {
            out[..ADDRESSES_BYTES].copy_from_slice(&addresses);
            let (tags, last) =
                out[ADDRESSES_BYTES..front_bytes].split_at_mut(front_tags.len() * TAG_BYTES);
            tags.copy_from_slice(front_tags.as_flattened());
            last.copy_from_slice(&ether_type(begins).to_be_bytes());
        }
        Ok(Built {
            headers,
            skip: edit.skip,
            link: if front.is_some() {
                Link::Ethernet
            } else {
                begins
            },
        })
    }

    /// The addresses for an Ethernet header in front, if one is to be.
    fn front(&self, begins: Link) -> Result<Option<[u8; ADDRESSES_BYTES]>, NoEncap> {
        if begins == Link::Ethernet {
            return Ok(None);
        }
        if self.ethernet.is_none() && self.tunnels.is_empty() && !self.tags.is_empty() {
            return Err(NoEncap::NoEthernet);
        }
        Ok(self.ethernet)
    }

    /// How the packet's own Ethernet header changes.
    fn edit(&self, frame: &[u8], link: Link) -> Result<Edit, NoEncap> {
        let nothing = Edit { bytes: 0, skip: 0 };
        if link != Link::Ethernet {
            let stranded = !self.tags.is_empty() && !self.tunnels.is_empty();
            return if stranded {
                Err(NoEncap::NoEthernet)
            } else {
                Ok(nothing)
            };
        }
        if frame.len() < ETHERNET_BYTES {
            return if self.is_empty() {
                Ok(nothing)
            } else {
                Err(NoEncap::Short)
            };
        }
        let mut skip = ADDRESSES_BYTES;
        for _ in 0..self.pops {
            match at::<{ TAG_BYTES + 2 }>(frame, skip) {
                Some(tag) if is_tag(u16::from_be_bytes([tag[0], tag[1]])) => skip += TAG_BYTES,
                _ => break,
            }
        }
        if skip == ADDRESSES_BYTES && self.tags.is_empty() {
            return Ok(nothing);
        }
        Ok(Edit {
            bytes: ADDRESSES_BYTES + self.tags.len() * TAG_BYTES,
            skip,
        })
    }
}

/// Bytes written in place of the frame's first `skip`.
struct Edit {
    bytes: usize,
    skip: usize,
}

fn tag(tpid: u16, id: u16, pcp: u8) -> Result<[u8; TAG_BYTES], EncapError> {
    if !is_tag(tpid) {
        return Err(EncapError::Tpid(tpid));
    }
    if id > 4094 {
        return Err(EncapError::VlanId(id));
    }
    if pcp > 7 {
        return Err(EncapError::Priority(pcp));
    }
    let [t0, t1] = tpid.to_be_bytes();
    let [c0, c1] = (u16::from(pcp) << 13 | id).to_be_bytes();
    Ok([t0, t1, c0, c1])
}

/// The outer TOS for this packet: its DSCP, and Not-ECT. 0 for what is no IP.
fn tos(frame: &[u8], link: Link) -> u8 {
    let mut offset = 0;
    let mut kind = ether_type(link);
    if link == Link::Ethernet {
        offset = ETHERNET_BYTES;
        kind = at::<2>(frame, ADDRESSES_BYTES).map_or(0, |kind| u16::from_be_bytes(*kind));
        while is_tag(kind) {
            offset += TAG_BYTES;
            kind = at::<2>(frame, offset - 2).map_or(0, |kind| u16::from_be_bytes(*kind));
        }
    }
    let Some([first, second]) = at::<2>(frame, offset) else {
        return 0;
    };
    let tos = match kind {
        ETHER_IPV4 => *second,
        ETHER_IPV6 => first << 4 | second >> 4,
        _ => 0,
    };
    tos & 0xfc
}
