//! Counters: written by one thread, read by any; and the names of all the ways to lose a packet.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread counts up and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the one writer calls it: a load and a store, no locked instruction.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        // ORDERING: relaxed; a statistic orders nothing.
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Sets a gauge.
    #[inline(always)]
    pub fn set(&self, n: u64) {
        // ORDERING: release, so that whoever sees this gauge sees what was counted before it.
        self.0.store(n, Ordering::Release);
    }

    /// Reads.
    pub fn get(&self) -> u64 {
        // ORDERING: partner of `set`.
        self.0.load(Ordering::Acquire)
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// Why a packet was lost. Every lost packet has one of these names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum DropReason { $($(#[doc = $doc])* $name,)* }

        impl DropReason {
            /// All of them, in order.
            pub const ALL: &[DropReason] = &[$(DropReason::$name,)*];

            /// As it is spelt in statistics.
            pub const fn as_str(self) -> &'static str {
                match self { $(DropReason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// Port in: no policy of any device wanted it.
    Unmatched = "unmatched",
    /// Port in: a device wanted it, but no NF has it open for receiving.
    NoNf = "no_nf",
    /// Port in: the frame is longer than a data room.
    TooLong = "too_long",
    /// Port in: of a link type that is not supported. Port out: the pcap file is of another one.
    LinkType = "link_type",
    /// No free buffer in the pool.
    NoBuffer = "no_buffer",
    /// Handle in: its rx ring was full.
    RingFull = "ring_full",
    /// Handle in: it holds as many buffers as it may.
    Quota = "quota",
    /// Handle in: the packet's pool came later than the handle, and its NF has not mapped it.
    NotMapped = "not_mapped",
    /// Handle out: the handle may not send, or names no handle.
    NotAuthorized = "not_authorized",
    /// Handle out: the way out could not be determined.
    NoRoute = "no_route",
    /// Handle out: nobody else receives on that rootless device, or no receiver's match wants it.
    NoReceiver = "no_receiver",
    /// Handle out: passed on by 255 NFs already.
    HopLimit = "hop_limit",
    /// Way out: what the encapsulation cannot carry, or not at this size.
    NoEncap = "no_encap",
    /// Way out: it begins with IP, and an Ethernet port has no addresses for it.
    NoEthernet = "no_ethernet",
    /// Way out: with the headers that were put in front it is longer than the port's frames.
    MtuExceeded = "mtu_exceeded",
    /// Handle out: private memory was described wrongly, or no NIC takes what is that short.
    BadFrame = "bad_frame",
    /// Port out: the queue, or the file writer, took no more.
    TxFull = "tx_full",
    /// Port out: the port is gone, or writes nowhere.
    PortGone = "port_gone",
    /// Port out: the ring to the worker that owns the port was full.
    HandOverFull = "hand_over_full",
    /// Port out: the file could not be written; the port's `faults` say why.
    WriteFailed = "write_failed",
}

/// A counter for each reason.
#[derive(Debug, Default)]
pub struct Drops([Counter; DropReason::ALL.len()]);

impl Drops {
    /// Counts.
    #[inline]
    pub fn add(&self, reason: DropReason, n: u64) {
        self.0[reason as usize].add(n);
    }

    /// How many for this reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].get()
    }

    /// All that are not 0.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.get(reason)))
            .filter(|(_, n)| *n != 0)
    }
}

/// The books of a port. received = dispatched + Σ drops; accepted = transmitted + Σ tx_drops.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Frames received.
    pub received: Counter,
    /// Their bytes.
    pub bytes: Counter,
    /// Frames offered to at least one handle, or sent on in the absence of NFs.
    pub dispatched: Counter,
    /// Of those, sent on by the worker in the absence of NFs.
    pub bypassed: Counter,
    /// The others.
    pub drops: Drops,
    /// Frames that NFs sent to this port.
    pub accepted: Counter,
    /// Of those, given to the driver or the file.
    pub transmitted: Counter,
    /// Bytes of those.
    pub transmitted_bytes: Counter,
    /// The others.
    pub tx_drops: Drops,
    /// Gauge, 1: the source has played to its end.
    pub ended: Counter,
    /// Gauge, 1: the source was started.
    pub started: Counter,
    /// Gauge: accepted frames that the file writer has not written yet.
    pub unwritten: Counter,
    /// Gauge: frames that were given to the file writer, which could not write them.
    pub write_failed: Counter,
}

/// The books of a (worker, handle) pair. offered = delivered + Σ drops;
/// delivered = sent + forwarded + released + died + held, mirrors apart.
#[derive(Debug, Default)]
pub struct HandleCounters {
    /// Packets that were for this handle.
    pub offered: Counter,
    /// Packets in its ring.
    pub delivered: Counter,
    /// Of those, fresh copies, because the handle held the buffer already.
    pub copied: Counter,
    /// Offered and not delivered.
    pub drops: Drops,
    /// Given back to go out of a port, and there was one.
    pub sent: Counter,
    /// Given back to go to other NFs, and at least one was to have it.
    pub forwarded: Counter,
    /// Sent or forwarded without giving back.
    pub mirrored: Counter,
    /// Given back for good.
    pub released: Counter,
    /// Of those, because the return ring had no room.
    pub tx_ring_full: Counter,
    /// Of those, because no way led from the handle that it was to be sent over: `out_drops` there says why.
    pub no_way: Counter,
    /// Taken back because the NF died or its handle was closed by force.
    pub died: Counter,
    /// Packets that the NF built itself and sent over this handle.
    pub built: Counter,
    /// Sent, forwarded, mirrored or built, and lost on the way.
    pub out_drops: Drops,
    /// Gauge: open shares.
    pub held: Counter,
    /// Gauge: how many it may hold.
    pub limit: Counter,
}

/// The books of a pool.
#[derive(Debug, Default)]
pub struct PoolCounters {
    /// Gauge: buffers with at least one open share.
    pub lent: Counter,
    /// Gauge: open shares.
    pub shares: Counter,
    /// Gauge: free buffers that the worker keeps at hand, outside of the pool.
    pub kept: Counter,
}

/// What a worker did.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Turns of its loop.
    pub loops: Counter,
    /// Of those, with something to do.
    pub busy_loops: Counter,
    /// Naps.
    pub naps: Counter,
    /// Wake-ups written to NFs' pipes.
    pub wakes: Counter,
}

/// What an NF did wrong towards one worker.
#[derive(Debug, Default)]
pub struct NfCounters {
    /// Descriptors that were refused.
    pub refused: Counter,
}
