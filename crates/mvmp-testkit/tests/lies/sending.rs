//! What is sent over handles that one has not, from where nothing is, to whom has it already, or at the last moment.

use std::sync::atomic::Ordering;

use mvmp_testkit::{LyingNf, Stage, books, number, serve};
use mvmp_wire::message::{FromPlatform, ToPlatform};
use mvmp_wire::{Descriptor, Op, PRIVATE_POOL};

use crate::scene::{Scene, all_released, frames_in_capture};

#[test]
fn sending_over_a_handle_that_one_has_not_is_a_named_drop() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    let (mut sent, number_of_mine) = (0, handle.number);
    for arg in (0..=u8::MAX).filter(|&arg| arg != number_of_mine) {
        let lent = liar.take(&mut handle, 1)[0];
        assert!(liar.present(&[Descriptor {
            op: Op::Forward as u8,
            arg,
            ..lent
        }]));
        sent += 1;
    }
    let stats = scene.stage.platform.stats();
    let books = books(&stats, "liar", "shared");
    assert_eq!(
        number(&books["out"]["drops"]["not_authorized"]),
        sent,
        "{books}"
    );
    drop(liar);
    scene.ends_well();
}

#[test]
fn private_descriptors_out_of_the_private_region_send_nothing() {
    let scene = Scene::new();
    let (mut liar, _handle) = scene.liar_at_work();
    let virt = liar.open("virt");
    let granules = (liar.private.len() / mvmp_wire::GRANULE_BYTES) as u32;
    let built = |granule, offset, length| Descriptor {
        pool: PRIVATE_POOL,
        granule,
        offset,
        length,
        hop: u8::MAX,
        op: Op::Forward as u8,
        arg: virt.number,
        ..Descriptor::default()
    };
    let outside = [
        built(granules, 0, 64),
        built(Descriptor::MAX_GRANULES - 1, u16::MAX, 1500),
        built(granules - 1, 2047, 2),
        built(granules - 1, u16::MAX, 1),
    ];
    assert!(liar.present(&outside));
    assert!(
        liar.present(&[built(0, 0, u16::MAX)]),
        "longer than any buffer"
    );
    assert!(
        liar.present(&[built(granules - 1, 0, 2048)]),
        "the last one inside"
    );
    let wrong_ops: Vec<Descriptor> = [0, 1, 3, 77]
        .map(|op| Descriptor {
            op,
            ..built(0, 0, 64)
        })
        .to_vec();
    assert!(liar.present(&wrong_ops));
    let stats = scene.stage.platform.stats();
    let books = books(&stats, "liar", "virt");
    assert_eq!(
        number(&books["out"]["drops"]["bad_frame"]),
        outside.len() as u64,
        "{books}"
    );
    assert_eq!(number(&books["out"]["drops"]["too_long"]), 1);
    assert_eq!(
        number(&stats["nfs"]["liar/0"]["refused"]),
        wrong_ops.len() as u64
    );
    drop(liar);
    scene.ends_well();
}

#[test]
fn a_share_that_is_mirrored_to_a_holder_arrives_as_a_copy() {
    let scene = Scene::new();
    let (mut liar, mut handle) = scene.liar_at_work();
    let virt = liar.open("virt");
    let lent = liar.take(&mut handle, 32);
    let mirrors: Vec<Descriptor> = lent
        .iter()
        .flat_map(|lent| {
            [Descriptor {
                op: Op::Mirror as u8,
                arg: virt.number,
                ..*lent
            }; 8]
        })
        .collect();
    assert!(liar.present(&mirrors));
    assert!(liar.present(&all_released(&lent)));
    let wanted = mirrors.len() as u64;
    scene
        .stage
        .await_stats("the listener has released all", |stats| {
            let books = books(stats, "listener", "virt");
            number(&books["delivered"]) == wanted && number(&books["out"]["released"]) == wanted
        });
    drop(liar);
    scene.ends_well();
}

#[test]
fn who_releases_nothing_runs_into_its_own_quota_alone() {
    const PACKETS: u64 = 25_200;
    let stage = Stage::new(
        r#"
[platform]
buffers = 16384
ring = 32768
alive_s = 600
[ports]
in = { pcap = "$IN", rate = 30000, loop = 100 }
[devices.shared]
mode = "direct"
ports = ["in"]
[nfs.honest]
devices = ["shared:rx"]
[nfs.liar]
devices = ["shared:rx"]
"#,
    );
    let liar = LyingNf::connect(&stage.socket_of("liar"), "liar");
    let _handle = liar.open("shared");
    let (honest, shared) = stage.open("honest", "shared");
    assert_eq!(serve(&shared, |_| {}), PACKETS);
    let stats = stage.platform.stats();
    let books = |role| books(&stats, role, "shared");
    assert_eq!(books("honest")["drops"], serde_json::json!({}));
    let (held, limit) = (
        number(&books("liar")["held"]),
        number(&books("liar")["limit"]),
    );
    assert_eq!(held, limit);
    assert_eq!(
        books("liar")["drops"],
        serde_json::json!({ "quota": PACKETS - held })
    );
    drop(liar);
    honest.close();
    stage.await_gone("liar");
    stage.settle();
}

#[test]
fn what_a_living_nf_has_sent_before_it_closes_is_sent() {
    let stage = Stage::new(
        r#"
[platform]
buffers = 4096
[ports]
in = { pcap = "$IN", rate = "lossless" }
out = { out = "$DIR/out.pcapng" }
[devices.bridge]
mode = "bridge"
ports = ["in", "out"]
[nfs.wire]
devices = ["bridge"]
"#,
    );
    let mut liar = LyingNf::connect(&stage.socket_of("wire"), "wire");
    let mut handle = liar.open("bridge");
    let mut lent = Vec::new();
    while lent.len() < frames_in_capture() as usize {
        lent.extend(liar.take(&mut handle, u32::MAX));
    }
    lent.iter().for_each(|lent| {
        liar.write(
            Descriptor {
                op: Op::Forward as u8,
                arg: handle.number,
                offset: u16::MAX,
                ..*lent
            }
            .to_words(),
        )
    });
    // Not woken: what it has shown when it says `close` counts, read or not.
    liar.links[0]
        .up
        .return_tail()
        .store(liar.links[0].tail, Ordering::SeqCst);
    liar.say(&ToPlatform::Close {
        handle: handle.number,
    });
    liar.hear_until("closed", |message| {
        matches!(message, FromPlatform::Closed { .. })
    });
    let stats = stage.settle();
    assert_eq!(
        number(&stats["ports"]["out"]["tx"]["transmitted"]),
        frames_in_capture()
    );
}
