//! How a port comes to be, step by step, and how it is taken down.
//!
//! Called by `ethdev`, on the EAL thread. Invariant: whatever step fails, the device that was
//! plugged is unplugged again.

use std::ffi::{CStr, CString, c_int};
use std::mem::MaybeUninit;

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info};

use super::eal::{Eal, error_text};
use super::error::PortError;
use super::ethdev::{EthOptions, EthPort, FRAME_OVERHEAD_BYTES};
use super::pool::Pool;

/// A plugged device; taken down when dropped.
pub(super) struct Device {
    pub port_id: u16,
    pub started: bool,
}

impl Device {
    pub fn take_down(self) -> Result<(), String> {
        let outcome = self.unplug();
        std::mem::forget(self);
        outcome
    }

    fn unplug(&self) -> Result<(), String> {
        let mut facts = MaybeUninit::<rte_eth_dev_info>::zeroed();
        // SAFETY: on the EAL thread; the port exists, and nobody uses it any more.
        unsafe {
            let known = dpdk_sys::rte_eth_dev_info_get(self.port_id, facts.as_mut_ptr());
            if known != 0 {
                return Err(error_text(known));
            }
            if self.started {
                dpdk_sys::rte_eth_dev_stop(self.port_id);
            }
            dpdk_sys::rte_eth_dev_close(self.port_id);
            match dpdk_sys::rte_dev_remove(facts.assume_init().device) {
                0 => Ok(()),
                errno => Err(error_text(errno)),
            }
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.unplug();
    }
}

/// One call of `attach`, on the EAL thread.
pub(super) struct Attempt<'a> {
    pub eal: &'static Eal,
    pub devargs: &'a str,
    pub options: EthOptions,
    pub pool: &'a Pool,
}

impl Attempt<'_> {
    fn refused(&self, step: &'static str, errno: c_int) -> PortError {
        let log = self.eal.take_log();
        // Many drivers return a bare -1, which is no errno.
        let error = if errno == -1 {
            "the driver refuses it".to_owned()
        } else {
            error_text(errno)
        };
        PortError::Dpdk {
            devargs: self.devargs.to_owned(),
            step,
            error,
            log,
        }
    }

    fn check(&self, step: &'static str, errno: c_int) -> Result<(), PortError> {
        if errno < 0 {
            Err(self.refused(step, errno))
        } else {
            Ok(())
        }
    }

    /// A frame lies in one buffer: no port is asked to scatter.
    pub fn check_data_room(&self) -> Result<(), PortError> {
        let max_frame_bytes = self.options.max_frame_bytes;
        let needed = max_frame_bytes.saturating_add(dpdk_sys::RTE_PKTMBUF_HEADROOM);
        let have = self.pool.data_room_bytes();
        if needed <= have.into() {
            return Ok(());
        }
        Err(PortError::DataRoom {
            devargs: self.devargs.to_owned(),
            max_frame_bytes,
            needed,
            have,
        })
    }

    pub fn plug(&self) -> Result<(String, u16), PortError> {
        let name = self.devargs.split(',').next().unwrap_or_default().trim();
        let name = name
            .strip_prefix("pci:")
            .or(name.strip_prefix("vdev:"))
            .unwrap_or(name);
        let (Ok(c_name), Ok(c_devargs)) = (CString::new(name), CString::new(self.devargs)) else {
            return Err(self.refused("there is a NUL in it", libc::EINVAL));
        };
        let find = || {
            let mut port_id = 0;
            // SAFETY: on the EAL thread; strings end with NUL.
            (unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut port_id) } == 0)
                .then_some(port_id)
        };
        if find().is_some() {
            return Err(PortError::NameTaken {
                devargs: self.devargs.to_owned(),
                name: name.to_owned(),
            });
        }
        // SAFETY: as above.
        self.check("no such device, or its arguments are wrong", unsafe {
            dpdk_sys::rte_dev_probe(c_devargs.as_ptr())
        })?;
        match find() {
            Some(port_id) => Ok((name.to_owned(), port_id)),
            None => Err(self.refused("that device is no Ethernet port", libc::ENODEV)),
        }
    }

    pub fn set_up(&self, device: &mut Device, name: String) -> Result<EthPort, PortError> {
        let facts = self.facts(device.port_id)?;
        let driver = self.driver_name(&facts);
        self.check_queues(&facts, &driver)?;
        let mut notes = Vec::new();
        let mtu = self.mtu(&facts, &mut notes);
        let multi_segs = facts.tx_offload_capa & dpdk_sys::DPDK_SYS_TX_OFFLOAD_MULTI_SEGS != 0;
        self.configure(device.port_id, mtu, multi_segs)?;
        self.queues(device.port_id, &facts, multi_segs)?;
        // SAFETY: configured, with all queues set up.
        self.check("it does not start", unsafe {
            dpdk_sys::rte_eth_dev_start(device.port_id)
        })?;
        device.started = true;
        self.listen_to_all(device.port_id, &mut notes);
        Ok(EthPort {
            eal: self.eal,
            port_id: device.port_id,
            name,
            driver,
            mac: mac(device.port_id),
            mtu,
            rx_queues: self.options.rx_queues,
            tx_queues: self.options.tx_queues,
            max_tx_queues: facts.max_tx_queues,
            multi_segs,
            notes,
            pool: self.pool.clone(),
        })
    }

    fn facts(&self, port_id: u16) -> Result<rte_eth_dev_info, PortError> {
        let mut facts = MaybeUninit::zeroed();
        // SAFETY: the port was just plugged; plain words and pointers, for all of which zero is legal.
        unsafe {
            self.check(
                "it says nothing of itself",
                dpdk_sys::rte_eth_dev_info_get(port_id, facts.as_mut_ptr()),
            )?;
            Ok(facts.assume_init())
        }
    }

    fn driver_name(&self, facts: &rte_eth_dev_info) -> String {
        if facts.driver_name.is_null() {
            return "unknown".to_owned();
        }
        // SAFETY: a driver's name is a static string.
        unsafe { CStr::from_ptr(facts.driver_name) }
            .to_string_lossy()
            .into_owned()
    }

    fn check_queues(&self, facts: &rte_eth_dev_info, driver: &str) -> Result<(), PortError> {
        let limits = [
            ("rx", self.options.rx_queues, facts.max_rx_queues),
            ("tx", self.options.tx_queues, facts.max_tx_queues),
        ];
        for (direction, wanted, most) in limits {
            if wanted > most {
                let (devargs, driver) = (self.devargs.to_owned(), driver.to_owned());
                return Err(PortError::Queues {
                    devargs,
                    direction,
                    wanted,
                    most,
                    driver,
                });
            }
        }
        Ok(())
    }

    /// The MTU for the longest frame, within what the driver can do.
    fn mtu(&self, facts: &rte_eth_dev_info, notes: &mut Vec<String>) -> u16 {
        let wanted = self
            .options
            .max_frame_bytes
            .saturating_sub(FRAME_OVERHEAD_BYTES);
        // As ethdev itself reckons: a driver without a max_mtu has a longest frame.
        let overhead = match facts.max_mtu {
            u16::MAX => 18,
            max_mtu => facts.max_rx_pktlen.saturating_sub(max_mtu.into()),
        };
        let most = u32::from(facts.max_mtu).min(facts.max_rx_pktlen.saturating_sub(overhead));
        let mtu = wanted.min(most).max(facts.min_mtu.into());
        // Drivers of kernel interfaces say 1514 and take what comes.
        let limited_for_real =
            !["net_af_packet", "net_tap"].contains(&self.driver_name(facts).as_str());
        if mtu < wanted && limited_for_real {
            let driver = self.driver_name(facts);
            notes.push(format!(
                "{driver} has an MTU of at most {mtu}, {wanted} was asked for"
            ));
        }
        u16::try_from(mtu).unwrap_or(u16::MAX)
    }

    fn configure(&self, port_id: u16, mtu: u16, multi_segs: bool) -> Result<(), PortError> {
        // SAFETY: a configuration of zeros means no offload, no RSS, no DCB, no interrupt.
        let mut configuration: rte_eth_conf = unsafe { MaybeUninit::zeroed().assume_init() };
        configuration.rxmode.mtu = mtu.into();
        configuration.txmode.offloads = tx_offloads(multi_segs);
        let EthOptions {
            rx_queues,
            tx_queues,
            ..
        } = self.options;
        // SAFETY: the port exists and is not started; the configuration is copied.
        self.check("it cannot be configured", unsafe {
            dpdk_sys::rte_eth_dev_configure(port_id, rx_queues, tx_queues, &configuration)
        })
    }

    fn queues(
        &self,
        port_id: u16,
        facts: &rte_eth_dev_info,
        multi_segs: bool,
    ) -> Result<(), PortError> {
        let EthOptions {
            rx_queues,
            tx_queues,
            mut rx_descriptors,
            mut tx_descriptors,
            ..
        } = self.options;
        // SAFETY: the port exists; two words of ours are adjusted.
        self.check("descriptors", unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(
                port_id,
                &mut rx_descriptors,
                &mut tx_descriptors,
            )
        })?;
        let any = dpdk_sys::SOCKET_ID_ANY as u32;
        let (mut rx, mut tx) = (facts.default_rxconf, facts.default_txconf);
        (rx.offloads, tx.offloads) = (0, tx_offloads(multi_segs));
        for queue in 0..rx_queues {
            // SAFETY: the port is configured for that many queues; the pool outlives the port.
            self.check("a receive queue", unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(
                    port_id,
                    queue,
                    rx_descriptors,
                    any,
                    &rx,
                    self.pool.mempool(),
                )
            })?;
        }
        for queue in 0..tx_queues {
            // SAFETY: as above.
            self.check("a transmit queue", unsafe {
                dpdk_sys::rte_eth_tx_queue_setup(port_id, queue, tx_descriptors, any, &tx)
            })?;
        }
        Ok(())
    }

    /// Not every driver can; a port that hears less is still a port.
    fn listen_to_all(&self, port_id: u16, notes: &mut Vec<String>) {
        // SAFETY: the port is started.
        let (promiscuous, _multicast) = unsafe {
            (
                dpdk_sys::rte_eth_promiscuous_enable(port_id),
                dpdk_sys::rte_eth_allmulticast_enable(port_id),
            )
        };
        if promiscuous != 0 && promiscuous != -libc::ENOTSUP {
            notes.push(format!("not promiscuous: {}", error_text(promiscuous)));
        }
    }
}

fn tx_offloads(multi_segs: bool) -> u64 {
    if multi_segs {
        dpdk_sys::DPDK_SYS_TX_OFFLOAD_MULTI_SEGS
    } else {
        0
    }
}

fn mac(port_id: u16) -> [u8; 6] {
    let mut mac = MaybeUninit::zeroed();
    // SAFETY: the port exists; six bytes, zero where it has no address.
    unsafe {
        dpdk_sys::rte_eth_macaddr_get(port_id, mac.as_mut_ptr());
        mac.assume_init().addr_bytes
    }
}
