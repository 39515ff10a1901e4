//! The library against a platform's end that the test plays itself.

#[allow(dead_code, reason = "the stand-in uses more of it")]
mod platform;

use std::os::fd::BorrowedFd;
use std::thread;
use std::time::Duration;

use mvmp_nf::{Burst, ConnectOptions, Link, Nf, NfError, OpenOptions, Wait, Which, never};
use mvmp_wire::message::{ErrorCode, FromPlatform, ToPlatform};
use mvmp_wire::{Descriptor, Op, PRIVATE_POOL};
use platform::{Peer, Platform, await_true, close, connected, opened};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

fn readable(fd: i32) -> bool {
    // SAFETY: the descriptor is open, its handle lives in the caller.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    poll(
        &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .unwrap()
        > 0
}

#[test]
fn packets_are_received_read_forwarded_mirrored_and_released() {
    let platform = Platform::new(64);
    let (nf, mut peer) = connected(&platform);
    assert_eq!(nf.instance(), "ids/0");
    let handle = opened(&nf, &mut peer, "span0");
    let other = opened(&nf, &mut peer, "virt0");
    assert_eq!((handle.number(), other.number(), other.slot()), (0, 1, 11));
    for number in 0..4_u8 {
        peer.deliver(0, &[number; 60]);
    }
    let mut burst = Burst::new();
    assert_eq!(handle.rx_burst(32, &mut burst).unwrap(), 4);
    assert_eq!(burst.frame(2).unwrap(), [2; 60]);
    assert_eq!(
        (
            burst.record(2).unwrap().in_port,
            burst.record(2).unwrap().timestamp_ns
        ),
        (3, 7)
    );
    assert_eq!(
        other
            .mirror(&mut burst, &Which::Indices(&[3]), None)
            .unwrap(),
        1
    );
    assert_eq!(
        other
            .tx_burst(
                &mut burst,
                &Which::Mask(&[false, true, false, true]),
                Some(9)
            )
            .unwrap(),
        2
    );
    assert_eq!((burst.len(), burst.held()), (4, 2));
    assert_eq!(burst.frame(1), Err(NfError::NotHeld(1)));
    assert_eq!(
        burst.check_held(&Which::Indices(&[0, 3])),
        Err(NfError::NotHeld(3))
    );
    drop(burst);
    let seen: Vec<_> = peer
        .returned(99)
        .iter()
        .map(|d| (d.token, d.op, d.arg, d.offset, d.slot))
        .collect();
    let [release, forward, mirror] = [Op::Release, Op::Forward, Op::Mirror].map(|op| op as u8);
    let any = u16::MAX;
    assert_eq!(
        seen,
        [
            (4, mirror, 1, any, 10),
            (2, forward, 1, 9, 10),
            (4, forward, 1, 9, 10),
            (1, release, 0, any, 10),
            (3, release, 0, any, 10)
        ]
    );
    close(nf, &peer);
}

#[test]
fn what_finds_no_room_stays_in_the_burst_and_is_released_with_that_reason() {
    let platform = Platform::new(4);
    let (nf, mut peer) = connected(&platform);
    let handle = opened(&nf, &mut peer, "span0");
    for _ in 0..6 {
        peer.deliver(0, &[1; 60]);
    }
    let mut burst = Burst::new();
    handle.rx_burst(32, &mut burst).unwrap();
    assert_eq!(handle.tx_burst(&mut burst, &Which::All, None).unwrap(), 4);
    assert_eq!(burst.held(), 2);
    burst.release();
    assert_eq!(peer.returned(99).len(), 4);
    assert_eq!(
        handle.rx_burst(32, &mut burst).unwrap(),
        0,
        "any call moves the releases that waited"
    );
    let reasons: Vec<_> = peer
        .returned(99)
        .iter()
        .map(|d| (d.token, d.op, d.arg))
        .collect();
    assert_eq!(reasons, [(5, 1, 1), (6, 1, 1)]);
    close(nf, &peer);
}

#[test]
fn a_sender_that_waits_gets_everything_through_a_small_ring() {
    let platform = Platform::new(4);
    let (nf, mut peer) = connected(&platform);
    let handle = opened(&nf, &mut peer, "span0");
    for _ in 0..50 {
        peer.deliver(0, &[1; 60]);
    }
    let mut seen = Vec::new();
    thread::scope(|scope| {
        let nf = scope.spawn(|| {
            let mut burst = Burst::new();
            handle.rx_burst(64, &mut burst).unwrap();
            let mirrored = handle
                .mirror_within(&mut burst, &Which::All, None, None, &never)
                .unwrap();
            (
                mirrored,
                handle
                    .tx_burst_within(&mut burst, &Which::All, None, None, &never)
                    .unwrap(),
            )
        });
        await_true("all packets come back twice", || {
            seen.extend(peer.returned(3).iter().map(|d| (d.op, d.token)));
            seen.len() == 100
        });
        assert_eq!(nf.join().unwrap(), (50, 50));
    });
    let expected = [Op::Mirror, Op::Forward]
        .into_iter()
        .flat_map(|op| (1..=50).map(move |token| (op as u8, token)));
    assert_eq!(seen, expected.collect::<Vec<_>>());
    close(nf, &peer);
}

#[test]
fn built_frames_travel_by_private_memory_which_is_used_again() {
    let platform = Platform::new(64);
    let (nf, mut peer) = connected(&platform);
    let handle = opened(&nf, &mut peer, "span0");
    for round in 0..200_u32 {
        let frame = vec![round as u8; 100 + round as usize * 7];
        let link = [Link::Ethernet, Link::Ipv4, Link::Ipv6][round as usize % 3];
        assert_eq!(handle.send(&[&frame, b"x"], None, link).unwrap(), 2);
        let returned = peer.returned(99);
        let said = |built: &Descriptor| (built.pool, built.token, built.hop, built.arg);
        let meant = (PRIVATE_POOL, link as u32, u8::MAX, 0);
        assert_eq!([said(&returned[0]), said(&returned[1])], [meant; 2]);
        assert_eq!(peer.private_bytes(&returned[0]), frame);
        assert_eq!(peer.private_bytes(&returned[1]), b"x");
    }
    let large = vec![0; 10_000];
    assert_eq!(
        handle
            .send(&[&large, &large], None, Link::Ethernet)
            .unwrap(),
        1,
        "16 KiB hold one such frame at a time"
    );
    assert!(matches!(
        handle.send(&[&[0; 20_000]], None, Link::Ethernet),
        Err(NfError::Config { .. })
    ));
    close(nf, &peer);
}

#[test]
fn a_sleeping_nf_is_woken_by_a_packet_and_by_the_end_of_the_stream() {
    let platform = Platform::new(64);
    let (nf, mut peer) = connected(&platform);
    let handle = opened(&nf, &mut peer, "span0");
    thread::scope(|scope| {
        let nf = scope.spawn(|| {
            let first = handle.wait(None, &never).unwrap();
            let mut burst = Burst::new();
            handle.rx_burst(32, &mut burst).unwrap();
            // Returned now: the other side may be late to see the short time that this one is awake.
            drop(burst);
            (first, handle.wait(None, &never).unwrap())
        });
        await_true("the NF sleeps", || peer.is_sleeping(0));
        peer.deliver(0, &[1; 60]);
        await_true("the packet is taken", || {
            peer.returned(99).len() == 1 || !peer.is_sleeping(0)
        });
        await_true("the NF sleeps again", || peer.is_sleeping(0));
        assert!(!handle.ended());
        peer.end(0);
        assert_eq!(nf.join().unwrap(), (Wait::Packets, Wait::Ended));
    });
    assert!(handle.ended());
    close(nf, &peer);
}

#[test]
fn the_file_descriptor_is_readable_exactly_while_there_is_something_to_see() {
    let platform = Platform::new(64);
    let (nf, mut peer) = connected(&platform);
    let handle = opened(&nf, &mut peer, "span0");
    let (fd, all) = (handle.fileno().unwrap(), nf.fileno().unwrap());
    let mut burst = Burst::new();
    assert!(!readable(fd) && !readable(all));
    peer.deliver(0, &[1; 60]);
    peer.deliver(0, &[2; 60]);
    assert!(readable(fd) && readable(all));
    assert_eq!(handle.rx_burst(1, &mut burst).unwrap(), 1);
    assert!(readable(fd), "one packet is left");
    assert_eq!(handle.rx_burst(1, &mut burst).unwrap(), 1);
    assert!(!readable(fd) && !readable(all));
    peer.end(0);
    assert!(readable(fd));
    assert_eq!(handle.rx_burst(1, &mut burst).unwrap(), 0);
    assert!(readable(fd), "the end stays");
    close(nf, &peer);
}

#[test]
fn a_descriptor_that_points_nowhere_gives_no_frame_and_can_be_released() {
    let platform = Platform::new(64);
    let (nf, mut peer) = connected(&platform);
    let handle = opened(&nf, &mut peer, "span0");
    let wrong = [
        Descriptor {
            pool: 6,
            token: 1,
            ..Descriptor::default()
        },
        Descriptor {
            pool: 63,
            token: 1,
            ..Descriptor::default()
        },
        Descriptor {
            pool: 5,
            token: 1,
            granule: platform::GRANULES,
            ..Descriptor::default()
        },
        Descriptor {
            pool: 5,
            token: 1,
            granule: platform::GRANULES - 1,
            length: 2049,
            ..Descriptor::default()
        },
    ];
    for descriptor in wrong {
        peer.deliver_descriptor(0, descriptor);
    }
    let mut burst = Burst::new();
    assert_eq!(handle.rx_burst(32, &mut burst).unwrap(), 4);
    assert!((0..4).all(|index| matches!(burst.frame(index), Err(NfError::Closed(_)))));
    drop(burst);
    assert_eq!(peer.returned(99).len(), 4);
    close(nf, &peer);
}

#[test]
fn a_lost_platform_is_told_from_a_detached_handle_and_from_an_orderly_end() {
    let platform = Platform::new(64);
    let (nf, mut peer) = connected(&platform);
    let handle = opened(&nf, &mut peer, "span0");
    let mut burst = Burst::new();
    peer.deliver(0, &[1; 60]);
    handle.rx_burst(32, &mut burst).unwrap();
    peer.say(&FromPlatform::Detached {
        handle: Some(0),
        reason: "it was asleep".into(),
    });
    await_true("the handle is detached", || handle.closed());
    assert_eq!(
        handle.wait(None, &never),
        Err(NfError::Detached("it was asleep".into()))
    );
    assert_eq!(
        burst.frame(0),
        Err(NfError::Detached("it was asleep".into()))
    );
    burst.release();
    assert!(
        peer.returned(99).is_empty(),
        "the shares of a detached handle are swept, not released"
    );
    let other = opened(&nf, &mut peer, "virt0");
    drop(peer);
    await_true("the loss is seen", || other.closed());
    assert_eq!(
        other.rx_burst(1, &mut burst),
        Err(NfError::PlatformLost { in_order: false })
    );
    assert!(other.ended());
    let (nf, peer) = connected(&platform);
    let reason = "its role is gone".to_owned();
    peer.say(&FromPlatform::Detached {
        handle: None,
        reason: reason.clone(),
    });
    drop(peer);
    await_true(
        "who is thrown out hears why, and not that a platform is lost",
        || {
            nf.open("x", OpenOptions::default())
                .is_err_and(|e| e == NfError::Detached(reason.clone()))
        },
    );
    let (_nf, peer) = connected(&platform);
    peer.say(&FromPlatform::Bye);
    drop(peer);
    await_true("bye is heard", || {
        _nf.open("x", OpenOptions::default())
            .is_err_and(|e| e == NfError::PlatformLost { in_order: true })
    });
}

#[test]
fn a_platform_that_says_bye_and_gives_everything_back_before_it_hangs_up_ends_in_order() {
    let platform = Platform::new(64);
    let (nf, mut peer) = connected(&platform);
    let handle = opened(&nf, &mut peer, "span0");
    peer.say(&FromPlatform::Bye);
    peer.take_away(0);
    assert_eq!(
        handle.wait(None, &never),
        Err(NfError::PlatformLost { in_order: true })
    );
    drop(peer);
}

#[test]
fn a_reconnect_revives_the_same_handles_and_leaves_earlier_bursts_closed() {
    let platform = Platform::new(64);
    let (nf, mut peer) = connected(&platform);
    let handle = opened(&nf, &mut peer, "span0");
    peer.deliver(0, &[1; 60]);
    let mut old = Burst::new();
    handle.rx_burst(32, &mut old).unwrap();
    drop(peer);
    await_true("the loss is seen", || handle.closed());
    let mut peer = thread::scope(|scope| {
        let reconnect = scope.spawn(|| nf.reconnect(None, &never));
        let mut peer = platform.accept();
        assert!(matches!(peer.opens(256), ToPlatform::Open { device, .. } if device == "span0"));
        reconnect.join().unwrap().unwrap();
        peer
    });
    peer.deliver(0, &[2; 60]);
    let mut burst = Burst::new();
    assert_eq!(handle.rx_burst(32, &mut burst).unwrap(), 1);
    assert!(old.frame(0).is_err());
    assert!(handle.tx_burst(&mut old, &Which::All, None).is_err());
    drop(old);
    assert_eq!(handle.tx_burst(&mut burst, &Which::All, None).unwrap(), 1);
    assert_eq!(peer.returned(99).len(), 1);
    close(nf, &peer);
}

#[test]
fn a_viewed_packet_keeps_its_share_and_the_connection_until_the_view_dies() {
    let platform = Platform::new(64);
    let (nf, mut peer) = connected(&platform);
    let handle = opened(&nf, &mut peer, "span0");
    peer.deliver(0, &[1; 60]);
    let mut burst = Burst::new();
    handle.rx_burst(32, &mut burst).unwrap();
    let view = burst.view();
    handle.close();
    drop(nf);
    assert!(burst.frame(0).is_err(), "new looks are refused");
    drop(view);
    assert_eq!(peer.hear(), ToPlatform::Close { handle: 0 });
    assert!(hangs_up(&peer), "the connection ends with the last view");
}

/// Whether the NF hangs up; signs of life may come before.
fn hangs_up(peer: &Peer) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| peer.hear())).is_err()
}

#[test]
fn refusals_have_their_own_kinds() {
    let platform = Platform::new(64);
    let refusal = |code| FromPlatform::Error {
        code,
        message: "no".into(),
        line: 2,
        column: 3,
        hint: None,
    };
    for (code, expected) in [
        (ErrorCode::NameInUse, NfError::NameInUse("no".into())),
        (
            ErrorCode::NotAuthorized,
            NfError::NotAuthorized("no".into()),
        ),
        (ErrorCode::NoRoom, NfError::Refused("no".into())),
        (
            ErrorCode::Policy,
            NfError::Policy {
                message: "no".into(),
                line: 2,
                column: 3,
                hint: None,
            },
        ),
    ] {
        let options = ConnectOptions {
            socket: platform.socket(),
            wait: Duration::ZERO,
        };
        let answer = thread::scope(|scope| {
            let nf = scope.spawn(|| Nf::connect("ids", options).map(|_| ()));
            platform.refuse(refusal(code));
            nf.join().unwrap()
        });
        assert_eq!(answer, Err(expected));
    }
}

#[test]
fn without_a_platform_the_error_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let options = ConnectOptions {
        socket: Some(folder.path().into()),
        wait: Duration::from_millis(30),
    };
    let Err(NfError::Connect(message)) = Nf::connect("ids", options) else {
        panic!("nobody listens")
    };
    assert!(
        message.contains(folder.path().to_str().unwrap()) && message.contains("mvmp up"),
        "{message}"
    );
}
