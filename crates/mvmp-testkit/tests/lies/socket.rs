//! The socket: garbage, floods, deafness, handles opened and closed at random.

use std::os::fd::AsFd;

use mvmp_testkit::LyingNf;
use mvmp_wire::MAX_HANDLES;
use mvmp_wire::message::{ErrorCode, FromPlatform, ToPlatform};
use rand::{Rng, RngExt};

use crate::scene::{Scene, all_released};

#[test]
fn garbage_on_the_socket_is_refused_and_keeps_no_descriptors() {
    let scene = Scene::new();
    let liar = scene.liar();
    scene.begin();
    let open_before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (mut rng, null) = (rand::rng(), std::fs::File::open("/dev/null").unwrap());
    let deep = [
        b"[".repeat(60_000),
        b"{\"type\":".repeat(8_000),
        b"{\"type\":\"open\",\"device\":[".repeat(2_000),
    ];
    let wrong: [&[u8]; 10] = [
        b"{}",
        b"null",
        br#"{"type":"hello"}"#,
        br#"{"type":"open","device":"shared","ring":4294967295}"#,
        br#"{"type":"open","device":"shared","ring":18446744073709551615}"#,
        br#"{"type":"mapped","handle":255}"#,
        br#"{"type":"mapped","handle":-1}"#,
        br#"{"type":"close","handle":256}"#,
        br#"{"type":"stats","handle":255}"#,
        br#"{"type":"open","device":"shared","match":"(((((((((((((((("}"#,
    ];
    for round in 0..200 {
        let mut bytes = vec![0; rng.random_range(1..2000)];
        rng.fill_bytes(&mut bytes);
        let fds = vec![null.as_fd(); [0, 1, 16, 200, 253][round % 5]];
        liar.babble(&bytes, &fds);
        liar.babble(wrong[round % wrong.len()], &fds);
        liar.babble(&deep[round % deep.len()], &fds[..fds.len().min(8)]);
        liar.babble(br#"{"type":"from_the_future","x":[1,2,3]}"#, &fds);
        // Read now and then, so that the platform's answers find room too.
        if round % 20 == 0 {
            liar.say(&ToPlatform::Stats { handle: 99 });
            liar.hear_until("an answer", |message| {
                matches!(
                    message,
                    FromPlatform::Error {
                        code: ErrorCode::Config,
                        ..
                    }
                )
            });
        }
    }
    let mut huge = vec![b' '; mvmp_wire::message::MAX_MESSAGE_BYTES + 1];
    huge[0] = b'{';
    liar.babble(&huge, &[]);
    liar.say(&ToPlatform::Alive);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while std::fs::read_dir("/proc/self/fd").unwrap().count() > open_before {
        assert!(
            std::time::Instant::now() < deadline,
            "descriptors that came with garbage stay open"
        );
        std::thread::yield_now();
    }
    drop(liar);
    scene.ends_well();
}

#[test]
fn floods_of_hellos_and_connections_leave_room_for_others() {
    let scene = Scene::new();
    let liar = scene.liar();
    scene.begin();
    for _ in 0..2000 {
        liar.say(&ToPlatform::Hello {
            protocol: 1,
            role: "other".into(),
            library: "x".repeat(1000),
        });
    }
    let shared = scene.stage.path("mvmp.sock");
    // More than there are file descriptors for, if each were kept: silent, or refused again and again.
    let open_before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut crowd = Vec::new();
    for n in 0..600 {
        let socket = LyingNf::dial(&shared);
        if n % 2 == 0 {
            let hello = ToPlatform::Hello {
                protocol: 1,
                role: "liar".into(),
                library: String::new(),
            };
            // A platform that has hung up already need not hear it.
            let _ = mvmp_wire::channel::send(&socket, &hello, &[]);
        }
        crowd.push(socket);
    }
    let other = LyingNf::connect(&scene.stage.socket_of("other"), "other");
    let kept = std::fs::read_dir("/proc/self/fd").unwrap().count() - open_before - crowd.len();
    assert!(
        kept < 300,
        "the platform keeps {kept} descriptors for a crowd without names"
    );
    drop((other, crowd, liar));
    scene.stage.await_gone("other");
    scene.ends_well();
}

#[test]
fn an_nf_that_does_not_read_its_socket_loses_only_what_it_is_told() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    for _ in 0..5000 {
        liar.say(&ToPlatform::Stats {
            handle: handle.number,
        });
    }
    let lent = liar.take(&mut handle, 32);
    assert!(liar.present(&all_released(&lent)));
    drop(liar);
    scene.ends_well();
}

#[test]
fn handles_that_are_opened_and_closed_wildly_leave_nothing_behind() {
    let scene = Scene::new();
    let liar = scene.liar();
    scene.begin();
    let mut rng = rand::rng();
    for _ in 0..200 {
        match rng.random_range(0..4) {
            0 => liar.ask_to_open(["shared", "virt"][rng.random_range(0..2)]),
            1 => liar.say(&ToPlatform::Mapped {
                handle: Some(rng.random_range(0..MAX_HANDLES as u8)),
            }),
            _ => liar.say(&ToPlatform::Close {
                handle: rng.random_range(0..MAX_HANDLES as u8),
            }),
        }
    }
    for handle in 0..MAX_HANDLES as u8 {
        liar.say(&ToPlatform::Close { handle });
    }
    let mut last = None;
    while last != Some(MAX_HANDLES as u8 - 1) {
        let (closed, _) = liar.hear_until("closed", |message| {
            matches!(message, FromPlatform::Closed { .. })
        });
        if let FromPlatform::Closed { handle } = closed {
            last = Some(handle);
        }
    }
    // Those that a worker still sweeps are answered later than those that were never there.
    scene.stage.await_stats("all handles are closed", |stats| {
        stats["handles"]
            .as_array()
            .unwrap()
            .iter()
            .all(|handle| handle["role"] != "liar")
    });
    drop(liar);
    scene.ends_well();
}
