//! Captures: the project's own, what a platform wrote, and what a test wants to be played.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use mvmp_core::capture::{CaptureReader, CaptureWriter};
use mvmp_wire::packet::Link;
use mvmp_wire::packet::encap::{ENCAP_BYTES_MAX, Encap, EncapLayer, EncapSpec, Tunnel};

/// The capture that comes with the project: 252 frames.
pub fn traffic() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/mvmp/data/traffic.pcapng")
}

/// All frames of a capture: bytes, time, length on the wire.
///
/// # Panics
/// When it cannot be read.
pub fn frames(path: &Path) -> Vec<(Vec<u8>, i64, u32)> {
    let mut reader = CaptureReader::open(path, 10_000).unwrap();
    let mut all = Vec::new();
    loop {
        let mut bytes = Vec::new();
        match reader.read_into(&mut bytes).unwrap() {
            Some(meta) => all.push((bytes, meta.timestamp_ns, meta.wire_length)),
            None => return all,
        }
    }
}

/// The bytes alone.
///
/// # Panics
/// When it cannot be read.
pub fn bytes_of(path: &Path) -> Vec<Vec<u8>> {
    frames(path).into_iter().map(|(bytes, ..)| bytes).collect()
}

/// Writes a capture of Ethernet frames: bytes, and what is said of their length on the wire.
///
/// # Panics
/// When it cannot be written.
pub fn record(path: &Path, frames: impl IntoIterator<Item = (Vec<u8>, u32)>) {
    let mut writer = CaptureWriter::create(path).unwrap();
    for (time, (bytes, wire_length)) in frames.into_iter().enumerate() {
        writer
            .write(&bytes, time as i64, wire_length, Link::Ethernet)
            .unwrap();
    }
    writer.finish().unwrap();
}

/// The project's capture, each frame in VXLAN: the file, and its frames.
///
/// # Panics
/// When it cannot be written.
pub fn in_vxlan(folder: &Path) -> (PathBuf, Vec<Vec<u8>>) {
    let end = |last| IpAddr::from(Ipv4Addr::new(192, 0, 2, last));
    let tunnel = Tunnel {
        local: end(1),
        remote: end(7),
        ttl: 64,
    };
    let layers = vec![EncapLayer::Vxlan {
        vni: 42,
        port: 4789,
        tunnel,
    }];
    let encap = Encap::new(&EncapSpec { layers }, Some([2; 12])).unwrap();
    let mut out = [0; ENCAP_BYTES_MAX];
    let mut in_tunnel = |frame: Vec<u8>| {
        let built = encap.build(&frame, Link::Ethernet, 7, &mut out).unwrap();
        [&out[..built.headers], &frame[built.skip..]].concat()
    };
    let all: Vec<Vec<u8>> = bytes_of(&traffic())
        .into_iter()
        .map(&mut in_tunnel)
        .collect();
    let path = folder.join("vxlan.pcap");
    record(
        &path,
        all.iter().map(|whole| (whole.clone(), whole.len() as u32)),
    );
    (path, all)
}
