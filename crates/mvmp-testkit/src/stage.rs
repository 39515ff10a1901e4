//! The stage: a platform, its folder, and what honest NFs do on it. One at a time in a process.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use mvmp_core::{Options, Platform};
use mvmp_nf::{Burst, ConnectOptions, Handle, Nf, OpenOptions, Wait, Which};
use mvmp_policy::Config;
use serde_json::Value;

use crate::books::books_are_right;
use crate::traffic::traffic;

/// One platform at a time in a process.
static ONE: Mutex<()> = Mutex::new(());

/// How long a state is awaited before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A platform that runs.
pub struct Stage {
    /// It.
    pub platform: Platform,
    folder: tempfile::TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Stage {
    /// Starts a platform. In the text, `$DIR` is the stage's folder and `$IN` the project's capture.
    ///
    /// # Panics
    /// When it does not start.
    pub fn new(toml: &str) -> Self {
        let one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let folder = tempfile::tempdir().unwrap();
        let text = toml
            .replace("$DIR", folder.path().to_str().unwrap())
            .replace("$IN", traffic().to_str().unwrap());
        let config = Config::from_toml(&text, "test.toml").unwrap();
        let options = Options {
            socket: folder.path().join("mvmp.sock"),
            harden: false,
        };
        Self {
            platform: Platform::start(config, &options).unwrap(),
            folder,
            _one: one,
        }
    }

    /// Connects an NF in this process.
    ///
    /// # Panics
    /// When it is refused.
    pub fn nf(&self, role: &str) -> Nf {
        let options = ConnectOptions {
            socket: Some(self.folder.path().to_owned()),
            wait: Duration::from_secs(5),
        };
        Nf::connect(role, options).unwrap()
    }

    /// Connects an NF in this process and opens one device.
    ///
    /// # Panics
    /// When it is refused.
    pub fn open(&self, role: &str, device: &str) -> (Nf, Handle) {
        let nf = self.nf(role);
        let handle = open(&nf, device);
        (nf, handle)
    }

    /// The socket of a role.
    pub fn socket_of(&self, role: &str) -> PathBuf {
        self.folder.path().join("nf").join(role).join("mvmp.sock")
    }

    /// A file in the stage's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits until nothing moves, then checks the books and that every buffer is home.
    ///
    /// # Panics
    /// When it does not come to rest, or something is missing.
    pub fn settle(&self) -> Value {
        self.platform
            .wait_drained(Some(Duration::from_secs(20)), &mut || false)
            .unwrap();
        let stats = self.platform.stats();
        books_are_right(&stats);
        for pool in stats["pools"].as_array().unwrap() {
            assert_eq!(
                pool["free"], pool["buffers"],
                "every buffer is home: {pool}"
            );
            assert_eq!(pool["shares"], 0);
        }
        stats
    }

    /// Waits until the statistics are as wanted, and returns them.
    ///
    /// # Panics
    /// After half a minute.
    pub fn await_stats(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.platform.stats();
            if wanted(&stats) {
                return stats;
            }
            assert!(
                Instant::now() < deadline,
                "awaited in vain: {what}; {stats:#}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until no instance of a role is known any more.
    ///
    /// # Panics
    /// After half a minute.
    pub fn await_gone(&self, role: &str) -> Value {
        self.await_stats(&format!("{role} is gone"), |stats| {
            stats["nfs"]
                .as_object()
                .unwrap()
                .values()
                .all(|nf| nf["role"] != role)
        })
    }
}

/// Opens a device, with all that its role grants.
///
/// # Panics
/// When it is refused.
pub fn open(nf: &Nf, device: &str) -> Handle {
    nf.open(device, OpenOptions::default()).unwrap()
}

/// Takes what comes until the stream ends; `work` says what becomes of each burst. Returns how many came.
///
/// # Panics
/// When nothing comes for 20 seconds.
pub fn serve(handle: &Handle, work: impl FnMut(&mut Burst)) -> u64 {
    let mut last = Instant::now();
    let patience = Duration::from_secs(20);
    serve_while(handle, work, &mut |came| {
        if came {
            last = Instant::now();
        }
        assert!(last.elapsed() < patience, "nothing came for {patience:?}");
        true
    })
}

/// The same, until the stream ends or, with nothing left, `stop` is set.
///
/// # Panics
/// When the handle is detached.
pub fn serve_until(handle: &Handle, stop: &AtomicBool, work: impl FnMut(&mut Burst)) -> u64 {
    serve_while(handle, work, &mut |came| {
        came || !stop.load(Ordering::Acquire)
    })
}

fn serve_while(
    handle: &Handle,
    mut work: impl FnMut(&mut Burst),
    go_on: &mut dyn FnMut(bool) -> bool,
) -> u64 {
    let mut burst = Burst::new();
    let mut count = 0;
    loop {
        let came = handle.rx_burst(32, &mut burst).unwrap() > 0;
        if came {
            count += burst.len() as u64;
            work(&mut burst);
            burst.release();
        }
        if !go_on(came) {
            return count;
        }
        if !came
            && handle
                .wait(Some(Duration::from_millis(20)), &|| false)
                .unwrap()
                == Wait::Ended
        {
            return count;
        }
    }
}

/// Sends a whole burst, waiting for room.
///
/// # Panics
/// When it does not go.
pub fn send_all(to: &Handle, burst: &mut Burst) {
    let sent = to
        .tx_burst_within(burst, &Which::All, None, None, &|| false)
        .unwrap();
    assert_eq!(sent, burst.len());
}
