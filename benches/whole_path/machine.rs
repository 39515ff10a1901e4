//! The machine: CPUs, what it is, and how far its cores are apart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub const PLATFORM_CPU: usize = 0;
pub const NF_CPU: usize = 1;

/// Pins the calling thread and those that it starts.
pub fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        eprintln!("not pinned to CPU {cpu}: {error}");
    }
}

/// A session of one's own with such a priority beside other sessions (the kernel shares CPUs out
/// among sessions first), so that a figure says less about who else is busy. Best effort.
pub fn own_session(nice: i32) {
    // A process that leads its group cannot; it has its session to itself already.
    let _ = rustix::process::setsid();
    if nice != 0 && std::fs::write("/proc/self/autogroup", nice.to_string()).is_err() {
        eprintln!("priority of the session not set to {nice}");
    }
}

/// ns for a cache line to go to the other CPU and back.
pub fn ping_pong_ns() -> f64 {
    const ROUNDS: u64 = 200_000;
    let ball = AtomicU64::new(0);
    let elapsed = std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(NF_CPU);
            for round in 0..ROUNDS {
                while ball.load(Ordering::Acquire) != 2 * round + 1 {
                    std::hint::spin_loop();
                }
                ball.store(2 * round + 2, Ordering::Release);
            }
        });
        let one = scope.spawn(|| {
            pin(PLATFORM_CPU);
            let start = Instant::now();
            for round in 0..ROUNDS {
                ball.store(2 * round + 1, Ordering::Release);
                while ball.load(Ordering::Acquire) != 2 * round + 2 {
                    std::hint::spin_loop();
                }
            }
            start.elapsed()
        });
        one.join().expect("the measuring thread only counts")
    });
    elapsed.as_nanos() as f64 / ROUNDS as f64
}

/// Seconds that a thread has run, and that it was ready and waited for a CPU.
#[derive(Clone, Copy, Default)]
pub struct OnCpu {
    pub ran: f64,
    pub waited: f64,
}

/// All threads of these processes together; of each only those with a name that begins so.
pub fn on_cpu(pids: impl Iterator<Item = u32>, name: &str) -> OnCpu {
    let mut sum = OnCpu::default();
    for task in pids
        .filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok())
        .flatten()
        .flatten()
    {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if !read("comm").starts_with(name) {
            continue;
        }
        let nanos: Vec<f64> = read("schedstat")
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        sum.ran += nanos.first().unwrap_or(&0.0) / 1e9;
        sum.waited += nanos.get(1).unwrap_or(&0.0) / 1e9;
    }
    sum
}

/// One line: CPU, kernel, pages.
pub fn line() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("?", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cpus = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    format!(
        "{cpus} × {model}, Linux {}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// Free 2 MiB pages.
pub fn huge_pages_free() -> u64 {
    let text = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
        .unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// The commit that is checked out, and whether more has changed since.
pub fn commit() -> String {
    let git = |words: &[&str]| {
        let output = std::process::Command::new("git")
            .args(words)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "not committed yet".into();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|text| !text.is_empty());
    if changed {
        format!("{head} with changes")
    } else {
        head
    }
}
