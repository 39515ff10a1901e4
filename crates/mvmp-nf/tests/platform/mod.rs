//! The platform's end of the protocol, as much of it as the library's tests need: one worker,
//! one pool, a ring that the test fills and a return ring that it reads.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use mvmp_nf::{ConnectOptions, Handle, Nf, OpenOptions};
use mvmp_wire::memory::{self, Access};
use mvmp_wire::message::{
    FromPlatform, LaneGeometry, PoolGeometry, PortFacts, ToPlatform, TunnelPortLists,
    WorkerGeometry,
};
use mvmp_wire::region::{
    DownRegion, RecordRegion, STATE_CLOSED, STATE_ENDED, STATUS_BYTES, StatusRegion, UpRegion,
};
use mvmp_wire::ring::{Consumer, Producer};
use mvmp_wire::{Descriptor, GRANULE_BYTES, Mapping, PROTOCOL_VERSION, Record, channel};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

pub const GRANULES: u32 = 1024;
const PRIVATE_BYTES: u64 = 16 * 1024;

/// A listening socket in a folder of its own.
pub struct Platform {
    folder: Option<tempfile::TempDir>,
    listener: OwnedFd,
    pub return_slots: u32,
}

/// One NF, as the platform sees it.
pub struct Peer {
    socket: OwnedFd,
    up: UpRegion,
    status: StatusRegion,
    private: Arc<Mapping>,
    pool: Arc<Mapping>,
    records: RecordRegion,
    pool_fds: Option<(OwnedFd, OwnedFd)>,
    consumer: Consumer,
    pub lanes: Vec<Lane>,
    next_granule: u32,
}

/// One handle's ring.
pub struct Lane {
    pub handle: u8,
    down: DownRegion,
    pub wake: OwnedFd,
    producer: Producer,
    woken: u32,
}

fn region(bytes: usize) -> (OwnedFd, Arc<Mapping>) {
    let fd = memory::create("test", bytes).unwrap();
    let mapping = Arc::new(Mapping::of(&fd, bytes, Access::ReadWrite).unwrap());
    (fd, mapping)
}

impl Platform {
    pub fn new(return_slots: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = Self::at(folder.path(), return_slots);
        Self {
            folder: Some(folder),
            ..at
        }
    }

    /// Listens in a folder that stays.
    pub fn at(folder: &Path, return_slots: u32) -> Self {
        let listener = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let address = SocketAddrUnix::new(folder.join("mvmp.sock")).unwrap();
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 8).unwrap();
        Self {
            folder: None,
            listener,
            return_slots,
        }
    }

    pub fn socket(&self) -> Option<PathBuf> {
        self.folder
            .as_ref()
            .map(|folder| folder.path().to_path_buf())
    }

    pub fn refuse(&self, error: FromPlatform) {
        let socket = rustix::net::accept(&self.listener).unwrap();
        let _: (ToPlatform, _) = channel::receive(&socket).unwrap();
        channel::send(&socket, &error, &[]).unwrap();
    }

    pub fn accept(&self) -> Peer {
        let socket = rustix::net::accept(&self.listener).unwrap();
        let (hello, _) = channel::receive::<ToPlatform>(&socket).unwrap();
        let ToPlatform::Hello { role, .. } = hello else {
            panic!("{hello:?}")
        };
        let (up_fd, up) = region(UpRegion::bytes(self.return_slots));
        let (status_fd, status) = region(STATUS_BYTES);
        let (private_fd, private) = region(PRIVATE_BYTES as usize);
        let (pool_fd, pool) = region(GRANULES as usize * GRANULE_BYTES);
        let (record_fd, records) = region(RecordRegion::bytes(GRANULES));
        let (_asleep, wake) = rustix::pipe::pipe().unwrap();
        let welcome = FromPlatform::Welcome {
            protocol: PROTOCOL_VERSION,
            platform: "test".into(),
            instance: format!("{role}/0"),
            workers: vec![WorkerGeometry {
                return_slots: self.return_slots,
            }],
            private_bytes: PRIVATE_BYTES,
            lossless: false,
            tunnel_ports: TunnelPortLists::default(),
        };
        channel::send(
            &socket,
            &welcome,
            &[
                up_fd.as_fd(),
                status_fd.as_fd(),
                wake.as_fd(),
                private_fd.as_fd(),
            ],
        )
        .unwrap();
        let peer = Peer {
            socket,
            up: UpRegion::new(up, self.return_slots),
            status: StatusRegion::new(status),
            private,
            pool,
            records: RecordRegion::new(records, GRANULES),
            pool_fds: Some((pool_fd, record_fd)),
            consumer: Consumer::new(self.return_slots),
            lanes: Vec::new(),
            next_granule: 0,
        };
        assert_eq!(peer.hear(), ToPlatform::Mapped { handle: None });
        peer.say(&FromPlatform::Ready { handle: None });
        peer
    }
}

impl Peer {
    /// The next message that is no sign of life.
    pub fn hear(&self) -> ToPlatform {
        loop {
            match channel::receive(&self.socket).unwrap().0 {
                ToPlatform::Alive => {}
                message => return message,
            }
        }
    }

    pub fn say(&self, message: &FromPlatform) {
        channel::send(&self.socket, message, &[]).unwrap();
    }

    /// Answers an `open`.
    pub fn opens(&mut self, ring_slots: u32) -> ToPlatform {
        let asked = self.hear();
        let handle = self.lanes.len() as u8;
        let (down_fd, down) = region(DownRegion::bytes(ring_slots));
        let (read, wake) = rustix::pipe::pipe().unwrap();
        rustix::fs::fcntl_setfl(&wake, rustix::fs::OFlags::NONBLOCK).unwrap();
        let pools = self.pool_fds.take();
        let mut fds: Vec<_> = pools
            .iter()
            .flat_map(|(memory, records)| [memory.as_fd(), records.as_fd()])
            .collect();
        fds.extend([down_fd.as_fd(), read.as_fd()]);
        let bytes = u64::from(GRANULES) * GRANULE_BYTES as u64;
        let opened = FromPlatform::Opened {
            handle,
            slot: handle + 10,
            rx: true,
            tx: true,
            rootless: false,
            lanes: vec![LaneGeometry {
                worker: 0,
                ring_slots,
            }],
            pools: pools
                .iter()
                .map(|_| PoolGeometry {
                    pool: 5,
                    worker: 0,
                    bytes,
                    granules: GRANULES,
                })
                .collect(),
            ports: vec![PortFacts {
                name: "p0".into(),
                number: 3,
                mac: None,
                mtu: 1500,
            }],
        };
        channel::send(&self.socket, &opened, &fds).unwrap();
        assert_eq!(
            self.hear(),
            ToPlatform::Mapped {
                handle: Some(handle)
            }
        );
        self.say(&FromPlatform::Ready {
            handle: Some(handle),
        });
        let producer = Producer::new(ring_slots);
        self.lanes.push(Lane {
            handle,
            down: DownRegion::new(down, ring_slots),
            wake,
            producer,
            woken: 0,
        });
        asked
    }

    /// Delivers a frame to a handle and wakes it if it sleeps. Tokens count from 1.
    pub fn deliver(&mut self, handle: usize, frame: &[u8]) {
        let granule = self.next_granule % GRANULES;
        self.next_granule += 1;
        let descriptor = self.place(granule, frame);
        self.deliver_descriptor(
            handle,
            Descriptor {
                token: self.next_granule,
                slot: handle as u8 + 10,
                ..descriptor
            },
        );
    }

    /// Writes a frame with its record, and says how to deliver it to the first handle.
    pub fn place(&mut self, granule: u32, frame: &[u8]) -> Descriptor {
        assert!(
            self.pool
                .copy_in(granule as usize * GRANULE_BYTES + 128, frame)
        );
        let record = Record {
            timestamp_ns: 7,
            in_port: 3,
            offset: 128,
            length: frame.len() as u16,
            ..Record::default()
        };
        record.store(self.records.words(), granule);
        let (offset, length) = (128, frame.len() as u16);
        Descriptor {
            token: granule + 1,
            pool: 5,
            granule,
            offset,
            length,
            slot: 10,
            arg: 1,
            ..Descriptor::default()
        }
    }

    /// Delivers up to `most` of `free` as the ring has room, as one burst.
    pub fn deliver_some(
        &mut self,
        handle: usize,
        free: &mut Vec<Descriptor>,
        most: usize,
    ) -> usize {
        let lane = &mut self.lanes[handle];
        let room = lane
            .producer
            .room(self.up.rx_head(lane.handle), most as u32)
            .unwrap();
        let count = most.min(room as usize).min(free.len());
        if count == 0 {
            return 0;
        }
        for descriptor in free.drain(free.len() - count..) {
            lane.producer.fill(lane.down.rx_slots(), descriptor);
        }
        lane.producer.publish(lane.down.rx_tail());
        self.wake(handle);
        count
    }

    fn wake(&mut self, handle: usize) {
        let lane = &mut self.lanes[handle];
        std::sync::atomic::fence(Ordering::SeqCst);
        let sleep = self.up.sleeping(lane.handle).load(Ordering::Relaxed);
        if sleep != 0 && sleep != lane.woken {
            lane.woken = sleep;
            rustix::io::write(&lane.wake, &[1]).unwrap();
        }
    }

    /// Takes all that came back.
    pub fn each_returned(&mut self, mut each: impl FnMut(Descriptor)) {
        let waiting = self.consumer.available(self.up.return_tail()).unwrap();
        for ahead in 0..waiting {
            each(self.consumer.peek(self.up.return_slots(), ahead));
        }
        self.consumer.advance(waiting);
        self.consumer.retire(self.status.return_head());
    }

    /// Answers closes and questions for counters until the NF hangs up.
    pub fn attend(&self) -> thread::JoinHandle<()> {
        let socket = self.socket.try_clone().unwrap();
        thread::spawn(move || {
            while let Ok((message, _)) = channel::receive::<ToPlatform>(&socket) {
                let answer = match message {
                    ToPlatform::Close { handle } => FromPlatform::Closed { handle },
                    ToPlatform::Stats { .. } => FromPlatform::Stats {
                        stats: serde_json::json!({"test": 1}),
                    },
                    _ => continue,
                };
                if channel::send(&socket, &answer, &[]).is_err() {
                    return;
                }
            }
        })
    }

    pub fn deliver_descriptor(&mut self, handle: usize, descriptor: Descriptor) {
        let lane = &mut self.lanes[handle];
        let head = self.up.rx_head(lane.handle);
        assert!(
            lane.producer.room(head, 1).unwrap() > 0,
            "the test overfills the ring"
        );
        lane.producer.fill(lane.down.rx_slots(), descriptor);
        lane.producer.publish(lane.down.rx_tail());
        self.wake(handle);
    }

    pub fn is_sleeping(&self, handle: u8) -> bool {
        self.up.sleeping(handle).load(Ordering::SeqCst) != 0
    }

    /// Nothing more will come.
    pub fn end(&self, handle: usize) {
        self.mark(handle, STATE_ENDED);
    }

    /// The handle is taken away.
    pub fn take_away(&self, handle: usize) {
        self.mark(handle, STATE_CLOSED);
    }

    fn mark(&self, handle: usize, state: u32) {
        let lane = &self.lanes[handle];
        lane.down.state().store(state, Ordering::Release);
        rustix::io::write(&lane.wake, &[1]).unwrap();
    }

    /// Up to `most` descriptors that came back by now.
    pub fn returned(&mut self, most: u32) -> Vec<Descriptor> {
        let waiting = self
            .consumer
            .available(self.up.return_tail())
            .unwrap()
            .min(most);
        let slots = self.up.return_slots();
        let all = (0..waiting)
            .map(|ahead| self.consumer.peek(slots, ahead))
            .collect();
        self.consumer.advance(waiting);
        self.consumer.retire(self.status.return_head());
        all
    }

    pub fn private_bytes(&self, descriptor: &Descriptor) -> Vec<u8> {
        let mut bytes = vec![0; descriptor.length as usize];
        let at = descriptor.granule as usize * GRANULE_BYTES + descriptor.offset as usize;
        assert!(self.private.copy_out(at, &mut bytes));
        bytes
    }
}

/// Waits for something that must come true.
pub fn await_true(what: &str, mut truth: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !truth() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// An NF `ids`, and its platform's end.
pub fn connected(platform: &Platform) -> (Nf, Peer) {
    let options = ConnectOptions {
        socket: platform.socket(),
        wait: Duration::ZERO,
    };
    thread::scope(|scope| {
        let nf = scope.spawn(|| Nf::connect("ids", options).unwrap());
        let peer = platform.accept();
        (nf.join().unwrap(), peer)
    })
}

/// A device that it opens.
pub fn opened(nf: &Nf, peer: &mut Peer, device: &str) -> Handle {
    thread::scope(|scope| {
        let handle = scope.spawn(|| nf.open(device, OpenOptions::default()).unwrap());
        peer.opens(256);
        handle.join().unwrap()
    })
}

/// Closes while the platform's end answers.
pub fn close(nf: Nf, peer: &Peer) {
    let handles = nf.handles().len();
    thread::scope(|scope| {
        scope.spawn(move || drop(nf));
        for _ in 0..handles {
            let ToPlatform::Close { handle } = peer.hear() else {
                panic!("a close was due")
            };
            peer.say(&FromPlatform::Closed { handle });
        }
    });
}
