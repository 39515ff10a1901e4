//! The listening sockets: the shared one, the operator's, and a directory per role.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mvmp_policy::Config;
use mvmp_policy::config::NfSpec;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::role_folder::{NextFolder, RoleFolder, give};

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
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        // Somebody listens, if only to more than it takes in now.
        Ok(()) | Err(Errno::AGAIN) => Err(io::Error::new(
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

/// A role's door for another user: bound, and not in its place yet. Dropped, it leaves all as it was.
pub struct NextDoor {
    pub role: String,
    listener: Listener,
    folder: NextFolder,
}

/// All of them.
pub struct Sockets {
    pub listeners: Vec<Listener>,
    /// Where the roles' folders are.
    roles: PathBuf,
    folders: Vec<RoleFolder>,
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
            folders: Vec::new(),
        };
        std::fs::create_dir_all(folder).map_err(|error| (folder.to_owned(), error))?;
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

    fn add(&mut self, path: PathBuf, door: Door, mode: u32) -> Result<(), (PathBuf, io::Error)> {
        let bound = refuse_if_alive(&path).and_then(|()| Listener::bind(path.clone(), door, mode));
        self.listeners.push(bound.map_err(|error| (path, error))?);
        Ok(())
    }

    /// Binds a role's own socket, in a folder that is its user's, else ours.
    ///
    /// # Errors
    /// The path that failed and why; there is no socket then.
    pub fn open_role(&mut self, nf: &NfSpec) -> Result<(), (PathBuf, io::Error)> {
        let own = self.roles.join(&nf.name);
        let at = |error| (own.clone(), error);
        let mut folder = RoleFolder::claim(&self.roles, &nf.name).map_err(at)?;
        let uid = user_of(nf);
        folder.take(uid).map_err(at)?;
        let listener = Listener::bind(folder.socket(), Door::Role(nf.name.clone()), 0o666);
        let listener = listener.map_err(|error| (folder.socket(), error))?;
        give(&folder.path, uid).map_err(at)?;
        self.listeners.push(listener);
        self.folders.push(folder);
        Ok(())
    }

    /// Binds the socket of a role for another user, in a folder that nobody has had.
    ///
    /// # Errors
    /// The path that failed and why.
    pub fn next_door(&self, nf: &NfSpec) -> Result<NextDoor, (PathBuf, io::Error)> {
        let at = |error| (self.roles.join(&nf.name), error);
        let folder = self.folders.iter().find(|folder| folder.role == nf.name);
        let folder = folder.ok_or_else(|| at(io::ErrorKind::NotFound.into()))?;
        let folder = folder.next().map_err(at)?;
        let listener = Listener::bind(folder.socket(), Door::Role(nf.name.clone()), 0o666);
        let listener = listener.map_err(|error| (folder.socket(), error))?;
        folder.give(user_of(nf)).map_err(at)?;
        let role = nf.name.clone();
        Ok(NextDoor {
            role,
            listener,
            folder,
        })
    }

    /// Puts a role's next door in its place: to the old one leads no path any more, whatever its user
    /// has kept open, or moved elsewhere.
    ///
    /// # Errors
    /// Why not; the role has no socket then.
    pub fn hand_over(&mut self, next: NextDoor) -> io::Result<()> {
        let NextDoor {
            role,
            mut listener,
            folder: next,
        } = next;
        self.shut(&role);
        let own = self.folders.iter_mut().find(|folder| folder.role == role);
        let own = own.ok_or(io::ErrorKind::NotFound)?;
        own.replace(&next)?;
        listener.path = own.socket();
        self.listeners.push(listener);
        Ok(())
    }

    fn shut(&mut self, role: &str) {
        let is_its = |door: &Door| matches!(door, Door::Role(name) if name == role);
        self.listeners.retain(|listener| !is_its(&listener.door));
    }

    /// Closes the sockets of roles that are gone.
    pub fn close_roles(&mut self, roles: &[String]) {
        roles.iter().for_each(|role| self.shut(role));
        self.folders.retain(|folder| !roles.contains(&folder.role));
    }

    /// How many doors of NFs there are.
    pub fn doors(&self) -> usize {
        let of_nfs = |listener: &&Listener| listener.door != Door::Operator;
        self.listeners.iter().filter(of_nfs).count()
    }
}

/// Whose the folder of a role is.
fn user_of(nf: &NfSpec) -> u32 {
    nf.uid
        .unwrap_or_else(|| rustix::process::geteuid().as_raw())
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.listeners.clear();
        self.folders.clear();
        // A directory that somebody else uses too stays.
        let _ = std::fs::remove_dir(&self.roles);
    }
}
