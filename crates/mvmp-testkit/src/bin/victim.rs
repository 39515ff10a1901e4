//! A small NF for the tests that kill it.
//!
//! ```text
//! victim SOCKET ROLE IN [--to DEVICE] [--mirror DEVICE] [--hold] [--spin] [--fork] [--limit BYTES]
//! ```
//!
//! Prints `ready` when its devices are open. Then it forwards what comes on IN to `--to` (released
//! without), after a mirror to `--mirror`. `--hold`: keeps what it has received. `--spin`: takes
//! nothing, for ever. `--fork`: leaves a child behind that keeps the socket, and prints its pid. `--limit`: allows itself so much address space beyond what it has now, and uses it up.

use std::path::PathBuf;
use std::time::Duration;

use mvmp_nf::{Burst, ConnectOptions, Handle, Nf, NfError, OpenOptions, Wait, Which, never};

struct Words {
    socket: PathBuf,
    role: String,
    input: String,
    to: Option<String>,
    mirror: Option<String>,
    hold: bool,
    spin: bool,
    fork: bool,
    limit: Option<u64>,
}

fn words() -> Option<Words> {
    let mut words = std::env::args().skip(1);
    let (socket, role, input) = (words.next()?.into(), words.next()?, words.next()?);
    let mut all = Words {
        socket,
        role,
        input,
        to: None,
        mirror: None,
        hold: false,
        spin: false,
        fork: false,
        limit: None,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--to" => all.to = words.next(),
            "--mirror" => all.mirror = words.next(),
            "--hold" => all.hold = true,
            "--spin" => all.spin = true,
            "--fork" => all.fork = true,
            "--limit" => all.limit = Some(words.next()?.parse().ok()?),
            _ => return None,
        }
    }
    Some(all)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words = words().ok_or("usage: victim SOCKET ROLE IN [--to DEVICE] [--mirror DEVICE] [--hold] [--spin] [--fork] [--limit BYTES]")?;
    let options = ConnectOptions {
        socket: Some(words.socket.clone()),
        wait: Duration::from_secs(10),
    };
    let nf = Nf::connect(&words.role, options)?;
    let input = nf.open(&words.input, OpenOptions::default())?;
    let open = |device: &Option<String>| {
        device
            .as_ref()
            .map(|device| {
                nf.open(
                    device,
                    OpenOptions {
                        rx: Some(false),
                        ..OpenOptions::default()
                    },
                )
            })
            .transpose()
    };
    let (to, mirror) = (open(&words.to)?, open(&words.mirror)?);
    println!("ready");
    if words.spin {
        loop {
            std::hint::spin_loop();
        }
    }
    if words.fork {
        println!("{}", leave_a_child());
    }
    if let Some(bytes) = words.limit {
        starve(bytes);
    }
    match pass_on(&words, &input, to.as_ref(), mirror.as_ref()) {
        Ok(()) | Err(NfError::PlatformLost { .. } | NfError::Detached(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Forks; the child inherits all descriptors and does nothing for a minute.
fn leave_a_child() -> i32 {
    // SAFETY: the child calls nothing but alarm and pause, which are async-signal-safe, and never returns.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(60);
            loop {
                libc::pause();
            }
        }
        child
    }
}

/// Limits the address space and takes what is left of it, until an allocation fails and the process aborts.
fn starve(bytes: u64) {
    let used = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = used
        .split(' ')
        .next()
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    let limit = rustix::process::Rlimit {
        current: Some(pages * 4096 + bytes),
        maximum: None,
    };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::As, limit) {
        println!("skip: {error}");
        return;
    }
    println!("starving");
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1_u8; 1 << 16]);
    }
}

fn pass_on(
    words: &Words,
    input: &Handle,
    to: Option<&Handle>,
    mirror: Option<&Handle>,
) -> Result<(), NfError> {
    let mut kept = Vec::new();
    let mut burst = Burst::new();
    loop {
        if input.rx_burst(32, &mut burst)? == 0 {
            match input.wait(None, &never)? {
                Wait::Ended => return Ok(()),
                _ => continue,
            }
        }
        if let Some(mirror) = mirror {
            mirror.mirror_within(&mut burst, &Which::All, None, None, &never)?;
        }
        match to {
            Some(to) => drop(to.tx_burst_within(&mut burst, &Which::All, None, None, &never)?),
            None if words.hold => kept.push(std::mem::replace(&mut burst, Burst::new())),
            None => {}
        }
        burst.release();
    }
}
