//! An NF that means harm: gets packet memory as every NF does, and tries all ways to write it.
//!
//! ```text
//! nf_intruder ROLE DEVICE [SOCKET]
//! ```
//!
//! Speaks the protocol without the library, because the library keeps no descriptor. Prints one
//! JSON line: for `memory` and `records` what the kernel said to each attempt (`ALLOWED` if it let
//! it happen), and whether the bytes are as they were. Tests run it in a container.

use std::error::Error;
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mvmp_wire::PROTOCOL_VERSION;
use mvmp_wire::channel;
use mvmp_wire::message::{FromPlatform, ToPlatform};
use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use serde_json::{Value, json};

/// Works for plain and for huge pages.
const PAGE_BYTES: usize = 2 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(role), Some(device)) = (words.next(), words.next()) else {
        return Err("usage: nf_intruder ROLE DEVICE [SOCKET]".into());
    };
    let socket = words
        .next()
        .or_else(|| std::env::var("MVMP_SOCKET").ok())
        .ok_or("no socket: set MVMP_SOCKET")?;
    let path = if std::path::Path::new(&socket).is_dir() {
        format!("{socket}/mvmp.sock")
    } else {
        socket
    };
    let (_connection, fds) = open(&path, role, device)?;
    let (memory, records) = (
        fds.first().ok_or("no memory")?,
        fds.get(1).ok_or("no records")?,
    );
    let before = first_bytes(memory)?;
    let attempts = json!({ "memory": attack(memory), "records": attack(records) });
    println!(
        "{}",
        json!({ "attempts": attempts, "unchanged": first_bytes(memory)? == before })
    );
    Ok(())
}

/// Hello and open, as `docs/protocol.md` has them.
fn open(
    path: &str,
    role: String,
    device: String,
) -> Result<(OwnedFd, Vec<OwnedFd>), Box<dyn Error>> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    channel::send(
        &socket,
        &ToPlatform::Hello {
            protocol: PROTOCOL_VERSION,
            role,
            library: "none".into(),
        },
        &[],
    )?;
    hear(&socket, |message| {
        matches!(message, FromPlatform::Welcome { .. })
    })?;
    channel::send(&socket, &ToPlatform::Mapped { handle: None }, &[])?;
    hear(&socket, |message| {
        matches!(message, FromPlatform::Ready { .. })
    })?;
    channel::send(
        &socket,
        &ToPlatform::Open {
            device,
            rx: None,
            tx: None,
            rule: None,
            ring: None,
            define: None,
        },
        &[],
    )?;
    let fds = hear(&socket, |message| {
        matches!(message, FromPlatform::Opened { .. })
    })?;
    Ok((socket, fds))
}

/// The descriptors of the next message that is wanted.
fn hear(
    socket: &OwnedFd,
    wanted: impl Fn(&FromPlatform) -> bool,
) -> Result<Vec<OwnedFd>, Box<dyn Error>> {
    loop {
        match channel::receive::<FromPlatform>(socket)? {
            (message, fds) if wanted(&message) => return Ok(fds),
            (FromPlatform::Unknown, _) => {}
            (message, _) => return Err(format!("the platform said {message:?}").into()),
        }
    }
}

fn attack(fd: &OwnedFd) -> Value {
    let again = rustix::fs::open(
        format!("/proc/self/fd/{}", fd.as_raw_fd()),
        OFlags::RDWR,
        Mode::empty(),
    );
    let strongest = again.as_ref().unwrap_or(fd);
    json!({
        "mmap": said(map(fd, ProtFlags::READ | ProtFlags::WRITE)),
        "mprotect": said(map(fd, ProtFlags::READ).and_then(make_writable)),
        "re-open": said(again.as_ref().map_err(|error| *error).and_then(|fd| map(fd, ProtFlags::READ | ProtFlags::WRITE))),
        "punch hole": said(rustix::fs::fallocate(strongest, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, PAGE_BYTES as u64)),
        "pwrite": said(rustix::io::pwrite(strongest, b"intruder", 0)),
        "truncate": said(rustix::fs::ftruncate(strongest, 0)),
    })
}

fn said<T>(outcome: Result<T, Errno>) -> String {
    match outcome {
        Ok(_) => "ALLOWED".into(),
        Err(Errno::PERM) => "EPERM".into(),
        Err(Errno::ACCESS) => "EACCES".into(),
        Err(Errno::BADF) => "EBADF".into(),
        Err(Errno::INVAL) => "EINVAL".into(),
        Err(other) => other.raw_os_error().to_string(),
    }
}

fn map(fd: impl AsFd, protection: ProtFlags) -> Result<*mut c_void, Errno> {
    // SAFETY: a new mapping at an address of the kernel's choice; nothing refers to it yet.
    unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            PAGE_BYTES,
            protection,
            MapFlags::SHARED,
            fd,
            0,
        )
    }
}

fn make_writable(address: *mut c_void) -> Result<(), Errno> {
    // SAFETY: the mapping is ours, of that size, and no reference into it exists.
    unsafe {
        rustix::mm::mprotect(
            address,
            PAGE_BYTES,
            MprotectFlags::READ | MprotectFlags::WRITE,
        )
    }
}

/// Read by a system call: others write this memory, so that no slice may be made of it.
fn first_bytes(fd: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; 4096];
    let read = rustix::io::pread(fd, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
