//! The schedule of a capture.

use super::*;

/// Plays frames with a clock that is always exactly on time; when each was sent.
fn play(mut pacer: Pacer, start: u64, timestamps: &[i64]) -> Vec<u64> {
    let mut now = start;
    timestamps
        .iter()
        .map(|&timestamp| {
            now += pacer.due(now, timestamp);
            assert_eq!(pacer.due(now, timestamp), 0);
            pacer.sent(now, timestamp);
            now - start
        })
        .collect()
}

#[test]
fn unpaced_frames_are_always_due() {
    assert_eq!(play(Pacer::unpaced(), 5, &[0, 1_000_000, 3]), [0, 0, 0]);
}

#[test]
fn recorded_frames_keep_their_distances() {
    assert_eq!(
        play(Pacer::recorded(), 77, &[1_000, 1_500, 1_500, 9_000]),
        [0, 500, 500, 8_000]
    );
}

#[test]
fn a_timestamp_that_goes_back_or_leaps_is_due_at_once() {
    let year = 31_536_000_000_000_000;
    assert_eq!(
        play(Pacer::recorded(), 0, &[1_000, 1_500, 1_000, 1_500, year]),
        [0, 500, 500, 1_000, 1_000]
    );
    assert_eq!(
        play(Pacer::recorded(), 0, &[i64::MIN, i64::MAX, i64::MIN]),
        [0, 0, 0]
    );
}

proptest! {
    #[test]
    fn a_rate_holds_over_any_number_of_frames_without_drift(packets in 1u64..20_000_000, count in 1usize..2000) {
        let sent = play(Pacer::per_second(packets), 0, &vec![0; count]);
        for (index, &at) in sent.iter().enumerate() {
            prop_assert_eq!(at, index as u64 * 1_000_000_000 / packets);
        }
    }

    #[test]
    fn asking_twice_changes_nothing(now: u32, first: i64, second: i64) {
        let mut pacer = Pacer::recorded();
        pacer.sent(u64::from(now), first);
        prop_assert_eq!(pacer.due(u64::from(now), second), pacer.due(u64::from(now), second));
    }
}

#[test]
fn who_is_a_little_late_catches_up_and_who_is_very_late_starts_anew() {
    let mut pacer = Pacer::per_second(1000);
    pacer.sent(0, 0);
    pacer.sent(10_000_000, 0);
    assert_eq!(pacer.due(10_000_000, 0), 0);
    pacer.sent(5_000_000_000, 0);
    assert_eq!(pacer.due(5_000_000_000, 0), 1_000_000);
}

#[test]
fn a_rate_of_zero_is_one_a_second_and_not_a_division() {
    assert_eq!(play(Pacer::per_second(0), 0, &[0, 0]), [0, 1_000_000_000]);
}
