//! The set-up of all campaigns: bystanders, the kills, and what must hold then and at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mvmp_nf::{Burst, Handle, Nf};
use mvmp_testkit::{Stage, Victim, number, open, send_all, serve_until};
use rand::RngExt;
use serde_json::Value;

pub(crate) const VICTIM: &str = env!("CARGO_BIN_EXE_victim");
const KILLS_DEFAULT: u32 = 1000;

pub(crate) fn kills() -> u32 {
    std::env::var("MVMP_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(KILLS_DEFAULT)
}

/// A capture that is played for ever without loss. Signs of life would not tell of a death in time.
const ENDLESS: &str = r#"
[platform]
buffers = 4096
alive_s = 60
[ports]
in = { pcap = "$IN", rate = "lossless", loop = 0 }
"#;

/// A platform and what its bystanders wait for.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    stop: Arc<AtomicBool>,
}

impl Scene {
    pub(crate) fn new(toml: &str) -> Self {
        Self {
            stage: Stage::new(toml),
            stop: Arc::default(),
        }
    }

    /// One whose only source is the port `in`.
    pub(crate) fn endless(rest: &str) -> Self {
        Self::new(&[ENDLESS, rest].concat())
    }

    /// An NF that looks at what a device gives it.
    pub(crate) fn watch(
        &self,
        role: &str,
        device: &str,
        work: impl FnMut(&mut Burst) + Send + 'static,
    ) -> Bystander {
        let (nf, handle) = self.stage.open(role, device);
        Bystander::new(nf, handle, &self.stop, work)
    }

    /// An NF that passes on to one device what it gets from another.
    pub(crate) fn pass_on(&self, role: &str, from: &str, to: &str) -> Bystander {
        let nf = self.stage.nf(role);
        let [from, to] = [from, to].map(|device| open(&nf, device));
        Bystander::new(nf, from, &self.stop, move |burst| send_all(&to, burst))
    }

    /// Kills the victim over and over; then stops the sources, waits until all is at rest, and lets
    /// the bystanders end.
    pub(crate) fn kill(
        &self,
        words: &[&str],
        watcher: &Bystander,
        kills: u32,
        sources: &[&str],
    ) -> Value {
        campaign(&self.stage, words, watcher, kills);
        let stats = come_to_rest(&self.stage, sources);
        self.stop.store(true, Ordering::Release);
        stats
    }
}

/// An honest NF in this process.
pub(crate) struct Bystander {
    nf: Nf,
    seen: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Bystander {
    fn new(
        nf: Nf,
        handle: Handle,
        stop: &Arc<AtomicBool>,
        mut work: impl FnMut(&mut Burst) + Send + 'static,
    ) -> Self {
        let seen = Arc::new(AtomicU64::new(0));
        let (counter, stop) = (Arc::clone(&seen), Arc::clone(stop));
        let thread = std::thread::spawn(move || {
            serve_until(&handle, &stop, |burst| {
                counter.fetch_add(burst.len() as u64, Ordering::Relaxed);
                work(burst);
            })
        });
        Self { nf, seen, thread }
    }

    /// Waits until it has received more than it had before.
    fn await_more_than(&self, before: u64) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let seen = self.seen.load(Ordering::Relaxed);
            if seen > before {
                return seen;
            }
            assert!(
                Instant::now() < deadline,
                "the stream has stopped at {before}"
            );
            std::thread::yield_now();
        }
    }

    pub(crate) fn end(self) -> u64 {
        let count = self.thread.join().unwrap();
        self.nf.close();
        count
    }
}

/// Kills and restarts the victim at random moments, `watcher` seeing the stream go on after each.
fn campaign(stage: &Stage, words: &[&str], watcher: &Bystander, kills: u32) {
    let start_one = || Victim::start(VICTIM, &stage.socket_of("victim"), words);
    let (mut rng, start) = (rand::rng(), Instant::now());
    let mut victim = start_one();
    victim.await_ready();
    let mut seen = 0;
    for kill in 0..kills {
        // Most die at work, some while they are connecting.
        if rng.random_range(0..8) != 0 {
            if kill > 0 {
                victim.await_ready();
            }
            seen = watcher.await_more_than(seen);
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
        victim.kill();
        // At once: the platform may not even have noticed yet.
        victim = start_one();
        if kill % 10 == 9 {
            check(&stage.platform.stats());
        }
    }
    victim.await_ready();
    watcher.await_more_than(seen);
    drop(victim);
    println!("{kills} kills in {:.1} s", start.elapsed().as_secs_f64());
}

/// What must hold at any moment.
fn check(stats: &Value) {
    let victims = stats["nfs"]
        .as_object()
        .unwrap()
        .values()
        .filter(|nf| nf["role"] == "victim");
    assert!(
        victims.count() <= 1,
        "the name is held once: {}",
        stats["nfs"]
    );
    for nf in stats["nfs"].as_object().unwrap().values() {
        assert_eq!(nf["quarantined"], Value::Null, "death is no breach: {nf}");
    }
    for pool in stats["pools"].as_array().unwrap() {
        assert!(number(&pool["held"]) <= number(&pool["buffers"]), "{pool}");
    }
}

/// Stops the sources and waits until everything is at rest.
fn come_to_rest(stage: &Stage, sources: &[&str]) -> Value {
    stage.await_gone("victim");
    sources
        .iter()
        .for_each(|source| stage.platform.remove_port(source).unwrap());
    let stats = stage.settle();
    let books = stats["closed_handles"].as_array().unwrap();
    let died: u64 = books
        .iter()
        .map(|handle| number(&handle["out"]["nf_died"]))
        .sum();
    assert!(died > 0, "the dead held something");
    assert_eq!(
        died,
        number(&stats["reclaims"]["buffers"]),
        "what was reclaimed is counted"
    );
    println!(
        "dispatched {}, reclaims {}",
        dispatched(&stats, sources),
        stats["reclaims"]
    );
    stats
}

pub(crate) fn dispatched(stats: &Value, sources: &[&str]) -> u64 {
    sources
        .iter()
        .map(|source| number(&stats["ports"][source]["dispatched"]))
        .sum()
}

/// What was accepted for sending by a port.
pub(crate) fn accepted(stats: &Value, port: &str) -> u64 {
    number(&stats["ports"][port]["tx"]["accepted"])
}
