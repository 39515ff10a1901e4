//! What goes up, in which order and with what room, against the same said naively.

#[allow(dead_code, reason = "the stand-in uses more of it")]
mod platform;

use std::collections::VecDeque;
use std::ops::Range;

use mvmp_nf::{Burst, Which};
use mvmp_wire::{Descriptor, Op};
use platform::{Platform, close, connected, opened};
use proptest::prelude::*;

const PACKETS: usize = 24;
const RING: u32 = 8;
/// The slot of the handle that received, and the number of the one that sends.
const SLOT: u8 = 10;
const SENDER: u8 = 1;

#[derive(Clone, Debug)]
enum Named {
    All,
    Range(Range<usize>),
    Indices(Vec<u32>),
    Mask(Vec<bool>),
}

impl Named {
    fn which(&self) -> Which<'_> {
        match self {
            Self::All => Which::All,
            Self::Range(range) => Which::Range(range.clone()),
            Self::Indices(indices) => Which::Indices(indices),
            Self::Mask(mask) => Which::Mask(mask),
        }
    }

    fn numbers(&self) -> Vec<usize> {
        let numbers: Vec<usize> = match self {
            Self::All => (0..PACKETS).collect(),
            Self::Range(range) => range.clone().collect(),
            Self::Indices(indices) => indices.iter().map(|&index| index as usize).collect(),
            Self::Mask(mask) => (0..mask.len()).filter(|&index| mask[index]).collect(),
        };
        numbers.into_iter().filter(|&n| n < PACKETS).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(Named, Option<u16>),
    Mirror(Named),
    Release(Named),
    Drain(u32),
}

fn named() -> impl Strategy<Value = Named> {
    let some = 0..PACKETS + 4;
    prop_oneof![
        2 => Just(Named::All),
        1 => (some.clone(), some).prop_map(|(start, end)| Named::Range(start..end)),
        2 => proptest::collection::vec(0..PACKETS as u32 + 4, 0..PACKETS).prop_map(Named::Indices),
        2 => proptest::collection::vec(any::<bool>(), 0..PACKETS + 4).prop_map(Named::Mask),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (named(), prop_oneof![Just(None), (0u16..32).prop_map(Some)]).prop_map(|(named, in_port)| Step::Send(named, in_port)),
        1 => named().prop_map(Step::Mirror),
        1 => named().prop_map(Step::Release),
        2 => (1u32..12).prop_map(Step::Drain),
    ]
}

/// The burst, the ring and what waits behind it.
#[derive(Default)]
struct Naive {
    packets: Vec<(Descriptor, bool)>,
    refused: Vec<bool>,
    ring: VecDeque<Descriptor>,
    behind: VecDeque<Descriptor>,
}

impl Naive {
    /// What waits goes first; then whether there is room.
    fn has_room(&mut self) -> bool {
        while self.ring.len() < RING as usize
            && let Some(waited) = self.behind.pop_front()
        {
            self.ring.push_back(waited);
        }
        self.ring.len() < RING as usize && self.behind.is_empty()
    }

    fn send(&mut self, numbers: &[usize], op: Op, in_port: u16) -> usize {
        let mut taken = 0;
        for &number in numbers {
            if !self.packets[number].1 {
                continue;
            }
            if !self.has_room() {
                if op == Op::Forward {
                    let held = numbers.iter().filter(|&&n| self.packets[n].1);
                    held.for_each(|&n| self.refused[n] = true);
                }
                break;
            }
            let (packet, held) = &mut self.packets[number];
            *held = op == Op::Mirror;
            self.ring.push_back(Descriptor {
                offset: in_port,
                op: op as u8,
                arg: SENDER,
                ..*packet
            });
            taken += 1;
        }
        taken
    }

    fn release(&mut self, numbers: &[usize]) {
        for &number in numbers {
            let (packet, held) = self.packets[number];
            if held {
                let gone = Descriptor {
                    offset: u16::MAX,
                    op: Op::Release as u8,
                    arg: self.refused[number].into(),
                    ..packet
                };
                self.packets[number].1 = false;
                if self.has_room() {
                    self.ring.push_back(gone);
                } else {
                    self.behind.push_back(gone);
                }
            }
        }
    }

    fn held(&self) -> usize {
        self.packets.iter().filter(|(_, held)| *held).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn packets_go_up_in_order_each_once_and_as_far_as_there_is_room(
        pools in proptest::collection::vec(prop_oneof![4 => Just(5u8), 1 => Just(7u8)], PACKETS),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let platform = Platform::new(RING);
        let (nf, mut peer) = connected(&platform);
        let (input, output) = (opened(&nf, &mut peer, "in"), opened(&nf, &mut peer, "out"));
        let mut naive = Naive { refused: vec![false; PACKETS], ..Naive::default() };
        for (number, &pool) in pools.iter().enumerate() {
            let number = number as u32;
            // Nobody has announced pool 7: its packets go to the first worker.
            let packet = Descriptor { token: 1 + number, pool, granule: number, length: 60, hop: 3, slot: SLOT, arg: 1, ..Descriptor::default() };
            peer.deliver_descriptor(0, packet);
            naive.packets.push((packet, true));
        }
        let mut burst = Burst::new();
        prop_assert_eq!(input.rx_burst(PACKETS, &mut burst).unwrap(), PACKETS);
        for step in steps {
            match step {
                Step::Send(named, in_port) => {
                    let taken = output.tx_burst(&mut burst, &named.which(), in_port).unwrap();
                    prop_assert_eq!(taken, naive.send(&named.numbers(), Op::Forward, in_port.unwrap_or(u16::MAX)));
                }
                Step::Mirror(named) => {
                    let taken = output.mirror(&mut burst, &named.which(), None).unwrap();
                    prop_assert_eq!(taken, naive.send(&named.numbers(), Op::Mirror, u16::MAX));
                }
                Step::Release(named) => {
                    burst.release_some(&named.which());
                    naive.release(&named.numbers());
                }
                Step::Drain(most) => {
                    let count = naive.ring.len().min(most as usize);
                    prop_assert_eq!(peer.returned(most), naive.ring.drain(..count).collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(burst.held(), naive.held());
            for (number, &(_, held)) in naive.packets.iter().enumerate() {
                prop_assert_eq!(burst.is_held(number), held);
            }
        }
        naive.release(&Named::All.numbers());
        drop(burst);
        let (expected, mut seen) = (naive.ring.len() + naive.behind.len(), Vec::new());
        while seen.len() < expected {
            seen.extend(peer.returned(99));
            // Any call moves what waits.
            input.rx_burst(1, &mut Burst::new()).unwrap();
        }
        naive.ring.append(&mut naive.behind);
        prop_assert_eq!(seen, naive.ring.into_iter().collect::<Vec<_>>());
        close(nf, &peer);
    }
}
