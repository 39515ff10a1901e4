//! `apply` under traffic: a lossless capture goes round and round, an NF counts what it gets, and
//! all the while a thousand rules of other devices are exchanged for a thousand others.
//!
//! The frames are numbered, so that the NF knows by itself whether one is missing.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use mvmp_nf::{Burst, ConnectOptions, Nf, OpenOptions, Wait};

use crate::Failure;
use crate::arguments::Arguments;
use crate::cases::{Case, Figure, Measured, Started};
use crate::circulating::dropped;
use crate::machine::{self, NF_CPU};
use crate::operator::Operator;
use crate::platform::Served;
use crate::traffic::{DEVICES, dealt, plain};

const FRAMES: usize = 4_096;
const RULES: usize = 1_000;
const EVERY: Duration = Duration::from_millis(100);
/// Where a frame's number is: behind all headers.
const NUMBER_AT: usize = 60;
const BURST: usize = 64;

pub fn case() -> Case {
    Case {
        name: "apply-1000".into(),
        what: format!(
            "{RULES} rules exchanged every {} ms beside a lossless capture: longest time without a packet, ms",
            EVERY.as_millis()
        ),
        figure: Figure::Gap,
        config: String::new(),
        nfs: Vec::new(),
        ports: vec!["file".into()],
        circulating: None,
    }
}

/// The watched device has everything; the others have rules from number `first` on.
fn config(capture: &Path, first: usize) -> String {
    let mut text = format!(
        "[platform]\nworkers = [0]\n[ports]\nfile = {{ pcap = {capture:?}, loop = 0, rate = \"lossless\" }}\n[nfs.watch]\ndevices = [\"d0:rx\"]\n"
    );
    let mut rules = dealt(first, RULES);
    rules[0] = "all".into();
    for (device, rule) in rules.iter().enumerate().take(DEVICES) {
        text += &format!(
            "[devices.d{device}]\nmode = \"direct\"\nports = [\"file\"]\nreceive = {{ file = \"{rule}\" }}\n"
        );
    }
    text
}

/// A pcap file, microseconds, Ethernet.
fn write_capture(file: &Path) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1_u32] {
        out.write_all(&word.to_le_bytes())?;
    }
    for (number, mut frame) in plain(FRAMES).into_iter().enumerate() {
        frame[NUMBER_AT..NUMBER_AT + 4].copy_from_slice(&(number as u32).to_be_bytes());
        let length = frame.len() as u32;
        for word in [0, number as u32, length, length] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(&frame)?;
    }
    Ok(out.flush()?)
}

/// What the NF saw in one stretch of time.
struct Seen {
    packets: u64,
    lost: u64,
    longest_gap: Duration,
}

fn seen(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<Seen, Failure> {
    let line = lines.next().ok_or("the watching NF has ended")??;
    let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [packets, lost, gap] = numbers[..] else {
        return Err(format!("the watching NF says {line}").into());
    };
    Ok(Seen {
        packets,
        lost,
        longest_gap: Duration::from_nanos(gap),
    })
}

pub fn run(arguments: &Arguments) -> Result<Measured, Failure> {
    let folder = tempfile::tempdir()?;
    let capture = folder.path().join("numbered.pcap");
    write_capture(&capture)?;
    // The two sets have no rule in common.
    let sets = [0, RULES].map(|first| config(&capture, first));
    let mut platform = Served::start(
        &sets[0],
        folder.path(),
        "apply-1000.platform.callgrind",
        arguments,
    )?;
    let (_watching, mut lines) = start(folder.path(), arguments.seconds)?;
    let quiet = seen(&mut lines)?;
    let operator = Operator::connect(folder.path())?;
    let (begun, mut applied, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    while begun.elapsed() < arguments.seconds.saturating_sub(EVERY) {
        let start = Instant::now();
        applied += 1;
        operator.apply(&sets[applied % 2])?;
        slowest = slowest.max(start.elapsed());
        std::thread::sleep(EVERY.saturating_sub(start.elapsed()));
    }
    let busy = seen(&mut lines)?;
    let (stats, _) = platform.stats()?;
    let lost = quiet.lost + busy.lost + dropped(&stats);
    if lost != 0 || busy.packets == 0 || applied == 0 {
        return Err(format!("{lost} packets lost of {}, {applied} changes", busy.packets).into());
    }
    platform.finish("file")?;
    let ms = |gap: Duration| gap.as_secs_f64() * 1e3;
    let note = format!(
        "{applied} changes of {RULES} rules, the slowest took {:.1} ms; {} packets, none lost; without changes the longest gap was {:.2} ms",
        ms(slowest),
        busy.packets,
        ms(quiet.longest_gap)
    );
    let facts = stats["platform"]["facts"].clone();
    Ok(Measured {
        figure: ms(busy.longest_gap),
        note,
        facts,
    })
}

fn start(
    folder: &Path,
    seconds: Duration,
) -> Result<(Started, Lines<BufReader<ChildStdout>>), Failure> {
    let mut child: Child = Command::new(std::env::current_exe()?)
        .arg("watch")
        .arg(folder)
        .arg(seconds.as_secs_f64().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("the watching NF has no stdout")?;
    Ok((Started(child), BufReader::new(out).lines()))
}

/// The watching NF's process: `watch SOCKET_DIR SECONDS`. Two stretches of that length, one line for each,
/// `packets lost longest_gap_ns`; then it receives on until it is ended, as the capture would else stand still.
pub fn watch(words: &[String]) -> Result<(), Failure> {
    let [folder, seconds] = words else {
        return Err("watch SOCKET_DIR SECONDS".into());
    };
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    machine::pin(NF_CPU);
    let nf = Nf::connect(
        "watch",
        ConnectOptions {
            socket: Some(folder.into()),
            wait: Duration::from_secs(10),
        },
    )?;
    let device = nf.open("d0", OpenOptions::default())?;
    let mut burst = Burst::with_capacity(BURST);
    let mut expected = None;
    for _ in 0..2 {
        let begun = Instant::now();
        let mut last = begun;
        let mut seen = Seen {
            packets: 0,
            lost: 0,
            longest_gap: Duration::ZERO,
        };
        while begun.elapsed() < seconds {
            let got = device.rx_burst(BURST, &mut burst)?;
            if got == 0 {
                device.wait(Some(seconds), &|| false)?;
                continue;
            }
            let now = Instant::now();
            // Only from the second stretch on is the traffic known to flow at its beginning.
            if expected.is_some() {
                seen.longest_gap = seen.longest_gap.max(now - last);
            }
            last = now;
            for at in 0..got {
                let number = number(burst.frame(at)?)?;
                seen.lost += u64::from(expected.is_some_and(|expected| expected != number));
                expected = Some((number + 1) % FRAMES as u32);
            }
            seen.packets += got as u64;
            burst.release();
        }
        println!(
            "{} {} {}",
            seen.packets,
            seen.lost,
            seen.longest_gap.as_nanos()
        );
    }
    while device.wait(None, &|| false)? == Wait::Packets {
        device.rx_burst(BURST, &mut burst)?;
        burst.release();
    }
    Ok(())
}

fn number(frame: &[u8]) -> Result<u32, Failure> {
    let bytes = frame
        .get(NUMBER_AT..NUMBER_AT + 4)
        .ok_or("a frame is too short")?;
    Ok(u32::from_be_bytes(bytes.try_into()?))
}
