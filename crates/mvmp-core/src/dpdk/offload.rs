//! A kernel interface's settings, as a platform needs them, and as they were before.
//!
//! Called by `interface`. Invariants: only what is on is turned off; what was changed is restored,
//! in the reverse order, when [`Settings`] is dropped, also if a later step of opening fails.

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::error::PortError;
use super::interface::refused;

const GFLAGS: u32 = 0x25;
const SFLAGS: u32 = 0x26;

/// An offload that ethtool turns on and off: by a pair of commands of its own, or by a flag.
struct Offload {
    name: &'static str,
    get: u32,
    set: u32,
    /// The bit within the value; all of it for the commands of their own.
    bit: u32,
}

const fn own(name: &'static str, get: u32, set: u32) -> Offload {
    Offload {
        name,
        get,
        set,
        bit: u32::MAX,
    }
}

const fn flag(name: &'static str, bit: u32) -> Offload {
    Offload {
        name,
        get: GFLAGS,
        set: SFLAGS,
        bit,
    }
}

/// In the order in which they are turned off: segmentation leans on checksums.
const OFFLOADS: [Offload; 9] = [
    own("generic receive offload", 0x2b, 0x2c),
    flag("large receive offload", 1 << 15),
    flag("VLAN tag removal at reception", 1 << 8),
    flag("VLAN tag insertion when sending", 1 << 7),
    own("UDP fragmentation offload", 0x21, 0x22),
    own("generic segmentation offload", 0x23, 0x24),
    own("TCP segmentation offload", 0x1e, 0x1f),
    own("checksums when sending", 0x16, 0x17),
    own("checksums at reception", 0x14, 0x15),
];

/// What was changed; undone when dropped.
pub(super) struct Settings {
    interface: Interface,
    turned_off: Vec<&'static Offload>,
    /// The flags (`IFF_…`) as they were.
    flags: i16,
    /// The other end of a veth, if it is in this namespace: its offloads make our frames.
    peer: Option<Box<Settings>>,
    sentences: Vec<String>,
}

impl Settings {
    /// Turns offloads off and the interface on.
    pub fn take(name: &str) -> Result<Settings, PortError> {
        let mut settings = Settings::quieten(name)?;
        settings.bring_up()?;
        if settings.interface.driver() == "veth" {
            settings.quieten_peer();
        }
        Ok(settings)
    }

    /// What was done and what could not be, a sentence each.
    pub fn sentences(&self) -> &[String] {
        &self.sentences
    }

    fn quieten(name: &str) -> Result<Settings, PortError> {
        let interface = Interface::open(name)?;
        let flags = interface
            .flags()
            .map_err(|error| refused(name, "its flags", error))?;
        let mut settings = Settings {
            interface,
            turned_off: Vec::new(),
            flags,
            peer: None,
            sentences: Vec::new(),
        };
        for offload in &OFFLOADS {
            if settings.interface.get(offload).is_ok_and(|on| on) {
                settings.turn_off(offload)?;
            }
        }
        Ok(settings)
    }

    fn turn_off(&mut self, offload: &'static Offload) -> Result<(), PortError> {
        let name = &self.interface.name;
        match self.interface.set(offload, false) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
                return Err(refused(name, "turning its offloads off", error));
            }
            _ => {}
        }
        // A driver may say yes and do nothing, or no although it is off by now.
        if self.interface.get(offload).unwrap_or(false) {
            self.sentences.push(format!(
                "{name}: {} stays on: the driver does not turn it off",
                offload.name
            ));
        } else {
            self.sentences
                .push(format!("{name}: {} turned off", offload.name));
            self.turned_off.push(offload);
        }
        Ok(())
    }

    fn bring_up(&mut self) -> Result<(), PortError> {
        let up = libc::IFF_UP as i16;
        if self.flags & up != 0 {
            return Ok(());
        }
        let name = &self.interface.name;
        self.interface
            .set_flags(self.flags | up)
            .map_err(|error| refused(name, "bringing it up", error))?;
        self.sentences.push(format!("{name}: brought up"));
        Ok(())
    }

    /// Frames that come out of a veth are as its other end's offloads made them.
    fn quieten_peer(&mut self) {
        let name = self.interface.name.clone();
        let peer = self.interface.veth_peer().filter(|peer| *peer != name);
        match peer.map(|peer| Settings::quieten(&peer)) {
            Some(Ok(mut peer)) => {
                self.sentences.append(&mut peer.sentences);
                self.peer = Some(Box::new(peer));
            }
            _ => self.sentences.push(format!(
                "{name}: the other end of this veth is in another network namespace; \
                 there, `ethtool -K PEER tx off tso off gso off` keeps frames as a wire would carry them"
            )),
        }
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        for offload in self.turned_off.iter().rev() {
            if let Err(error) = self.interface.set(offload, true) {
                tracing::warn!(interface = self.interface.name, offload = offload.name, %error, "not restored");
            }
        }
        // The driver set IFF_PROMISC, we IFF_UP; whatever else has changed since is not ours.
        let ours = (libc::IFF_PROMISC | libc::IFF_ALLMULTI | libc::IFF_UP) as i16;
        if let Ok(now) = self.interface.flags()
            && (now ^ self.flags) & ours & now != 0
        {
            let _ = self.interface.set_flags(now & (self.flags | !ours));
        }
    }
}

/// The interface's MTU.
pub(super) fn mtu(name: &str) -> Result<u32, PortError> {
    let interface = Interface::open(name)?;
    let mut request = interface.request();
    interface
        .ioctl(libc::SIOCGIFMTU, &mut request)
        .map_err(|error| refused(name, "its MTU", error))?;
    // SAFETY: this request fills in the MTU.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.unsigned_abs())
}

/// A name and a socket to ask the kernel through.
#[derive(Debug)]
pub(super) struct Interface {
    name: String,
    socket: OwnedFd,
}

impl Interface {
    pub fn open(name: &str) -> Result<Interface, PortError> {
        // SAFETY: makes a new descriptor, or fails with -1.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(refused(name, "a socket", io::Error::last_os_error()));
        }
        // SAFETY: it is open and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Interface {
            name: name.to_owned(),
            socket,
        })
    }

    pub fn request(&self) -> libc::ifreq {
        // SAFETY: a request of zeros is legal.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let places = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
        for (place, byte) in places.zip(self.name.bytes()) {
            *place = byte as c_char;
        }
        request
    }

    pub fn ioctl(&self, command: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: the request is whole; what its pointer points to is the caller's and outlives the call.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), command as _, request) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    fn ethtool<T>(&self, argument: &mut T) -> io::Result<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_data = (&raw mut *argument).cast();
        self.ioctl(libc::SIOCETHTOOL as libc::c_ulong, &mut request)
    }

    fn value(&self, command: u32) -> io::Result<u32> {
        let mut argument = [command, 0];
        self.ethtool(&mut argument)?;
        Ok(argument[1])
    }

    fn get(&self, offload: &Offload) -> io::Result<bool> {
        Ok(self.value(offload.get)? & offload.bit != 0)
    }

    fn set(&self, offload: &Offload, on: bool) -> io::Result<()> {
        let value = match (offload.bit, on) {
            (u32::MAX, on) => on.into(),
            (bit, true) => self.value(offload.get)? | bit,
            (bit, false) => self.value(offload.get)? & !bit,
        };
        self.ethtool(&mut [offload.set, value])
    }

    fn flags(&self) -> io::Result<i16> {
        let mut request = self.request();
        self.ioctl(libc::SIOCGIFFLAGS as libc::c_ulong, &mut request)?;
        // SAFETY: this request fills in the flags.
        Ok(unsafe { request.ifr_ifru.ifru_flags })
    }

    fn set_flags(&self, flags: i16) -> io::Result<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_flags = flags;
        self.ioctl(libc::SIOCSIFFLAGS as libc::c_ulong, &mut request)
    }

    /// The kernel driver's name, empty if there is none to be had.
    fn driver(&self) -> String {
        /// `struct ethtool_drvinfo`: the command, the driver's name, and 160 bytes that we do not read.
        #[repr(C)]
        struct DriverNames {
            command: u32,
            driver: [u8; 32],
            rest: [u8; 160],
        }
        let mut names = DriverNames {
            command: 0x03,
            driver: [0; 32],
            rest: [0; 160],
        };
        match self.ethtool(&mut names) {
            Ok(()) => String::from_utf8_lossy(&names.driver)
                .trim_end_matches('\0')
                .to_owned(),
            Err(_) => String::new(),
        }
    }

    /// The name of a veth's other end, if it is in this namespace (an index means another interface
    /// in another one, so its own peer must be this interface).
    fn veth_peer(&self) -> Option<String> {
        let peer = Interface::open(&name_of(self.veth_peer_index()?)?).ok()?;
        let back = (peer.driver() == "veth").then(|| peer.veth_peer_index())??;
        (name_of(back)? == self.name).then_some(peer.name)
    }

    fn veth_peer_index(&self) -> Option<u32> {
        /// `struct ethtool_stats` with room for more counters than a veth has (one for each queue
        /// and kind beside the first).
        #[repr(C)]
        struct Counters {
            command: u32,
            count: u32,
            values: [u64; 8192],
        }
        let mut counters = Box::new(Counters {
            command: 0x1d,
            count: 0,
            values: [0; 8192],
        });
        self.ethtool(&mut *counters).ok()?;
        u32::try_from(counters.values[0]).ok()
    }
}

fn name_of(index: u32) -> Option<String> {
    let mut name = [0u8; libc::IFNAMSIZ];
    // SAFETY: room for a name, which the kernel ends with NUL.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    (!found.is_null()).then(|| {
        String::from_utf8_lossy(&name)
            .trim_end_matches('\0')
            .to_owned()
    })
}
