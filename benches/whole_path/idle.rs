//! What a platform without traffic costs.

use std::time::{Duration, Instant};

use crate::cases::Started;
use crate::machine::on_cpu;
use crate::platform::Served;

const WATCHED: Duration = Duration::from_secs(10);

/// CPU of the platform and its NFs together over ten seconds, percent of one core; and who used it.
pub fn percent(platform: &Served, nfs: &[Started]) -> (f64, String) {
    let ran = || {
        let worker = on_cpu(std::iter::once(platform.child.id()), "mvmp-worker").ran;
        let all = on_cpu(std::iter::once(platform.child.id()), "").ran;
        [
            worker,
            all - worker,
            on_cpu(nfs.iter().map(|nf| nf.0.id()), "").ran,
        ]
    };
    let (before, start) = (ran(), Instant::now());
    std::thread::sleep(WATCHED);
    let after = ran();
    let seconds = start.elapsed().as_secs_f64();
    let [worker, rest, nfs] = std::array::from_fn(|at| 100.0 * (after[at] - before[at]) / seconds);
    (
        worker + rest + nfs,
        format!("worker {worker:.2} %, other threads of the platform {rest:.2} %, NFs {nfs:.2} %"),
    )
}
