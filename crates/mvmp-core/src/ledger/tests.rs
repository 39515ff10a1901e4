//! The ledger against a naive map, and its limits.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(Clone, Debug)]
enum Step {
    Open(u8, u32),
    CloseRight(u8, u32),
    CloseWrong(u8, u32, u32),
    CloseStale(usize),
    Sweep(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let (slot, granule) = (0u8..4, 0u32..12);
    prop_oneof![
        6 => (slot.clone(), granule.clone()).prop_map(|(s, g)| Step::Open(s, g)),
        4 => (slot.clone(), granule.clone()).prop_map(|(s, g)| Step::CloseRight(s, g)),
        2 => (slot.clone(), granule, any::<u32>()).prop_map(|(s, g, t)| Step::CloseWrong(s, g, t)),
        2 => any::<usize>().prop_map(Step::CloseStale),
        1 => slot.prop_map(Step::Sweep),
    ]
}

/// What a ledger is, said naively: a map from (slot, buffer) to token.
#[derive(Default)]
struct Naive {
    open: HashMap<(u8, u32), u32>,
    past: Vec<(u8, u32, u32)>,
}

impl Naive {
    fn holders(&self, granule: u32) -> usize {
        self.open.keys().filter(|(_, g)| *g == granule).count()
    }
    fn close(&mut self, slot: u8, granule: u32, token: u32) -> Closed {
        if self.open.get(&(slot, granule)) != Some(&token) {
            return Closed::Refused;
        }
        self.open.remove(&(slot, granule));
        self.past.push((slot, granule, token));
        if self.holders(granule) == 0 {
            Closed::Last
        } else {
            Closed::Shared
        }
    }
}

fn apply(ledger: &mut Ledger, naive: &mut Naive, step: &Step) -> Result<(), TestCaseError> {
    match *step {
        Step::Open(slot, granule) => {
            let token = ledger.open(slot, granule);
            prop_assert_eq!(token.is_none(), naive.open.contains_key(&(slot, granule)));
            if let Some(token) = token {
                prop_assert_ne!(token, 0);
                naive.open.insert((slot, granule), token);
            }
        }
        Step::CloseRight(slot, granule) => {
            let token = naive.open.get(&(slot, granule)).copied().unwrap_or(0);
            prop_assert_eq!(
                ledger.close(slot, granule, token),
                naive.close(slot, granule, token)
            );
        }
        Step::CloseWrong(slot, granule, token) => {
            prop_assert_eq!(
                ledger.close(slot, granule, token),
                naive.close(slot, granule, token)
            );
        }
        Step::CloseStale(which) => {
            if let Some(&(slot, granule, token)) = naive.past.get(which % naive.past.len().max(1)) {
                prop_assert_eq!(
                    ledger.close(slot, granule, token),
                    naive.close(slot, granule, token)
                );
            }
        }
        Step::Sweep(slot) => {
            let mut home = Vec::new();
            let closed = ledger.sweep(slot, 0..ledger.rows(), |granule| home.push(granule));
            let mut mine: Vec<_> = naive
                .open
                .iter()
                .filter(|((s, _), _)| *s == slot)
                .map(|(k, t)| (k.1, *t))
                .collect();
            mine.sort_unstable();
            prop_assert_eq!(closed as usize, mine.len());
            let mut expected = Vec::new();
            for (granule, token) in mine {
                if naive.close(slot, granule, token) == Closed::Last {
                    expected.push(granule);
                }
            }
            prop_assert_eq!(home, expected);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_ledger_does_what_a_naive_map_does(steps in proptest::collection::vec(step(), 1..200)) {
        let mut ledger = Ledger::new(12, 4096);
        (0..4).for_each(|slot| ledger.open_slot(slot).unwrap());
        let mut naive = Naive::default();
        for step in &steps {
            apply(&mut ledger, &mut naive, step)?;
            prop_assert_eq!(ledger.shares(), naive.open.len() as u64);
            for granule in 0..12 {
                prop_assert_eq!(ledger.is_lent(granule), naive.holders(granule) > 0);
            }
            let lent = (0..12).filter(|&granule| naive.holders(granule) > 0).count();
            prop_assert_eq!(ledger.lent() as usize, lent);
        }
    }

    #[test]
    fn limits_never_promise_more_than_the_budget(
        budget in 300u32..4000,
        held in proptest::collection::vec(0u32..1000, 1..4),
        late in 0u8..3,
    ) {
        let mut ledger = Ledger::new(4096, budget);
        let mut next = 0;
        let mut holders = Vec::new();
        for (slot, &wanted) in held.iter().enumerate() {
            if ledger.open_slot(slot as u8).is_err() { break; }
            for _ in 0..wanted.min(ledger.room(slot as u8)) {
                ledger.open(slot as u8, next).unwrap();
                next += 1;
            }
            holders.push(slot as u8);
        }
        for extra in 0..late {
            if ledger.open_slot(100 + extra).is_ok() { holders.push(100 + extra); }
        }
        ledger.rebalance();
        let promised: u32 = holders.iter().map(|&slot| ledger.limit(slot).max(ledger.held(slot))).sum();
        prop_assert!(promised <= budget, "{} promised of {}", promised, budget);
    }
}

#[test]
fn a_handle_that_would_get_too_little_is_refused_with_the_numbers() {
    let mut ledger = Ledger::new(16, 100);
    ledger.open_slot(0).unwrap();
    let error = ledger.open_slot(1).unwrap_err();
    assert_eq!((error.slots, error.budget), (1, 100));
}

#[test]
fn a_newcomer_grows_as_the_others_come_down() {
    let mut ledger = Ledger::new(1000, 1000);
    ledger.open_slot(0).unwrap();
    let tokens: Vec<u32> = (0..900)
        .map(|granule| ledger.open(0, granule).unwrap())
        .collect();
    ledger.open_slot(1).unwrap();
    assert_eq!(ledger.room(1), 100);
    (0..900).for_each(|granule| {
        assert_eq!(
            ledger.close(0, granule, tokens[granule as usize]),
            Closed::Last
        )
    });
    ledger.rebalance();
    assert_eq!((ledger.room(0), ledger.room(1)), (500, 500));
}
