//! Regions that are not mapped, punched, or sealed by the wrong hand.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

use mvmp_testkit::LyingNf;
use mvmp_wire::message::{FromPlatform, ToPlatform};

use crate::scene::{Scene, all_released};

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
    assert!(liar.present(&all_released(&lent)));
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
