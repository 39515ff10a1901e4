//! Whether a kernel interface has a link.
//!
//! Called by control at each tick. The kernel is asked through a socket, which is of one network
//! namespace for ever; `/sys/class/net` is that of whoever mounted it. It is asked by the
//! interface's number: a name may be another interface's by now.

use std::io;

use super::error::PortError;
use super::offload::Interface;

/// Knows whether an interface has a link.
#[derive(Debug)]
pub struct Carrier {
    interface: Interface,
    index: i32,
}

impl Carrier {
    /// Of the interface with this number, in the caller's network namespace.
    pub(super) fn of(name: &str, index: i32) -> Result<Self, PortError> {
        let interface = Interface::open(name)?;
        Ok(Self { interface, index })
    }

    /// Whether it has a link now. An interface that is gone has none.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn is_up(&self) -> io::Result<bool> {
        match self.flags() {
            Ok(flags) => Ok(i32::from(flags) & libc::IFF_RUNNING != 0),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn flags(&self) -> io::Result<i16> {
        let mut request = self.interface.request();
        request.ifr_ifru.ifru_ifindex = self.index;
        // Fills in the name, and the next one asks by that.
        let name = libc::SIOCGIFNAME as libc::c_ulong;
        self.interface.ioctl(name, &mut request)?;
        let flags = libc::SIOCGIFFLAGS as libc::c_ulong;
        self.interface.ioctl(flags, &mut request)?;
        // SAFETY: this request fills in the flags.
        Ok(unsafe { request.ifr_ifru.ifru_flags })
    }
}
