//! Runs that leave by NICs in one go: they say and do the same as what leaves packet by packet.

use mvmp_nf::{Burst, Handle, Nf, Which};
use mvmp_testkit::{
    Stage, books, bytes_of, in_vxlan, number, open, record, send_all, serve, traffic,
};
use serde_json::Value;

/// A file with these frames.
fn capture_of(frames: &[Vec<u8>]) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".pcap").tempfile().unwrap();
    let all = frames.iter();
    record(
        file.path(),
        all.map(|frame| (frame.clone(), frame.len() as u32)),
    );
    file
}

fn opened(stage: &Stage, devices: &[&str]) -> (Nf, Vec<Handle>) {
    let nf = stage.nf("wire");
    let handles = devices.iter().map(|device| open(&nf, device)).collect();
    (nf, handles)
}

fn transmitted(stats: &Value, port: &str) -> u64 {
    number(&stats["ports"][port]["tx"]["transmitted"])
}

#[test]
fn a_bond_spreads_runs_over_nics_as_it_spreads_packets_over_files() {
    for policy in ["round-robin", "hash", "active-backup"] {
        let stage = Stage::new(
            &r#"
[ports]
in = { pcap = "$IN", rate = "lossless" }
f0 = { out = "$DIR/0.pcapng" }
f1 = { out = "$DIR/1.pcapng" }
f2 = { out = "$DIR/2.pcapng" }
n0 = "net_null0,no-rx=1"
n1 = "net_null1,no-rx=1"
n2 = "net_null2,no-rx=1"
[devices.in]
mode = "direct"
ports = ["in"]
[devices.files]
mode = "bond"
ports = ["f0", "f1", "f2"]
send = { policy = "POLICY" }
[devices.nics]
mode = "bond"
ports = ["n0", "n1", "n2"]
send = { policy = "POLICY" }
[nfs.wire]
devices = ["in:rx", "files:tx", "nics:tx"]
"#
            .replace("POLICY", policy),
        );
        let (nf, handles) = opened(&stage, &["in", "files", "nics"]);
        let count = serve(&handles[0], |burst| {
            handles[1].mirror(burst, &Which::All, None).unwrap();
            send_all(&handles[2], burst);
        });
        nf.close();
        let stats = stage.settle();
        let by = |kind: &str| [0, 1, 2].map(|n| transmitted(&stats, &format!("{kind}{n}")));
        assert_eq!(by("n").iter().sum::<u64>(), count, "{policy}");
        assert_eq!(by("n"), by("f"), "{policy}");
    }
}

#[test]
fn a_switch_learns_sends_runs_and_floods_in_between() {
    let frame = |to: u8, number: u8| {
        let mut frame = vec![number; 60];
        frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, 1, 8, 0]);
        frame
    };
    // The first is flooded, comes back by both rings, and its sender is behind the last of them then.
    let run = [1, 1, 1, 9, 1, 1];
    let mut all = vec![frame(9, 0)];
    all.extend((1..).zip(run).map(|(number, to)| frame(to, number)));
    let file = capture_of(&all);
    let stage = Stage::new(
        &r#"
[ports]
in = { pcap = "$FILE", rate = "max", wait_for = 1 }
ring0 = "net_ring0"
ring1 = "net_ring1"
null = "net_null0,no-rx=1"
[devices.in]
mode = "direct"
ports = ["in"]
[devices.switch]
mode = "bridge"
ports = ["ring0", "ring1", "null"]
[nfs.wire]
devices = ["in:rx", "switch"]
"#
        .replace("$FILE", file.path().to_str().unwrap()),
    );
    let (nf, handles) = opened(&stage, &["in", "switch"]);
    let null = Some(3);
    let [input, switch] = &handles[..] else {
        unreachable!()
    };
    let received = |ring: &str, wanted: u64| {
        stage.await_stats("what was sent comes back", |stats| {
            number(&stats["ports"][ring]["received"]) == wanted
        });
    };
    stage.await_stats("all is there", |stats| {
        number(&stats["ports"]["in"]["dispatched"]) == all.len() as u64
    });
    let mut burst = Burst::new();
    assert_eq!(input.rx_burst(1, &mut burst).unwrap(), 1);
    switch.tx_burst(&mut burst, &Which::All, null).unwrap();
    received("ring0", 1);
    received("ring1", 1);
    assert_eq!(input.rx_burst(32, &mut burst).unwrap(), run.len());
    switch.tx_burst(&mut burst, &Which::All, null).unwrap();
    received("ring0", 2);
    received("ring1", 1 + run.len() as u64);
    let mut by_ring = [Vec::new(), Vec::new()];
    let mut back = Burst::new();
    while by_ring.iter().map(Vec::len).sum::<usize>() < 3 + run.len() {
        for n in 0..switch.rx_burst(32, &mut back).unwrap() {
            let ring = usize::from(back.record(n).unwrap().in_port) - 1;
            by_ring[ring].push(back.frame(n).unwrap()[20]);
        }
    }
    assert_eq!(by_ring, [vec![0, 4], vec![0, 1, 2, 3, 4, 5, 6]]);
    drop((burst, back));
    nf.close();
    stage.settle();
}

#[test]
fn what_was_decapsulated_leaves_whole_by_a_nic() {
    let inner = bytes_of(&traffic());
    let folder = tempfile::tempdir().unwrap();
    let (file, outer) = in_vxlan(folder.path());
    let stage = Stage::new(
        &r#"
[ports]
in = { pcap = "$FILE", rate = "lossless", wait_for = 1 }
ring = { devargs = "net_ring0", max_frame = 9000 }
[devices.inside]
mode = "direct"
ports = ["in"]
receive = { in = { decap = ["vxlan"] } }
[devices.ring]
mode = "direct"
ports = ["ring"]
[nfs.wire]
devices = ["inside:rx", "ring"]
"#
        .replace("$FILE", file.to_str().unwrap()),
    );
    let (nf, handles) = opened(&stage, &["inside", "ring"]);
    let (mut at, mut back) = (0, Vec::new());
    let mut burst = Burst::new();
    let mut collect = |back: &mut Vec<Vec<u8>>| {
        let count = handles[1].rx_burst(64, &mut burst).unwrap();
        back.extend((0..count).map(|n| burst.frame(n).unwrap().to_vec()));
        burst.release();
    };
    serve(&handles[0], |burst| {
        for n in 0..burst.len() {
            assert_eq!(burst.frame(n).unwrap(), inner[at], "packet {at}");
            at += 1;
        }
        send_all(&handles[1], burst);
        collect(&mut back);
    });
    stage.await_stats("all have come round", |stats| {
        number(&stats["ports"]["ring"]["received"]) == outer.len() as u64
    });
    while back.len() < outer.len() {
        collect(&mut back);
    }
    assert_eq!(back, outer);
    nf.close();
    stage.settle();
}

#[test]
fn what_a_nic_cannot_take_is_dropped_by_name_and_the_rest_of_its_run_is_sent() {
    let lengths = [60, 13, 14, 1522, 1523, 60, 3000, 60];
    let frames: Vec<Vec<u8>> = lengths.iter().map(|&length| vec![2; length]).collect();
    let file = capture_of(&frames);
    let stage = Stage::new(
        &r#"
[ports]
in = { pcap = "$FILE", rate = "lossless", wait_for = 1 }
nic = "net_null0,no-rx=1"
[devices.in]
mode = "direct"
ports = ["in"]
[devices.nic]
mode = "direct"
ports = ["nic"]
[nfs.wire]
devices = ["in:rx", "nic:tx"]
"#
        .replace("$FILE", file.path().to_str().unwrap()),
    );
    let (nf, handles) = opened(&stage, &["in", "nic"]);
    assert_eq!(serve(&handles[0], |burst| send_all(&handles[1], burst)), 8);
    nf.close();
    let stats = stage.settle();
    assert_eq!(transmitted(&stats, "nic"), 5);
    assert_eq!(
        books(&stats, "wire", "nic")["out"]["drops"],
        serde_json::json!({ "bad_frame": 1, "mtu_exceeded": 2 })
    );
}
