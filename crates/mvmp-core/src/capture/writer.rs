//! Capture files as they are written: nanoseconds, in this machine's byte order.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use mvmp_wire::packet::Link;

use super::CaptureError;
use super::link_type::{self, link_name};
use super::pcap::MAGIC_NANOSECONDS;
use super::pcapng::{BYTE_ORDER_MAGIC, ENHANCED_PACKET, INTERFACE, OPTION_TSRESOL, SECTION_HEADER};

const BUFFER_BYTES: usize = 256 * 1024;
const SNAP_LENGTH: u32 = 262_144;

/// Which of the two formats to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureFormat {
    /// The classic format with the nanosecond magic number.
    Pcap,
    /// The block format with `if_tsresol` 9, one interface per link type met.
    Pcapng,
}

impl CaptureFormat {
    /// `.pcap` and `.cap` mean pcap; everything else, standard output too, is pcapng.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(extension)
                if extension.eq_ignore_ascii_case("pcap")
                    || extension.eq_ignore_ascii_case("cap") =>
            {
                Self::Pcap
            }
            _ => Self::Pcapng,
        }
    }

    /// Whether a file that begins with a frame of one link holds one of the other: pcap has one link
    /// type for all, and raw IPv4 and IPv6 share theirs.
    #[inline]
    pub(super) fn holds_both(self, first: Link, other: Link) -> bool {
        self == Self::Pcapng || (first == Link::Ethernet) == (other == Link::Ethernet)
    }
}

/// Writes frames to a capture file. Call [`Self::finish`]; dropping may lose what is buffered.
pub struct CaptureWriter {
    out: BufWriter<Box<dyn Write + Send>>,
    /// Emptied when writing begins, not before: whoever only opens it destroys nothing.
    old: Option<File>,
    path: PathBuf,
    format: CaptureFormat,
    begun: bool,
    /// pcap: the link that the header names, once it is written. pcapng: the interfaces, in order.
    links: Vec<Link>,
    /// Bytes that were given to `out`.
    bytes: u64,
    /// Where the frames end that may still lie in `out`, all or in part.
    ends: Vec<u64>,
}

impl CaptureWriter {
    /// Opens the file in the format that its extension says, or creates it; `-` is standard output. What is in
    /// it stays until the first frame, flush or finish.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, CaptureError> {
        let path = path.as_ref();
        Self::create_as(path, CaptureFormat::of(path))
    }

    /// The same, in this format.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create_as(path: impl AsRef<Path>, format: CaptureFormat) -> Result<Self, CaptureError> {
        let path = path.as_ref();
        let failed = |source| CaptureError::Io {
            path: path.into(),
            action: "create",
            source,
        };
        let mut old = None;
        let sink: Box<dyn Write + Send> = if path.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).open(path);
            let file = file.map_err(failed)?;
            if file.metadata().map_err(failed)?.is_file() {
                old = Some(file.try_clone().map_err(failed)?);
            }
            Box::new(file)
        };
        Ok(Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, sink),
            old,
            path: path.into(),
            format,
            begun: false,
            links: Vec::new(),
            bytes: 0,
            ends: Vec::new(),
        })
    }

    /// Takes what the file held out of it, and begins anew.
    fn begin(&mut self) -> Result<(), CaptureError> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        if let Some(old) = self.old.take() {
            old.set_len(0).map_err(|source| CaptureError::Io {
                path: self.path.clone(),
                action: "write",
                source,
            })?;
        }
        match self.format {
            CaptureFormat::Pcap => Ok(()),
            CaptureFormat::Pcapng => self.all(&[section_header().as_flattened()]),
        }
    }

    /// Writes one frame. Times before 1970 become 1970, and in pcap those after 2106 become 2106.
    ///
    /// # Errors
    /// The file cannot be written to, or is pcap and holds frames of another link type.
    pub fn write(
        &mut self,
        bytes: &[u8],
        timestamp_ns: i64,
        wire_length: u32,
        link: Link,
    ) -> Result<(), CaptureError> {
        self.write_scattered(bytes, &[], timestamp_ns, wire_length, link)
    }

    /// Writes one frame that lies in two pieces.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_scattered(
        &mut self,
        head: &[u8],
        tail: &[u8],
        timestamp_ns: i64,
        wire_length: u32,
        link: Link,
    ) -> Result<(), CaptureError> {
        self.begin()?;
        let length = (head.len() + tail.len()) as u32;
        let time = u64::try_from(timestamp_ns).unwrap_or(0);
        let buffered = self.out.buffer().len();
        match self.format {
            CaptureFormat::Pcap => {
                self.name_link(link)?;
                let seconds = u32::try_from(time / 1_000_000_000).unwrap_or(u32::MAX);
                let header = words([seconds, (time % 1_000_000_000) as u32, length, wire_length]);
                self.all(&[header.as_flattened(), head, tail])?;
            }
            CaptureFormat::Pcapng => {
                let interface = self.interface(link)?;
                let padding = (length.next_multiple_of(4) - length) as usize;
                let total = 32 + length.next_multiple_of(4);
                let header = words([
                    ENHANCED_PACKET,
                    total,
                    interface,
                    (time >> 32) as u32,
                    time as u32,
                    length,
                    wire_length,
                ]);
                self.all(&[
                    header.as_flattened(),
                    head,
                    tail,
                    &[0; 3][..padding],
                    &total.to_ne_bytes(),
                ])?;
            }
        }
        if self.out.buffer().len() < buffered {
            // The buffer was emptied for this frame.
            self.ends.clear();
        }
        self.ends.push(self.bytes);
        Ok(())
    }

    /// Hands what is buffered to the operating system.
    ///
    /// # Errors
    /// The file cannot be written to.
    pub fn flush(&mut self) -> Result<(), CaptureError> {
        self.begin()?;
        let path = &self.path;
        self.out.flush().map_err(|source| CaptureError::Io {
            path: path.clone(),
            action: "write",
            source,
        })?;
        self.ends.clear();
        Ok(())
    }

    /// Closes the file after an error, as it is. How many frames were written before the error, and
    /// are not whole in it.
    pub fn abandon(self) -> u64 {
        let (_file, buffered) = self.out.into_parts();
        let in_file = self.bytes - buffered.map_or(0, |left| left.len() as u64);
        self.ends.iter().filter(|&&end| end > in_file).count() as u64
    }

    /// Ends the file: without a frame, pcap gets its header now, for Ethernet.
    ///
    /// # Errors
    /// The file cannot be written to.
    pub fn finish(mut self) -> Result<(), CaptureError> {
        self.begin()?;
        if self.format == CaptureFormat::Pcap && self.links.is_empty() {
            self.name_link(Link::Ethernet)?;
        }
        self.flush()
    }

    /// pcap: the first frame decides the link type.
    fn name_link(&mut self, link: Link) -> Result<(), CaptureError> {
        match self.links.first() {
            Some(&first) if self.format.holds_both(first, link) => Ok(()),
            Some(&first) => Err(CaptureError::MixedLinks {
                path: self.path.clone(),
                first: link_name(first),
                other: link_name(link),
            }),
            None => {
                self.links.push(link);
                let number = if link == Link::Ethernet {
                    link_type::ETHERNET
                } else {
                    link_type::RAW
                };
                let mut header = words([MAGIC_NANOSECONDS, 0, 0, 0, SNAP_LENGTH, number]);
                header[1] = halves(2, 4);
                self.all(&[header.as_flattened()])
            }
        }
    }

    /// pcapng: the number of the interface for this link, described on first use.
    fn interface(&mut self, link: Link) -> Result<u32, CaptureError> {
        if let Some(index) = self.links.iter().position(|&known| known == link) {
            return Ok(index as u32);
        }
        self.links.push(link);
        let number = match link {
            Link::Ethernet => link_type::ETHERNET,
            Link::Ipv4 => link_type::IPV4,
            Link::Ipv6 => link_type::IPV6,
        };
        self.all(&[interface_description(number as u16).as_flattened()])?;
        Ok(self.links.len() as u32 - 1)
    }

    fn all(&mut self, pieces: &[&[u8]]) -> Result<(), CaptureError> {
        for piece in pieces {
            self.out
                .write_all(piece)
                .map_err(|source| CaptureError::Io {
                    path: self.path.clone(),
                    action: "write",
                    source,
                })?;
            self.bytes += piece.len() as u64;
        }
        Ok(())
    }
}

/// Words in this machine's byte order.
fn words<const WORDS: usize>(words: [u32; WORDS]) -> [[u8; 4]; WORDS] {
    words.map(u32::to_ne_bytes)
}

/// Two halves of a word.
fn halves(first: u16, second: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    [a, b, c, d]
}

/// Version 1.0, length of the section not said.
fn section_header() -> [[u8; 4]; 7] {
    let mut block = words([
        SECTION_HEADER,
        28,
        BYTE_ORDER_MAGIC,
        0,
        u32::MAX,
        u32::MAX,
        28,
    ]);
    block[3] = halves(1, 0);
    block
}

/// Link type, snap length, and the option that says "nanoseconds".
fn interface_description(number: u16) -> [[u8; 4]; 8] {
    let mut block = words([INTERFACE, 32, 0, SNAP_LENGTH, 0, 0, 0, 32]);
    block[2] = halves(number, 0);
    block[4] = halves(OPTION_TSRESOL, 1);
    block[5] = [9, 0, 0, 0];
    block
}
