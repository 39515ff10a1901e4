//! What the reader's and the writer's thread have in common: how they start, sleep and stop.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
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

/// Where a thread leaves its first error; whoever has a clone can look at it, when the thread has
/// gone, too.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<OnceLock<CaptureError>>);

impl Fault {
    /// Keeps and logs the first error; later ones follow from it.
    pub(super) fn put(&self, error: CaptureError) {
        if self.0.set(error).is_ok()
            && let Some(error) = self.get()
        {
            tracing::error!(%error, "a capture file failed");
        }
    }

    /// The error, if there ever was one; never blocks.
    pub fn get(&self) -> Option<&CaptureError> {
        self.0.get()
    }
}
