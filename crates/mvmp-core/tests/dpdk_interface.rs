//! Ports on kernel interfaces: a veth pair in a network namespace of the test's own.
//!
//! Each test runs itself again under `unshare` and does its work there, because DPDK's threads
//! belong to the namespace in which they were made. Without the right to make one, or without
//! iproute2, it says so and is skipped (in CI: fails).

use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use mvmp_core::dpdk::interface::{
    data_room_bytes, default_max_frame_bytes, longest_sent, longest_sent_by,
};
use mvmp_core::dpdk::{
    Eal, EthOptions, EthPort, InterfacePort, Mbuf, Pool, PortError, WorkerLcore, free_bulk,
};

#[path = "../../mvmp-testkit/src/skip.rs"]
mod skip;

use skip::skip;

const INSIDE: &str = "MVMP_TEST_NAMESPACE";
/// IEEE's number for local experiments: the host's own chatter has others.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];

/// True in the namespace. Else runs this test there, and returns false when that is done.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let flags = if rustix::process::geteuid().is_root() {
        "-n"
    } else {
        "-rn"
    };
    let may = Command::new("unshare").args([flags, "ip", "link"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        skip(format!(
            "no network namespace of its own (unshare {flags}) or no iproute2"
        ));
        return false;
    }
    let outcome = Command::new("unshare")
        .arg(flags)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(outcome.success(), "{test} in its namespace");
    false
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// `left` and `right`, joined, up, with this MTU.
fn veth_pair(mtu: u32) {
    ip(&format!(
        "link add left mtu {mtu} type veth peer name right mtu {mtu}"
    ));
    ip("link set left up");
    ip("link set right up");
}

fn pool(max_frame_bytes: u32) -> Pool {
    let room = u16::try_from(data_room_bytes(max_frame_bytes)).unwrap();
    Pool::create(Eal::get().unwrap(), "interface", 1024, room).unwrap()
}

fn attach(interface: &str, pool: &Pool, max_frame_bytes: u32) -> Result<InterfacePort, PortError> {
    let options = EthOptions {
        max_frame_bytes,
        ..EthOptions::default()
    };
    InterfacePort::attach(Eal::get().unwrap(), interface, options, pool)
}

/// The kernel's own socket on an interface, non-blocking.
fn raw_socket(interface: &str) -> OwnedFd {
    let name = std::ffi::CString::new(interface).unwrap();
    // SAFETY: plain system calls on a socket and an address of ours.
    unsafe {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let fd = libc::socket(libc::AF_PACKET, kind, protocol.into());
        assert!(fd >= 0);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
        let length = size_of_val(&address) as libc::socklen_t;
        assert_eq!(libc::bind(fd, (&raw const address).cast(), length), 0);
        OwnedFd::from_raw_fd(fd)
    }
}

fn send(socket: &OwnedFd, frame: &[u8]) {
    // SAFETY: the frame has as many bytes as we say.
    let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    assert_eq!(
        sent,
        frame.len() as isize,
        "{}",
        std::io::Error::last_os_error()
    );
}

/// A frame that can be told from others.
fn frame(number: u8, length: usize) -> Vec<u8> {
    let mut frame = vec![number; length];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, number]);
    frame[12..14].copy_from_slice(&ETHER_TYPE);
    frame
}

/// Our frames that arrive at the port, until there are `n` of them.
fn receive(port: &EthPort, n: usize) -> Vec<Vec<u8>> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let (mut frames, mut burst) = (Vec::new(), [std::ptr::null_mut::<Mbuf>(); 32]);
    while frames.len() < n {
        assert!(
            Instant::now() < deadline,
            "{} of {n} frames came",
            frames.len()
        );
        // SAFETY: this thread alone uses the port; what it receives is ours and freed once.
        unsafe {
            let received = port.rx_burst(0, &mut burst);
            for &mbuf in &burst[..received] {
                let bytes = (*mbuf).buf_addr.cast::<u8>().add((*mbuf).data_off.into());
                let bytes = std::slice::from_raw_parts(bytes, (*mbuf).data_len.into());
                assert_eq!(((*mbuf).nb_segs, (*mbuf).refcnt), (1, 1));
                if bytes[12..14] == ETHER_TYPE {
                    frames.push(bytes.to_vec());
                }
            }
            free_bulk(&mut burst[..received]);
        }
    }
    frames
}

#[test]
fn frames_pass_both_ways_byte_for_byte_and_every_buffer_comes_home() {
    if !inside("frames_pass_both_ways_byte_for_byte_and_every_buffer_comes_home") {
        return;
    }
    veth_pair(9000);
    let longest = default_max_frame_bytes("left").unwrap();
    assert_eq!(longest, 9022);
    let pool = pool(longest);
    let _lcore = WorkerLcore::register().unwrap();
    let left = attach("left", &pool, longest).unwrap();
    assert_eq!((left.mtu(), left.port().link_up()), (9000, true));
    let right = raw_socket("right");
    let lengths = [14, 60, 64, 1514, 1518, 4000, 9014];
    let frames: Vec<_> = lengths
        .iter()
        .zip(1..)
        .map(|(&length, number)| frame(number, length))
        .collect();
    for frame in &frames {
        send(&right, frame);
    }
    assert_eq!(receive(left.port(), frames.len()), frames);
    assert_eq!(sent_through(left.port(), &pool, &frames, right), frames);
    drop(left);
    assert_eq!(pool.available(), 1024);
}

/// Sends frames out of the port; returns what the kernel's socket then hears.
fn sent_through(port: &EthPort, pool: &Pool, frames: &[Vec<u8>], socket: OwnedFd) -> Vec<Vec<u8>> {
    let mut mbufs = vec![std::ptr::null_mut::<Mbuf>(); frames.len()];
    assert!(pool.alloc_bulk(&mut mbufs));
    // SAFETY: fresh mbufs with room for the longest frame; this thread alone uses the port.
    unsafe {
        for (&mbuf, frame) in mbufs.iter().zip(frames) {
            let bytes = (*mbuf).buf_addr.cast::<u8>().add((*mbuf).data_off.into());
            bytes.copy_from_nonoverlapping(frame.as_ptr(), frame.len());
            ((*mbuf).data_len, (*mbuf).pkt_len) = (frame.len() as u16, frame.len() as u32);
        }
        assert_eq!(port.tx_burst(0, &mut mbufs), frames.len());
    }
    let (mut socket, mut heard, mut bytes) =
        (std::fs::File::from(socket), Vec::new(), vec![0; 65536]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while heard.len() < frames.len() {
        assert!(
            Instant::now() < deadline,
            "{} of {} frames were sent",
            heard.len(),
            frames.len()
        );
        match socket.read(&mut bytes) {
            Ok(length) if bytes[12..14] == ETHER_TYPE => heard.push(bytes[..length].to_vec()),
            _ => std::thread::yield_now(),
        }
    }
    heard
}

#[test]
fn other_drivers_carry_the_same_frames_by_devargs() {
    if !inside("other_drivers_carry_the_same_frames_by_devargs") {
        return;
    }
    veth_pair(1500);
    // tap holds a buffer for each descriptor, af_xdp some thousands.
    let pool = Pool::create(Eal::get().unwrap(), "others", 8192, 2176).unwrap();
    let _lcore = WorkerLcore::register().unwrap();
    let frames: Vec<_> = (1..30)
        .map(|number| frame(number, 60 + usize::from(number)))
        .collect();
    for (devargs, peer) in [
        ("net_af_packet0,iface=left", "right"),
        ("net_tap0,iface=tapped", "tapped"),
        ("net_af_xdp0,iface=left", "right"),
    ] {
        if devargs.starts_with("net_af_xdp") && in_user_namespace() {
            skip(format!(
                "{devargs}: BPF programs take root of the machine itself"
            ));
            continue;
        }
        let port =
            EthPort::attach(Eal::get().unwrap(), devargs, EthOptions::default(), &pool).unwrap();
        let peer = raw_socket(peer);
        for frame in &frames {
            send(&peer, frame);
        }
        assert_eq!(receive(&port, frames.len()), frames, "{devargs}");
        assert_eq!(
            sent_through(&port, &pool, &frames, peer),
            frames,
            "{devargs}"
        );
    }
}

#[test]
fn the_kernel_takes_its_mtu_and_one_tag_and_says_nothing_of_longer_frames() {
    if !inside("the_kernel_takes_its_mtu_and_one_tag_and_says_nothing_of_longer_frames") {
        return;
    }
    veth_pair(1500);
    let pool = Pool::create(Eal::get().unwrap(), "longest", 8192, 2176).unwrap();
    let _lcore = WorkerLcore::register().unwrap();
    let left = attach("left", &pool, 1522).unwrap();
    assert_eq!(longest_sent("left"), Some((1514, 1518)));
    assert_eq!(
        longest_heard(left.port(), &pool, "right"),
        [1514, 1518, 1514]
    );
    drop(left);
    for (devargs, peer, knows, heard) in [
        (
            "net_af_packet7,qpairs=1,iface=left",
            "right",
            Some((1514, 1518)),
            [1514, 1518, 1514],
        ),
        (
            "net_af_xdp7,iface=left",
            "right",
            Some((1518, 1518)),
            [1518; 3],
        ),
        ("net_tap7,iface=tapped", "tapped", None, [1522; 3]),
    ] {
        if devargs.starts_with("net_af_xdp") && in_user_namespace() {
            skip(format!(
                "{devargs}: BPF programs take root of the machine itself"
            ));
            continue;
        }
        let port =
            EthPort::attach(Eal::get().unwrap(), devargs, EthOptions::default(), &pool).unwrap();
        assert_eq!(longest_sent_by(devargs), knows, "{devargs}");
        assert_eq!(longest_heard(&port, &pool, peer), heard, "{devargs}");
    }
    assert_eq!(longest_sent("nowhere"), None);
}

/// The longest frames that a port's peer hears: untagged, with an 802.1Q tag first, with an 802.1ad one.
fn longest_heard(port: &EthPort, pool: &Pool, peer: &str) -> [usize; 3] {
    let mut socket = std::fs::File::from(raw_socket(peer));
    [ETHER_TYPE, [0x81, 0x00], [0x88, 0xa8]].map(|ether_type| {
        let (mut longest, mut bytes) = (0, [0; 2048]);
        // The kernel shows a tag beside the frame.
        let aside = if ether_type == ETHER_TYPE { 0 } else { 4 };
        // The last one is heard for sure.
        for length in (1510..=1530).chain([60]) {
            let mut frame = frame(7, length);
            frame[12..14].copy_from_slice(&ether_type);
            send_one(port, pool, &frame);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < deadline, "nothing was heard");
            match socket.read(&mut bytes) {
                Ok(length) if bytes[6..12] == [2, 0, 0, 0, 0, 7] => match length + aside {
                    60 => return longest,
                    length => longest = length,
                },
                _ => std::thread::yield_now(),
            }
        }
    })
}

/// Gives a frame to the driver, which may refuse it.
fn send_one(port: &EthPort, pool: &Pool, frame: &[u8]) {
    let mut mbufs = [std::ptr::null_mut::<Mbuf>()];
    assert!(pool.alloc_bulk(&mut mbufs));
    // SAFETY: a fresh mbuf with room for the frame; this thread alone uses the port.
    unsafe {
        let mbuf = mbufs[0];
        let bytes = (*mbuf).buf_addr.cast::<u8>().add((*mbuf).data_off.into());
        bytes.copy_from_nonoverlapping(frame.as_ptr(), frame.len());
        ((*mbuf).data_len, (*mbuf).pkt_len) = (frame.len() as u16, frame.len() as u32);
        let sent = port.tx_burst(0, &mut mbufs);
        free_bulk(&mut mbufs[sent..]);
    }
}

fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

#[test]
fn what_the_host_itself_sends_on_the_interface_is_not_received() {
    if !inside("what_the_host_itself_sends_on_the_interface_is_not_received") {
        return;
    }
    veth_pair(1500);
    let pool = pool(1522);
    let _lcore = WorkerLcore::register().unwrap();
    let left = attach("left", &pool, 1522).unwrap();
    let (own, right) = (raw_socket("left"), raw_socket("right"));
    for _ in 0..20 {
        send(&own, &frame(1, 100));
    }
    send(&right, &frame(2, 100));
    assert_eq!(receive(left.port(), 1), [frame(2, 100)]);
}

#[test]
fn offloads_are_off_while_the_port_lives_and_restored_after() {
    if !inside("offloads_are_off_while_the_port_lives_and_restored_after") {
        return;
    }
    veth_pair(1500);
    ip("link set left down");
    let pool = pool(1522);
    let mut changes = Vec::new();
    for _ in 0..2 {
        let port = attach("left", &pool, 1522).unwrap();
        println!("{:#?}", port.changes());
        assert!(ip("link show left").contains("PROMISC"));
        changes.push(port.changes().to_vec());
        drop(port);
        let after = ip("link show left");
        assert!(
            !after.contains("PROMISC") && !after.contains("UP,"),
            "{after}"
        );
    }
    let off = |name: &str| {
        changes[0]
            .iter()
            .any(|change| change.starts_with(name) && change.ends_with("turned off"))
    };
    assert!(
        off("left: TCP segmentation offload") && off("right: checksums when sending"),
        "{changes:?}"
    );
    assert_eq!(
        changes[0], changes[1],
        "the second time finds everything as the first time did"
    );
}

#[test]
fn two_queue_pairs_share_what_comes() {
    if !inside("two_queue_pairs_share_what_comes") {
        return;
    }
    veth_pair(1500);
    let pool = pool(1522);
    let options = EthOptions {
        rx_queues: 2,
        tx_queues: 3,
        ..EthOptions::default()
    };
    let eal = Eal::get().unwrap();
    let outcome = InterfacePort::attach(eal, "left", options, &pool);
    assert!(matches!(outcome, Err(PortError::Queues { most: 2, .. })));
    let port = InterfacePort::attach(
        eal,
        "left",
        EthOptions {
            tx_queues: 2,
            ..options
        },
        &pool,
    )
    .unwrap();
    assert_eq!((port.port().rx_queues(), port.port().tx_queues()), (2, 2));
}

#[test]
fn an_interface_that_is_not_there_is_refused_by_name() {
    let pool = pool(1522);
    for name in [
        "nosuchinterface",
        "",
        "a,b=c",
        "much_too_long_for_an_interface",
    ] {
        let Err(error) = attach(name, &pool, 1522) else {
            panic!("{name} was opened")
        };
        assert!(
            error
                .to_string()
                .starts_with(&format!("interface {name}: there is no such interface")),
            "{error}"
        );
    }
}

#[test]
fn without_permission_the_error_names_the_capabilities() {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let pool = pool(1522);
    let unprivileged = move || {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        };
        set_capabilities(None, sets).unwrap();
        attach("lo", &pool, 1522)
            .err()
            .map(|error| error.to_string())
    };
    let error = std::thread::spawn(unprivileged)
        .join()
        .unwrap()
        .expect("lo was opened without any right");
    assert!(error.contains("CAP_NET_RAW"), "{error}");
}
