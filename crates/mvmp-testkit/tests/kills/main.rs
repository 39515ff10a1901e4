//! NFs in processes of their own that are killed under traffic, again and again: the name is free
//! at once, what they held is at home, others miss nothing.
//!
//! The stream is a capture that is played for ever without loss, so that a single packet that went
//! astray would be missed. `MVMP_KILLS` says how often each campaign kills.

mod campaign;
mod modes;

use campaign::{Bystander, Scene, VICTIM, accepted, dispatched, kills};
use mvmp_testkit::{Victim, books, number, skip};
use rustix::process::Signal;

#[test]
fn a_restarted_nf_never_meets_its_own_ghost() {
    let stage = Scene::endless(
        r#"
[devices.shared]
mode = "direct"
ports = ["in"]
[nfs.victim]
devices = ["shared"]
"#,
    )
    .stage;
    for _ in 0..200 {
        let mut victim = Victim::start(
            VICTIM,
            &stage.socket_of("victim"),
            &["victim", "shared", "--hold"],
        );
        victim.await_ready();
        // Killed, but perhaps not dead yet when the next hello comes.
        victim.signal(Signal::KILL);
        stage.nf("victim").close();
    }
    stage.await_gone("victim");
    stage.platform.remove_port("in").unwrap();
    let stats = stage.settle();
    assert_eq!(number(&stats["reclaims"]["count"]), 200);
}

#[test]
fn one_of_three_that_share_a_device_is_killed_over_and_over() {
    let scene = Scene::endless(
        r#"
[devices.shared]
mode = "direct"
ports = ["in"]
[nfs.one]
devices = ["shared:rx"]
[nfs.two]
devices = ["shared:rx"]
[nfs.victim]
devices = ["shared"]
memory = "64K"
"#,
    );
    let watchers = ["one", "two"].map(|role| scene.watch(role, "shared", |_| {}));
    let words = ["victim", "shared", "--to", "shared"];
    let stats = scene.kill(&words, &watchers[0], kills(), &["in"]);
    assert_eq!(
        watchers.map(Bystander::end),
        [dispatched(&stats, &["in"]); 2],
        "nobody else missed a packet"
    );
    assert_eq!(
        number(&books(&stats, "victim", "shared")["out"]["sent"]),
        accepted(&stats, "in"),
        "what it sent in its lives has left"
    );
}

#[test]
fn the_middle_of_a_chain_with_a_mirror_is_killed_over_and_over() {
    let scene = Scene::endless(
        r#"
[devices.feed]
mode = "direct"
ports = ["in"]
[devices.a]
mode = "rootless"
[devices.b]
mode = "rootless"
[devices.c]
mode = "rootless"
[nfs.first]
devices = ["feed:rx", "a:tx"]
[nfs.victim]
devices = ["a:rx", "b:tx", "c:tx"]
memory = "64K"
[nfs.third]
devices = ["b:rx"]
[nfs.tap]
devices = ["c:rx"]
[nfs.witness]
devices = ["a:rx"]
"#,
    );
    let [witness, third, tap] = [("witness", "a"), ("third", "b"), ("tap", "c")]
        .map(|(role, device)| scene.watch(role, device, |_| {}));
    let first = scene.pass_on("first", "feed", "a");
    let words = ["victim", "a", "--to", "b", "--mirror", "c"];
    let stats = scene.kill(&words, &witness, kills(), &["in"]);
    assert_eq!(
        [first.end(), witness.end()],
        [dispatched(&stats, &["in"]); 2],
        "nobody else missed a packet"
    );
    let out = &books(&stats, "victim", "a")["out"];
    assert_eq!(
        [third.end(), tap.end()],
        [number(&out["forwarded"]), number(&out["mirrored"])],
        "what it passed on and mirrored in its lives has arrived"
    );
}

/// Two CPUs that this process may use.
fn two_cpus() -> Option<(usize, usize)> {
    let allowed = rustix::thread::sched_getaffinity(None).ok()?;
    let mut cpus = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    Some((cpus.next()?, cpus.next()?))
}

#[test]
fn an_nf_that_two_workers_feed_is_killed_over_and_over() {
    let Some((one, other)) = two_cpus() else {
        return skip("two workers need two CPUs");
    };
    let scene = Scene::new(
        &r#"
[platform]
buffers = 4096
alive_s = 60
workers = [ONE, OTHER]
[ports]
left = { pcap = "$IN", rate = "lossless", loop = 0, wait_for = ["first", "second"] }
right = { pcap = "$IN", rate = "lossless", loop = 0, wait_for = ["first", "second"] }
[devices.feed_left]
mode = "direct"
ports = ["left"]
[devices.feed_right]
mode = "direct"
ports = ["right"]
[devices.a]
mode = "rootless"
[devices.b]
mode = "rootless"
[nfs.first]
devices = ["feed_left:rx", "a:tx"]
[nfs.second]
devices = ["feed_right:rx", "a:tx"]
[nfs.victim]
devices = ["a:rx", "feed_left:tx", "b:tx"]
memory = "64K"
[nfs.tap]
devices = ["b:rx"]
[nfs.witness]
devices = ["a:rx"]
"#
        .replace("ONE", &one.to_string())
        .replace("OTHER", &other.to_string()),
    );
    let [witness, tap] =
        [("witness", "a"), ("tap", "b")].map(|(role, device)| scene.watch(role, device, |_| {}));
    let feeders = [("first", "feed_left"), ("second", "feed_right")]
        .map(|(role, device)| scene.pass_on(role, device, "a"));
    // What came from the right is handed over to the left one's worker: the way out of one port.
    let words = ["victim", "a", "--to", "feed_left", "--mirror", "b"];
    let stats = scene.kill(&words, &witness, kills() / 4, &["left", "right"]);
    let fed: u64 = feeders.map(Bystander::end).into_iter().sum();
    assert_eq!(fed, dispatched(&stats, &["left", "right"]));
    assert_eq!(witness.end(), fed, "nobody else missed a packet");
    let out = &books(&stats, "victim", "a")["out"];
    assert_eq!(
        [accepted(&stats, "left"), tap.end()],
        [number(&out["sent"]), number(&out["mirrored"])],
        "what it sent and mirrored in its lives has left and arrived"
    );
}
