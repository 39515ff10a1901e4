//! NFs in processes of their own that are killed under traffic, again and again: the name is free
//! at once, what they held is at home, others miss nothing.
//!
//! The stream is a capture that is played for ever without loss, so that a single packet that went
//! astray would be missed. `MVMP_KILLS` says how often each campaign kills.

mod campaign;
mod modes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use campaign::{Bystander, VICTIM, books, campaign, come_to_rest, dispatched, kills};
use mvmp_nf::OpenOptions;
use mvmp_testkit::{Stage, Victim, number, send_all};
use rustix::process::Signal;

#[test]
fn a_restarted_nf_never_meets_its_own_ghost() {
    let stage = Stage::new(
        r#"
[platform]
buffers = 4096
[ports]
in = { pcap = "$IN", rate = "lossless", loop = 0 }
[devices.shared]
mode = "direct"
ports = ["in"]
[nfs.victim]
devices = ["shared"]
"#,
    );
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
    let stage = Stage::new(
        r#"
[platform]
buffers = 4096
alive_s = 60
[ports]
in = { pcap = "$IN", rate = "lossless", loop = 0 }
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
    let stop = Arc::new(AtomicBool::new(false));
    let watchers = ["one", "two"].map(|role| Bystander::watching(&stage, role, "shared", &stop));
    campaign(
        &stage,
        &["victim", "shared", "--to", "shared"],
        &watchers[0],
        kills(),
    );
    let stats = come_to_rest(&stage, &["in"]);
    stop.store(true, Ordering::Release);
    for watcher in watchers {
        assert_eq!(
            watcher.end(),
            number(&stats["ports"]["in"]["dispatched"]),
            "nobody else missed a packet"
        );
    }
    let victim = books(&stats, "closed_handles", "victim", "shared");
    assert_eq!(
        number(&victim["out"]["sent"]),
        number(&stats["ports"]["in"]["tx"]["accepted"]),
        "what it sent in its lives has left"
    );
}

#[test]
fn the_middle_of_a_chain_with_a_mirror_is_killed_over_and_over() {
    let stage = Stage::new(
        r#"
[platform]
buffers = 4096
alive_s = 60
[ports]
in = { pcap = "$IN", rate = "lossless", loop = 0 }
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
    let stop = Arc::new(AtomicBool::new(false));
    let witness = Bystander::watching(&stage, "witness", "a", &stop);
    let [third, tap] = [("third", "b"), ("tap", "c")]
        .map(|(role, device)| Bystander::watching(&stage, role, device, &stop));
    let nf = stage.nf("first");
    let (from, to) = (
        nf.open("feed", OpenOptions::default()).unwrap(),
        nf.open("a", OpenOptions::default()).unwrap(),
    );
    let first = Bystander::new(nf, from, &stop, move |burst| send_all(&to, burst));
    campaign(
        &stage,
        &["victim", "a", "--to", "b", "--mirror", "c"],
        &witness,
        kills(),
    );
    let stats = come_to_rest(&stage, &["in"]);
    stop.store(true, Ordering::Release);
    let dispatched = dispatched(&stats, &["in"]);
    assert_eq!(first.end(), dispatched);
    assert_eq!(witness.end(), dispatched, "nobody else missed a packet");
    let victim = books(&stats, "closed_handles", "victim", "a");
    assert_eq!(
        third.end(),
        number(&victim["out"]["forwarded"]),
        "what it passed on in its lives has arrived"
    );
    assert_eq!(
        tap.end(),
        number(&victim["out"]["mirrored"]),
        "and so has what it mirrored"
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
        return eprintln!("SKIP: two workers need two CPUs");
    };
    let stage = Stage::new(
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
    let stop = Arc::new(AtomicBool::new(false));
    let witness = Bystander::watching(&stage, "witness", "a", &stop);
    let tap = Bystander::watching(&stage, "tap", "b", &stop);
    let feeders = [("first", "feed_left"), ("second", "feed_right")].map(|(role, device)| {
        let nf = stage.nf(role);
        let (from, to) = (
            nf.open(device, OpenOptions::default()).unwrap(),
            nf.open("a", OpenOptions::default()).unwrap(),
        );
        Bystander::new(nf, from, &stop, move |burst| send_all(&to, burst))
    });
    // What came from the right is handed over to the left one's worker: the way out of one port.
    campaign(
        &stage,
        &["victim", "a", "--to", "feed_left", "--mirror", "b"],
        &witness,
        kills() / 4,
    );
    let stats = come_to_rest(&stage, &["left", "right"]);
    stop.store(true, Ordering::Release);
    let fed: u64 = feeders.map(Bystander::end).into_iter().sum();
    assert_eq!(fed, dispatched(&stats, &["left", "right"]));
    assert_eq!(witness.end(), fed, "nobody else missed a packet");
    let victim = books(&stats, "closed_handles", "victim", "a");
    assert_eq!(
        number(&stats["ports"]["left"]["tx"]["accepted"]),
        number(&victim["out"]["sent"]),
        "what it sent in its lives has left"
    );
    assert_eq!(
        tap.end(),
        number(&victim["out"]["mirrored"]),
        "and what it mirrored has arrived"
    );
}
