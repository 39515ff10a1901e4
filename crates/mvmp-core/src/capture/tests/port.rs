//! The two ends of a capture port: threads, rings, ends and errors.

use std::time::{Duration, Instant};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a state, for as long as that may take on a busy machine.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come to pass");
        std::thread::yield_now();
    }
}

fn file_of(folder: &tempfile::TempDir, count: u32) -> std::path::PathBuf {
    let path = folder.path().join("in.pcapng");
    let frames: Vec<_> = (0..count).map(Written::numbered).collect();
    write_all(&path, &frames);
    path
}

/// Writes what is left and ends the file; what went wrong with it.
fn close(sink: CaptureSink) -> Result<(), String> {
    let fault = sink.fault().clone();
    drop(sink);
    fault.get().map_or(Ok(()), |error| Err(error.to_string()))
}

/// Everything that the source yields until its end.
fn drain(source: &mut CaptureSource) -> Vec<u32> {
    let mut numbers = Vec::new();
    until("the end of the capture", || {
        while let Some(frame) = source.peek() {
            numbers.push(
                frame
                    .bytes
                    .first_chunk::<4>()
                    .map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes)),
            );
            source.advance();
        }
        source.ended().then_some(())
    });
    numbers
}

#[test]
fn a_capture_comes_in_order_as_often_as_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file_of(&folder, 1000);
    for loop_count in [1, 2, 5] {
        let options = SourceOptions {
            loop_count,
            chunks: 2,
            ..SourceOptions::default()
        };
        let mut source = CaptureSource::open(&path, options).expect("a capture");
        let expected: Vec<u32> = (0..loop_count).flat_map(|_| 0..1000).collect();
        assert_eq!(drain(&mut source), expected);
        assert!(source.peek().is_none() && source.fault().get().is_none());
    }
}

#[test]
fn an_endless_capture_goes_on_until_it_is_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file_of(&folder, 300);
    let options = SourceOptions {
        loop_count: 0,
        ..SourceOptions::default()
    };
    let mut source = CaptureSource::open(path, options).expect("a capture");
    let mut seen = 0u32;
    until("ten thousand frames", || {
        while source.peek().is_some() && seen < 10_000 {
            source.advance();
            seen += 1;
        }
        (seen == 10_000).then_some(())
    });
    assert!(!source.ended());
}

#[test]
fn the_next_frame_stays_until_the_worker_advances() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut source =
        CaptureSource::open(file_of(&folder, 2), SourceOptions::default()).expect("a capture");
    let first = until("a frame", || source.peek().map(|frame| frame.meta));
    assert_eq!(source.peek().map(|frame| frame.meta), Some(first));
    assert_eq!(source.frames_ready(), 2);
    source.advance();
    assert_eq!(
        source.peek().map(|frame| frame.meta.timestamp_ns),
        Some(1_000_003)
    );
}

#[test]
fn an_endless_capture_without_frames_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SourceOptions {
        loop_count: 0,
        ..SourceOptions::default()
    };
    let mut source = CaptureSource::open(file_of(&folder, 0), options).expect("a capture");
    assert!(drain(&mut source).is_empty());
}

#[test]
fn a_capture_that_is_cut_short_yields_its_whole_frames_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file_of(&folder, 500);
    let file = std::fs::read(&path).expect("just written");
    std::fs::write(&path, &file[..file.len() - 1]).expect("written");
    for loop_count in [1, 2] {
        let options = SourceOptions {
            loop_count,
            ..SourceOptions::default()
        };
        let mut source = CaptureSource::open(&path, options).expect("a capture");
        let expected: Vec<u32> = (0..loop_count).flat_map(|_| 0..499).collect();
        assert_eq!(drain(&mut source), expected);
        let error = source.fault().get().expect("a notice");
        assert!(matches!(error, CaptureError::Truncated { .. }), "{error}");
    }
}

#[test]
fn a_source_can_be_dropped_in_the_middle() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file_of(&folder, 20_000);
    for taken in [0, 1, 300] {
        let mut source = CaptureSource::open(&path, SourceOptions::default()).expect("a capture");
        for _ in 0..taken {
            until("a frame", || source.peek().map(|_| ()));
            source.advance();
        }
    }
}

#[test]
fn all_that_a_sink_accepts_is_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.pcap");
    let mut sink = CaptureSink::create(
        &path,
        SinkOptions {
            chunks: 2,
            ..SinkOptions::default()
        },
    )
    .expect("a file");
    let frames: Vec<_> = (0..5000).map(Written::numbered).collect();
    for frame in &frames {
        until("room", || {
            let (head, tail) = frame.bytes.split_at(7);
            sink.push_scattered(
                head,
                tail,
                frame.timestamp_ns,
                frame.wire_length,
                frame.link,
            )
            .ok()
        });
        sink.end_round();
    }
    assert_eq!(sink.accepted(), 5000);
    close(sink).expect("written");
    assert_eq!(read_whole(&path), frames);
}

#[test]
fn a_sink_becomes_drained_by_itself_and_the_file_is_readable_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.pcapng");
    let mut sink = CaptureSink::create(&path, SinkOptions::default()).expect("a file");
    assert!(sink.drained());
    let frame = Written::numbered(9);
    let taken = sink.push(
        &frame.bytes,
        frame.timestamp_ns,
        frame.wire_length,
        frame.link,
    );
    assert_eq!(taken, Ok(()));
    assert_eq!(sink.pending(), 1);
    sink.flush_chunk();
    until("the flush", || sink.drained().then_some(()));
    assert_eq!(read_whole(&path), [frame]);
}

#[test]
fn a_few_frames_are_written_after_some_rounds_of_the_worker() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.pcapng");
    let mut sink = CaptureSink::create(&path, SinkOptions::default()).expect("a file");
    assert_eq!(sink.push(&[1; 60], 0, 60, Link::Ethernet), Ok(()));
    sink.end_round();
    assert!(!sink.drained());
    until("the hand-over", || {
        sink.end_round();
        sink.drained().then_some(())
    });
}

#[test]
fn promised_room_is_there_for_frames_of_any_allowed_length() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = vec![7; 9600];
    for name in ["a.pcap", "b.pcap"] {
        let mut sink = CaptureSink::create(
            folder.path().join(name),
            SinkOptions {
                chunks: 3,
                ..SinkOptions::default()
            },
        )
        .expect("a file");
        for round in 0..200 {
            let room = sink.room_frames();
            let length = if name == "a.pcap" || round % 2 == 0 {
                9600
            } else {
                60
            };
            for _ in 0..room {
                assert_eq!(sink.push(&long[..length], 0, 9600, Link::Ethernet), Ok(()));
            }
            sink.flush_chunk();
        }
        close(sink).expect("written");
    }
}

#[test]
fn a_full_disk_loses_frames_with_a_count_and_a_reason() {
    if !Path::new("/dev/full").exists() {
        return skip("no /dev/full");
    }
    let mut sink = CaptureSink::create("/dev/full", SinkOptions::default()).expect("opens");
    for number in 0..1000 {
        until("room", || {
            sink.push(&Written::numbered(number).bytes, 0, 60, Link::Ethernet)
                .ok()
        });
    }
    sink.flush_chunk();
    until("the end of the backlog", || sink.drained().then_some(()));
    assert_eq!(sink.lost(), 1000);
    let error = close(sink).expect_err("the disk is full");
    assert!(error.starts_with("cannot write"), "{error}");
}

#[test]
fn dropping_a_sink_writes_what_it_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.pcap");
    let mut sink = CaptureSink::create(&path, SinkOptions::default()).expect("a file");
    let frame = Written::numbered(3);
    let taken = sink.push(
        &frame.bytes,
        frame.timestamp_ns,
        frame.wire_length,
        frame.link,
    );
    assert_eq!(taken, Ok(()));
    drop(sink);
    assert_eq!(read_whole(&path), [frame]);
}

#[test]
fn a_pcap_file_takes_frames_of_its_first_ones_link_type_and_pcapng_takes_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let links = [Link::Ipv4, Link::Ethernet, Link::Ipv6, Link::Ipv4];
    let only_ip = [Ok(()), Err(NotTaken::LinkType), Ok(()), Ok(())];
    for (name, expected) in [("out.pcap", only_ip), ("out.pcapng", [Ok(()); 4])] {
        let path = folder.path().join(name);
        let mut sink = CaptureSink::create(&path, SinkOptions::default()).expect("a file");
        let frame = |link| [(link as u8) << 4; 60];
        let taken = links.map(|link| sink.push(&frame(link), 0, 60, link));
        assert_eq!(taken, expected);
        close(sink).expect("written");
        let read: Vec<_> = read_whole(&path).iter().map(|frame| frame.link).collect();
        let kept = links
            .iter()
            .zip(expected)
            .filter(|(_, taken)| taken.is_ok());
        assert_eq!(read, kept.map(|(link, _)| *link).collect::<Vec<_>>());
    }
}
