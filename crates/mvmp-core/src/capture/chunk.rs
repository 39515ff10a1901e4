//! The unit that travels between a worker and a file thread: many frames, two allocations.

use mvmp_wire::packet::Link;

/// Frames in a chunk at the most.
pub const CHUNK_FRAMES: usize = 256;
/// A chunk that has reached this size takes no further frame.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// One frame of a [`Chunk`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameMeta {
    /// Where its bytes begin in the chunk.
    pub offset: u32,
    /// How many bytes of it the chunk holds: all that was captured, or 0 if that was over the limit.
    pub length: u32,
    /// How many bytes of it the file holds.
    pub captured_length: u32,
    /// How long it was on the wire.
    pub wire_length: u32,
    /// When, in nanoseconds since 1970.
    pub timestamp_ns: i64,
    /// What its first byte is.
    pub link: Link,
    /// Its link type is none that can be parsed: it comes without its bytes, and `link` says nothing.
    pub unsupported: bool,
}

impl FrameMeta {
    /// The frame was longer than the reader's limit, and only its lengths are known.
    pub fn is_too_long(&self) -> bool {
        self.length < self.captured_length && !self.unsupported
    }
}

/// A frame and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its bytes; empty if it was longer than the reader's limit, or is not supported.
    pub bytes: &'a [u8],
    /// Times and lengths.
    pub meta: FrameMeta,
}

/// Frames back to back, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    frames: Vec<FrameMeta>,
}

impl Chunk {
    /// An empty chunk that will not allocate for frames of up to `frame_bytes`.
    pub fn with_room_for(frame_bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(CHUNK_BYTES + frame_bytes),
            frames: Vec::with_capacity(CHUNK_FRAMES),
        }
    }

    /// Whether it takes one more frame, of any length.
    pub fn has_room(&self) -> bool {
        self.frames.len() < CHUNK_FRAMES && self.bytes.len() < CHUNK_BYTES
    }

    /// Adds a frame that lies in two pieces. Ask [`Self::has_room`] first.
    pub fn push(&mut self, head: &[u8], tail: &[u8], meta: FrameMeta) {
        let offset = self.bytes.len() as u32;
        let length = (head.len() + tail.len()) as u32;
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(tail);
        self.frames.push(FrameMeta {
            offset,
            length,
            captured_length: length,
            ..meta
        });
    }

    /// Lets `read` append one frame's bytes; it returns what the rest of the meta is.
    pub(super) fn read_with<E>(
        &mut self,
        read: impl FnOnce(&mut Vec<u8>) -> Result<Option<FrameMeta>, E>,
    ) -> Result<bool, E> {
        let start = self.bytes.len();
        let outcome = read(&mut self.bytes);
        match outcome {
            Ok(Some(meta)) => {
                let length = (self.bytes.len() - start) as u32;
                self.frames.push(FrameMeta {
                    offset: start as u32,
                    length,
                    ..meta
                });
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    /// Makes this chunk a copy of the other, in the memory that it has.
    pub(super) fn copy_from(&mut self, other: &Self) {
        self.bytes.clone_from(&other.bytes);
        self.frames.clone_from(&other.frames);
    }

    /// The bytes that it occupies in memory, roughly.
    pub(super) fn footprint(&self) -> usize {
        self.bytes.len() + self.frames.len() * size_of::<FrameMeta>()
    }

    /// How many bytes its frames have together.
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// How many frames it holds.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frame at this place.
    pub fn get(&self, index: usize) -> Option<Frame<'_>> {
        let meta = *self.frames.get(index)?;
        let start = meta.offset as usize;
        let bytes = self.bytes.get(start..start + meta.length as usize)?;
        Some(Frame { bytes, meta })
    }

    /// All frames.
    pub fn iter(&self) -> impl Iterator<Item = Frame<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Makes it empty; the memory stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }
}
