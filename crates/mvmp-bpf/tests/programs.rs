//! What may run, and what running says at the edges.

use mvmp_bpf::{Error, Instruction, LINK_ETHERNET, LINK_RAW, Program};
use proptest::collection::vec;
use proptest::prelude::*;

const fn step(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

const RET_A: Instruction = step(0x16, 0, 0, 0);

/// What a program returns for a packet of these bytes, five more of which were cut off.
fn run(steps: &[Instruction], packet: &[u8]) -> u32 {
    Program::new(steps)
        .expect("a sound program")
        .run(packet, packet.len() as u32 + 5)
}

#[track_caller]
fn refused(steps: &[Instruction], why: &str) {
    match Program::new(steps) {
        Err(Error::Program(message)) => assert!(message.contains(why), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_load_that_is_not_wholly_inside_ends_with_no_match() {
    let packet = [1, 2, 3, 4, 5];
    for (code, bytes, value) in [(0x20, 4, 0x0203_0405), (0x28, 2, 0x0405), (0x30, 1, 5)] {
        let last = 5 - bytes;
        assert_eq!(run(&[step(code, 0, 0, last), RET_A], &packet), value);
        let found = step(0x06, 0, 0, 9);
        assert_eq!(run(&[step(code, 0, 0, last + 1), found], &packet), 0);
        // Indirect: the index is added, and overflow is not wrapped.
        let index = step(0x01, 0, 0, 1);
        let indirect = |k| [index, step(code + 0x20, 0, 0, k), found];
        assert_eq!(run(&indirect(last), &packet), 0);
        assert_eq!(
            run(&indirect(last - u32::from(last > 0)), &packet),
            if last > 0 { 9 } else { 0 }
        );
        assert_eq!(run(&indirect(u32::MAX), &packet), 0);
    }
}

#[test]
fn the_length_of_an_ipv4_header_is_read_from_its_nibble() {
    let to_a = step(0x87, 0, 0, 0);
    assert_eq!(run(&[step(0xb1, 0, 0, 0), to_a, RET_A], &[0x4f]), 60);
    assert_eq!(run(&[step(0xb1, 0, 0, 1), step(0x06, 0, 0, 1)], &[0x4f]), 0);
}

#[test]
fn length_means_the_one_on_the_wire() {
    assert_eq!(run(&[step(0x80, 0, 0, 0), RET_A], &[0; 10]), 15);
}

#[test]
fn division_by_a_zero_index_ends_with_no_match() {
    for code in [0x3c, 0x9c] {
        assert_eq!(run(&[step(code, 0, 0, 0), step(0x06, 0, 0, 7)], &[]), 0);
        refused(&[step(code & !0x08, 0, 0, 0), RET_A], "divides by zero");
    }
}

#[test]
fn arithmetic_wraps_and_wide_shifts_empty_the_register() {
    let load = step(0x00, 0, 0, u32::MAX);
    assert_eq!(run(&[load, step(0x04, 0, 0, 2), RET_A], &[]), 1);
    assert_eq!(run(&[load, step(0x84, 0, 0, 0), RET_A], &[]), 1);
    assert_eq!(run(&[load, step(0x64, 0, 0, 32), RET_A], &[]), 0);
    assert_eq!(run(&[load, step(0x74, 0, 0, 31), RET_A], &[]), 1);
}

#[test]
fn programs_that_could_go_wrong_are_refused() {
    refused(&[], "0 instructions");
    refused(&[step(0x00, 0, 0, 1)], "does not end with a return");
    refused(&[step(0x60, 0, 0, 16), RET_A], "beyond its memory");
    refused(&[step(0x05, 0, 0, -2i32 as u32), RET_A], "beyond the end");
    refused(&[step(0x15, 1, 0, 0), RET_A], "beyond the end");
    refused(&[step(0x20, 0, 0, 0xffff_f004), RET_A], "asks the kernel");
    refused(&[step(0xffff, 0, 0, 0), RET_A], "is unknown");
}

#[test]
fn a_loop_that_makes_no_progress_ends_with_no_match() {
    let for_ever = [step(0x05, 0, 0, u32::MAX), step(0x06, 0, 0, 7)];
    assert_eq!(run(&for_ever, &[0; 1_500]), 0);
}

/// Whether this machine has libpcap; a test without it says so.
fn libpcap() -> bool {
    let found = mvmp_bpf::library_version();
    if let Err(error) = &found {
        eprintln!("skipped: {error}");
    }
    found.is_ok()
}

#[test]
fn what_libpcap_says_against_an_expression_is_passed_on() {
    if !libpcap() {
        return;
    }
    match Program::compile("tcp port", LINK_ETHERNET) {
        Err(Error::Expression(message)) => assert!(message.contains("syntax error"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(Program::compile("ether host 2:0:0:0:0:1", LINK_RAW).is_err());
}

#[test]
fn many_threads_may_compile_at_once() {
    if !libpcap() {
        return;
    }
    let compile = |i: usize| Program::compile(&format!("tcp port {i}"), LINK_ETHERNET);
    let alone: Vec<_> = (0..64).map(compile).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (i, expected) in alone.iter().enumerate() {
                    assert_eq!(&compile(i), expected);
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_instructions_and_no_packet_panic(
        steps in vec((0..0xc0u16, 0..4u8, 0..4u8, prop_oneof![0..20u32, any::<u32>()]), 1..20),
        packet in vec(any::<u8>(), 0..40),
    ) {
        let mut steps: Vec<_> = steps.into_iter().map(|(code, jt, jf, k)| step(code, jt, jf, k)).collect();
        steps.push(RET_A);
        if let Ok(program) = Program::new(&steps) {
            let first = program.run(&packet, 1_500);
            prop_assert_eq!(program.run(&packet, 1_500), first);
            prop_assert_eq!(program.matches(&packet, 1_500), first != 0);
        }
    }
}
