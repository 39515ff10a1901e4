//! The rings: indices that cannot be, words that mean nothing, pipes that take nothing.

use std::sync::atomic::Ordering;

use rand::RngExt;

use crate::scene::{Scene, all_released};

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
    assert!(liar.present(&all_released(&lent)));
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
        assert!(liar.present(&all_released(&lent)));
    }
    drop(liar);
    scene.ends_well();
}
