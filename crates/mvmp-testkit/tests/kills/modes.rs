//! The victim in a group, on a device that decapsulates, on a bridge that floods, on a bond.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mvmp_nf::Burst;
use mvmp_testkit::{all_handles, books, bytes_of, in_vxlan, number, traffic};
use serde_json::{Value, json};

use crate::campaign::{Bystander, Scene, accepted, dispatched, kills};

/// Demands that what comes is these frames, over and over, in this order, byte for byte.
fn in_order(expected: Vec<Vec<u8>>) -> impl FnMut(&mut Burst) + Send {
    let mut at = 0;
    move |burst| {
        for index in 0..burst.len() {
            assert_eq!(
                burst.frame(index).unwrap(),
                expected[at % expected.len()],
                "packet {at}"
            );
            at += 1;
        }
    }
}

/// Every live and closed account of a role says that nothing was lost on the way to it.
fn lost_nothing(stats: &Value, role: &str) {
    for handle in all_handles(stats).filter(|handle| handle["role"] == role) {
        assert_eq!(handle["drops"], json!({}), "{handle}");
    }
}

#[test]
fn one_of_three_in_a_group_is_killed_over_and_over() {
    let scene = Scene::endless(
        r#"
[devices.shared]
mode = "direct"
ports = ["in"]
[nfs.all]
devices = ["shared:rx"]
[nfs.one]
devices = ["shared:rx"]
groups = { shared = "dpi" }
[nfs.two]
devices = ["shared:rx"]
groups = { shared = "dpi" }
[nfs.victim]
devices = ["shared"]
groups = { shared = "dpi" }
memory = "64K"
"#,
    );
    let all = bytes_of(&traffic());
    let known: HashSet<Vec<u8>> = all.iter().cloned().collect();
    let witness = scene.watch("all", "shared", in_order(all));
    let members = ["one", "two"].map(|role| {
        let known = known.clone();
        scene.watch(role, "shared", move |burst| {
            for index in 0..burst.len() {
                assert!(known.contains(burst.frame(index).unwrap()));
            }
        })
    });
    let words = ["victim", "shared", "--to", "shared"];
    let stats = scene.kill(&words, &witness, kills(), &["in"]);
    let dispatched = dispatched(&stats, &["in"]);
    assert_eq!(witness.end(), dispatched, "nobody else missed a packet");
    let victim = number(&books(&stats, "victim", "shared")["delivered"]);
    let counts = members.map(Bystander::end);
    assert_eq!(
        counts.iter().sum::<u64>() + victim,
        dispatched,
        "each packet had one member: {counts:?} and {victim}"
    );
    assert!(victim > 0 && counts.iter().all(|&count| count > 0));
    ["all", "one", "two"]
        .iter()
        .for_each(|role| lost_nothing(&stats, role));
}

#[test]
fn who_sees_the_inside_of_a_port_that_others_see_whole_is_killed_over_and_over() {
    let folder = tempfile::tempdir().unwrap();
    let (path, whole) = in_vxlan(folder.path());
    let scene = Scene::new(
        &r#"
[platform]
buffers = 4096
alive_s = 60
[ports]
in = { pcap = "$VXLAN", rate = "lossless", loop = 0 }
[devices.whole]
mode = "direct"
ports = ["in"]
[devices.inside]
mode = "direct"
ports = ["in"]
receive = { in = { match = "vxlan vni 42", decap = ["vxlan"] } }
[nfs.whole]
devices = ["whole:rx"]
[nfs.inside]
devices = ["inside:rx"]
[nfs.victim]
devices = ["inside"]
memory = "64K"
"#
        .replace("$VXLAN", path.to_str().unwrap()),
    );
    let outer = scene.watch("whole", "whole", in_order(whole));
    let inner = scene.watch("inside", "inside", in_order(bytes_of(&traffic())));
    let words = ["victim", "inside", "--to", "inside"];
    let stats = scene.kill(&words, &outer, kills(), &["in"]);
    let dispatched = dispatched(&stats, &["in"]);
    assert_eq!(
        [outer.end(), inner.end()],
        [dispatched; 2],
        "nobody else missed a packet"
    );
    let victim = books(&stats, "victim", "inside");
    assert_eq!(
        number(&victim["out"]["sent"]),
        accepted(&stats, "in"),
        "what it sent in its lives has left"
    );
}

#[test]
fn who_sends_over_a_bridge_that_floods_and_is_watched_is_killed_over_and_over() {
    let scene = Scene::new(
        r#"
[platform]
buffers = 8192
alive_s = 60
[ports]
a = { pcap = "$IN", rate = "lossless", loop = 0 }
b = { pcap = "$IN", rate = "lossless", loop = 0 }
c = { pcap = "$IN", rate = "lossless", loop = 0 }
[devices.switch]
mode = "bridge"
ports = ["a", "b", "c"]
[devices.watch]
mode = "bond"
ports = ["a", "b", "c"]
receive = { a = { match = "all", direction = "inout" }, b = { match = "all", direction = "inout" }, c = { match = "all", direction = "inout" } }
[nfs.watcher]
devices = ["watch:rx"]
[nfs.victim]
devices = ["switch"]
memory = "64K"
"#,
    );
    let known: HashSet<Vec<u8>> = bytes_of(&traffic()).into_iter().collect();
    let left = Arc::new(AtomicU64::new(0));
    let outbound = Arc::clone(&left);
    let watcher = scene.watch("watcher", "watch", move |burst| {
        let readable = burst.readable().unwrap();
        for index in 0..burst.len() {
            assert!(known.contains(readable.frame(index).unwrap()));
            let leaves = readable.is_outbound(index).unwrap();
            outbound.fetch_add(u64::from(leaves), Ordering::Relaxed);
        }
    });
    let words = ["victim", "switch", "--to", "switch"];
    let stats = scene.kill(&words, &watcher, kills() / 2, &["a", "b", "c"]);
    let (seen, ports) = (watcher.end(), ["a", "b", "c"]);
    let left_by_all: u64 = ports.iter().map(|port| accepted(&stats, port)).sum();
    lost_nothing(&stats, "watcher");
    assert_eq!(
        left.load(Ordering::Relaxed),
        left_by_all,
        "all that left was shown"
    );
    assert_eq!(
        seen,
        dispatched(&stats, &ports) + left_by_all,
        "and all that came"
    );
    let victim = books(&stats, "victim", "switch");
    let sent = number(&victim["out"]["sent"]);
    assert!(
        sent > 0 && left_by_all >= sent && left_by_all <= 2 * sent,
        "{left_by_all} of {sent}"
    );
}

#[test]
fn who_sends_over_a_bond_is_killed_over_and_over() {
    let scene = Scene::endless(
        r#"
x = { out = "/dev/null" }
y = { out = "/dev/null" }
[devices.feed]
mode = "direct"
ports = ["in"]
[devices.bond]
mode = "bond"
ports = ["x", "y"]
receive = {}
[nfs.witness]
devices = ["feed:rx"]
[nfs.victim]
devices = ["feed:rx", "bond:tx"]
memory = "64K"
"#,
    );
    let all = in_order(bytes_of(&traffic()));
    let witness = scene.watch("witness", "feed", all);
    let words = ["victim", "feed", "--to", "bond"];
    let stats = scene.kill(&words, &witness, kills(), &["in"]);
    assert_eq!(
        witness.end(),
        dispatched(&stats, &["in"]),
        "nobody else missed a packet"
    );
    let [x, y] = ["x", "y"].map(|port| number(&stats["ports"][port]["tx"]["transmitted"]));
    let victim = books(&stats, "victim", "feed");
    assert_eq!(
        x + y,
        number(&victim["out"]["sent"]),
        "what it sent in its lives has left"
    );
    assert!(
        x.abs_diff(y) <= 1,
        "by turns, over all its lives: {x} and {y}"
    );
}
