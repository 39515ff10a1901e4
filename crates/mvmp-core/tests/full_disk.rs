//! A disk that gets full in the middle of a capture: alone in its process, whose files it bounds.

use std::time::{Duration, Instant};

use mvmp_core::capture::{CaptureError, CaptureReader, CaptureSink, SinkOptions};
use mvmp_wire::packet::Link;
use rustix::process::{Resource, Rlimit, setrlimit};

const FRAMES: u64 = 9000;
/// More than the writer's buffer, and no whole number of frames.
const FILE_BYTES: u64 = 400_001;

#[test]
fn what_is_in_the_file_is_not_lost_when_a_later_write_fails() {
    // The signal that goes with it reaches no thread that writes captures: they block all.
    let limit = Rlimit {
        current: Some(FILE_BYTES),
        maximum: None,
    };
    setrlimit(Resource::Fsize, limit).expect("less than before");
    let folder = tempfile::tempdir().expect("a folder");
    for (name, flushed) in [("all-at-once.pcap", FRAMES), ("bit-by-bit.pcapng", 100)] {
        let path = folder.path().join(name);
        let mut sink = CaptureSink::create(&path, SinkOptions::default()).expect("a file");
        for number in 0..FRAMES {
            until(|| sink.push(&[0; 60], 0, 60, Link::Ethernet).is_ok());
            if number % flushed == flushed - 1 {
                sink.flush_chunk();
                until(|| sink.drained());
            }
        }
        let error = sink.fault().get().expect("the file is full").to_string();
        assert!(error.starts_with("cannot write"), "{error}");
        assert_eq!(FRAMES - sink.lost(), whole_frames(&path), "{name}");
    }
}

/// Waits for a state, for as long as that may take on a busy machine.
fn until(mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !look() {
        assert!(Instant::now() < deadline, "it did not come to pass");
        std::thread::yield_now();
    }
}

/// How many frames are in a file whose last one is not whole.
fn whole_frames(path: &std::path::Path) -> u64 {
    let mut reader = CaptureReader::open(path, 9600).expect("a capture");
    let mut count = 0;
    loop {
        match reader.read_into(&mut Vec::new()) {
            Ok(Some(_)) => count += 1,
            Err(CaptureError::Truncated { .. }) => return count,
            other => panic!("cut short somewhere: {other:?}"),
        }
    }
}
