//! One capture file, frame by frame.

use std::path::Path;

use super::CaptureError;
use super::chunk::{Chunk, FrameMeta};
use super::input::Input;
use super::pcap::Pcap;
use super::pcapng::{Pcapng, SECTION_HEADER};

/// A captured length beyond this is a damaged file, not a frame.
pub const FRAME_BYTES_MAX: u32 = 16 << 20;

/// Reads pcap and pcapng files, told apart by their first bytes.
pub struct CaptureReader {
    input: Input,
    format: Format,
    limit: u32,
    /// Nothing can be read after an error or the end.
    over: bool,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

impl CaptureReader {
    /// Opens a capture file. Frames with more than `limit` captured bytes, and those of link types
    /// that are not supported, will be reported without their bytes.
    ///
    /// # Errors
    /// The file cannot be opened, is no capture, or begins with frames of unsupported link types alone.
    pub fn open(path: impl AsRef<Path>, limit: u32) -> Result<Self, CaptureError> {
        let mut input = Input::open(path.as_ref())?;
        let format = recognise(&mut input)?;
        Ok(Self {
            input,
            format,
            limit: limit.min(FRAME_BYTES_MAX),
            over: false,
        })
    }

    /// Appends the next frame's bytes to `to` and says what it is (`offset` and `length` are left
    /// to the caller); `None` at the end.
    ///
    /// # Errors
    /// The file is cut short or damaged here, or cannot be read. Further calls yield `None`. `to` may
    /// have grown.
    pub fn read_into(&mut self, to: &mut Vec<u8>) -> Result<Option<FrameMeta>, CaptureError> {
        if self.over {
            return Ok(None);
        }
        let outcome = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.input, self.limit, to),
            Format::Pcapng(pcapng) => pcapng.next(&mut self.input, self.limit, to),
        };
        self.over = !matches!(outcome, Ok(Some(_)));
        outcome
    }

    /// Reads one frame into the chunk; `false` at the end of the file.
    ///
    /// # Errors
    /// As [`Self::read_into`]; the chunk keeps the frames before.
    pub fn read_chunk_frame(&mut self, chunk: &mut Chunk) -> Result<bool, CaptureError> {
        chunk.read_with(|bytes| self.read_into(bytes))
    }

    /// Goes back to the first frame.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn rewind(&mut self) -> Result<(), CaptureError> {
        self.input.rewind()?;
        self.format = recognise(&mut self.input)?;
        self.over = false;
        Ok(())
    }

    /// The file that is read.
    pub fn path(&self) -> &Path {
        self.input.path()
    }

    /// How large the file is.
    pub fn file_bytes(&self) -> u64 {
        self.input.file_bytes()
    }
}

fn recognise(input: &mut Input) -> Result<Format, CaptureError> {
    let not_a_capture = |input: &Input, reason: String| CaptureError::NotACapture {
        path: input.path().into(),
        reason,
    };
    let magic = match input.begin::<4>() {
        Ok(Some(magic)) => magic,
        Ok(None) => return Err(not_a_capture(input, "it is empty".into())),
        Err(CaptureError::Truncated { .. }) => {
            return Err(not_a_capture(input, "it is too short".into()));
        }
        Err(error) => return Err(error),
    };
    if let Some((endian, unit_ns)) = Pcap::recognise(magic) {
        return Pcap::open(input, endian, unit_ns).map(Format::Pcap);
    }
    match magic {
        magic if u32::from_be_bytes(magic) == SECTION_HEADER => {
            Pcapng::open(input).map(Format::Pcapng)
        }
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [0xfd, b'7', b'z', b'X'] => Err(
            not_a_capture(input, "it is compressed; decompress it first".into()),
        ),
        [a, b, c, d] => Err(not_a_capture(
            input,
            format!("it begins with {a:02x} {b:02x} {c:02x} {d:02x}"),
        )),
    }
}
