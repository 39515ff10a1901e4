//! An operator of the platform that is measured: what `mvmp apply` does.

use std::os::fd::OwnedFd;
use std::path::Path;

use mvmp_wire::long;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde_json::{Value, json};

use crate::Failure;
use crate::platform::SOCKET;

pub struct Operator(OwnedFd);

impl Operator {
    /// To the platform that listens in a folder.
    pub fn connect(folder: &Path) -> Result<Self, Failure> {
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let path = folder.join(format!("{SOCKET}.ctl"));
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// Another configuration; returns when it holds.
    pub fn apply(&self, config: &str) -> Result<(), Failure> {
        long::send(&self.0, &json!({"type": "apply", "config": config}))?;
        let reply: Value = long::receive(&self.0)?;
        if reply["type"] == "applied" {
            Ok(())
        } else {
            Err(format!("apply: {}", reply["message"]).into())
        }
    }
}
