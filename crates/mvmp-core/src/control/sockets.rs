//! The listening sockets: the shared one, the operator's, and a directory per role.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mvmp_policy::Config;
use mvmp_policy::config::NfSpec;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Who may speak through a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// Anyone with `open` or the right uid.
    Shared,
    /// Whoever can reach it speaks for this role.
    Role(String),
    /// The operator.
    Operator,
}

/// A listening socket; its file goes when it is dropped.
pub struct Listener {
    pub door: Door,
    pub path: PathBuf,
    fd: OwnedFd,
}

impl Listener {
    fn bind(path: PathBuf, door: Door, mode: u32) -> io::Result<Self> {
        refuse_if_alive(&path)?;
        let address = SocketAddrUnix::new(&path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::bind(&fd, &address)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        rustix::net::listen(&fd, 64)?;
        Ok(Self { door, path, fd })
    }

    /// The next connection, if one waits.
    ///
    /// # Errors
    /// It cannot be taken now: no file descriptor, or no memory, is left.
    pub fn accept(&self) -> Result<Option<OwnedFd>, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(&self.fd, flags) {
            Ok(socket) => Ok(Some(socket)),
            // Nobody, or somebody who has gone again: the next turn looks once more.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A file that is gone already was removed by someone who wanted it gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A socket file that somebody listens on is another platform's; one that nobody does is a leftover.
fn refuse_if_alive(path: &Path) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let probe = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Ok(()) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another platform listens there; stop it (`mvmp down`) or choose another --socket",
        )),
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path),
        Err(error) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("something that is no socket of ours is there ({error})"),
        )),
    }
}

/// Makes a folder a user's.
fn give(folder: &Path, uid: u32) -> io::Result<()> {
    if std::fs::metadata(folder)?.uid() == uid {
        return Ok(());
    }
    std::os::unix::fs::chown(folder, Some(uid), None)
}

/// All of them.
pub struct Sockets {
    pub listeners: Vec<Listener>,
    /// Where the roles' directories are.
    roles: PathBuf,
    directories: Vec<PathBuf>,
}

impl Sockets {
    /// Binds PATH, PATH.ctl and nf/ROLE/mvmp.sock beside it.
    ///
    /// # Errors
    /// The path that failed and why.
    pub fn bind(path: &Path, config: &Config) -> Result<Self, (PathBuf, io::Error)> {
        let folder = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut sockets = Self {
            listeners: Vec::new(),
            roles: folder.join("nf"),
            directories: Vec::new(),
        };
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        let mut operator = path.as_os_str().to_owned();
        operator.push(".ctl");
        let operator = PathBuf::from(operator);
        // The operator's first: two platforms on one path must not both get as far as the shared one.
        sockets.add(operator, Door::Operator, 0o600)?;
        sockets.add(path.to_owned(), Door::Shared, 0o666)?;
        for nf in &config.nfs {
            sockets.open_role(nf)?;
        }
        Ok(sockets)
    }

    /// Binds a role's own socket, in a folder that is its user's, else ours.
    ///
    /// The folder is ours until the socket is there: whose it was before gets no hold of it.
    ///
    /// # Errors
    /// The path that failed and why; there is no socket then.
    pub fn open_role(&mut self, nf: &NfSpec) -> Result<(), (PathBuf, io::Error)> {
        let own = self.roles.join(&nf.name);
        let at = |error| (own.clone(), error);
        if !own.exists() {
            std::fs::create_dir_all(&own).map_err(at)?;
            self.directories.push(own.clone());
        }
        let us = rustix::process::geteuid().as_raw();
        give(&own, us).map_err(at)?;
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o700)).map_err(at)?;
        self.add(own.join("mvmp.sock"), Door::Role(nf.name.clone()), 0o666)?;
        give(&own, nf.uid.unwrap_or(us)).map_err(|error| {
            self.shut(&nf.name);
            at(error)
        })
    }

    /// Binds the socket of a role anew, for another user: to the old one leads no path any more,
    /// whatever that user has kept open, or moved elsewhere.
    ///
    /// # Errors
    /// The path that failed and why; there is no socket then.
    pub fn reopen_role(&mut self, nf: &NfSpec) -> Result<(), (PathBuf, io::Error)> {
        self.shut(&nf.name);
        self.open_role(nf)
    }

    fn shut(&mut self, role: &str) {
        let is_its = |door: &Door| matches!(door, Door::Role(name) if name == role);
        self.listeners.retain(|listener| !is_its(&listener.door));
    }

    /// Closes the sockets of roles that are gone.
    pub fn close_roles(&mut self, roles: &[String]) {
        for role in roles {
            self.shut(role);
            // A directory that somebody else uses too stays.
            let _ = std::fs::remove_dir(self.roles.join(role));
        }
    }

    /// How many doors of NFs there are.
    pub fn doors(&self) -> usize {
        let of_nfs = |listener: &&Listener| listener.door != Door::Operator;
        self.listeners.iter().filter(of_nfs).count()
    }

    fn add(&mut self, path: PathBuf, door: Door, mode: u32) -> Result<(), (PathBuf, io::Error)> {
        let listener = Listener::bind(path.clone(), door, mode).map_err(|error| (path, error))?;
        self.listeners.push(listener);
        Ok(())
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.listeners.clear();
        // Only empty ones go: a directory that somebody else uses too stays.
        self.directories
            .iter()
            .for_each(|directory| drop(std::fs::remove_dir(directory)));
        let _ = std::fs::remove_dir(&self.roles);
    }
}
