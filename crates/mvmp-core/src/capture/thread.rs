//! What the reader's and the writer's thread have in common: how they start, sleep and stop.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::SigSet;

use super::CaptureError;

/// A sleeper looks up this often even if nobody wakes it; wake-ups are not lost, this is a belt.
const NAP: Duration = Duration::from_millis(100);

/// Starts a named thread that no signal is delivered to.
pub(super) fn spawn(
    name: &str,
    path: &Path,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, CaptureError> {
    let quiet = move || {
        // Can fail only for an invalid `how`; then signals would merely land here.
        let _ = SigSet::all().thread_block();
        work();
    };
    let failed = |source: io::Error| CaptureError::Io {
        path: path.into(),
        action: "start a thread for",
        source,
    };
    thread::Builder::new()
        .name(name.into())
        .spawn(quiet)
        .map_err(failed)
}

/// Sleeps until unparked, or for a nap.
pub(super) fn nap() {
    thread::park_timeout(NAP);
}

/// Where a thread leaves its first error for the side that owns it.
#[derive(Debug, Default)]
pub(super) struct Fault {
    error: Mutex<Option<CaptureError>>,
    set: AtomicBool,
}

impl Fault {
    /// Keeps the first error; later ones follow from it.
    pub(super) fn put(&self, error: CaptureError) {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() && !self.is_set() {
            *slot = Some(error);
        }
        // ORDERING: pairs with the load in `is_set`; the error itself is behind the lock.
        self.set.store(true, Ordering::Release);
    }

    /// Whether there ever was an error; never blocks.
    pub(super) fn is_set(&self) -> bool {
        // ORDERING: pairs with the store in `put`.
        self.set.load(Ordering::Acquire)
    }

    /// The error, once.
    pub(super) fn take(&self) -> Option<CaptureError> {
        self.error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
