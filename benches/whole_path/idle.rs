//! What a platform without traffic costs.

use std::time::{Duration, Instant};

use crate::cases::Started;
use crate::machine::cpu_seconds;
use crate::platform::Served;

/// Long enough that the kernel's clock ticks (10 ms) are small beside it.
const WATCHED: Duration = Duration::from_secs(10);

/// CPU of the platform and its NFs together over ten seconds, percent of one core.
pub fn percent(platform: &Served, nfs: &[Started]) -> f64 {
    let used = || {
        cpu_seconds(platform.child.id()) + nfs.iter().map(|nf| cpu_seconds(nf.0.id())).sum::<f64>()
    };
    let (before, start) = (used(), Instant::now());
    std::thread::sleep(WATCHED);
    100.0 * (used() - before) / start.elapsed().as_secs_f64()
}
