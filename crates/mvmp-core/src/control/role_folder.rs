//! A role's folder, `nf/ROLE`: whose it is, and how it becomes another user's.
//!
//! Called by `sockets`. Invariant: `nf/` and the names in it are the platform's; what is in a role's
//! folder is its user's, who may have put anything there. So nothing in it is opened, asked or waited
//! for, and nothing in it stands in the way.
//!
//! ```text
//! nf/.ROLE.lock   held by the platform that has the role: who wants to know asks here, where no NF comes
//! nf/ROLE/        the user's; the platform's for as long as it binds the socket in it
//! nf/.ROLE.0/     one that will become the role's, or that was; the latter stays if there is something in it
//! ```

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The socket's name in the folder.
const SOCKET: &str = "mvmp.sock";

/// The place of a role's folder, which no other platform has meanwhile.
pub struct RoleFolder {
    pub role: String,
    pub path: PathBuf,
    /// The folder goes with us, if it is empty.
    made: bool,
    lock: PathBuf,
    _locked: File,
}

impl RoleFolder {
    /// Takes the place; there may be no folder, or one that somebody has left.
    ///
    /// # Errors
    /// Another platform has it, or it cannot be told.
    pub fn claim(roles: &Path, role: &str) -> io::Result<Self> {
        if !roles.exists() {
            std::fs::create_dir_all(roles)?;
            // Each user comes through here to its own.
            std::fs::set_permissions(roles, Permissions::from_mode(0o755))?;
        }
        let lock = roles.join(format!(".{role}.lock"));
        Ok(Self {
            role: role.to_owned(),
            path: roles.join(role),
            made: false,
            _locked: locked(&lock)?,
            lock,
        })
    }

    /// Where the socket belongs.
    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// Makes the folder ours, with no socket in it. One that is there stays, and with it who has it
    /// mounted, unless it was somebody's who is neither us nor its user to be.
    ///
    /// # Errors
    /// There is none then.
    pub fn take(&mut self, uid: u32) -> io::Result<()> {
        if self.take_as_it_is(uid).is_ok() {
            return Ok(());
        }
        self.set_aside()?;
        make(&self.path)?;
        self.made = true;
        Ok(())
    }

    fn take_as_it_is(&self, uid: u32) -> io::Result<()> {
        let us = rustix::process::geteuid().as_raw();
        let owner = std::fs::metadata(&self.path)?.uid();
        if ![us, uid].contains(&owner) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        give(&self.path, us)?;
        std::fs::set_permissions(&self.path, Permissions::from_mode(0o700))?;
        match std::fs::remove_file(self.socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes a folder that can take the place of this one later.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn next(&self) -> io::Result<NextFolder> {
        let path = self.free_name();
        make(&path)?;
        Ok(NextFolder { path })
    }

    /// Puts the next folder into the place of this one.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn replace(&mut self, next: &NextFolder) -> io::Result<()> {
        self.set_aside()?;
        std::fs::rename(&next.path, &self.path)?;
        self.made = true;
        Ok(())
    }

    /// Moves away what is in our place.
    fn set_aside(&self) -> io::Result<()> {
        let aside = self.free_name();
        match std::fs::rename(&self.path, &aside) {
            Ok(()) => discard(&aside),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn free_name(&self) -> PathBuf {
        let name = |number: u32| self.path.with_file_name(format!(".{}.{number}", self.role));
        let mut names = (0..).map(name);
        let free = names.find(|name| name.symlink_metadata().is_err());
        free.unwrap_or_else(|| name(0))
    }
}

impl Drop for RoleFolder {
    fn drop(&mut self) {
        if self.made {
            // One in which there is something stays.
            let _ = std::fs::remove_dir(&self.path);
        }
        // While it is held, so that nobody else's goes.
        let _ = std::fs::remove_file(&self.lock);
    }
}

/// A folder in which a socket is bound before it takes the place of a role's; else it goes again.
pub struct NextFolder {
    path: PathBuf,
}

impl NextFolder {
    /// Where the socket belongs until then.
    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// Makes it a user's.
    ///
    /// # Errors
    /// It is ours still.
    pub fn give(&self, uid: u32) -> io::Result<()> {
        give(&self.path, uid)
    }
}

impl Drop for NextFolder {
    fn drop(&mut self) {
        discard(&self.path);
    }
}

/// Makes a folder a user's.
pub fn give(folder: &Path, uid: u32) -> io::Result<()> {
    if std::fs::metadata(folder)?.uid() == uid {
        return Ok(());
    }
    std::os::unix::fs::chown(folder, Some(uid), None)
}

fn make(folder: &Path) -> io::Result<()> {
    std::fs::create_dir(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))
}

/// Removes a folder in which there is nothing but a socket. What else a user has put into one is for
/// the operator to look at: a tree can be made that takes hours to remove.
fn discard(folder: &Path) {
    let _ = std::fs::remove_file(folder.join(SOCKET));
    let _ = std::fs::remove_dir(folder);
}

/// A file that is locked for as long as its holder lives.
fn locked(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another platform has this role's folder; stop it (`mvmp down`) or choose a --socket in another folder",
                ));
            }
        }
        // Its last holder may have removed it meanwhile.
        let own = file.metadata()?;
        let is_own =
            |there: std::fs::Metadata| (there.dev(), there.ino()) == (own.dev(), own.ino());
        if path.symlink_metadata().is_ok_and(is_own) {
            return Ok(file);
        }
    }
}
