//! Any bytes are a capture, or an error, and never an allocation that they have not earned.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use mvmp_core::capture::CaptureReader;

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("mvmp-fuzz-{}.pcap", std::process::id()));
    let mut file = std::fs::File::create(&path).expect("a file in the temporary folder");
    file.write_all(bytes).expect("room there");
    if let Ok(mut reader) = CaptureReader::open(&path, 2048) {
        let mut frames = Vec::new();
        while let Ok(Some(_)) = reader.read_into(&mut frames) {
            assert!(frames.len() <= bytes.len());
        }
    }
});
