//! Messages of the operator's socket, of any reasonable length.
//!
//! A datagram has room for [`MAX_MESSAGE_BYTES`]; a configuration with thousands of rules, or the
//! statistics of many NFs, has more. Such a message travels in a memfd beside a stand-in that
//! says how long it is. NFs do not speak this way: what they say stays bounded.
//!
//! ```text
//! {"type": "apply", …}          as it is, up to 64 KiB
//! {"long": 123456} + one fd     the message is in the memfd, sealed so that nobody can change it any more
//! ```

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::SealFlags;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::channel::{self, ChannelError};
use crate::memory;
use crate::message::MAX_MESSAGE_BYTES;

/// The longest message, in bytes.
pub const LONG_MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Sends one message. Blocks only if the socket does.
///
/// # Errors
/// [`ChannelError::Malformed`] beyond [`LONG_MESSAGE_BYTES_MAX`], else what the system said.
pub fn send<M: Serialize>(socket: impl AsFd, message: &M) -> Result<(), ChannelError> {
    let text =
        serde_json::to_vec(message).map_err(|error| ChannelError::Malformed(error.to_string()))?;
    if text.len() <= MAX_MESSAGE_BYTES {
        return channel::send_text(socket, &text, &[]);
    }
    if text.len() > LONG_MESSAGE_BYTES_MAX {
        let message = format!(
            "a message of {} bytes: at most {LONG_MESSAGE_BYTES_MAX} are possible",
            text.len()
        );
        return Err(ChannelError::Malformed(message));
    }
    let memory = sealed(&text)?;
    channel::send(socket, &json!({ "long": text.len() }), &[memory.as_fd()])
}

/// Receives one message.
///
/// # Errors
/// [`ChannelError::Closed`] at the end; [`ChannelError::Malformed`] when it is no message (the
/// connection can go on: datagrams are whole).
pub fn receive<M: DeserializeOwned>(socket: impl AsFd) -> Result<M, ChannelError> {
    let (message, fds) = channel::receive::<Value>(socket)?;
    let wrong = |error: serde_json::Error| ChannelError::Malformed(error.to_string());
    match (message.get("long"), fds.as_slice()) {
        (Some(_), [memory]) => serde_json::from_slice(&read(memory)?).map_err(wrong),
        _ => serde_json::from_value(message).map_err(wrong),
    }
}

/// The text in a memfd that can neither be stored into nor cut short.
fn sealed(text: &[u8]) -> Result<OwnedFd, ChannelError> {
    let memory = memory::create("mvmp-message", text.len())
        .map_err(|error| ChannelError::Malformed(error.to_string()))?;
    let mut written = 0;
    while written < text.len() {
        written += rustix::io::pwrite(&memory, &text[written..], written as u64)?;
    }
    rustix::fs::fcntl_add_seals(&memory, FINAL | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(memory)
}

/// What a received memory must be: then it is memory, and reading it neither blocks nor changes.
const FINAL: SealFlags = SealFlags::SHRINK.union(SealFlags::WRITE);

fn read(memory: &OwnedFd) -> Result<Vec<u8>, ChannelError> {
    let no = |what: &str| ChannelError::Malformed(format!("a long message {what}"));
    let seals = rustix::fs::fcntl_get_seals(memory).map_err(|_| no("is not in a memfd"))?;
    if !seals.contains(FINAL) {
        return Err(no("is not sealed"));
    }
    let bytes = rustix::fs::fstat(memory)?.st_size as usize;
    if bytes > LONG_MESSAGE_BYTES_MAX {
        return Err(no("is too long"));
    }
    let mut text = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        match rustix::io::pread(memory, &mut text[filled..], filled as u64)? {
            0 => return Err(no("ends too early")),
            count => filled += count,
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap()
    }

    #[test]
    fn messages_of_every_length_arrive() {
        let (here, there) = pair();
        for bytes in [0, 100, MAX_MESSAGE_BYTES - 2, MAX_MESSAGE_BYTES, 3 << 20] {
            let text = "x".repeat(bytes);
            send(&here, &text).unwrap();
            assert!(receive::<String>(&there).unwrap() == text, "{bytes}");
        }
    }

    #[test]
    fn a_message_beyond_the_limit_is_not_sent() {
        let (here, _there) = pair();
        let refused = send(&here, &"x".repeat(LONG_MESSAGE_BYTES_MAX));
        assert!(matches!(refused, Err(ChannelError::Malformed(_))));
    }

    #[test]
    fn what_could_block_or_change_is_no_message() {
        let (here, there) = pair();
        let open = memory::create("mvmp-test", 100).unwrap();
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        for (fd, why) in [(open, "is not sealed"), (pipe, "is not in a memfd")] {
            channel::send(&here, &json!({ "long": 100 }), &[fd.as_fd()]).unwrap();
            let refused = receive::<Value>(&there).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
        channel::send(&here, &json!({ "long": 100 }), &[]).unwrap();
        let plain = receive::<Value>(&there).unwrap();
        assert_eq!(
            plain["long"], 100,
            "without a descriptor it is like any other"
        );
    }
}
