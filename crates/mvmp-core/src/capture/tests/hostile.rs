//! Files that are cut short, damaged, or no captures at all.

use super::*;

fn saved(folder: &tempfile::TempDir, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.path().join("in");
    std::fs::write(&path, bytes).expect("written");
    path
}

fn sample(name: &str) -> (Vec<u8>, Vec<Written>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    let frames: Vec<_> = (0..3).map(Written::numbered).collect();
    write_all(&path, &frames);
    (std::fs::read(&path).expect("just written"), frames)
}

#[test]
fn a_file_cut_at_any_byte_yields_its_whole_frames_and_then_the_place() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, before_first, each) in [("a.pcap", 24, 76), ("a.pcapng", 60, 92)] {
        let (file, frames) = sample(name);
        for length in 0..=file.len() {
            let path = saved(&folder, &file[..length]);
            let whole = length.saturating_sub(before_first) / each;
            match read_all(&path, 9600) {
                Ok((read, end)) => {
                    assert_eq!(read, frames[..whole]);
                    match end {
                        None => assert!(
                            length == 28 || (length - before_first).is_multiple_of(each),
                            "{name} cut at {length}"
                        ),
                        Some(CaptureError::Truncated { offset, .. }) => {
                            let record = if length < before_first {
                                28
                            } else {
                                before_first + whole * each
                            };
                            assert_eq!(offset as usize, record, "{name} cut at {length}");
                        }
                        Some(other) => panic!("{name} cut at {length}: {other}"),
                    }
                }
                Err(error) => assert!(length < before_first, "{name} cut at {length}: {error}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_damaged_file_never_panics_and_never_invents_bytes(
        ng: bool,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (mut file, _) = sample(if ng { "a.pcapng" } else { "a.pcap" });
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let folder = tempfile::tempdir().expect("a folder");
        if let Ok((frames, _)) = read_all(&saved(&folder, &file), FRAME_BYTES_MAX) {
            let total: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
            prop_assert!(total <= file.len());
        }
    }

    #[test]
    fn arbitrary_bytes_after_a_magic_number_never_panic(
        magic in prop_oneof![Just(0xa1b2_c3d4u32), Just(0x4d3c_b2a1), Just(0x0a0d_0d0a)],
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = [&magic.to_be_bytes()[..], &rest].concat();
        if let Ok((frames, _)) = read_all(&saved(&folder, &file), FRAME_BYTES_MAX) {
            prop_assert!(frames.iter().map(|frame| frame.bytes.len()).sum::<usize>() <= file.len());
        }
    }
}

#[test]
fn a_length_beyond_all_reason_is_an_error_with_its_place_and_no_allocation() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut file, frames) = sample("a.pcap");
    file[24 + 76 + 8..24 + 76 + 12].copy_from_slice(&u32::MAX.to_ne_bytes());
    let (read, end) = read_all(&saved(&folder, &file), FRAME_BYTES_MAX).expect("a capture");
    assert_eq!(read, frames[..1]);
    let end = end.expect("an error");
    assert!(
        matches!(end, CaptureError::Malformed { offset: 100, .. }),
        "{end:?}"
    );

    // A length that could be, in a file that has not so much: memory follows the file.
    file[24 + 76 + 8..24 + 76 + 12].copy_from_slice(&FRAME_BYTES_MAX.to_ne_bytes());
    let mut reader =
        CaptureReader::open(saved(&folder, &file), FRAME_BYTES_MAX).expect("a capture");
    let mut bytes = Vec::new();
    reader
        .read_into(&mut bytes)
        .expect("the first")
        .expect("a frame");
    let error = reader.read_into(&mut bytes).expect_err("cut short");
    assert!(
        matches!(error, CaptureError::Truncated { offset: 100, .. }),
        "{error:?}"
    );
    assert!(bytes.capacity() < 4096);
    assert!(
        reader
            .read_into(&mut bytes)
            .expect("no second error")
            .is_none()
    );
}

#[test]
fn what_is_no_capture_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for (bytes, says) in [
        (&b""[..], "it is empty"),
        (b"ab", "it is too short"),
        (b"\x1f\x8b\x08\0\0\0", "decompress it first"),
        (b"PK\x03\x04 and so on", "begins with 50 4b 03 04"),
    ] {
        let error = read_all(&saved(&folder, bytes), 1)
            .expect_err("no capture")
            .to_string();
        assert!(error.contains(says), "{error}");
    }
    let error = read_all(folder.path(), 1)
        .expect_err("a folder")
        .to_string();
    assert!(error.contains("not a regular file"), "{error}");
    let error = read_all(&folder.path().join("absent"), 1)
        .expect_err("nothing there")
        .to_string();
    assert!(
        error.starts_with("cannot open") && error.contains("absent"),
        "{error}"
    );
}

#[test]
fn a_link_type_that_cannot_be_played_is_named_at_opening() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut file, _) = sample("a.pcap");
    file[20..24].copy_from_slice(&113u32.to_ne_bytes());
    let error = read_all(&saved(&folder, &file), 1)
        .expect_err("cooked")
        .to_string();
    assert!(
        error.contains("link type 113 (Linux cooked capture)"),
        "{error}"
    );
    let (mut file, _) = sample("a.pcapng");
    file[36..38].copy_from_slice(&127u16.to_ne_bytes());
    let error = read_all(&saved(&folder, &file), 1)
        .expect_err("radiotap")
        .to_string();
    assert!(
        error.contains("link type 127 (802.11 with radiotap)"),
        "{error}"
    );
}
