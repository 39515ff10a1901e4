//! An NF that lies: it speaks the protocol by hand, so that it can do all that a hostile process could.
//!
//! Everything it has is what a real NF gets: its up and private regions to write, all others to
//! read, its ends of the pipes, its socket. It gives no signs of life by itself: stages for it set a long
//! `alive_s`.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mvmp_wire::channel::{self, ChannelError};
use mvmp_wire::memory::Access;
use mvmp_wire::message::{FromPlatform, ToPlatform};
use mvmp_wire::region::{DownRegion, STATUS_BYTES, StatusRegion, UpRegion};
use mvmp_wire::ring::Consumer;
use mvmp_wire::{Descriptor, Mapping, PROTOCOL_VERSION};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What it shares with one worker.
pub struct LyingLink {
    /// Its own region, as the protocol means it.
    pub up: UpRegion,
    /// The memfd behind it.
    pub up_fd: OwnedFd,
    /// The mapping behind it.
    pub mapping: Arc<Mapping>,
    /// The platform's words.
    pub status: StatusRegion,
    /// Write end of the pipe that wakes the worker.
    pub wake: OwnedFd,
    /// Where it will write next.
    pub tail: u32,
}

/// An NF that lies.
pub struct LyingNf {
    /// Its connection.
    pub socket: OwnedFd,
    /// One per worker.
    pub links: Vec<LyingLink>,
    /// The memfd of its private region.
    pub private_fd: OwnedFd,
    /// Its private region.
    pub private: Mapping,
}

/// A handle of it, on a platform with one worker.
pub struct LyingHandle {
    /// Its number within the NF.
    pub number: u8,
    /// Its number within the platform.
    pub slot: u8,
    /// What the worker delivers.
    pub down: DownRegion,
    /// Where it reads.
    pub ring: Consumer,
    /// Read end of the pipe that wakes it.
    pub pipe: OwnedFd,
}

impl LyingNf {
    /// A connection without a word said.
    ///
    /// # Panics
    /// When there is no platform.
    pub fn dial(path: &Path) -> OwnedFd {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        socket
    }

    /// Says hello and maps what it is given, but does not say so.
    ///
    /// # Panics
    /// When it is not welcome.
    pub fn unacknowledged(path: &Path, role: &str) -> Self {
        let socket = Self::dial(path);
        channel::send(
            &socket,
            &ToPlatform::Hello {
                protocol: PROTOCOL_VERSION,
                role: role.into(),
                library: "liar".into(),
            },
            &[],
        )
        .unwrap();
        let (welcome, fds) = receive(&socket, PATIENCE).expect("an answer to hello");
        let FromPlatform::Welcome {
            workers,
            private_bytes,
            ..
        } = welcome
        else {
            panic!("not welcome: {welcome:?}")
        };
        let mut fds = fds.into_iter();
        let mut next = || fds.next().expect("as many descriptors as announced");
        let links = workers
            .iter()
            .map(|geometry| {
                let (up_fd, status_fd, wake) = (next(), next(), next());
                let mapping = Arc::new(
                    Mapping::of(
                        &up_fd,
                        UpRegion::bytes(geometry.return_slots),
                        Access::ReadWrite,
                    )
                    .unwrap(),
                );
                let status = Mapping::of(&status_fd, STATUS_BYTES, Access::ReadOnly).unwrap();
                let up = UpRegion::new(Arc::clone(&mapping), geometry.return_slots);
                LyingLink {
                    up,
                    up_fd,
                    mapping,
                    status: StatusRegion::new(Arc::new(status)),
                    wake,
                    tail: 0,
                }
            })
            .collect();
        let private_fd = next();
        let private = Mapping::of(&private_fd, private_bytes as usize, Access::ReadWrite).unwrap();
        Self {
            socket,
            links,
            private_fd,
            private,
        }
    }

    /// Connects as an honest NF would.
    ///
    /// # Panics
    /// When it is not welcome.
    pub fn connect(path: &Path, role: &str) -> Self {
        let nf = Self::unacknowledged(path, role);
        nf.say(&ToPlatform::Mapped { handle: None });
        nf.hear_until("ready", |message| {
            matches!(message, FromPlatform::Ready { handle: None })
        });
        nf
    }

    /// Asks to open a device, and does not listen.
    pub fn ask_to_open(&self, device: &str) {
        self.say(&ToPlatform::Open {
            device: device.into(),
            rx: None,
            tx: None,
            rule: None,
            ring: None,
            define: None,
        });
    }

    /// Opens a device but does not say that it has mapped it.
    ///
    /// # Panics
    /// When it is refused.
    pub fn open_unacknowledged(&self, device: &str) -> LyingHandle {
        self.ask_to_open(device);
        let (opened, fds) = self.hear_until("opened", |message| {
            matches!(
                message,
                FromPlatform::Opened { .. } | FromPlatform::Error { .. }
            )
        });
        let FromPlatform::Opened {
            handle,
            slot,
            lanes,
            pools,
            ..
        } = opened
        else {
            panic!("not opened: {opened:?}")
        };
        let mut fds = fds.into_iter().skip(2 * pools.len());
        let (down, pipe) = (fds.next().unwrap(), fds.next().unwrap());
        let slots = lanes[0].ring_slots;
        let down = Mapping::of(&down, DownRegion::bytes(slots), Access::ReadOnly).unwrap();
        LyingHandle {
            number: handle,
            slot,
            down: DownRegion::new(Arc::new(down), slots),
            ring: Consumer::new(slots),
            pipe,
        }
    }

    /// Opens a device as an honest NF would.
    ///
    /// # Panics
    /// When it is refused.
    pub fn open(&self, device: &str) -> LyingHandle {
        let handle = self.open_unacknowledged(device);
        self.say(&ToPlatform::Mapped {
            handle: Some(handle.number),
        });
        self.hear_until("handle ready", |message| {
            matches!(message, FromPlatform::Ready { handle: Some(_) })
        });
        handle
    }

    /// Says something well-formed.
    ///
    /// # Panics
    /// When the socket does not take it.
    pub fn say(&self, message: &ToPlatform) {
        channel::send(&self.socket, message, &[]).unwrap();
    }

    /// Says any bytes, with any descriptors; whether the socket took them.
    pub fn babble(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        babble(&self.socket, bytes, fds)
    }

    /// Listens until something is said that is meant; everything else is let pass.
    ///
    /// # Panics
    /// When it is not said within half a minute.
    pub fn hear_until(
        &self,
        what: &str,
        mut meant: impl FnMut(&FromPlatform) -> bool,
    ) -> (FromPlatform, Vec<OwnedFd>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let heard =
                receive(&self.socket, left).unwrap_or_else(|| panic!("never heard: {what}"));
            if meant(&heard.0) {
                return heard;
            }
        }
    }

    /// Listens until it is thrown out; the reason.
    ///
    /// # Panics
    /// When it is not.
    pub fn hear_detached(&self) -> String {
        let (message, _) = self.hear_until("detached", |message| {
            matches!(message, FromPlatform::Detached { handle: None, .. })
        });
        let FromPlatform::Detached { reason, .. } = message else {
            unreachable!("just matched")
        };
        reason
    }

    /// Writes two words of any value into the return ring of worker 0; seen after [`Self::publish`].
    pub fn write(&mut self, words: [u64; 2]) {
        let link = &mut self.links[0];
        let at = (link.tail & (link.up.return_capacity() - 1)) as usize * 2;
        link.up.return_slots()[at].store(words[0], Ordering::Relaxed);
        link.up.return_slots()[at + 1].store(words[1], Ordering::Relaxed);
        link.tail = link.tail.wrapping_add(1);
    }

    /// Shows what was written, and wakes the worker.
    pub fn publish(&self) {
        let link = &self.links[0];
        link.up.return_tail().store(link.tail, Ordering::SeqCst);
        // A pipe that is full wakes as well.
        let _ = rustix::io::write(&link.wake, &[1]);
    }

    /// Waits until the worker has read everything, or has thrown this NF out; whether it has read.
    ///
    /// # Panics
    /// When it does neither.
    pub fn await_read(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.links[0].status.return_head().load(Ordering::Acquire) != self.links[0].tail {
            if self.is_cut_off() {
                return false;
            }
            assert!(
                Instant::now() < deadline,
                "the worker reads no more, and nobody says why"
            );
            std::thread::sleep(Duration::from_micros(200));
        }
        true
    }

    /// Writes descriptors and waits until they are read; false: thrown out.
    pub fn present(&mut self, descriptors: &[Descriptor]) -> bool {
        descriptors
            .iter()
            .for_each(|descriptor| self.write(descriptor.to_words()));
        self.publish();
        self.await_read()
    }

    /// Whether the platform has hung up.
    pub fn is_cut_off(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }

    /// Takes up to `most` deliveries of a handle, waiting until there is one; empty: thrown out.
    ///
    /// # Panics
    /// When nothing comes.
    pub fn take(&self, handle: &mut LyingHandle, most: u32) -> Vec<Descriptor> {
        let deadline = Instant::now() + PATIENCE;
        let mut waiting = handle
            .ring
            .available(handle.down.rx_tail())
            .unwrap()
            .min(most);
        while waiting == 0 {
            if self.is_cut_off() {
                return Vec::new();
            }
            assert!(Instant::now() < deadline, "nothing was delivered");
            std::thread::sleep(Duration::from_micros(200));
            waiting = handle
                .ring
                .available(handle.down.rx_tail())
                .unwrap()
                .min(most);
        }
        let taken = (0..waiting)
            .map(|ahead| handle.ring.peek(handle.down.rx_slots(), ahead))
            .collect();
        handle.ring.advance(waiting);
        handle.ring.retire(self.links[0].up.rx_head(handle.number));
        taken
    }
}

/// Says any bytes over a socket, with any descriptors; whether it took them.
fn babble(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(
            ancillary.push(SendAncillaryMessage::ScmRights(fds)),
            "there is room for 253 descriptors"
        );
    }
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
    .is_ok()
}

/// The next message within a time; `None` when there is none, or nobody any more.
fn receive(socket: &OwnedFd, within: Duration) -> Option<(FromPlatform, Vec<OwnedFd>)> {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: within.as_secs() as _,
        tv_nsec: within.subsec_nanos() as _,
    };
    if poll(&mut fds, Some(&timeout)).ok()? == 0 {
        return None;
    }
    match channel::receive(socket.as_fd()) {
        Ok(heard) => Some(heard),
        Err(ChannelError::Closed) => None,
        Err(error) => panic!("the platform says what it should not: {error}"),
    }
}
