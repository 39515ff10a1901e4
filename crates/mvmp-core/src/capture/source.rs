//! The receiving end of a capture port: a thread that reads ahead, and the worker's side of it.
//!
//! The thread fills empty chunks and hands them over in order; when there is no empty one it
//! sleeps until the worker gives one back. A file that is to be played more than once and is
//! small is read once and then copied from memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rtrb::{Consumer, Producer, RingBuffer};

use super::CaptureError;
use super::chunk::{Chunk, Frame};
use super::reader::CaptureReader;
use super::thread::{Fault, nap, spawn};

/// Files up to this size are kept in memory when they are played more than once.
const CACHED_FILE_BYTES_MAX: u64 = 64 << 20;
/// But no more memory than this: many tiny frames take more room in chunks than in the file.
const CACHE_BYTES_MAX: usize = 192 << 20;

/// How a capture is to be played.
#[derive(Clone, Copy, Debug)]
pub struct SourceOptions {
    /// How many times; 0 means for ever.
    pub loop_count: u64,
    /// Longer frames come without their bytes ([`FrameMeta::is_too_long`](super::FrameMeta::is_too_long)).
    pub frame_bytes_max: u32,
    /// How many chunks read ahead.
    pub chunks: usize,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            loop_count: 1,
            frame_bytes_max: 9600,
            chunks: 16,
        }
    }
}

/// What both sides see.
#[derive(Debug, Default)]
struct Shared {
    /// The worker wants no more.
    stop: AtomicBool,
    /// The thread will hand over no more.
    finished: AtomicBool,
    fault: Fault,
}

/// The worker's side of a capture that is being read. Nothing here blocks but dropping, which
/// waits for the thread to finish the chunk that it is at.
#[derive(Debug)]
pub struct CaptureSource {
    full: Consumer<Chunk>,
    empty: Producer<Chunk>,
    current: Option<Chunk>,
    next: usize,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl CaptureSource {
    /// Opens the capture and begins to read ahead.
    ///
    /// # Errors
    /// As [`CaptureReader::open`], or there is no thread to be had.
    pub fn open(path: impl AsRef<Path>, options: SourceOptions) -> Result<Self, CaptureError> {
        let path = path.as_ref();
        let reader = CaptureReader::open(path, options.frame_bytes_max)?;
        let count = options.chunks.max(2);
        let (full_in, full) = RingBuffer::new(count);
        let (mut empty, empty_out) = RingBuffer::new(count);
        for _ in 0..count {
            // Room for `count` was just made.
            let _ = empty.push(Chunk::with_room_for(options.frame_bytes_max as usize));
        }
        let shared = Arc::new(Shared::default());
        let mut ahead = ReadAhead {
            reader,
            full: full_in,
            empty: empty_out,
            shared: Arc::clone(&shared),
            cache: None,
            cached_bytes: 0,
        };
        let thread = spawn("capture-read", path, move || ahead.run(options.loop_count))?;
        Ok(Self {
            full,
            empty,
            current: None,
            next: 0,
            shared,
            thread: Some(thread),
        })
    }

    /// The next frame, if one is there already. It stays the next one until [`Self::advance`].
    #[inline]
    pub fn peek(&mut self) -> Option<Frame<'_>> {
        if self
            .current
            .as_ref()
            .is_none_or(|chunk| self.next >= chunk.len())
        {
            self.next_chunk()?;
        }
        self.current.as_ref()?.get(self.next)
    }

    /// Goes on to the frame after the one that [`Self::peek`] showed.
    #[inline]
    pub fn advance(&mut self) {
        self.next += 1;
    }

    /// How many frames are to be had from [`Self::peek`] at once, without a look at the ring.
    pub fn frames_ready(&self) -> usize {
        self.current
            .as_ref()
            .map_or(0, |chunk| chunk.len().saturating_sub(self.next))
    }

    /// All frames of all passes have been consumed, or the file ended in an error.
    pub fn ended(&self) -> bool {
        // ORDERING: pairs with the store at the end of `ReadAhead::run`: what was pushed before
        // it is seen in the ring by the look that follows.
        self.shared.finished.load(Ordering::Acquire)
            && self.frames_ready() == 0
            && self.full.is_empty()
    }

    /// Where it is said if the file cannot be read to its end. Frames before that are delivered, and
    /// it is said before [`Self::ended`] is true.
    pub fn fault(&self) -> &Fault {
        &self.shared.fault
    }

    /// Gives the chunk back and takes the next one.
    fn next_chunk(&mut self) -> Option<()> {
        if let Some(chunk) = self.current.take() {
            // Never full: as many chunks exist as the ring has slots.
            let _ = self.empty.push(chunk);
            self.wake_for_much();
        }
        self.next = 0;
        self.current = Some(self.full.pop().ok()?);
        Some(())
    }

    /// The thread sleeps when no chunk is empty, and is woken when half of them are: a wake-up
    /// costs more than the reading of a chunk. With nothing left to consume, all but one are empty.
    fn wake_for_much(&self) {
        let chunks = self.empty.buffer().capacity();
        if chunks - self.empty.slots() >= chunks / 2 {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for CaptureSource {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic over there has been printed; here there is nothing left to do about it.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct ReadAhead {
    reader: CaptureReader,
    full: Producer<Chunk>,
    empty: Consumer<Chunk>,
    shared: Arc<Shared>,
    /// The chunks of a whole pass, while and once they are collected.
    cache: Option<Vec<Chunk>>,
    cached_bytes: usize,
}

impl ReadAhead {
    fn run(&mut self, loop_count: u64) {
        if loop_count != 1 && self.reader.file_bytes() <= CACHED_FILE_BYTES_MAX {
            self.cache = Some(Vec::new());
        }
        let mut passes = 0;
        while loop_count == 0 || passes < loop_count {
            let played = if passes > 0 && self.cache.is_some() {
                self.replay()
            } else {
                self.pass(passes > 0)
            };
            if played == Some(0) || played.is_none() {
                break;
            }
            passes += 1;
        }
        // ORDERING: pairs with the load in `CaptureSource::ended`.
        self.shared.finished.store(true, Ordering::Release);
    }

    /// Reads the file once. How many frames there were; `None` if there is to be no further pass.
    fn pass(&mut self, again: bool) -> Option<u64> {
        if again && let Err(error) = self.reader.rewind() {
            self.shared.fault.put(error);
            return None;
        }
        let mut frames = 0;
        loop {
            let mut chunk = self.empty_chunk()?;
            let more = self.fill(&mut chunk);
            frames += chunk.len() as u64;
            self.keep(&chunk);
            // An empty one at the end of a pass goes back the same way as all others.
            self.hand_over(chunk);
            match more {
                Ok(true) => {}
                Ok(false) => return Some(frames),
                Err(error) => {
                    // A file that is cut short is still worth its other passes.
                    let playable = matches!(error, CaptureError::Truncated { .. });
                    self.shared.fault.put(error);
                    return playable.then_some(frames);
                }
            }
        }
    }

    /// Fills the chunk; whether the file has more.
    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool, CaptureError> {
        while chunk.has_room() {
            if !self.reader.read_chunk_frame(chunk)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Plays what the first pass collected.
    fn replay(&mut self) -> Option<u64> {
        let cache = self.cache.take()?;
        let mut frames = 0;
        for kept in &cache {
            let mut chunk = self.empty_chunk()?;
            chunk.copy_from(kept);
            frames += chunk.len() as u64;
            self.hand_over(chunk);
        }
        self.cache = Some(cache);
        Some(frames)
    }

    /// Remembers the chunk for later passes, unless that takes too much memory.
    fn keep(&mut self, chunk: &Chunk) {
        if let Some(cache) = &mut self.cache {
            cache.push(chunk.clone());
            self.cached_bytes += chunk.footprint();
            if self.cached_bytes > CACHE_BYTES_MAX {
                self.cache = None;
            }
        }
    }

    /// Waits for an empty chunk; `None` when the worker has gone.
    fn empty_chunk(&mut self) -> Option<Chunk> {
        loop {
            if self.shared.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Ok(mut chunk) = self.empty.pop() {
                chunk.clear();
                return Some(chunk);
            }
            nap();
        }
    }

    fn hand_over(&mut self, chunk: Chunk) {
        // Never full: as many chunks exist as the ring has slots.
        let _ = self.full.push(chunk);
    }
}
