//! The control thread: everything about the platform that is not a packet.
//!
//! One thread, one epoll: the NFs' and the operator's sockets, the NFs' pidfds, the workers'
//! events, a tick. It owns the configuration, the sessions and the pools' file descriptors; it
//! tells workers what to do by messages and never waits for anyone.
//!
//! Invariants: an NF can delay nobody (sockets are non-blocking, messages bounded); a region is
//! never used before its seals are on; a slot is free only when every worker has swept it.

mod admission;
mod apply;
mod authorize;
mod handles;
mod handshake;
mod links;
mod opening;
mod operator;
mod own_devices;
mod pools;
mod reconfigure;
mod role_folder;
mod serve;
mod session;
mod sockets;
mod start;
mod state;
mod stats;
mod stream;
mod trace;
mod withdraw;

pub use admission::Connections;
pub use links::LinkSource;
pub use serve::{Request, run};
pub use sockets::Sockets;
pub use state::{Control, DeviceEntry, PoolEntry, PortEntry, Reclaims, WorkerEntry};
