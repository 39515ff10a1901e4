//! Where the platform's socket is.

use std::path::{Path, PathBuf};

const SOCKET_NAME: &str = "mvmp.sock";

/// The socket for a role: what was asked for, else `$MVMP_SOCKET`, else the role's own in the
/// runtime folder if it is there, else the shared one.
pub(crate) fn socket_for(role: &str, asked: Option<&Path>) -> PathBuf {
    if let Some(path) = asked {
        return in_folder(role, path);
    }
    match std::env::var_os("MVMP_SOCKET").filter(|path| !path.is_empty()) {
        Some(path) => in_folder(role, Path::new(&path)),
        None => choose(role, &runtime_folder()),
    }
}

/// A folder stands for the sockets in it: the role's own, else the shared one.
fn in_folder(role: &str, path: &Path) -> PathBuf {
    if path.is_dir() {
        choose(role, path)
    } else {
        path.to_path_buf()
    }
}

fn choose(role: &str, folder: &Path) -> PathBuf {
    let own = folder.join("nf").join(role).join(SOCKET_NAME);
    let harmless = !role.is_empty() && !role.contains('/') && role != "." && role != "..";
    if harmless && own.exists() {
        own
    } else {
        folder.join(SOCKET_NAME)
    }
}

fn runtime_folder() -> PathBuf {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return PathBuf::from("/run/mvmp");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => Path::new(&folder).join("mvmp"),
        None => PathBuf::from(format!("/tmp/mvmp-{}", uid.as_raw())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_asked_for_means_the_socket_in_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            socket_for("ids", Some(folder.path())),
            folder.path().join("mvmp.sock")
        );
        let path = folder.path().join("other.sock");
        assert_eq!(socket_for("ids", Some(&path)), path);
    }

    #[test]
    fn the_own_socket_of_a_role_is_preferred_where_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            choose("ids", folder.path()),
            folder.path().join("mvmp.sock")
        );
        let own = folder.path().join("nf/ids");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join("mvmp.sock"), b"").unwrap();
        assert_eq!(choose("ids", folder.path()), own.join("mvmp.sock"));
        assert_eq!(
            choose("../nf/ids", folder.path()),
            folder.path().join("mvmp.sock"),
            "a role is a name, no path"
        );
    }
}
