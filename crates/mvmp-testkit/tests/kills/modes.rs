//! The victim in a group, on a device that decapsulates, on a bridge that floods, on a bond.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mvmp_nf::{Burst, Link, OpenOptions};
use mvmp_testkit::{Stage, frames, number, traffic};
use mvmp_wire::packet::encap::{ENCAP_BYTES_MAX, Encap, EncapLayer, EncapSpec, Tunnel};
use serde_json::{Value, json};

use crate::campaign::{Bystander, books, campaign, come_to_rest, dispatched, kills};

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

fn bytes_of(path: &Path) -> Vec<Vec<u8>> {
    frames(path).into_iter().map(|(bytes, ..)| bytes).collect()
}

fn watch(
    stage: &Stage,
    (role, device): (&str, &str),
    stop: &Arc<AtomicBool>,
    work: impl FnMut(&mut Burst) + Send + 'static,
) -> Bystander {
    let nf = stage.nf(role);
    let handle = nf.open(device, OpenOptions::default()).unwrap();
    Bystander::new(nf, handle, stop, work)
}

/// Every live and closed account of a role says that nothing was lost on the way to it.
fn lost_nothing(stats: &Value, role: &str) {
    let handles = ["handles", "closed_handles"].map(|list| stats[list].as_array().unwrap());
    for handle in handles
        .into_iter()
        .flatten()
        .filter(|handle| handle["role"] == role)
    {
        assert_eq!(handle["drops"], json!({}), "{handle}");
    }
}

#[test]
fn one_of_three_in_a_group_is_killed_over_and_over() {
    let stage = Stage::new(
        r#"
[platform]
buffers = 4096
alive_s = 60
[ports]
in = { pcap = "$IN", rate = "lossless", loop = 0 }
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
    let stop = Arc::new(AtomicBool::new(false));
    let all = bytes_of(&traffic());
    let known: HashSet<Vec<u8>> = all.iter().cloned().collect();
    let witness = watch(&stage, ("all", "shared"), &stop, in_order(all));
    let members = ["one", "two"].map(|role| {
        let known = known.clone();
        watch(&stage, (role, "shared"), &stop, move |burst| {
            for index in 0..burst.len() {
                assert!(known.contains(burst.frame(index).unwrap()));
            }
        })
    });
    campaign(
        &stage,
        &["victim", "shared", "--to", "shared"],
        &witness,
        kills(),
    );
    let stats = come_to_rest(&stage, &["in"]);
    stop.store(true, Ordering::Release);
    let dispatched = dispatched(&stats, &["in"]);
    assert_eq!(witness.end(), dispatched, "nobody else missed a packet");
    let victim = number(&books(&stats, "closed_handles", "victim", "shared")["delivered"]);
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

/// The project's capture, each frame in VXLAN: the file, and its frames.
fn in_vxlan(folder: &Path) -> (PathBuf, Vec<Vec<u8>>) {
    let end = |last| IpAddr::from(Ipv4Addr::new(192, 0, 2, last));
    let tunnel = Tunnel {
        local: end(1),
        remote: end(7),
        ttl: 64,
    };
    let layers = vec![EncapLayer::Vxlan {
        vni: 42,
        port: 4789,
        tunnel,
    }];
    let encap = Encap::new(&EncapSpec { layers }, Some([2; 12])).unwrap();
    let mut file = Vec::new();
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1] {
        file.extend(word.to_le_bytes());
    }
    let (mut all, mut out) = (Vec::new(), [0; ENCAP_BYTES_MAX]);
    for frame in bytes_of(&traffic()) {
        let built = encap.build(&frame, Link::Ethernet, 7, &mut out).unwrap();
        let whole = [&out[..built.headers], &frame[built.skip..]].concat();
        let length = whole.len() as u32;
        [1, 0, length, length]
            .iter()
            .for_each(|word| file.extend(word.to_le_bytes()));
        file.extend(&whole);
        all.push(whole);
    }
    let path = folder.join("vxlan.pcap");
    std::fs::write(&path, file).unwrap();
    (path, all)
}

#[test]
fn who_sees_the_inside_of_a_port_that_others_see_whole_is_killed_over_and_over() {
    let folder = tempfile::tempdir().unwrap();
    let (path, whole) = in_vxlan(folder.path());
    let stage = Stage::new(
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
    let stop = Arc::new(AtomicBool::new(false));
    let outer = watch(&stage, ("whole", "whole"), &stop, in_order(whole));
    let inner = watch(
        &stage,
        ("inside", "inside"),
        &stop,
        in_order(bytes_of(&traffic())),
    );
    campaign(
        &stage,
        &["victim", "inside", "--to", "inside"],
        &outer,
        kills(),
    );
    let stats = come_to_rest(&stage, &["in"]);
    stop.store(true, Ordering::Release);
    let dispatched = dispatched(&stats, &["in"]);
    assert_eq!(
        [outer.end(), inner.end()],
        [dispatched; 2],
        "nobody else missed a packet"
    );
    let victim = books(&stats, "closed_handles", "victim", "inside");
    assert_eq!(
        number(&victim["out"]["sent"]),
        number(&stats["ports"]["in"]["tx"]["accepted"]),
        "what it sent in its lives has left"
    );
}

#[test]
fn who_sends_over_a_bridge_that_floods_and_is_watched_is_killed_over_and_over() {
    let stage = Stage::new(
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
    let stop = Arc::new(AtomicBool::new(false));
    let known: HashSet<Vec<u8>> = bytes_of(&traffic()).into_iter().collect();
    let left = Arc::new(AtomicU64::new(0));
    let outbound = Arc::clone(&left);
    let watcher = watch(&stage, ("watcher", "watch"), &stop, move |burst| {
        let readable = burst.readable().unwrap();
        for index in 0..burst.len() {
            assert!(known.contains(readable.frame(index).unwrap()));
            let leaves = readable.is_outbound(index).unwrap();
            outbound.fetch_add(u64::from(leaves), Ordering::Relaxed);
        }
    });
    campaign(
        &stage,
        &["victim", "switch", "--to", "switch"],
        &watcher,
        kills() / 2,
    );
    let stats = come_to_rest(&stage, &["a", "b", "c"]);
    stop.store(true, Ordering::Release);
    let (seen, ports) = (watcher.end(), ["a", "b", "c"]);
    let accepted: u64 = ports
        .iter()
        .map(|port| number(&stats["ports"][port]["tx"]["accepted"]))
        .sum();
    lost_nothing(&stats, "watcher");
    assert_eq!(
        left.load(Ordering::Relaxed),
        accepted,
        "all that left was shown"
    );
    assert_eq!(
        seen,
        dispatched(&stats, &ports) + accepted,
        "and all that came"
    );
    let victim = books(&stats, "closed_handles", "victim", "switch");
    let sent = number(&victim["out"]["sent"]);
    assert!(
        sent > 0 && accepted >= sent && accepted <= 2 * sent,
        "{accepted} of {sent}"
    );
}

#[test]
fn who_sends_over_a_bond_is_killed_over_and_over() {
    let stage = Stage::new(
        r#"
[platform]
buffers = 4096
alive_s = 60
[ports]
in = { pcap = "$IN", rate = "lossless", loop = 0 }
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
    let stop = Arc::new(AtomicBool::new(false));
    let all = in_order(bytes_of(&traffic()));
    let witness = watch(&stage, ("witness", "feed"), &stop, all);
    campaign(
        &stage,
        &["victim", "feed", "--to", "bond"],
        &witness,
        kills(),
    );
    let stats = come_to_rest(&stage, &["in"]);
    stop.store(true, Ordering::Release);
    assert_eq!(
        witness.end(),
        dispatched(&stats, &["in"]),
        "nobody else missed a packet"
    );
    let [x, y] = ["x", "y"].map(|port| number(&stats["ports"][port]["tx"]["transmitted"]));
    let victim = books(&stats, "closed_handles", "victim", "feed");
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
