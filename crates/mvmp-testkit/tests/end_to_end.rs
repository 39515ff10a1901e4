//! From a port, through a policy, to NFs and back: a real platform with real ports; the NFs live in
//! this process, over the same sockets and regions as any other.

use std::time::Duration;

use mvmp_nf::{Burst, Handle, Link, Nf, OpenOptions, Which};
use mvmp_testkit::{
    Stage, all_handles, books, bytes_of, frames, number, open, record, send_all, serve, traffic,
};
use serde_json::Value;

const BRIDGE: &str = r#"
[platform]
buffers = 2048
[ports]
in = { pcap = "$IN", rate = "lossless" }
out = { out = "$DIR/out.pcapng" }
[devices.bridge0]
mode = "bridge"
ports = ["in", "out"]
[nfs.wire]
devices = ["bridge0"]
"#;

#[test]
fn a_capture_goes_through_an_nf_and_comes_out_byte_equal_with_its_times() {
    let mut stage = Stage::new(BRIDGE);
    let (nf, bridge) = stage.open("wire", "bridge0");
    let expected = frames(&traffic());
    assert_eq!(
        serve(&bridge, |burst| send_all(&bridge, burst)),
        expected.len() as u64
    );
    let stats = stage.settle();
    assert_eq!(
        number(&stats["ports"]["out"]["tx"]["transmitted"]),
        expected.len() as u64
    );
    nf.close();
    stage.platform.stop();
    assert_eq!(frames(&stage.path("out.pcapng")), expected);
}

#[test]
fn sixty_three_handles_on_one_device_each_get_every_packet() {
    let stage = Stage::new(
        r#"
[platform]
buffers = 8192
[ports]
in = { pcap = "$IN", rate = "lossless" }
[devices.watch]
mode = "direct"
ports = ["in"]
[nfs.ids]
devices = ["watch:rx"]
instances = 63
"#
        .replace("in = {", "in = { wait_for = 63,")
        .as_str(),
    );
    let nfs: Vec<Nf> = (0..63).map(|_| stage.nf("ids")).collect();
    let handles: Vec<Handle> = nfs.iter().map(|nf| open(nf, "watch")).collect();
    let expected = frames(&traffic()).len() as u64;
    let threads: Vec<_> = handles
        .iter()
        .cloned()
        .map(|handle| std::thread::spawn(move || serve(&handle, |_| {})))
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), expected);
    }
    stage.settle();
}

#[test]
fn a_chain_over_rootless_devices_ends_in_order() {
    let mut stage = Stage::new(
        r#"
[platform]
buffers = 4096
[ports]
in = { pcap = "$IN", rate = "lossless" }
out = { out = "$DIR/out.pcapng" }
[devices.bridge0]
mode = "bridge"
ports = ["in", "out"]
[devices.virt0]
mode = "rootless"
[devices.virt1]
mode = "rootless"
[nfs.first]
devices = ["bridge0:rx", "virt0:tx"]
[nfs.second]
devices = ["virt0:rx", "virt1:tx"]
[nfs.third]
devices = ["virt1:rx", "bridge0:tx"]
[nfs.watcher]
devices = ["virt0:rx"]
"#,
    );
    let expected = frames(&traffic());
    let chain = [
        ("first", "bridge0", "virt0"),
        ("second", "virt0", "virt1"),
        ("third", "virt1", "bridge0"),
    ];
    let nfs: Vec<(Nf, Handle, Handle)> = chain
        .iter()
        .map(|(role, from, to)| {
            let nf = stage.nf(role);
            let [from, to] = [from, to].map(|device| open(&nf, device));
            (nf, from, to)
        })
        .collect();
    let (watcher, watched) = stage.open("watcher", "virt0");
    let mut threads: Vec<_> = nfs
        .into_iter()
        .map(|(nf, from, to)| {
            std::thread::spawn(move || {
                let count = serve(&from, |burst| send_all(&to, burst));
                nf.close();
                count
            })
        })
        .collect();
    threads.push(std::thread::spawn(move || serve(&watched, |_| {})));
    for thread in threads {
        assert_eq!(thread.join().unwrap(), expected.len() as u64);
    }
    stage.settle();
    drop(watcher);
    stage.platform.stop();
    assert_eq!(frames(&stage.path("out.pcapng")), expected);
}

#[test]
fn policies_choose_and_what_nobody_wants_is_a_named_drop() {
    let stage = Stage::new(
        r#"
[platform]
buffers = 2048
[ports]
in = { pcap = "$IN", rate = "lossless" }
[devices.web]
mode = "direct"
ports = ["in"]
receive = { in = "tcp port 23" }
[nfs.dpi]
devices = ["web:rx"]
"#,
    );
    let (_nf, web) = stage.open("dpi", "web");
    let facts: Value =
        serde_json::from_str(&std::fs::read_to_string(traffic().with_extension("json")).unwrap())
            .unwrap();
    let telnet = number(&facts["packets"]) - number(&facts["not_tcp_port_23"]["frames"]);
    assert_eq!(serve(&web, |_| {}), telnet);
    let stats = stage.settle();
    assert_eq!(
        number(&stats["ports"]["in"]["drops"]["unmatched"]),
        number(&facts["not_tcp_port_23"]["frames"])
    );
}

#[test]
fn a_mirror_keeps_ours_and_a_buffer_that_others_hold_can_be_sent() {
    let mut stage = Stage::new(
        &BRIDGE.replace("devices = [\"bridge0\"]\n", "devices = [\"bridge0\", \"virt0\"]\n[devices.virt0]\nmode = \"rootless\"\n[nfs.tap]\ndevices = [\"virt0:rx\"]\n"),
    );
    let (nf, tap) = (stage.nf("wire"), stage.nf("tap"));
    let [bridge, virt] = ["bridge0", "virt0"].map(|device| open(&nf, device));
    let tapped = open(&tap, "virt0");
    let expected = frames(&traffic());
    let watcher = std::thread::spawn(move || serve(&tapped, |_| {}));
    let count = serve(&bridge, |burst| {
        assert_eq!(
            virt.mirror_within(burst, &Which::All, None, None, &|| false)
                .unwrap(),
            burst.len()
        );
        send_all(&bridge, burst);
    });
    nf.close();
    assert_eq!(count, expected.len() as u64);
    assert_eq!(watcher.join().unwrap(), count);
    stage.settle();
    stage.platform.stop();
    assert_eq!(frames(&stage.path("out.pcapng")), expected);
}

#[test]
fn frames_that_an_nf_builds_leave_by_the_port_that_it_names() {
    let mut stage = Stage::new(BRIDGE);
    let (nf, bridge) = stage.open("wire", "bridge0");
    serve(&bridge, |_| {});
    let built: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; 60 + n as usize]).collect();
    for frame in &built {
        let sent = bridge
            .send_within(&[frame], Some(0), Link::Ethernet, None, &|| false)
            .unwrap();
        assert_eq!(sent, 1);
    }
    stage.settle();
    nf.close();
    stage.platform.stop();
    assert_eq!(bytes_of(&stage.path("out.pcapng")), built);
}

#[test]
fn frames_of_every_length_up_to_9600_pass() {
    let one = tempfile::tempdir().unwrap();
    let input = one.path().join("lengths.pcapng");
    let lengths = (0..200)
        .chain((200..9600).step_by(97))
        .chain([9599, 9600, 9601]);
    record(
        &input,
        lengths.map(|length| (vec![length as u8; length], length as u32)),
    );
    let mut stage = Stage::new(&BRIDGE.replace("$IN", input.to_str().unwrap()));
    let (nf, bridge) = stage.open("wire", "bridge0");
    let mut expected = frames(&input);
    assert_eq!(expected.pop().unwrap().0.len(), 9601);
    assert_eq!(
        serve(&bridge, |burst| send_all(&bridge, burst)),
        expected.len() as u64
    );
    let stats = stage.settle();
    assert_eq!(number(&stats["ports"]["in"]["drops"]["too_long"]), 1);
    nf.close();
    stage.platform.stop();
    assert_eq!(frames(&stage.path("out.pcapng")), expected);
}

#[test]
fn a_platform_starts_and_stops_many_times_in_one_process() {
    for _ in 0..5 {
        let stage = Stage::new(
            "[ports]\nNIC = \"net_null0\"\n[devices.d]\nmode = \"direct\"\nports = [\"NIC\"]\n[nfs.a]\ndevices = [\"d\"]\n",
        );
        let (_nf, handle) = stage.open("a", "d");
        let mut burst = Burst::new();
        while handle.rx_burst(32, &mut burst).unwrap() == 0 {
            handle
                .wait(Some(Duration::from_secs(10)), &|| false)
                .unwrap();
        }
        send_all(&handle, &mut burst);
    }
}

#[test]
fn a_full_disk_is_a_named_drop_and_the_stream_still_ends() {
    let stage = Stage::new(&BRIDGE.replace("$DIR/out.pcapng", "/dev/full"));
    let (_nf, bridge) = stage.open("wire", "bridge0");
    let count = serve(&bridge, |burst| send_all(&bridge, burst));
    let out = &stage.settle()["ports"]["out"];
    assert_eq!(number(&out["tx"]["drops"]["write_failed"]), count);
    assert!(
        out["faults"][0].as_str().unwrap().contains("/dev/full"),
        "{out}"
    );
}

#[test]
fn what_no_receivers_match_wants_is_a_named_drop_of_the_sender() {
    let stage = Stage::new(
        r#"
[platform]
buffers = 2048
[ports]
in = { pcap = "$IN", rate = "lossless" }
[devices.nic]
mode = "direct"
ports = ["in"]
[devices.virt0]
mode = "rootless"
[nfs.sender]
devices = ["nic:rx", "virt0:tx"]
[nfs.picky]
devices = ["virt0:rx"]
"#,
    );
    let (sender, picky) = (stage.nf("sender"), stage.nf("picky"));
    let [nic, virt] = ["nic", "virt0"].map(|device| open(&sender, device));
    let rule = OpenOptions {
        rule: Some("tcp port 23".into()),
        ..OpenOptions::default()
    };
    let picked = picky.open("virt0", rule).unwrap();
    let receiver = std::thread::spawn(move || serve(&picked, |_| {}));
    let sent = serve(&nic, |burst| send_all(&virt, burst));
    sender.close();
    let got = receiver.join().unwrap();
    assert!(
        0 < got && got < sent,
        "the rule wants some, not all: {got} of {sent}"
    );
    let stats = stage.settle();
    let no_receiver: u64 = all_handles(&stats)
        .map(|handle| handle["out"]["drops"]["no_receiver"].as_u64().unwrap_or(0))
        .sum();
    assert_eq!(sent, got + no_receiver);
    let came_by = &books(&stats, "sender", "nic")["out"];
    assert_eq!(number(&came_by["forwarded"]), got);
    assert_eq!(number(&came_by["no_way"]), no_receiver);
    assert_eq!(number(&came_by["released"]), no_receiver);
}
