//! The bytes of a capture file, and where in it we are.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::CaptureError;

const BUFFER_BYTES: usize = 256 * 1024;

/// A buffered file that remembers where the record being read begins, for error messages.
pub(super) struct Input {
    reader: BufReader<File>,
    path: PathBuf,
    offset: u64,
    record: u64,
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Self, CaptureError> {
        let failed = |source| CaptureError::Io {
            path: path.into(),
            action: "open",
            source,
        };
        // Looked at before opening: the opening of a FIFO would wait for its writer.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            let reason = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(failed(reason));
        }
        let file = File::open(path).map_err(failed)?;
        let reader = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(Self {
            reader,
            path: path.into(),
            offset: 0,
            record: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.reader
            .get_ref()
            .metadata()
            .map_or(u64::MAX, |metadata| metadata.len())
    }

    pub(super) fn rewind(&mut self) -> Result<(), CaptureError> {
        self.reader
            .seek(SeekFrom::Start(0))
            .map_err(|source| self.io(source))?;
        (self.offset, self.record) = (0, 0);
        Ok(())
    }

    /// `N` bytes that begin a record; `None` at the end of the file.
    #[inline]
    pub(super) fn begin<const N: usize>(&mut self) -> Result<Option<[u8; N]>, CaptureError> {
        self.record = self.offset;
        if self.reader.buffer().is_empty() && self.fill()?.is_empty() {
            return Ok(None);
        }
        self.array().map(Some)
    }

    /// `N` more bytes of the record.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CaptureError> {
        if let Some(bytes) = self.reader.buffer().first_chunk::<N>() {
            let bytes = *bytes;
            self.consume(N);
            return Ok(bytes);
        }
        let mut bytes = [0; N];
        match self.reader.read_exact(&mut bytes) {
            Ok(()) => {
                self.offset += N as u64;
                Ok(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.truncated()),
            Err(error) => Err(self.io(error)),
        }
    }

    /// The next `length` bytes of the record, appended. Memory grows with what the file has, not
    /// with what it claims.
    pub(super) fn append(&mut self, length: u32, to: &mut Vec<u8>) -> Result<(), CaptureError> {
        self.pieces(length, |piece| to.extend_from_slice(piece))
    }

    /// Passes over the next `length` bytes of the record.
    pub(super) fn skip(&mut self, length: u32) -> Result<(), CaptureError> {
        self.pieces(length, |_| ())
    }

    fn pieces(&mut self, length: u32, mut take: impl FnMut(&[u8])) -> Result<(), CaptureError> {
        let mut left = length as usize;
        while left > 0 {
            let available = self.fill()?;
            if available.is_empty() {
                return Err(self.truncated());
            }
            let count = available.len().min(left);
            take(&available[..count]);
            self.consume(count);
            left -= count;
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<&[u8], CaptureError> {
        loop {
            match self.reader.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io(error)),
            }
        }
        Ok(self.reader.buffer())
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.offset += count as u64;
    }

    fn io(&self, source: io::Error) -> CaptureError {
        CaptureError::Io {
            path: self.path.clone(),
            action: "read",
            source,
        }
    }

    fn truncated(&self) -> CaptureError {
        CaptureError::Truncated {
            path: self.path.clone(),
            offset: self.record,
        }
    }

    pub(super) fn malformed(&self, reason: String) -> CaptureError {
        CaptureError::Malformed {
            path: self.path.clone(),
            offset: self.record,
            reason,
        }
    }

    pub(super) fn unsupported(&self, number: u32) -> CaptureError {
        CaptureError::LinkType {
            path: self.path.clone(),
            number,
        }
    }
}

/// Which way round the numbers of a file (or pcapng section) are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

impl Endian {
    #[inline]
    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    #[inline]
    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// `N` words in a row.
    #[inline]
    pub(super) fn words<const N: usize>(self, bytes: &[[u8; 4]; N]) -> [u32; N] {
        bytes.map(|word| self.u32(word))
    }
}

/// Sixteen bytes as four words; the shape of every fixed header in both formats.
#[inline]
pub(super) fn quads<const BYTES: usize, const WORDS: usize>(
    bytes: [u8; BYTES],
) -> [[u8; 4]; WORDS] {
    const { assert!(BYTES == WORDS * 4) };
    std::array::from_fn(|i| {
        [
            bytes[i * 4],
            bytes[i * 4 + 1],
            bytes[i * 4 + 2],
            bytes[i * 4 + 3],
        ]
    })
}
