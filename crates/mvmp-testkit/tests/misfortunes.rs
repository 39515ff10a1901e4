//! NFs in processes of their own that are stopped, forked, starved, or take nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mvmp_testkit::{Stage, Victim, books, number, serve_until, skip};
use rustix::process::{Pid, Signal};
use serde_json::Value;

const VICTIM: &str = env!("CARGO_BIN_EXE_victim");

/// A stage with one device, an honest NF on it and the role `victim`.
struct Scene {
    stage: Stage,
    honest: JoinHandle<u64>,
    stop: Arc<AtomicBool>,
}

impl Scene {
    fn new(platform: &str, port: &str) -> Self {
        let stage = Stage::new(&format!(
            r#"
[platform]
buffers = 8192
{platform}
[ports]
in = {{ pcap = "$IN", {port} }}
[devices.shared]
mode = "direct"
ports = ["in"]
[nfs.honest]
devices = ["shared:rx"]
[nfs.victim]
devices = ["shared"]
"#
        ));
        let stop = Arc::new(AtomicBool::new(false));
        let (nf, shared) = stage.open("honest", "shared");
        let until = Arc::clone(&stop);
        let honest = std::thread::spawn(move || {
            let count = serve_until(&shared, &until, |_| {});
            nf.close();
            count
        });
        Self {
            stage,
            honest,
            stop,
        }
    }

    fn victim(&self, words: &[&str]) -> Victim {
        let all: Vec<&str> = ["victim", "shared"].iter().chain(words).copied().collect();
        let mut victim = Victim::start(VICTIM, &self.stage.socket_of("victim"), &all);
        victim.await_ready();
        victim
    }

    /// Waits until the honest NF has been delivered so many more packets.
    fn await_traffic(&self, more: u64) {
        let dispatched = |stats: &Value| number(&stats["ports"]["in"]["dispatched"]);
        let before = dispatched(&self.stage.platform.stats());
        self.stage
            .await_stats("traffic", |stats| dispatched(stats) > before + more);
    }

    /// The stream is stopped; the honest NF has missed nothing, everything is at home.
    fn ends_well(self) -> Value {
        self.stage.await_gone("victim");
        self.stage.platform.remove_port("in").unwrap();
        let stats = self.stage.settle();
        self.stop.store(true, Ordering::Release);
        assert_eq!(
            self.honest.join().unwrap(),
            number(&stats["ports"]["in"]["dispatched"])
        );
        stats
    }
}

const FOR_EVER: &str = r#"rate = "lossless", loop = 0"#;

#[test]
fn a_stopped_nf_is_reclaimed_and_harms_nobody_when_it_goes_on() {
    let scene = Scene::new("alive_s = 0.8", FOR_EVER);
    let mut victim = scene.victim(&["--to", "shared"]);
    scene.await_traffic(1000);
    victim.signal(Signal::STOP);
    scene.stage.await_gone("victim");
    scene.await_traffic(10_000);
    // Its name is free although the process is still there.
    let second = scene.victim(&["--to", "shared"]);
    assert!(victim.is_running());
    victim.signal(Signal::CONT);
    assert!(victim.end(), "it learns that it was detached, and ends");
    scene.await_traffic(10_000);
    drop(second);
    let stats = scene.ends_well();
    assert!(number(&stats["reclaims"]["count"]) >= 2);
}

#[test]
fn the_death_of_an_nf_is_seen_although_its_child_keeps_the_socket() {
    // Signs of life would not tell within the time of this test.
    let scene = Scene::new("alive_s = 600", FOR_EVER);
    let mut victim = scene.victim(&["--fork", "--to", "shared"]);
    let child: i32 = victim.line().parse().unwrap();
    scene.await_traffic(1000);
    victim.kill();
    scene.stage.await_gone("victim");
    let child = Pid::from_raw(child).unwrap();
    assert_eq!(
        rustix::process::test_kill_process(child),
        Ok(()),
        "the child lives on"
    );
    drop(scene.victim(&["--to", "shared"]));
    rustix::process::kill_process(child, Signal::KILL).unwrap();
    scene.ends_well();
}

#[test]
fn an_nf_that_takes_nothing_is_called_stuck_and_costs_others_nothing() {
    let scene = Scene::new("stall_s = 0.3\nalive_s = 600", "rate = 20000, loop = 0");
    let victim = scene.victim(&["--spin"]);
    let stats = scene
        .stage
        .await_stats("stuck", |stats| stats["nfs"]["victim/0"]["stuck"] == true);
    assert_eq!(stats["nfs"]["honest/0"]["stuck"], false);
    scene.await_traffic(5000);
    drop(victim);
    let stats = scene.ends_well();
    let books = books(&stats, "victim", "shared");
    assert!(
        number(&books["drops"]["ring_full"]) > 0,
        "its ring was full, and the loss is its own: {books}"
    );
}

#[test]
fn an_nf_that_takes_nothing_is_detached_where_that_is_asked_for() {
    // Without it, a lossless stream would wait for ever.
    let scene = Scene::new(
        "stall_s = 0.3\non_stall = \"detach\"\nalive_s = 600",
        FOR_EVER,
    );
    let victim = scene.victim(&["--spin"]);
    let closed = |stats: &Value| {
        stats["closed_handles"]
            .as_array()
            .unwrap()
            .iter()
            .any(|handle| handle["role"] == "victim")
    };
    let stats = scene.stage.await_stats("its handle is closed", closed);
    assert_eq!(
        stats["nfs"]["victim/0"]["alive"], true,
        "the NF itself is still connected"
    );
    scene.await_traffic(10_000);
    drop(victim);
    scene.ends_well();
}

#[test]
fn an_nf_that_runs_out_of_memory_is_reclaimed() {
    let scene = Scene::new("alive_s = 600", FOR_EVER);
    let mut victim = scene.victim(&["--limit", "67108864"]);
    let said = victim.line();
    if let Some(reason) = said.strip_prefix("skip: ") {
        return skip(format!("the address space cannot be limited: {reason}"));
    }
    assert!(!victim.end(), "it was to run out of memory");
    scene.stage.await_gone("victim");
    scene.await_traffic(1000);
    scene.ends_well();
}

#[test]
fn an_nf_that_keeps_what_it_gets_holds_at_most_its_limit() {
    let scene = Scene::new("alive_s = 600", "rate = 40000, loop = 0");
    let victim = scene.victim(&["--hold"]);
    let stats = scene.stage.await_stats("its limit is reached", |stats| {
        let drops = &books(stats, "victim", "shared")["drops"];
        drops.get("quota").is_some_and(|quota| number(quota) > 1000)
    });
    let books = books(&stats, "victim", "shared");
    assert!(number(&books["held"]) <= number(&books["limit"]), "{books}");
    victim.kill();
    let stats = scene.ends_well();
    assert!(number(&stats["reclaims"]["buffers"]) >= number(&books["held"]));
}

#[test]
fn a_stream_without_end_can_be_stopped_while_all_are_well() {
    let scene = Scene::new("", FOR_EVER);
    let (_extra, handle) = scene.stage.open("victim", "shared");
    let stop = Arc::clone(&scene.stop);
    let other = std::thread::spawn(move || serve_until(&handle, &stop, |_| {}));
    scene.await_traffic(50_000);
    scene.stage.platform.remove_port("in").unwrap();
    let stats = scene.stage.settle();
    scene.stop.store(true, Ordering::Release);
    let expected = number(&stats["ports"]["in"]["dispatched"]);
    assert_eq!(
        (scene.honest.join().unwrap(), other.join().unwrap()),
        (expected, expected)
    );
}
