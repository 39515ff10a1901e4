//! A stand-in for the platform, for benchmarks and tests of the NF's side alone: no ports, no DPDK.
//!
//! ```text
//! stand_in FOLDER [--packets N] [--devices N] [--ring SLOTS]
//! ```
//!
//! Listens in FOLDER, waits for one NF that opens so many devices, delivers 64-byte UDP frames to
//! the first of them as fast as its ring has room, then ends the stream. Prints one JSON line.

#[path = "../tests/platform/mod.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod platform;

use std::time::Instant;

use mvmp_wire::{Descriptor, Op};
use platform::{GRANULES, Peer, Platform};

const RETURN_SLOTS: u32 = 2048;

struct Arguments {
    folder: std::path::PathBuf,
    packets: u64,
    devices: usize,
    ring: u32,
}

fn arguments() -> Option<Arguments> {
    let mut words = std::env::args().skip(1);
    let mut arguments = Arguments {
        folder: words.next()?.into(),
        packets: 10_000_000,
        devices: 1,
        ring: 1024,
    };
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--packets" => arguments.packets = value.parse().ok()?,
            "--devices" => arguments.devices = value.parse().ok()?,
            "--ring" => arguments.ring = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(arguments)
}

/// Ethernet, IPv4, UDP to port 80 or 53, in turn; 60 bytes, the FCS is not there.
fn frame(number: u32) -> Vec<u8> {
    let mut frame = vec![0_u8; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
    frame[26..30].copy_from_slice(&(0x0a00_0000 + number).to_be_bytes());
    frame[30..34].copy_from_slice(&[192, 0, 2, 1]);
    let port: u16 = if number.is_multiple_of(2) { 80 } else { 53 };
    frame[34..36].copy_from_slice(&4000_u16.to_be_bytes());
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    frame[38..40].copy_from_slice(&26_u16.to_be_bytes());
    frame
}

fn main() {
    let Some(arguments) = arguments() else {
        eprintln!("usage: stand_in FOLDER [--packets N] [--devices N] [--ring SLOTS]");
        std::process::exit(2);
    };
    let platform = Platform::at(&arguments.folder, RETURN_SLOTS);
    let mut peer = platform.accept();
    for _ in 0..arguments.devices {
        peer.opens(arguments.ring);
    }
    let frames: Vec<_> = (0..GRANULES)
        .map(|number| peer.place(number, &frame(number)))
        .collect();
    let attending = peer.attend();
    let start = Instant::now();
    let (forwarded, released) = play(&mut peer, &frames, arguments.packets, || {
        attending.is_finished()
    });
    let seconds = start.elapsed().as_secs_f64();
    let mpps = (forwarded + released) as f64 / seconds / 1e6;
    println!(
        "{{\"asked\": {}, \"forwarded\": {forwarded}, \"released\": {released}, \"seconds\": {seconds:.3}, \"mpps\": {mpps:.2}}}",
        arguments.packets
    );
    if !attending.is_finished() {
        peer.end(0);
    }
    let _ = attending.join();
}

/// Delivers so many packets and awaits them back, or the NF's end; counts what was forwarded and released.
fn play(
    peer: &mut Peer,
    frames: &[Descriptor],
    packets: u64,
    gone: impl Fn() -> bool,
) -> (u64, u64) {
    let mut free: Vec<Descriptor> = frames.to_vec();
    let (mut sent, mut forwarded, mut released) = (0, 0, 0);
    while forwarded + released < packets && !gone() {
        let most = (packets - sent).min(256) as usize;
        sent += peer.deliver_some(0, &mut free, most) as u64;
        peer.each_returned(|descriptor| {
            match Op::from_bits(descriptor.op) {
                Some(Op::Forward) => forwarded += 1,
                Some(Op::Release) => released += 1,
                _ => return,
            }
            if let Some(original) = frames.get(descriptor.granule as usize) {
                free.push(*original);
            }
        });
    }
    (forwarded, released)
}
