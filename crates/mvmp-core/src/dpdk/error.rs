//! Why a pool or a port could not be had: the caller's mistakes and the machine's refusals.
//!
//! Called by everything in this room. Each says what was asked for, what refused it, and what DPDK logged.

use super::eal::said;

/// Why a pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The caller asked for something that cannot be.
    #[error("a pool of {buffers} buffers of {data_room_bytes} bytes: {why}")]
    Size {
        /// Buffers asked for.
        buffers: u32,
        /// Data room asked for.
        data_room_bytes: u32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The kernel gives no such memory.
    #[error("{bytes} bytes of packet memory for pool {name}: {step}: {error}")]
    Memory {
        /// The pool's name.
        name: String,
        /// Its length.
        bytes: usize,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        error: rustix::io::Errno,
    },
    /// DPDK refused.
    #[error("pool {name}: {step}: {error}{}", said(.log))]
    Dpdk {
        /// The pool's name.
        name: String,
        /// What was being done.
        step: &'static str,
        /// DPDK's errno in words.
        error: String,
        /// What it logged.
        log: String,
    },
}

/// Why a port could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Another port of this process has that device.
    #[error("`{devargs}`: a device called {name} is open already; give the new one another number")]
    NameTaken {
        /// What was asked for.
        devargs: String,
        /// The device's name.
        name: String,
    },
    /// The driver cannot have so many queues.
    #[error("`{devargs}`: {wanted} {direction} queues, but {driver} has at most {most}")]
    Queues {
        /// What was asked for.
        devargs: String,
        /// `rx` or `tx`.
        direction: &'static str,
        /// Queues asked for.
        wanted: u16,
        /// Queues that there are.
        most: u16,
        /// The driver.
        driver: String,
    },
    /// The frames do not fit.
    #[error(
        "`{devargs}`: frames of {max_frame_bytes} bytes need a data room of {needed}, the pool has {have}"
    )]
    DataRoom {
        /// What was asked for.
        devargs: String,
        /// The longest frame.
        max_frame_bytes: u32,
        /// Bytes of data room needed, headroom included.
        needed: u32,
        /// Bytes of data room there are.
        have: u16,
    },
    /// DPDK refused.
    #[error("`{devargs}`: {step}: {error}{}", said(.log))]
    Dpdk {
        /// What was asked for.
        devargs: String,
        /// What was being done.
        step: &'static str,
        /// The errno in words.
        error: String,
        /// What EAL and the driver logged.
        log: String,
    },
    /// The kernel interface is not there or not ours to use.
    #[error("interface {interface}: {what}: {error}{hint}")]
    Interface {
        /// Its name.
        interface: String,
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        error: std::io::Error,
        /// What to do about it; may be empty.
        hint: &'static str,
    },
}
