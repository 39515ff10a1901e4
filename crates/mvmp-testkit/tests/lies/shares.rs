//! Shares that one does not hold, or no longer: presented, refused, counted, forgiven up to a number.

use mvmp_testkit::{LyingNf, number};
use mvmp_wire::{Descriptor, Op, PRIVATE_POOL};
use rand::RngExt;
use serde_json::Value;

use crate::scene::{REFUSED_MAX, Scene, all_released, lie_until_thrown_out, releasing};

#[test]
fn a_lent_packet_with_random_fields_is_at_the_most_the_liars_own_loss() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    let mut rng = rand::rng();
    // Each lie is a lent descriptor with one or two fields replaced: close to the truth in all ways.
    let lied = lie_until_thrown_out(&mut liar, &mut handle, |lent| {
        let one = |original: &Descriptor| {
            let mut lie = Descriptor {
                op: rng.random_range(1..=3),
                arg: rng.random_range(0..2),
                ..*original
            };
            for _ in 0..rng.random_range(1..=2) {
                match rng.random_range(0..9) {
                    0 => lie.token = rng.random(),
                    1 => lie.pool = rng.random_range(0..64),
                    2 => lie.granule = rng.random_range(0..1 << 26),
                    3 => lie.offset = rng.random(),
                    4 => lie.length = rng.random(),
                    5 => lie.slot = rng.random(),
                    6 => lie.hop = rng.random(),
                    7 => lie.op = rng.random(),
                    _ => lie.arg = rng.random(),
                }
            }
            lie.to_words()
        };
        lent.iter().map(one).collect()
    });
    assert!(lied >= REFUSED_MAX / 64, "{lied}");
    drop(liar);
    scene.ends_well();
}

#[test]
fn a_stale_token_is_refused() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    let lent = liar.take(&mut handle, 16);
    let once = all_released(&lent);
    assert!(liar.present(&once));
    for op in [Op::Release, Op::Forward, Op::Mirror] {
        let again: Vec<Descriptor> = lent
            .iter()
            .map(|lent| Descriptor {
                op: op as u8,
                arg: handle.number,
                ..*lent
            })
            .collect();
        assert!(liar.present(&again));
    }
    let stats = scene.stage.platform.stats();
    assert_eq!(
        number(&stats["nfs"]["liar/0"]["refused"]),
        3 * once.len() as u64,
        "{}",
        stats["nfs"]
    );
    drop(liar);
    scene.ends_well();
}

#[test]
fn another_nfs_share_is_refused_even_with_its_slot_and_its_token() {
    let scene = Scene::new();
    // The other NF is ours too, so that the test knows its tokens: the platform sees two.
    let mut other = LyingNf::connect(&scene.stage.socket_of("other"), "other");
    let mut theirs = other.open("shared");
    let (mut liar, mut mine) = scene.liar_at_work();
    let own = liar.take(&mut mine, u32::MAX);
    let foreign = other.take(&mut theirs, 16);
    assert!(liar.present(&all_released(&own)));
    let mut lies = Vec::new();
    for op in [Op::Release, Op::Forward, Op::Mirror] {
        lies.extend(foreign.iter().map(|lent| Descriptor {
            op: op as u8,
            arg: mine.number,
            ..*lent
        }));
        lies.extend(foreign.iter().map(|lent| Descriptor {
            op: op as u8,
            arg: mine.number,
            slot: mine.slot,
            ..*lent
        }));
    }
    assert!(liar.present(&lies));
    let stats = scene.stage.platform.stats();
    assert_eq!(
        number(&stats["nfs"]["liar/0"]["refused"]),
        lies.len() as u64
    );
    // They are still the other's to give back.
    assert!(other.present(&all_released(&foreign)));
    assert_eq!(
        number(&scene.stage.platform.stats()["nfs"]["other/0"]["refused"]),
        0
    );
    drop((liar, other));
    scene.stage.await_gone("other");
    scene.ends_well();
}

#[test]
fn wrong_pools_granules_and_operations_are_refused() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    let lent = liar.take(&mut handle, 1)[0];
    let mut lies: Vec<Descriptor> = (1..PRIVATE_POOL)
        .map(|pool| Descriptor {
            pool,
            ..releasing(&lent)
        })
        .collect();
    lies.extend((4..=u8::MAX).chain([0]).map(|op| Descriptor { op, ..lent }));
    lies.extend(
        [Descriptor::MAX_GRANULES - 1, 1 << 20, lent.granule + 1].map(|granule| Descriptor {
            granule,
            ..releasing(&lent)
        }),
    );
    lies.push(Descriptor {
        token: 0,
        ..releasing(&lent)
    });
    assert!(liar.present(&lies));
    let stats = scene.stage.platform.stats();
    assert_eq!(
        number(&stats["nfs"]["liar/0"]["refused"]),
        lies.len() as u64
    );
    assert!(
        liar.present(&[releasing(&lent)]),
        "the one true descriptor is still good"
    );
    assert_eq!(
        number(&scene.stage.platform.stats()["nfs"]["liar/0"]["refused"]),
        lies.len() as u64
    );
    drop(liar);
    scene.ends_well();
}

#[test]
fn a_thousand_refusals_are_forgiven_and_one_more_is_quarantine() {
    let scene = Scene::new();
    let (mut liar, _handle) = scene.liar_at_work();
    let invented = Descriptor {
        token: 7,
        op: Op::Release as u8,
        slot: 200,
        ..Descriptor::default()
    };
    assert!(liar.present(&vec![invented; REFUSED_MAX]));
    let stats = scene.stage.platform.stats();
    assert_eq!(
        (
            number(&stats["nfs"]["liar/0"]["refused"]),
            &stats["nfs"]["liar/0"]["quarantined"]
        ),
        (REFUSED_MAX as u64, &Value::Null)
    );
    liar.write(invented.to_words());
    liar.publish();
    assert!(liar.hear_detached().contains("refused descriptors"));
    scene.ends_well();
}
