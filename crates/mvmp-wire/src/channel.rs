//! Sending and receiving control messages with file descriptors over a SEQPACKET socket.
//!
//! Both ends are bounded: a message is at most [`MAX_MESSAGE_BYTES`] long and carries at most
//! [`MAX_MESSAGE_FDS`] descriptors; what does not fit is an error, never a partial message.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::message::{MAX_MESSAGE_BYTES, MAX_MESSAGE_FDS};

/// Why a message did not come through.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other side has closed, or is gone.
    #[error("the other side has closed the connection")]
    Closed,
    /// Nothing there now (non-blocking sockets, or a receive timeout).
    #[error("no message now")]
    WouldBlock,
    /// The message is no valid one.
    #[error("malformed control message: {0}")]
    Malformed(String),
    /// A system call failed.
    #[error("control socket: {0}")]
    System(#[from] rustix::io::Errno),
}

/// Sends one message. Blocks only if the socket does.
///
/// # Errors
/// [`ChannelError::Malformed`] when it is too long, else what the socket said.
pub fn send<M: Serialize>(
    socket: impl AsFd,
    message: &M,
    fds: &[BorrowedFd<'_>],
) -> Result<(), ChannelError> {
    let text =
        serde_json::to_vec(message).map_err(|error| ChannelError::Malformed(error.to_string()))?;
    send_text(socket, &text, fds)
}

/// Sends a message that is text already.
pub(crate) fn send_text(
    socket: impl AsFd,
    text: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<(), ChannelError> {
    if text.len() > MAX_MESSAGE_BYTES || fds.len() > MAX_MESSAGE_FDS {
        return Err(ChannelError::Malformed(format!(
            "{} bytes with {} descriptors are too much",
            text.len(),
            fds.len()
        )));
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_MESSAGE_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(ChannelError::Malformed("too many descriptors".into()));
    }
    match rustix::net::sendmsg(
        socket,
        &[IoSlice::new(text)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    ) {
        Ok(_) => Ok(()),
        Err(
            rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET | rustix::io::Errno::NOTCONN,
        ) => Err(ChannelError::Closed),
        Err(rustix::io::Errno::AGAIN) => Err(ChannelError::WouldBlock),
        Err(error) => Err(error.into()),
    }
}

/// Receives one message with its descriptors, all of them close-on-exec.
///
/// # Errors
/// [`ChannelError::Closed`] at the end; [`ChannelError::Malformed`] when it is no message (the
/// connection can go on: datagrams are whole).
pub fn receive<M: DeserializeOwned>(socket: impl AsFd) -> Result<(M, Vec<OwnedFd>), ChannelError> {
    let mut text = vec![0; MAX_MESSAGE_BYTES];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_MESSAGE_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut text)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    );
    let received = match received {
        Ok(received) => received,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
            return Err(ChannelError::WouldBlock);
        }
        Err(rustix::io::Errno::CONNRESET) => return Err(ChannelError::Closed),
        Err(error) => return Err(error.into()),
    };
    let fds = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 {
        return Err(ChannelError::Closed);
    }
    if received.flags.contains(ReturnFlags::TRUNC) || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(ChannelError::Malformed(format!(
            "longer than {MAX_MESSAGE_BYTES} bytes"
        )));
    }
    let message = serde_json::from_slice(&text[..received.bytes])
        .map_err(|error| ChannelError::Malformed(error.to_string()))?;
    Ok((message, fds))
}
