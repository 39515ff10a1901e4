//! A DPDK port: plugged, configured, started; stopped, closed and unplugged when dropped.
//!
//! Called by the platform's control code (attach, counters) and by its workers (bursts: one C call
//! each). Control calls run on the EAL thread.
//!
//! Invariants: no offload is asked for but `MULTI_SEGS`, so what a driver hands over is the frame
//! as it was on the wire and what it sends is what we wrote; never `FAST_FREE`; a port keeps its
//! pool alive; a half-made port is taken down again before an error is returned.

use std::mem::MaybeUninit;

use dpdk_sys::rte_mbuf;

use super::attach::{Attempt, Device};
use super::eal::Eal;
use super::error::PortError;
use super::pool::Pool;

/// What surrounds an MTU's worth of bytes in a frame: Ethernet and two VLAN tags.
pub(super) const FRAME_OVERHEAD_BYTES: u32 = 22;

/// Descriptors that a queue gets where nobody says otherwise.
const DESCRIPTORS: u16 = 1024;

/// How a port is to be set up.
#[derive(Debug, Clone, Copy)]
pub struct EthOptions {
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues: one for each worker that sends here.
    pub tx_queues: u16,
    /// The longest frame, without FCS.
    pub max_frame_bytes: u32,
    /// Descriptors of each receive queue (the driver's limits are kept).
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue.
    pub tx_descriptors: u16,
}

impl Default for EthOptions {
    /// One queue each way, Ethernet's usual frames with two tags.
    fn default() -> Self {
        EthOptions {
            rx_queues: 1,
            tx_queues: 1,
            max_frame_bytes: 1500 + FRAME_OVERHEAD_BYTES,
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
        }
    }
}

/// A driver's counters (`rte_eth_stats`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EthStats {
    /// Frames received.
    pub ipackets: u64,
    /// Frames sent.
    pub opackets: u64,
    /// Bytes received.
    pub ibytes: u64,
    /// Bytes sent.
    pub obytes: u64,
    /// Lost by the driver: its receive queue was full.
    pub imissed: u64,
    /// Received in error.
    pub ierrors: u64,
    /// Not sent.
    pub oerrors: u64,
    /// Lost because the pool was empty.
    pub rx_nombuf: u64,
}

/// A started port.
pub struct EthPort {
    pub(super) eal: &'static Eal,
    pub(super) port_id: u16,
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u16,
    pub(super) rx_queues: u16,
    pub(super) tx_queues: u16,
    pub(super) max_tx_queues: u16,
    pub(super) multi_segs: bool,
    pub(super) notes: Vec<String>,
    /// The driver holds buffers of it until it is closed.
    pub(super) pool: Pool,
}

impl EthPort {
    /// Plugs, configures and starts the device that `devargs` describe (`net_null0,size=64`, a PCI
    /// address, …). Received frames lie in buffers of `pool`; promiscuous.
    ///
    /// # Errors
    /// What is wrong, with what EAL and the driver said. Nothing is left plugged.
    pub fn attach(
        eal: &'static Eal,
        devargs: &str,
        options: EthOptions,
        pool: &Pool,
    ) -> Result<EthPort, PortError> {
        eal.run(|| {
            eal.take_log();
            let attempt = Attempt {
                eal,
                devargs,
                options,
                pool,
            };
            attempt.check_data_room()?;
            let (name, port_id) = attempt.plug()?;
            let mut device = Device {
                port_id,
                started: false,
            };
            attempt
                .set_up(&mut device, name)
                .inspect(|_| std::mem::forget(device))
        })
    }

    /// Receives into the front of the slice; returns how many.
    ///
    /// # Safety
    /// `queue < rx_queues()`, and no other thread receives on it at the same time.
    #[inline]
    pub unsafe fn rx_burst(&self, queue: u16, mbufs: &mut [*mut rte_mbuf]) -> usize {
        let room = u16::try_from(mbufs.len()).unwrap_or(u16::MAX);
        // SAFETY: the slice has that room; the port is started; the rest is the caller's promise.
        unsafe {
            dpdk_sys::dpdk_sys_eth_rx_burst(self.port_id, queue, mbufs.as_mut_ptr(), room).into()
        }
    }

    /// Sends from the front of the slice. The first `n` (returned) belong to the driver now, the rest
    /// stays the caller's.
    ///
    /// # Safety
    /// `queue < tx_queues()`, no other thread sends on it at the same time, the mbufs are live and
    /// held by the caller; chained ones only if `multi_segs()`.
    #[inline]
    pub unsafe fn tx_burst(&self, queue: u16, mbufs: &mut [*mut rte_mbuf]) -> usize {
        let n = u16::try_from(mbufs.len()).unwrap_or(u16::MAX);
        // SAFETY: the slice has so many; the port is started; the rest is the caller's promise.
        unsafe {
            dpdk_sys::dpdk_sys_eth_tx_burst(self.port_id, queue, mbufs.as_mut_ptr(), n).into()
        }
    }

    /// DPDK's number of the port.
    pub fn port_id(&self) -> u16 {
        self.port_id
    }

    /// The device's name (`net_null0`).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver's name (`net_null`).
    pub fn driver_name(&self) -> &str {
        &self.driver
    }

    /// Its Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Its MTU, as configured.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Receive queues that were set up.
    pub fn rx_queues(&self) -> u16 {
        self.rx_queues
    }

    /// Transmit queues that were set up.
    pub fn tx_queues(&self) -> u16 {
        self.tx_queues
    }

    /// Transmit queues that the driver could have.
    pub fn max_tx_queues(&self) -> u16 {
        self.max_tx_queues
    }

    /// Whether the driver sends chained mbufs.
    pub fn multi_segs(&self) -> bool {
        self.multi_segs
    }

    /// What came out differently from what was asked, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether the link is up now; so it is where the driver cannot say.
    pub fn link_up(&self) -> bool {
        link_up(self.port_id).unwrap_or(true)
    }

    /// The driver's counters since the port was attached.
    pub fn stats(&self) -> EthStats {
        let mut stats = MaybeUninit::zeroed();
        // SAFETY: the port exists; counters are plain words, zero where the driver has none.
        let stats = unsafe {
            dpdk_sys::rte_eth_stats_get(self.port_id, stats.as_mut_ptr());
            stats.assume_init()
        };
        EthStats {
            ipackets: stats.ipackets,
            opackets: stats.opackets,
            ibytes: stats.ibytes,
            obytes: stats.obytes,
            imissed: stats.imissed,
            ierrors: stats.ierrors,
            oerrors: stats.oerrors,
            rx_nombuf: stats.rx_nombuf,
        }
    }
}

impl Drop for EthPort {
    fn drop(&mut self) {
        let (port_id, name, pool) = (self.port_id, &self.name, &self.pool);
        self.eal.run(|| {
            if let Err(error) = (Device {
                port_id,
                started: true,
            })
            .take_down()
            {
                tracing::error!(port = name, error, "the device stays plugged");
            }
            // The driver gave its buffers back to *this* thread's cache.
            pool.flush_cache();
        });
    }
}

/// Whether the port with this number has a link now; `None`: its driver cannot say. A port that is
/// gone has none.
pub fn link_up(port_id: u16) -> Option<bool> {
    // SAFETY: DPDK checks the number; a link is plain words, all written when 0 is returned.
    let (link, said) = unsafe {
        let mut link = MaybeUninit::<dpdk_sys::rte_eth_link>::zeroed().assume_init();
        let said = dpdk_sys::rte_eth_link_get_nowait(port_id, &mut link);
        (link, said)
    };
    match -said {
        0 => Some(link.link_status() != 0),
        libc::ENOTSUP => None,
        _ => Some(false),
    }
}
