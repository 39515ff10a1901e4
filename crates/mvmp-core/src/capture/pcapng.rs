//! The block format (`draft-ietf-opsawg-pcapng`): sections, interfaces, and frames that refer to them.
//!
//! Read are section headers, interface descriptions (link type, snap length, `if_tsresol`,
//! `if_tsoffset`), and enhanced, simple and old packet blocks; all else is passed over. Frames of an
//! interface whose link type is not supported are told of, without their bytes: what follows may be.

use super::chunk::FrameMeta;
use super::input::{Endian, Input, quads};
use super::link_type::LinkType;
use super::{CaptureError, FRAME_BYTES_MAX};

pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
pub(super) const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
pub(super) const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
pub(super) const ENHANCED_PACKET: u32 = 6;
pub(super) const OPTION_TSRESOL: u16 = 9;
const OPTION_TSOFFSET: u16 = 14;
/// Interface descriptions carry names and filters; more than this is none.
const DESCRIPTION_BYTES_MAX: u32 = 1 << 20;

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: LinkType,
    snap_length: u32,
    resolution: Resolution,
    offset_seconds: i64,
}

/// What one unit of an interface's timestamps is.
#[derive(Clone, Copy, Debug)]
enum Resolution {
    /// This many nanoseconds.
    Nanoseconds(u32),
    /// So many of them are a second.
    PerSecond(u128),
}

impl Resolution {
    fn from_option(value: u8) -> Self {
        let power = u32::from(value & 0x7f);
        if value & 0x80 != 0 {
            return Self::PerSecond(1 << power);
        }
        match 9u32.checked_sub(power) {
            Some(missing) => Self::Nanoseconds(10u32.pow(missing)),
            None => Self::PerSecond(10u128.checked_pow(power).unwrap_or(u128::MAX)),
        }
    }

    #[inline]
    fn nanoseconds(self, units: u64) -> i64 {
        let exact = match self {
            Self::Nanoseconds(each) => u128::from(units) * u128::from(each),
            Self::PerSecond(count) => u128::from(units) * 1_000_000_000 / count,
        };
        i64::try_from(exact).unwrap_or(i64::MAX)
    }
}

/// The state of reading one pcapng file.
#[derive(Debug)]
pub(super) struct Pcapng {
    endian: Endian,
    interfaces: Vec<Interface>,
    /// A block whose first eight bytes have been read, but no more.
    peeked: Option<Block>,
    /// What stopped the look ahead at opening; it is told when a frame is asked for.
    deferred: Option<CaptureError>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    kind: u32,
    /// Bytes between the first eight and the last four.
    body: u32,
}

/// What a packet block says before its data.
struct Packet {
    interface: usize,
    units: Option<u64>,
    captured: u32,
    wire: u32,
    /// Bytes of the body that precede the data.
    header: u32,
}

impl Pcapng {
    /// Reads the first section header, after its block type, and all that comes before the first frame.
    pub(super) fn open(input: &mut Input) -> Result<Self, CaptureError> {
        let mut file = Self {
            endian: Endian::Little,
            interfaces: Vec::new(),
            peeked: None,
            deferred: None,
        };
        let length = input.array()?;
        file.section(input, length)?;
        file.deferred = file.look_ahead(input).err();
        let playable = |interface: &Interface| !matches!(interface.link_type, LinkType::Unknown(_));
        match file.interfaces.first().map(|first| first.link_type) {
            Some(LinkType::Unknown(number)) if !file.interfaces.iter().any(playable) => {
                Err(input.unsupported(number))
            }
            _ => Ok(file),
        }
    }

    /// Reads up to the first frame, so that the interfaces are known.
    fn look_ahead(&mut self, input: &mut Input) -> Result<(), CaptureError> {
        while let Some(block) = self.begin(input)? {
            if matches!(block.kind, OLD_PACKET | SIMPLE_PACKET | ENHANCED_PACKET) {
                self.peeked = Some(block);
                break;
            }
            self.pass(input, block)?;
        }
        Ok(())
    }

    /// The next frame, its bytes appended to `to` unless they are more than `limit`.
    pub(super) fn next(
        &mut self,
        input: &mut Input,
        limit: u32,
        to: &mut Vec<u8>,
    ) -> Result<Option<FrameMeta>, CaptureError> {
        if let Some(error) = self.deferred.take() {
            return Err(error);
        }
        loop {
            let block = match self.peeked.take() {
                Some(block) => block,
                None => match self.begin(input)? {
                    Some(block) => block,
                    None => return Ok(None),
                },
            };
            let packet = match block.kind {
                ENHANCED_PACKET => self.enhanced(input, block)?,
                OLD_PACKET => self.old(input, block)?,
                SIMPLE_PACKET => self.simple(input, block)?,
                _ => {
                    self.pass(input, block)?;
                    continue;
                }
            };
            return self.frame(input, block, &packet, limit, to).map(Some);
        }
    }

    /// Block type and length; section headers are dealt with here, as their length cannot be read before their byte order.
    fn begin(&mut self, input: &mut Input) -> Result<Option<Block>, CaptureError> {
        while let Some(start) = input.begin::<8>()? {
            let [kind, length] = quads::<8, 2>(start);
            if self.endian.u32(kind) == SECTION_HEADER {
                self.section(input, length)?;
                continue;
            }
            let (kind, length) = (self.endian.u32(kind), self.endian.u32(length));
            return self
                .body(input, length)
                .map(|body| Some(Block { kind, body }));
        }
        Ok(None)
    }

    fn body(&self, input: &Input, length: u32) -> Result<u32, CaptureError> {
        if length < 12 || !length.is_multiple_of(4) {
            return Err(input.malformed(format!("a block of {length} bytes cannot be")));
        }
        Ok(length - 12)
    }

    /// The rest of a section header: byte order, and a new numbering of interfaces.
    fn section(&mut self, input: &mut Input, length: [u8; 4]) -> Result<(), CaptureError> {
        let magic = input.array::<4>()?;
        self.endian = [Endian::Little, Endian::Big]
            .into_iter()
            .find(|endian| endian.u32(magic) == BYTE_ORDER_MAGIC)
            .ok_or_else(|| input.malformed("a section without byte-order magic".into()))?;
        self.interfaces.clear();
        let length = self.endian.u32(length);
        let body = self.body(input, length)?;
        if body < 16 {
            return Err(input.malformed(format!("a section header of {length} bytes is too short")));
        }
        let version = input.array::<4>()?;
        let major = self.endian.u16([version[0], version[1]]);
        if major != 1 {
            return Err(input.malformed(format!("version {major} of pcapng is not known, only 1")));
        }
        input.skip(body - 8)?;
        self.end(input, body)
    }

    /// The length once more, at the end of the block.
    fn end(&self, input: &mut Input, body: u32) -> Result<(), CaptureError> {
        let length = self.endian.u32(input.array()?);
        if length != body + 12 {
            return Err(input.malformed(format!(
                "a block says {} bytes at its beginning and {length} at its end",
                body + 12
            )));
        }
        Ok(())
    }

    /// A block that holds no frame.
    fn pass(&mut self, input: &mut Input, block: Block) -> Result<(), CaptureError> {
        if block.kind == INTERFACE {
            if !(8..=DESCRIPTION_BYTES_MAX).contains(&block.body) {
                return Err(input.malformed("an interface description of impossible length".into()));
            }
            let mut body = Vec::new();
            input.append(block.body, &mut body)?;
            self.interfaces.extend(self.interface(&body));
        } else {
            input.skip(block.body)?;
        }
        self.end(input, block.body)
    }

    fn interface(&self, body: &[u8]) -> Option<Interface> {
        let (&[low, high, _, _, a, b, c, d], mut options) = body.split_first_chunk::<8>()?;
        let mut interface = Interface {
            link_type: LinkType::from_number(u32::from(self.endian.u16([low, high]))),
            snap_length: self.endian.u32([a, b, c, d]),
            resolution: Resolution::Nanoseconds(1000),
            offset_seconds: 0,
        };
        while let Some((&[c0, c1, l0, l1], rest)) = options.split_first_chunk::<4>() {
            let length = usize::from(self.endian.u16([l0, l1]));
            let Some(value) = rest.get(..length) else {
                break;
            };
            match (self.endian.u16([c0, c1]), value) {
                (0, _) => break,
                (OPTION_TSRESOL, &[value]) => interface.resolution = Resolution::from_option(value),
                (OPTION_TSOFFSET, value) => interface.offset_seconds = self.seconds(value),
                _ => {}
            }
            options = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(interface)
    }

    fn seconds(&self, value: &[u8]) -> i64 {
        value.try_into().map_or(0, |value| match self.endian {
            Endian::Little => i64::from_le_bytes(value),
            Endian::Big => i64::from_be_bytes(value),
        })
    }

    fn enhanced(&self, input: &mut Input, block: Block) -> Result<Packet, CaptureError> {
        self.room(input, block, 20)?;
        let [interface, high, low, captured, wire] =
            self.endian.words(&quads::<20, 5>(input.array()?));
        let units = Some(u64::from(high) << 32 | u64::from(low));
        Ok(Packet {
            interface: interface as usize,
            units,
            captured,
            wire,
            header: 20,
        })
    }

    fn old(&self, input: &mut Input, block: Block) -> Result<Packet, CaptureError> {
        self.room(input, block, 20)?;
        let [first, high, low, captured, wire] = quads::<20, 5>(input.array()?);
        let interface = usize::from(self.endian.u16([first[0], first[1]]));
        let [high, low, captured, wire] = self.endian.words(&[high, low, captured, wire]);
        let units = Some(u64::from(high) << 32 | u64::from(low));
        Ok(Packet {
            interface,
            units,
            captured,
            wire,
            header: 20,
        })
    }

    /// A simple packet has neither time nor captured length: the shorter of wire and snap length.
    fn simple(&self, input: &mut Input, block: Block) -> Result<Packet, CaptureError> {
        self.room(input, block, 4)?;
        let wire = self.endian.u32(input.array()?);
        let snap = self
            .interfaces
            .first()
            .map_or(0, |interface| interface.snap_length);
        let captured = if snap == 0 { wire } else { wire.min(snap) };
        Ok(Packet {
            interface: 0,
            units: None,
            captured,
            wire,
            header: 4,
        })
    }

    fn room(&self, input: &Input, block: Block, header: u32) -> Result<(), CaptureError> {
        if block.body < header {
            return Err(input.malformed(format!(
                "a packet block of {} bytes is too short",
                block.body + 12
            )));
        }
        Ok(())
    }

    fn frame(
        &self,
        input: &mut Input,
        block: Block,
        packet: &Packet,
        limit: u32,
        to: &mut Vec<u8>,
    ) -> Result<FrameMeta, CaptureError> {
        let Some(interface) = self.interfaces.get(packet.interface) else {
            return Err(input.malformed(format!(
                "a frame of interface {}, which is not described",
                packet.interface
            )));
        };
        let captured = packet.captured;
        if captured > (block.body - packet.header).min(FRAME_BYTES_MAX) {
            return Err(input.malformed(format!(
                "a frame of {captured} bytes does not fit its block"
            )));
        }
        let (start, link_type) = (to.len(), interface.link_type);
        if captured > limit || matches!(link_type, LinkType::Unknown(_)) {
            input.skip(captured)?
        } else {
            input.append(captured, to)?
        }
        input.skip(block.body - packet.header - captured)?;
        self.end(input, block.body)?;
        let link = link_type.link(&to[start..]);
        let since = packet
            .units
            .map_or(0, |units| interface.resolution.nanoseconds(units));
        let offset_ns = interface.offset_seconds.saturating_mul(1_000_000_000);
        Ok(FrameMeta {
            captured_length: captured,
            wire_length: packet.wire,
            timestamp_ns: since.saturating_add(offset_ns),
            link: link.unwrap_or_default(),
            unsupported: link.is_none(),
            ..FrameMeta::default()
        })
    }
}
