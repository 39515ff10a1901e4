//! Files of ports that get in each other's way: what one writes, no other reads or writes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mvmp_policy::config::PortSpec;

/// Links to links that are followed, as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// What makes two paths one file.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    StandardOutput,
    /// Device and inode.
    Inode(u64, u64),
    /// One that is yet to be created.
    New(PathBuf),
}

/// `None`: devices and pipes, which any number of ports may write to.
fn identity(path: &Path) -> Option<Identity> {
    if path.as_os_str() == "-" {
        return Some(Identity::StandardOutput);
    }
    match std::fs::metadata(path) {
        Ok(facts) if facts.is_file() => Some(Identity::Inode(facts.dev(), facts.ino())),
        Ok(_) => None,
        Err(_) => to_be_created(path).map(Identity::New),
    }
}

/// Where a file will be that is not there yet: links may lead to it all the same.
fn to_be_created(path: &Path) -> Option<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
        path = folder.join(path.file_name()?);
        match path.read_link() {
            Ok(target) => path = folder.join(target),
            Err(_) => return Some(path),
        }
    }
    None
}

/// The first two ports (or one, twice) of which one writes what the other reads or writes, and what to say.
pub(crate) fn conflict<'a>(
    ports: impl Iterator<Item = &'a PortSpec>,
) -> Option<([&'a str; 2], String)> {
    let mut written: Vec<(Identity, &'a PortSpec)> = Vec::new();
    let mut read: Vec<(Identity, &'a PortSpec)> = Vec::new();
    for port in ports {
        let Some(capture) = port.capture() else {
            continue;
        };
        read.extend(
            capture
                .pcap
                .iter()
                .filter_map(|path| Some((identity(path)?, port))),
        );
        let Some((path, own)) = capture
            .out
            .as_ref()
            .and_then(|path| Some((path, identity(path)?)))
        else {
            continue;
        };
        if let Some((_, other)) = written.iter().find(|(file, _)| *file == own) {
            let why = format!(
                "the ports `{}` and `{}` would both write {}: give each a file of its own",
                other.name,
                port.name,
                path.display()
            );
            return Some(([&other.name, &port.name], why));
        }
        written.push((own, port));
    }
    written.iter().find_map(|(file, writer)| {
        let (_, reader) = read.iter().find(|(other, _)| other == file)?;
        let out = writer.capture()?.out.as_ref()?.display();
        let why = match reader.name == writer.name {
            true => format!(
                "the port `{}` would write {out} over the capture that it reads",
                writer.name
            ),
            false => format!(
                "the port `{}` would write {out}, which the port `{}` reads",
                writer.name, reader.name
            ),
        };
        Some(([writer.name.as_str(), &reader.name], why))
    })
}
