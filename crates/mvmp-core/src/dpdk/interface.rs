//! A port on a kernel interface, by name.
//!
//! Called by the platform's control code. The driver is af_packet: it works on every interface and
//! in every namespace, copies at both ends, keeps no buffer of the pool and takes chained mbufs.
//! af_xdp is hardly faster over kernel drivers (BASELINES), wants real root, keeps thousands of
//! buffers (some for good) and sends no chains: who wants it says so in `devargs`.
//!
//! ```text
//!   a frame of af_packet's ring:  │ tpacket2_hdr, address, padding: 66 bytes │ frame …        │
//!                                 └──────── framesz, a multiple of 512; blocksz of it and of a page
//! ```
//!
//! Invariants: nothing is handed to an NF that the wire would not carry (64 KiB frames, unfinished
//! checksums, hidden VLAN tags): the kernel's offloads are off while the port lives; frames that
//! the host itself sends are not received; all settings are restored when the port is dropped.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::carrier::Carrier;
use super::eal::Eal;
use super::error::PortError;
use super::ethdev::{EthOptions, EthPort, FRAME_OVERHEAD_BYTES};
use super::offload::{Settings, mtu};
use super::pool::Pool;

/// Where the kernel puts a frame in its slot (TPACKET_V2, Ethernet).
const FRAME_AT: u32 = 66;
/// What the driver takes for the header when it compares a slot with a data room.
const DRIVER_HEADER: u32 = 32;
const HEADROOM: u32 = dpdk_sys::RTE_PKTMBUF_HEADROOM;
const SLOT_UNIT: u32 = 512;
const PAGE_BYTES: u32 = 4096;
/// Of a header without tags.
pub const ETHERNET_BYTES: u32 = 14;
const TAG_BYTES: u32 = 4;
/// Of each ring.
const RING_BYTES: u32 = 4 << 20;

/// An [`EthPort`] on a kernel interface.
pub struct InterfacePort {
    // Dropped in this order: the port stops before the offloads come back.
    port: EthPort,
    settings: Settings,
    carrier: Arc<Carrier>,
    mtu: u32,
}

impl InterfacePort {
    /// Opens `interface` with as many queue pairs as receive queues are asked for.
    ///
    /// # Errors
    /// No such interface, no permission (CAP_NET_RAW and CAP_NET_ADMIN), more transmit queues than
    /// receive queues (af_packet spreads what comes over all its pairs), frames that do not fit the
    /// pool's data rooms, or what DPDK said.
    pub fn attach(
        eal: &'static Eal,
        interface: &str,
        options: EthOptions,
        pool: &Pool,
    ) -> Result<InterfacePort, PortError> {
        let index = index(interface)?;
        may_open_raw_sockets(interface)?;
        let devargs = devargs(interface, options, pool.data_room_bytes())?;
        let (settings, mtu, others) = (
            Settings::take(interface)?,
            mtu(interface)?,
            packet_sockets_on(index),
        );
        let carrier = Arc::new(Carrier::of(interface, index)?);
        let port = EthPort::attach(eal, &devargs, options, pool)?;
        ignore_outgoing(index, &others);
        Ok(InterfacePort {
            port,
            settings,
            carrier,
            mtu,
        })
    }

    /// Who knows whether the interface has a link.
    pub fn carrier(&self) -> &Arc<Carrier> {
        &self.carrier
    }

    /// The port to receive from and to send to.
    pub fn port(&self) -> &EthPort {
        &self.port
    }

    /// The interface's MTU when it was opened.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// What was changed on the interface, and what could not be, a sentence each.
    pub fn changes(&self) -> &[String] {
        self.settings.sentences()
    }
}

/// The data room, headroom included, that a pool needs for frames of so many bytes from an interface.
pub fn data_room_bytes(max_frame_bytes: u32) -> u32 {
    slot_bytes(max_frame_bytes) - DRIVER_HEADER + HEADROOM
}

/// The longest frame of an interface: its MTU, Ethernet and two VLAN tags. The default of `max_frame`.
///
/// # Errors
/// No such interface.
pub fn default_max_frame_bytes(interface: &str) -> Result<u32, PortError> {
    index(interface)?;
    Ok(mtu(interface)? + FRAME_OVERHEAD_BYTES)
}

/// The longest frames that the kernel sends of those that it is given by an [`InterfacePort`]: any, and
/// those that begin with an 802.1Q tag. It throws longer ones away and tells nobody. `None`: no such
/// interface.
pub fn longest_sent(interface: &str) -> Option<(u32, u32)> {
    let longest = mtu(interface).ok()? + ETHERNET_BYTES;
    Some((longest, longest + TAG_BYTES))
}

/// The same of a driver by its devargs, if it sends by a kernel interface that they name and has no
/// limit of its own (tap has: it refuses what is longer than its port's frames).
pub fn longest_sent_by(devargs: &str) -> Option<(u32, u32)> {
    let (driver, arguments) = devargs.split_once(',')?;
    let mut arguments = arguments.split(',');
    let interface = arguments.find_map(|argument| argument.strip_prefix("iface="))?;
    let (longest, longest_tagged) = longest_sent(interface)?;
    if driver.starts_with("net_af_packet") {
        Some((longest, longest_tagged))
    } else if driver.starts_with("net_af_xdp") {
        // A tag's room for all: what a veth's other end takes.
        Some((longest_tagged, longest_tagged))
    } else {
        None
    }
}

fn slot_bytes(max_frame_bytes: u32) -> u32 {
    (max_frame_bytes + FRAME_AT).next_multiple_of(SLOT_UNIT)
}

/// The smallest multiple of both a slot and a page: the driver takes slots to lie without gaps.
fn block_bytes(slot_bytes: u32) -> u32 {
    let common = 1 << slot_bytes.trailing_zeros().min(PAGE_BYTES.trailing_zeros());
    slot_bytes / common * PAGE_BYTES
}

fn devargs(interface: &str, options: EthOptions, have: u16) -> Result<String, PortError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let EthOptions {
        rx_queues,
        tx_queues,
        max_frame_bytes,
        ..
    } = options;
    if tx_queues > rx_queues {
        let (devargs, driver) = (interface.to_owned(), "af_packet".to_owned());
        return Err(PortError::Queues {
            devargs,
            direction: "tx",
            wanted: tx_queues,
            most: rx_queues,
            driver,
        });
    }
    let needed = data_room_bytes(max_frame_bytes.min(u16::MAX.into()));
    if needed > have.into() || max_frame_bytes > u16::MAX.into() {
        return Err(PortError::DataRoom {
            devargs: interface.to_owned(),
            max_frame_bytes,
            needed,
            have,
        });
    }
    let slot = slot_bytes(max_frame_bytes);
    let block = block_bytes(slot);
    let slots = (RING_BYTES / block).max(1) * (block / slot);
    // ORDERING: a counter that orders nothing.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Ok(format!(
        "net_af_packet_mvmp{number},iface={interface},qpairs={rx_queues},framesz={slot},blocksz={block},framecnt={slots}"
    ))
}

pub(super) fn refused(interface: &str, what: &'static str, error: io::Error) -> PortError {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; it takes root, or CAP_NET_RAW and CAP_NET_ADMIN",
        Some(libc::ENODEV | libc::ENXIO) => {
            "; `ip link` shows what there is in this network namespace"
        }
        _ => "",
    };
    PortError::Interface {
        interface: interface.to_owned(),
        what,
        error,
        hint,
    }
}

fn index(interface: &str) -> Result<i32, PortError> {
    let no = |errno| {
        refused(
            interface,
            "there is no such interface",
            io::Error::from_raw_os_error(errno),
        )
    };
    // A name with a comma would become an argument of the driver's.
    let name = match CString::new(interface) {
        Ok(name) if !interface.contains([',', '=']) => name,
        _ => return Err(no(libc::EINVAL)),
    };
    // SAFETY: the string ends with NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(no(libc::ENODEV)),
        index => Ok(index as i32),
    }
}

fn may_open_raw_sockets(interface: &str) -> Result<(), PortError> {
    // SAFETY: a socket that is closed at once; protocol 0 receives nothing.
    unsafe {
        match libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) {
            -1 => Err(refused(
                interface,
                "a packet socket",
                io::Error::last_os_error(),
            )),
            fd => {
                libc::close(fd);
                Ok(())
            }
        }
    }
}

/// The process's packet sockets on an interface.
fn packet_sockets_on(index: i32) -> HashSet<i32> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return HashSet::new();
    };
    let open = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    open.filter(|&fd| is_packet_socket_on(fd, index)).collect()
}

/// A packet socket also hears what the host itself sends on the interface; a NIC would not. The
/// driver does not ask for silence and does not show its sockets: they are the new ones there. (A
/// filter, because PACKET_IGNORE_OUTGOING does nothing for sockets in a fanout group.)
fn ignore_outgoing(index: i32, others: &HashSet<i32>) {
    let packet_type = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, packet_type, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::PACKET_OUTGOING.into(),
            1,
        ),
        statement(libc::BPF_RET | libc::BPF_K, u32::MAX, 0),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    for fd in packet_sockets_on(index).difference(others) {
        // SAFETY: the kernel copies the program; if it refused, we would hear our own host.
        unsafe {
            let length = size_of_val(&filter) as libc::socklen_t;
            libc::setsockopt(
                *fd,
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const filter).cast(),
                length,
            );
        }
    }
}

/// One instruction: an operation, its operand, how far to jump if true.
fn statement(code: u32, k: u32, jt: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf: 0,
        k,
    }
}

fn is_packet_socket_on(fd: i32, index: i32) -> bool {
    // SAFETY: an address of zeros is legal; the kernel writes at most `length` bytes.
    unsafe {
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        let mut length = size_of_val(&address) as libc::socklen_t;
        libc::getsockname(fd, (&raw mut address).cast(), &mut length) == 0
            && i32::from(address.sll_family) == libc::AF_PACKET
            && address.sll_ifindex == index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_frame_fits_its_slot_and_a_slot_its_data_room(max_frame in 60u32..60_000) {
            let (slot, room) = (slot_bytes(max_frame), data_room_bytes(max_frame));
            prop_assert!(FRAME_AT + max_frame <= slot);
            prop_assert!(slot - DRIVER_HEADER <= room - HEADROOM);
            let block = block_bytes(slot);
            prop_assert!(block.is_multiple_of(slot) && block.is_multiple_of(PAGE_BYTES));
        }
    }

    #[test]
    fn usual_frames_fit_the_usual_data_room() {
        assert!(data_room_bytes(1500 + FRAME_OVERHEAD_BYTES) <= 2176);
    }

    #[test]
    fn too_small_a_data_room_is_refused_with_the_numbers() {
        let options = EthOptions {
            max_frame_bytes: 9600,
            ..EthOptions::default()
        };
        let error = devargs("eth7", options, 2176).unwrap_err().to_string();
        assert_eq!(
            error,
            "`eth7`: frames of 9600 bytes need a data room of 9824, the pool has 2176"
        );
    }
}
