//! A small NF for tests and benchmarks: forwards what it receives on one device to another.
//!
//! ```text
//! nf_forward ROLE DEVICE_IN [DEVICE_OUT] [--burst N] [--count-only] [--stats-every SECONDS] [--socket PATH] [--wait SECONDS]
//! ```
//!
//! Prints one JSON line of counters at SIGTERM, SIGINT or the end of the stream, and one every
//! so many seconds if asked. Without DEVICE_OUT packets go back over DEVICE_IN.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mvmp_nf::{Burst, ConnectOptions, Handle, Nf, NfError, OpenOptions, Wait, Which};

#[derive(Debug)]
struct Arguments {
    role: String,
    device_in: String,
    device_out: Option<String>,
    burst: usize,
    count_only: bool,
    stats_every: Option<Duration>,
    connect: ConnectOptions,
}

#[derive(Debug, Default)]
struct Counts {
    received: u64,
    taken: u64,
    refused: u64,
    bursts: u64,
    waits: u64,
}

fn arguments() -> Result<Arguments, String> {
    let mut words = std::env::args().skip(1);
    let (mut names, mut burst, mut count_only, mut stats_every) = (Vec::new(), 32, false, None);
    let mut connect = ConnectOptions {
        socket: None,
        wait: Duration::from_secs(5),
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        let seconds = |text: String| {
            text.parse::<f64>()
                .map(Duration::from_secs_f64)
                .map_err(|error| error.to_string())
        };
        match word.as_str() {
            "--burst" => {
                burst = value()?
                    .parse()
                    .map_err(|error| format!("--burst: {error}"))?
            }
            "--count-only" => count_only = true,
            "--stats-every" => stats_every = Some(seconds(value()?)?),
            "--wait" => connect.wait = seconds(value()?)?,
            "--socket" => connect.socket = Some(PathBuf::from(value()?)),
            _ => names.push(word),
        }
    }
    let mut names = names.into_iter();
    let (Some(role), Some(device_in)) = (names.next(), names.next()) else {
        return Err("usage: nf_forward ROLE DEVICE_IN [DEVICE_OUT] [--burst N] [--count-only] [--stats-every S] [--socket PATH] [--wait S]".into());
    };
    Ok(Arguments {
        role,
        device_in,
        device_out: names.next(),
        burst,
        count_only,
        stats_every,
        connect,
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = arguments()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let nf = Nf::connect(&arguments.role, arguments.connect.clone())?;
    let input = nf.open(&arguments.device_in, OpenOptions::default())?;
    let output = match &arguments.device_out {
        Some(device) => nf.open(device, OpenOptions::default())?,
        None => input.clone(),
    };
    eprintln!(
        "{} forwards {} to {}",
        nf.instance(),
        input.device(),
        output.device()
    );
    let mut counts = Counts::default();
    let start = Instant::now();
    let end = forward(&arguments, &input, &output, &stop, &mut counts);
    report(&counts, start.elapsed());
    match end {
        Err(NfError::PlatformLost { in_order: true }) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn forward(
    arguments: &Arguments,
    input: &Handle,
    output: &Handle,
    stop: &AtomicBool,
    counts: &mut Counts,
) -> Result<(), NfError> {
    let stopped = || stop.load(Ordering::Relaxed);
    let mut burst = Burst::with_capacity(arguments.burst);
    let mut reported = Instant::now();
    let start = reported;
    loop {
        if input.rx_burst(arguments.burst, &mut burst)? == 0 {
            counts.waits += 1;
            match input.wait(Some(Duration::from_millis(200)), &stopped)? {
                Wait::Ended | Wait::Interrupted => return Ok(()),
                Wait::Packets | Wait::TimedOut => {}
            }
        } else {
            counts.bursts += 1;
            pass_on(arguments, output, &mut burst, &stopped, counts)?;
        }
        // A look at the clock every 1,024 bursts is enough for a report.
        if (counts.bursts.is_multiple_of(1024) || burst.is_empty())
            && arguments
                .stats_every
                .is_some_and(|every| reported.elapsed() >= every)
        {
            reported = Instant::now();
            report(counts, start.elapsed());
        }
        if stopped() {
            return Ok(());
        }
    }
}

fn pass_on(
    arguments: &Arguments,
    output: &Handle,
    burst: &mut Burst,
    stopped: &dyn Fn() -> bool,
    counts: &mut Counts,
) -> Result<(), NfError> {
    counts.received += burst.len() as u64;
    if arguments.count_only {
        burst.release();
        return Ok(());
    }
    let timeout = if output.lossless() {
        None
    } else {
        Some(Duration::ZERO)
    };
    let taken = output.tx_burst_within(burst, &Which::All, None, timeout, stopped)?;
    counts.taken += taken as u64;
    counts.refused += burst.held() as u64;
    burst.release();
    Ok(())
}

fn report(counts: &Counts, elapsed: Duration) {
    let Counts {
        received,
        taken,
        refused,
        bursts,
        waits,
    } = counts;
    println!(
        "{{\"received\": {received}, \"sent\": {taken}, \"tx_ring_full\": {refused}, \"bursts\": {bursts}, \"waits\": {waits}, \"seconds\": {:.6}}}",
        elapsed.as_secs_f64()
    );
}
