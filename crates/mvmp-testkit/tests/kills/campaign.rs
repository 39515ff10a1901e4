//! The set-up of all campaigns: bystanders, the kills, and what must hold then and at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mvmp_nf::{Burst, Handle, Nf, OpenOptions};
use mvmp_testkit::{Stage, Victim, number, serve_until};
use rand::RngExt;
use serde_json::Value;

pub(crate) const VICTIM: &str = env!("CARGO_BIN_EXE_victim");
pub(crate) const KILLS_DEFAULT: u32 = 1000;

pub(crate) fn kills() -> u32 {
    std::env::var("MVMP_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(KILLS_DEFAULT)
}

/// An honest NF in this process.
pub(crate) struct Bystander {
    nf: Nf,
    seen: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Bystander {
    pub(crate) fn new(
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

    /// One that only looks.
    pub(crate) fn watching(
        stage: &Stage,
        role: &str,
        device: &str,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        let nf = stage.nf(role);
        let handle = nf.open(device, OpenOptions::default()).unwrap();
        Self::new(nf, handle, stop, |_| {})
    }

    /// Waits until it has received more than it had before.
    pub(crate) fn await_more_than(&self, before: u64) -> u64 {
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
pub(crate) fn campaign(stage: &Stage, words: &[&str], watcher: &Bystander, kills: u32) {
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
pub(crate) fn check(stats: &Value) {
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
pub(crate) fn come_to_rest(stage: &Stage, sources: &[&str]) -> Value {
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

pub(crate) fn books<'a>(stats: &'a Value, list: &str, role: &str, device: &str) -> &'a Value {
    let books = stats[list].as_array().unwrap();
    books
        .iter()
        .find(|handle| handle["role"] == role && handle["device"] == device)
        .unwrap_or_else(|| panic!("{role} on {device}: {stats:#}"))
}
