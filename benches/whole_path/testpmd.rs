//! The yardstick: what DPDK alone does on one core of this machine.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::arguments::Arguments;
use crate::machine::{NF_CPU, PLATFORM_CPU, huge_pages_free};

/// Mpps that testpmd sends in io mode, one core, one port; its other thread sleeps on the NFs' CPU.
pub fn mpps(arguments: &Arguments) -> Result<f64, Failure> {
    let cpus = format!("{PLATFORM_CPU},{NF_CPU}");
    let main = NF_CPU.to_string();
    let mut command = Command::new("dpdk-testpmd");
    command.args([
        "-l",
        &cpus,
        "--main-lcore",
        &main,
        "--no-pci",
        "--file-prefix",
        "mvmp-bench",
        "--vdev",
        "net_null0,size=64,copy=0",
    ]);
    if huge_pages_free() >= 256 {
        command.args(["--in-memory", "-m", "512"]);
    } else {
        command.args(["--no-huge", "--no-shconf", "-m", "512"]);
    }
    let period = arguments.seconds.as_secs().max(1).to_string();
    command.args([
        "--",
        "--forward-mode=io",
        "--total-num-mbufs=16384",
        "--stats-period",
        &period,
        "--no-lsc-interrupt",
    ]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| {
            format!("dpdk-testpmd (Debian: apt install dpdk; or --no-testpmd): {error}")
        })?;
    let out = child.stdout.take().ok_or("testpmd has no stdout")?;
    let deadline = Instant::now() + 4 * arguments.seconds + Duration::from_secs(20);
    // The first period holds the start; the second is whole.
    let rates = BufReader::new(out)
        .lines()
        .map_while(Result::ok)
        .take_while(|_| Instant::now() < deadline);
    let mut seen = rates
        .filter_map(|line| {
            line.split("Tx-pps:")
                .nth(1)?
                .split_whitespace()
                .next()?
                .parse::<f64>()
                .ok()
        })
        .filter(|&pps| pps > 0.0);
    let rate = seen.nth(1);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    drop(seen);
    let end = Instant::now() + Duration::from_secs(5);
    while child.try_wait()?.is_none() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    // One that does not heed SIGINT in five seconds is ended.
    let _ = child.kill();
    child.wait()?;
    Ok(rate.ok_or("testpmd printed no rate")? / 1e6)
}
