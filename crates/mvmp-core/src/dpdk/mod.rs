//! DPDK's room: the only place of mvmp that calls its C functions.
//!
//! Called by the platform's control code (which creates pools and ports) and by its workers (bursts).
//!
//! * [`Eal`]: DPDK's environment, once per process, on a thread of its own that runs all control calls.
//! * [`WorkerLcore`]: makes a thread known to DPDK, so that it has mempool caches.
//! * [`Pool`]: packet memory in one sealed memfd, a pktmbuf pool inside; [`IndirectPool`]: mbufs
//!   without bytes of their own, for sending a buffer that somebody else still reads.
//! * [`EthPort`]: a DPDK port from `devargs`; [`InterfacePort`]: the same on a kernel interface,
//!   with its [`Carrier`].
//!
//! Invariants: importing or linking initialises nothing; whatever is created here is taken down by
//! its `Drop`, in the order ports before pools (a port keeps its pool alive); a platform can be
//! started and stopped many times in one process.

mod attach;
mod carrier;
pub mod eal;
mod error;
pub mod ethdev;
mod indirect;
pub mod interface;
mod memory;
mod mempool;
mod offload;
pub mod pool;
mod probe;

pub use carrier::Carrier;
pub use dpdk_sys::{DRIVERS, rte_mbuf as Mbuf, rte_mempool as Mempool};
pub use eal::{BlockedSignals, Eal, EalError, EalFacts, WorkerLcore, rdtsc, tsc_hz, version};
pub use error::{PoolError, PortError};
pub use ethdev::{EthOptions, EthPort, EthStats, link_up};
pub use indirect::IndirectPool;
pub use interface::InterfacePort;
pub use pool::{GRANULE_SHIFT, Pool, PoolBuffer, free_bulk};
