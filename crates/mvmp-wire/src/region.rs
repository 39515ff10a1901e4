//! The layout of the shared regions: which word lies where and who writes it.
//!
//! ```text
//! up region, per (NF, worker): written by the NF, read by the platform
//!      0  return ring's tail
//!     64  handle 0: rx head │ +64: handle 0: sleeping      one cache line each, 64 handles
//!   8256  return ring's slots, 16 bytes each
//!
//! status region, per (NF, worker): written by the platform, read by the NF
//!      0  return ring's head
//!     64  the worker's sleeping word
//!
//! down region, per (worker, handle): written by the platform, read by the NF
//!      0  rx ring's tail
//!     64  state: STATE_ENDED, STATE_CLOSED
//!    128  rx ring's slots, 16 bytes each
//!
//! record region, beside each pool: written by the platform, read by NFs
//!      0  record 0, record 1, …, 32 bytes each, one per granule
//! ```
//!
//! A *sleeping* word is 0 while its owner is awake, else a number that changes with each sleep,
//! so that the other side wakes it once per sleep.

use std::sync::Arc;

use crate::MAX_HANDLES;
use crate::memory::Mapping;
use crate::sync::{AtomicU32, AtomicU64};

const LINE: usize = 64;
const UP_HANDLES: usize = LINE;
const UP_SLOTS: usize = UP_HANDLES + MAX_HANDLES * 2 * LINE;
const DOWN_SLOTS: usize = 2 * LINE;
const SLOT_BYTES: usize = 16;

/// State bit of a down region: nothing more will come, take what is in the ring.
pub const STATE_ENDED: u32 = 1;
/// State bit of a down region: the platform has closed this handle.
pub const STATE_CLOSED: u32 = 2;

/// Bytes of a status region.
pub const STATUS_BYTES: usize = 4096;

fn whole_pages(bytes: usize) -> usize {
    bytes.next_multiple_of(4096)
}

/// What one NF tells one worker.
#[derive(Clone, Debug)]
pub struct UpRegion {
    mapping: Arc<Mapping>,
    slots: u32,
}

impl UpRegion {
    /// Bytes that an up region with so many return-ring slots takes.
    pub fn bytes(slots: u32) -> usize {
        whole_pages(UP_SLOTS + slots as usize * SLOT_BYTES)
    }

    /// A view of a mapped up region.
    ///
    /// # Panics
    /// When the mapping is smaller than [`Self::bytes`]: both numbers come from the platform.
    pub fn new(mapping: Arc<Mapping>, slots: u32) -> Self {
        assert!(
            mapping.len() >= Self::bytes(slots),
            "an up region is as large as its ring needs"
        );
        Self { mapping, slots }
    }

    /// Slots of the return ring.
    pub fn return_capacity(&self) -> u32 {
        self.slots
    }

    /// Index of the next return slot that the NF will fill.
    #[inline(always)]
    pub fn return_tail(&self) -> &AtomicU32 {
        self.mapping.word(0)
    }

    /// The return ring's slots, two words each.
    #[inline(always)]
    pub fn return_slots(&self) -> &[AtomicU64] {
        self.mapping.words(UP_SLOTS, self.slots as usize * 2)
    }

    /// How far the NF has read the rx ring of its handle number `handle`.
    #[inline(always)]
    pub fn rx_head(&self, handle: u8) -> &AtomicU32 {
        self.mapping
            .word(UP_HANDLES + (handle as usize % MAX_HANDLES) * 2 * LINE)
    }

    /// The sleeping word of handle number `handle` towards this worker.
    #[inline(always)]
    pub fn sleeping(&self, handle: u8) -> &AtomicU32 {
        self.mapping
            .word(UP_HANDLES + (handle as usize % MAX_HANDLES) * 2 * LINE + LINE)
    }
}

/// What one worker tells one NF, apart from packets.
#[derive(Clone, Debug)]
pub struct StatusRegion {
    mapping: Arc<Mapping>,
}

impl StatusRegion {
    /// A view of a mapped status region.
    ///
    /// # Panics
    /// When the mapping is smaller than [`STATUS_BYTES`].
    pub fn new(mapping: Arc<Mapping>) -> Self {
        assert!(mapping.len() >= STATUS_BYTES, "a status region is one page");
        Self { mapping }
    }

    /// How far the worker has read the return ring.
    #[inline(always)]
    pub fn return_head(&self) -> &AtomicU32 {
        self.mapping.word(0)
    }

    /// The worker's sleeping word.
    #[inline(always)]
    pub fn worker_sleeping(&self) -> &AtomicU32 {
        self.mapping.word(LINE)
    }
}

/// What one worker delivers to one handle.
#[derive(Clone, Debug)]
pub struct DownRegion {
    mapping: Arc<Mapping>,
    slots: u32,
}

impl DownRegion {
    /// Bytes that a down region with so many rx slots takes.
    pub fn bytes(slots: u32) -> usize {
        whole_pages(DOWN_SLOTS + slots as usize * SLOT_BYTES)
    }

    /// A view of a mapped down region.
    ///
    /// # Panics
    /// When the mapping is smaller than [`Self::bytes`].
    pub fn new(mapping: Arc<Mapping>, slots: u32) -> Self {
        assert!(
            mapping.len() >= Self::bytes(slots),
            "a down region is as large as its ring needs"
        );
        Self { mapping, slots }
    }

    /// Slots of the rx ring.
    pub fn rx_capacity(&self) -> u32 {
        self.slots
    }

    /// Index of the next rx slot that the worker will fill.
    #[inline(always)]
    pub fn rx_tail(&self) -> &AtomicU32 {
        self.mapping.word(0)
    }

    /// [`STATE_ENDED`], [`STATE_CLOSED`].
    #[inline(always)]
    pub fn state(&self) -> &AtomicU32 {
        self.mapping.word(LINE)
    }

    /// The rx ring's slots, two words each.
    #[inline(always)]
    pub fn rx_slots(&self) -> &[AtomicU64] {
        self.mapping.words(DOWN_SLOTS, self.slots as usize * 2)
    }
}

/// The records of one pool.
#[derive(Clone, Debug)]
pub struct RecordRegion {
    mapping: Arc<Mapping>,
    granules: u32,
}

impl RecordRegion {
    /// Bytes that the records of so many granules take.
    pub fn bytes(granules: u32) -> usize {
        whole_pages(granules as usize * crate::record::RECORD_BYTES)
    }

    /// A view of a mapped record region.
    ///
    /// # Panics
    /// When the mapping is smaller than [`Self::bytes`].
    pub fn new(mapping: Arc<Mapping>, granules: u32) -> Self {
        assert!(
            mapping.len() >= Self::bytes(granules),
            "a record region has a record for each granule"
        );
        Self { mapping, granules }
    }

    /// All records' words.
    #[inline(always)]
    pub fn words(&self) -> &[AtomicU64] {
        self.mapping
            .words(0, self.granules as usize * crate::record::RECORD_WORDS)
    }
}
