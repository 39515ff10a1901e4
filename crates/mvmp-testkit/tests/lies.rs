//! NFs that lie. Each test ends with an honest sharer of the same device that has received every
//! packet, with right books, with every buffer at home, and with a platform that welcomes the next NF.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mvmp_core::capture::CaptureReader;
use mvmp_nf::OpenOptions;
use mvmp_testkit::{LyingHandle, LyingNf, Stage, number, serve, serve_until, traffic};
use mvmp_wire::message::{ErrorCode, FromPlatform, ToPlatform};
use mvmp_wire::{Descriptor, MAX_HANDLES, Op, PRIVATE_POOL};
use rand::{Rng, RngExt};
use serde_json::Value;

const PASSES: u64 = 40;
/// Refused descriptors that end in quarantine: one more than these.
const REFUSED_MAX: usize = 1000;

const SHARED: &str = r#"
[platform]
buffers = 4096
alive_s = 600
[ports]
in = { pcap = "$IN", rate = "lossless", loop = $PASSES, wait_for = ["honest", "starter"] }
[devices.shared]
mode = "direct"
ports = ["in"]
[devices.virt]
mode = "rootless"
[nfs.honest]
devices = ["shared:rx"]
[nfs.listener]
devices = ["virt:rx"]
[nfs.liar]
devices = ["shared", "virt:tx"]
instances = 4
[nfs.other]
devices = ["shared:rx"]
[nfs.starter]
devices = ["virt:tx"]
"#;

/// A stage with an honest NF; the stream begins when `begin` is called.
struct Scene {
    stage: Stage,
    honest: Option<JoinHandle<u64>>,
    listener: Option<JoinHandle<u64>>,
    stop: Arc<AtomicBool>,
    starter: mvmp_nf::Nf,
    expected: u64,
}

impl Scene {
    fn new() -> Self {
        let stage = Stage::new(&SHARED.replace("$PASSES", &PASSES.to_string()));
        let stop = Arc::new(AtomicBool::new(false));
        let (honest, listener) = (stage.nf("honest"), stage.nf("listener"));
        let shared = honest.open("shared", OpenOptions::default()).unwrap();
        let heard = listener.open("virt", OpenOptions::default()).unwrap();
        let until = Arc::clone(&stop);
        let starter = stage.nf("starter");
        Self {
            honest: Some(std::thread::spawn(move || {
                let count = serve(&shared, |_| {});
                honest.close();
                count
            })),
            listener: Some(std::thread::spawn(move || {
                let count = serve_until(&heard, &until, |_| {});
                listener.close();
                count
            })),
            stop,
            starter,
            expected: frames_in_capture() * PASSES,
            stage,
        }
    }

    fn liar(&self) -> LyingNf {
        LyingNf::connect(&self.stage.socket_of("liar"), "liar")
    }

    fn begin(&self) {
        self.starter.open("virt", OpenOptions::default()).unwrap();
    }

    /// A liar with a handle, and the stream under way.
    fn liar_at_work(&self) -> (LyingNf, LyingHandle) {
        let liar = self.liar();
        let handle = liar.open("shared");
        self.begin();
        (liar, handle)
    }

    /// Nobody but the liar was harmed. All liars are gone by now.
    fn ends_well(mut self) -> Value {
        assert_eq!(
            self.honest.take().unwrap().join().unwrap(),
            self.expected,
            "the honest NF got every packet"
        );
        self.stage.await_gone("liar");
        self.stop.store(true, Ordering::Release);
        let heard = self.listener.take().unwrap().join().unwrap();
        self.starter.close();
        let stats = self.stage.settle();
        let books = stats["closed_handles"].as_array().unwrap();
        let of = |role: &str| books.iter().find(|handle| handle["role"] == role).unwrap();
        assert_eq!(number(&of("honest")["delivered"]), self.expected);
        assert_eq!(number(&of("listener")["delivered"]), heard);
        drop(self.liar().open("shared"));
        stats
    }
}

fn frames_in_capture() -> u64 {
    let mut reader = CaptureReader::open(traffic(), 10_000).unwrap();
    let mut count = 0;
    while reader.read_into(&mut Vec::new()).unwrap().is_some() {
        count += 1;
    }
    count
}

fn releasing(lent: &Descriptor) -> Descriptor {
    Descriptor {
        op: Op::Release as u8,
        arg: 0,
        ..*lent
    }
}

/// Writes words until it is thrown out for them, giving back what it is lent; how many were written.
fn lie_until_thrown_out(
    liar: &mut LyingNf,
    handle: &mut LyingHandle,
    mut lie: impl FnMut(&[Descriptor]) -> Vec<[u64; 2]>,
) -> usize {
    let mut written = 0;
    loop {
        let lent = liar.take(handle, 64);
        if lent.is_empty() {
            return written;
        }
        for words in lie(&lent) {
            liar.write(words);
            written += 1;
        }
        let releases: Vec<Descriptor> = lent.iter().map(releasing).collect();
        if !liar.present(&releases) {
            return written;
        }
    }
}

#[test]
fn an_impossible_return_tail_is_quarantine() {
    let scene = Scene::new();
    let (liar, _handle) = scene.liar_at_work();
    liar.links[0]
        .up
        .return_tail()
        .store(0x8000_0000, Ordering::SeqCst);
    assert!(liar.hear_detached().contains("impossible"));
    scene.ends_well();
}

#[test]
fn a_return_tail_that_goes_back_is_quarantine() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    let lent = liar.take(&mut handle, 8);
    assert!(liar.present(&lent.iter().map(releasing).collect::<Vec<_>>()));
    liar.links[0]
        .up
        .return_tail()
        .store(liar.links[0].tail.wrapping_sub(1), Ordering::SeqCst);
    assert!(liar.hear_detached().contains("impossible"));
    scene.ends_well();
}

#[test]
fn an_impossible_rx_head_is_quarantine() {
    for head in [0x4000_0000, u32::MAX] {
        let scene = Scene::new();
        let (liar, handle) = scene.liar_at_work();
        liar.links[0]
            .up
            .rx_head(handle.number)
            .store(head, Ordering::SeqCst);
        assert!(liar.hear_detached().contains("impossible"));
        scene.ends_well();
    }
}

#[test]
fn hundreds_of_thousands_of_random_words_free_nothing_and_harm_nobody() {
    let scene = Scene::new();
    let mut rng = rand::rng();
    let mut begun = false;
    for _ in 0..100 {
        let mut liar = scene.liar();
        // It takes nothing, so that a stream that is under way waits for the end of each of these.
        let handle = liar.open("shared");
        if !std::mem::replace(&mut begun, true) {
            scene.begin();
        }
        for word in 0..4096 {
            let mut words: [u64; 2] = rng.random();
            // Every second one comes as far as the ledger: its own slot, pool 0, a plausible granule.
            if word % 2 == 0 {
                words[0] &= 0x0000_1fff_ffff_ffff;
                words[1] =
                    words[1] & 0xff00_ff00_ffff_ffff | u64::from(handle.slot) << 32 | 1 << 48;
            }
            liar.write(words);
        }
        liar.publish();
        assert!(liar.hear_detached().contains("refused"));
    }
    scene.ends_well();
}

#[test]
fn a_lent_packet_with_random_fields_is_at_the_most_the_liars_own_loss() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    let mut rng = rand::rng();
    // Each lie is a lent descriptor with one or two fields replaced: close to the truth in all ways.
    let lied = lie_until_thrown_out(&mut liar, &mut handle, |lent| {
        let one = |original: &Descriptor| {
            let mut lie = Descriptor {
                op: rng.random_range(1..=3),
                arg: rng.random_range(0..2),
                ..*original
            };
            for _ in 0..rng.random_range(1..=2) {
                match rng.random_range(0..9) {
                    0 => lie.token = rng.random(),
                    1 => lie.pool = rng.random_range(0..64),
                    2 => lie.granule = rng.random_range(0..1 << 26),
                    3 => lie.offset = rng.random(),
                    4 => lie.length = rng.random(),
                    5 => lie.slot = rng.random(),
                    6 => lie.hop = rng.random(),
                    7 => lie.op = rng.random(),
                    _ => lie.arg = rng.random(),
                }
            }
            lie.to_words()
        };
        lent.iter().map(one).collect()
    });
    assert!(lied >= REFUSED_MAX / 64, "{lied}");
    drop(liar);
    scene.ends_well();
}

#[test]
fn a_stale_token_is_refused() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    let lent = liar.take(&mut handle, 16);
    let once: Vec<Descriptor> = lent.iter().map(releasing).collect();
    assert!(liar.present(&once));
    for op in [Op::Release, Op::Forward, Op::Mirror] {
        let again: Vec<Descriptor> = lent
            .iter()
            .map(|lent| Descriptor {
                op: op as u8,
                arg: handle.number,
                ..*lent
            })
            .collect();
        assert!(liar.present(&again));
    }
    let stats = scene.stage.platform.stats();
    assert_eq!(
        number(&stats["nfs"]["liar/0"]["refused"]),
        3 * once.len() as u64,
        "{}",
        stats["nfs"]
    );
    drop(liar);
    scene.ends_well();
}

#[test]
fn another_nfs_share_is_refused_even_with_its_slot_and_its_token() {
    let scene = Scene::new();
    // The other NF is ours too, so that the test knows its tokens: the platform sees two.
    let mut other = LyingNf::connect(&scene.stage.socket_of("other"), "other");
    let mut theirs = other.open("shared");
    let (mut liar, mut mine) = scene.liar_at_work();
    let own = liar.take(&mut mine, u32::MAX);
    let foreign = other.take(&mut theirs, 16);
    assert!(liar.present(&own.iter().map(releasing).collect::<Vec<_>>()));
    let mut lies = Vec::new();
    for op in [Op::Release, Op::Forward, Op::Mirror] {
        lies.extend(foreign.iter().map(|lent| Descriptor {
            op: op as u8,
            arg: mine.number,
            ..*lent
        }));
        lies.extend(foreign.iter().map(|lent| Descriptor {
            op: op as u8,
            arg: mine.number,
            slot: mine.slot,
            ..*lent
        }));
    }
    assert!(liar.present(&lies));
    let stats = scene.stage.platform.stats();
    assert_eq!(
        number(&stats["nfs"]["liar/0"]["refused"]),
        lies.len() as u64
    );
    // They are still the other's to give back.
    assert!(other.present(&foreign.iter().map(releasing).collect::<Vec<_>>()));
    assert_eq!(
        number(&scene.stage.platform.stats()["nfs"]["other/0"]["refused"]),
        0
    );
    drop((liar, other));
    scene.stage.await_gone("other");
    scene.ends_well();
}

#[test]
fn wrong_pools_granules_and_operations_are_refused() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    let lent = liar.take(&mut handle, 1)[0];
    let mut lies: Vec<Descriptor> = (1..PRIVATE_POOL)
        .map(|pool| Descriptor {
            pool,
            ..releasing(&lent)
        })
        .collect();
    lies.extend((4..=u8::MAX).chain([0]).map(|op| Descriptor { op, ..lent }));
    lies.extend(
        [Descriptor::MAX_GRANULES - 1, 1 << 20, lent.granule + 1].map(|granule| Descriptor {
            granule,
            ..releasing(&lent)
        }),
    );
    lies.push(Descriptor {
        token: 0,
        ..releasing(&lent)
    });
    assert!(liar.present(&lies));
    let stats = scene.stage.platform.stats();
    assert_eq!(
        number(&stats["nfs"]["liar/0"]["refused"]),
        lies.len() as u64
    );
    assert!(
        liar.present(&[releasing(&lent)]),
        "the one true descriptor is still good"
    );
    assert_eq!(
        number(&scene.stage.platform.stats()["nfs"]["liar/0"]["refused"]),
        lies.len() as u64
    );
    drop(liar);
    scene.ends_well();
}

#[test]
fn sending_over_a_handle_that_one_has_not_is_a_named_drop() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    let (mut sent, number_of_mine) = (0, handle.number);
    for arg in (0..=u8::MAX).filter(|&arg| arg != number_of_mine) {
        let lent = liar.take(&mut handle, 1)[0];
        assert!(liar.present(&[Descriptor {
            op: Op::Forward as u8,
            arg,
            ..lent
        }]));
        sent += 1;
    }
    let stats = scene.stage.platform.stats();
    let books = stats["handles"]
        .as_array()
        .unwrap()
        .iter()
        .find(|handle| handle["role"] == "liar")
        .unwrap();
    assert_eq!(
        number(&books["out"]["drops"]["not_authorized"]),
        sent,
        "{books}"
    );
    drop(liar);
    scene.ends_well();
}

#[test]
fn private_descriptors_out_of_the_private_region_send_nothing() {
    let scene = Scene::new();
    let (mut liar, _handle) = scene.liar_at_work();
    let virt = liar.open("virt");
    let granules = (liar.private.len() / mvmp_wire::GRANULE_BYTES) as u32;
    let built = |granule, offset, length| Descriptor {
        pool: PRIVATE_POOL,
        granule,
        offset,
        length,
        hop: u8::MAX,
        op: Op::Forward as u8,
        arg: virt.number,
        ..Descriptor::default()
    };
    let outside = [
        built(granules, 0, 64),
        built(Descriptor::MAX_GRANULES - 1, u16::MAX, 1500),
        built(granules - 1, 2047, 2),
        built(granules - 1, u16::MAX, 1),
    ];
    assert!(liar.present(&outside));
    assert!(
        liar.present(&[built(0, 0, u16::MAX)]),
        "longer than any buffer"
    );
    assert!(
        liar.present(&[built(granules - 1, 0, 2048)]),
        "the last one inside"
    );
    let wrong_ops: Vec<Descriptor> = [0, 1, 3, 77]
        .map(|op| Descriptor {
            op,
            ..built(0, 0, 64)
        })
        .to_vec();
    assert!(liar.present(&wrong_ops));
    let stats = scene.stage.platform.stats();
    let books = stats["handles"]
        .as_array()
        .unwrap()
        .iter()
        .find(|handle| handle["role"] == "liar" && handle["device"] == "virt")
        .unwrap();
    assert_eq!(
        number(&books["out"]["drops"]["bad_frame"]),
        outside.len() as u64,
        "{books}"
    );
    assert_eq!(number(&books["out"]["drops"]["too_long"]), 1);
    assert_eq!(
        number(&stats["nfs"]["liar/0"]["refused"]),
        wrong_ops.len() as u64
    );
    drop(liar);
    scene.ends_well();
}

#[test]
fn a_thousand_refusals_are_forgiven_and_one_more_is_quarantine() {
    let scene = Scene::new();
    let (mut liar, _handle) = scene.liar_at_work();
    let invented = Descriptor {
        token: 7,
        op: Op::Release as u8,
        slot: 200,
        ..Descriptor::default()
    };
    assert!(liar.present(&vec![invented; REFUSED_MAX]));
    let stats = scene.stage.platform.stats();
    assert_eq!(
        (
            number(&stats["nfs"]["liar/0"]["refused"]),
            &stats["nfs"]["liar/0"]["quarantined"]
        ),
        (REFUSED_MAX as u64, &Value::Null)
    );
    liar.write(invented.to_words());
    liar.publish();
    assert!(liar.hear_detached().contains("refused descriptors"));
    scene.ends_well();
}

#[test]
fn a_share_that_is_mirrored_to_a_holder_arrives_as_a_copy() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    let virt = liar.open("virt");
    let lent = liar.take(&mut handle, 32);
    let mirrors: Vec<Descriptor> = lent
        .iter()
        .flat_map(|lent| {
            [Descriptor {
                op: Op::Mirror as u8,
                arg: virt.number,
                ..*lent
            }; 8]
        })
        .collect();
    assert!(liar.present(&mirrors));
    assert!(liar.present(&lent.iter().map(releasing).collect::<Vec<_>>()));
    let wanted = mirrors.len() as u64;
    scene
        .stage
        .await_stats("the listener has released all", |stats| {
            let books = stats["handles"]
                .as_array()
                .unwrap()
                .iter()
                .find(|handle| handle["role"] == "listener")
                .unwrap();
            number(&books["delivered"]) == wanted && number(&books["out"]["released"]) == wanted
        });
    drop(liar);
    scene.ends_well();
}

#[test]
fn an_nf_that_never_says_mapped_holds_nobody_up() {
    let scene = Scene::new();
    let silent = LyingNf::unacknowledged(&scene.stage.socket_of("liar"), "liar");
    silent.links[0].up.return_tail().store(5, Ordering::SeqCst);
    let half = scene.liar();
    let mut handle = half.open_unacknowledged("shared");
    scene.begin();
    scene.stage.await_stats("the stream is over", |stats| {
        stats["ports"]["in"]["ended"] == true
    });
    assert_eq!(
        handle.ring.available(handle.down.rx_tail()).unwrap(),
        0,
        "nothing was delivered"
    );
    drop(half);
    // The silent one is still there while everything else comes to rest.
    let Scene {
        stage,
        honest,
        listener,
        stop,
        starter,
        expected,
    } = scene;
    assert_eq!(honest.unwrap().join().unwrap(), expected);
    stop.store(true, Ordering::Release);
    listener.unwrap().join().unwrap();
    starter.close();
    stage.settle();
    drop(silent);
    stage.await_gone("liar");
}

#[test]
fn holes_in_the_up_region_are_filled_before_its_use_and_refused_after() {
    let scene = Scene::new();
    let liar = LyingNf::unacknowledged(&scene.stage.socket_of("liar"), "liar");
    let punch = |fd: BorrowedFd<'_>| {
        let mode = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(fd, mode, 0, 4096)
    };
    assert_eq!(
        punch(liar.links[0].up_fd.as_fd()),
        Ok(()),
        "before the seal it is its own"
    );
    assert_eq!(punch(liar.private_fd.as_fd()), Ok(()));
    assert!(
        rustix::fs::ftruncate(&liar.links[0].up_fd, 0).is_err(),
        "its size is fixed from the start"
    );
    liar.say(&ToPlatform::Mapped { handle: None });
    liar.hear_until("ready", |message| {
        matches!(message, FromPlatform::Ready { handle: None })
    });
    assert_eq!(
        punch(liar.links[0].up_fd.as_fd()),
        Err(rustix::io::Errno::PERM)
    );
    assert_eq!(punch(liar.private_fd.as_fd()), Err(rustix::io::Errno::PERM));
    assert!(rustix::fs::ftruncate(&liar.links[0].up_fd, 1 << 30).is_err());
    let again = mvmp_wire::Mapping::of(
        &liar.links[0].up_fd,
        4096,
        mvmp_wire::memory::Access::ReadWrite,
    );
    assert!(again.is_err(), "nobody gets a second writable mapping");
    let (mut liar, mut handle) = {
        let handle = liar.open("shared");
        (liar, handle)
    };
    scene.begin();
    let lent = liar.take(&mut handle, 32);
    assert!(liar.present(&lent.iter().map(releasing).collect::<Vec<_>>()));
    drop(liar);
    scene.ends_well();
}

#[test]
fn an_nf_that_seals_its_region_itself_is_refused_and_its_name_is_free_again() {
    let scene = Scene::new();
    scene.begin();
    for _ in 0..8 {
        let liar = LyingNf::unacknowledged(&scene.stage.socket_of("liar"), "liar");
        rustix::fs::fcntl_add_seals(&liar.links[0].up_fd, rustix::fs::SealFlags::SEAL).unwrap();
        liar.say(&ToPlatform::Mapped { handle: None });
        liar.hear_until("refused", |message| {
            matches!(message, FromPlatform::Error { .. })
        });
    }
    scene.ends_well();
}

#[test]
fn pipes_that_are_full_or_blocking_hold_nobody_up() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    // The worker drains little at a time: this one stays full for long.
    for _ in 0..1000 {
        let _ = rustix::io::write(&liar.links[0].wake, &[0; 4096]);
    }
    for fd in [&liar.links[0].wake, &handle.pipe] {
        let flags = rustix::fs::fcntl_getfl(fd).unwrap();
        rustix::fs::fcntl_setfl(fd, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
    }
    // Through /proc the read end can be opened for writing.
    let path = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&handle.pipe)
    );
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
    let filler = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap();
    while rustix::io::write(&filler, &[0; 4096]).is_ok() {}
    let flags = rustix::fs::fcntl_getfl(&filler).unwrap();
    rustix::fs::fcntl_setfl(&filler, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
    for sleep in 1..200 {
        // Each of these asks to be woken, into a pipe that takes nothing.
        liar.links[0]
            .up
            .sleeping(handle.number)
            .store(sleep, Ordering::SeqCst);
        let lent = liar.take(&mut handle, 16);
        assert!(liar.present(&lent.iter().map(releasing).collect::<Vec<_>>()));
    }
    drop(liar);
    scene.ends_well();
}

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
    assert!(liar.present(&lent.iter().map(releasing).collect::<Vec<_>>()));
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
            0 => drop(liar.open_unacknowledged(["shared", "virt"][rng.random_range(0..2)])),
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

#[test]
fn who_releases_nothing_runs_into_its_own_quota_alone() {
    const PACKETS: u64 = 25_200;
    let stage = Stage::new(
        r#"
[platform]
buffers = 16384
ring = 32768
alive_s = 600
[ports]
in = { pcap = "$IN", rate = 30000, loop = 100 }
[devices.shared]
mode = "direct"
ports = ["in"]
[nfs.honest]
devices = ["shared:rx"]
[nfs.liar]
devices = ["shared:rx"]
"#,
    );
    let liar = LyingNf::connect(&stage.socket_of("liar"), "liar");
    let _handle = liar.open("shared");
    let honest = stage.nf("honest");
    let shared = honest.open("shared", OpenOptions::default()).unwrap();
    assert_eq!(serve(&shared, |_| {}), PACKETS);
    let stats = stage.platform.stats();
    let books = |role: &str| {
        stats["handles"]
            .as_array()
            .unwrap()
            .iter()
            .find(|handle| handle["role"] == role)
            .unwrap()
            .clone()
    };
    assert_eq!(books("honest")["drops"], serde_json::json!({}));
    let (held, limit) = (
        number(&books("liar")["held"]),
        number(&books("liar")["limit"]),
    );
    assert_eq!(held, limit);
    assert_eq!(
        books("liar")["drops"],
        serde_json::json!({ "quota": PACKETS - held })
    );
    drop(liar);
    honest.close();
    stage.await_gone("liar");
    stage.settle();
}

#[test]
fn what_a_living_nf_has_sent_before_it_closes_is_sent() {
    let stage = Stage::new(
        r#"
[platform]
buffers = 4096
[ports]
in = { pcap = "$IN", rate = "lossless" }
out = { out = "$DIR/out.pcapng" }
[devices.bridge]
mode = "bridge"
ports = ["in", "out"]
[nfs.wire]
devices = ["bridge"]
"#,
    );
    let mut liar = LyingNf::connect(&stage.socket_of("wire"), "wire");
    let mut handle = liar.open("bridge");
    let mut lent = Vec::new();
    while lent.len() < frames_in_capture() as usize {
        lent.extend(liar.take(&mut handle, u32::MAX));
    }
    lent.iter().for_each(|lent| {
        liar.write(
            Descriptor {
                op: Op::Forward as u8,
                arg: handle.number,
                offset: u16::MAX,
                ..*lent
            }
            .to_words(),
        )
    });
    // Not woken: what it has shown when it says `close` counts, read or not.
    liar.links[0]
        .up
        .return_tail()
        .store(liar.links[0].tail, Ordering::SeqCst);
    liar.say(&ToPlatform::Close {
        handle: handle.number,
    });
    liar.hear_until("closed", |message| {
        matches!(message, FromPlatform::Closed { .. })
    });
    let stats = stage.settle();
    assert_eq!(
        number(&stats["ports"]["out"]["tx"]["transmitted"]),
        frames_in_capture()
    );
}
