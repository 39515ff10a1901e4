//! What others say of the same files: tcpdump and tshark of ours, an index of captures of theirs.

use std::path::PathBuf;
use std::process::Command;

use super::*;

/// What the program prints; `None` (and a word why) where it is not installed.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => panic!(
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => {
            skip(format!("{program}: {error}"));
            None
        }
    }
}

#[test]
fn tcpdump_and_tshark_read_what_we_write_to_the_nanosecond() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["a.pcap", "a.pcapng"] {
        let path = folder.path().join(name);
        let frames: Vec<_> = (0..300)
            .map(|number| Written {
                timestamp_ns: 1_700_000_000_123_456_789 + i64::from(number),
                ..Written::numbered(number)
            })
            .collect();
        write_all(&path, &frames);
        let path = path.to_str().expect("plain characters");
        if let Some(text) = said("tcpdump", &["-nr", path, "-tt", "--nano"]) {
            let times: Vec<_> = text
                .lines()
                .filter(|line| !line.starts_with('\t'))
                .filter_map(|line| line.split(' ').next())
                .collect();
            let expected: Vec<_> = (0..300)
                .map(|number| format!("1700000000.{}", 123_456_789 + number))
                .collect();
            assert_eq!(times, expected);
        }
        let fields = [
            "-nr",
            path,
            "-T",
            "fields",
            "-e",
            "frame.len",
            "-e",
            "frame.cap_len",
            "-e",
            "frame.time_epoch",
        ];
        if let Some(text) = said("tshark", &fields) {
            let expected: String = (0..300)
                .map(|number| format!("64\t60\t1700000000.{}\n", 123_456_789 + number))
                .collect();
            assert_eq!(text, expected);
        }
    }
}

#[test]
fn tshark_reads_several_interfaces_from_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.pcapng");
    let of = |link, first: u8| Written {
        bytes: vec![first; 60],
        link,
        ..Written::numbered(1)
    };
    write_all(
        &path,
        &[
            of(Link::Ipv4, 0x45),
            of(Link::Ethernet, 0),
            of(Link::Ipv6, 0x60),
            of(Link::Ipv4, 0x45),
        ],
    );
    let path = path.to_str().expect("plain characters");
    if let Some(text) = said(
        "tshark",
        &[
            "-nr",
            path,
            "-T",
            "fields",
            "-e",
            "frame.interface_id",
            "-e",
            "frame.encap_type",
        ],
    ) {
        let encapsulations: Vec<_> = text.lines().collect();
        assert_eq!(encapsulations, ["0\t129", "1\t1", "2\t130", "0\t129"]);
    }
}

/// The folder of captures that nobody here wrote, if there is one.
fn captures() -> Option<PathBuf> {
    let given = std::env::var_os("MVMP_CAPTURES").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures");
    let folder = given.unwrap_or(beside);
    if folder.join("INDEX.tsv").is_file() {
        return Some(folder);
    }
    eprintln!("skipped: no captures; set MVMP_CAPTURES to a folder with INDEX.tsv");
    None
}

#[test]
fn captures_of_others_have_as_many_frames_as_their_index_says() {
    let Some(folder) = captures() else { return };
    let index = std::fs::read_to_string(folder.join("INDEX.tsv")).expect("readable");
    let (mut compared, mut refused) = (0, 0);
    for line in index.lines().skip(1) {
        let columns: Vec<_> = line.split('\t').collect();
        let (name, link_type) = (columns[0], columns[3]);
        match read_all(&folder.join(name), FRAME_BYTES_MAX) {
            Ok((frames, end)) => {
                if let ("ether", Ok(packets)) = (link_type, columns[4].parse::<usize>()) {
                    assert_eq!(frames.len(), packets, "{name}: {end:?}");
                    compared += 1;
                }
            }
            Err(error) => {
                let compressed =
                    matches!(error, CaptureError::NotACapture { .. }) && name.ends_with(".gz");
                assert!(compressed || link_type != "ether", "{error}");
                refused += 1;
            }
        }
    }
    eprintln!("{compared} Ethernet captures compared, {refused} of other kinds refused");
    assert!(compared > 0);
}

#[test]
fn the_projects_own_recording_has_the_frames_that_its_summary_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/mvmp/data");
    let summary =
        std::fs::read_to_string(folder.join("traffic.json")).expect("part of the project");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    let frames = read_whole(&folder.join("traffic.pcapng"));
    let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    assert_eq!(summary["packets"], frames.len());
    assert_eq!(summary["bytes"], bytes);
    let telnet = frames
        .iter()
        .map(|frame| mvmp_wire::packet::parse(&frame.bytes, frame.link))
        .filter(|found| found.protocol == 6 && (found.src_port == 23 || found.dst_port == 23))
        .count();
    assert_eq!(summary["not_tcp_port_23"]["frames"], frames.len() - telnet);
}
