//! Lies told to devices of all modes: tables of devices that an NF defines, ports that do not
//! exist, hop bytes, frames too short for any header. Whatever is said, an honest sharer misses
//! nothing, each packet is accounted for, and every buffer comes home.

use mvmp_testkit::{
    LyingHandle, LyingNf, Stage, books, frames, number, record, send_all, serve, traffic,
};
use mvmp_wire::message::{ErrorCode, FromPlatform, ToPlatform};
use mvmp_wire::{Descriptor, Op, PRIVATE_POOL};
use rand::RngExt;
use serde_json::{Value, json};

const PASSES: u64 = 20;

const DEVICES: &str = r#"
[platform]
buffers = 4096
alive_s = 600
[ports]
a = { pcap = "$IN", rate = "lossless", loop = 20, wait_for = ["honest"] }
b = { out = "/dev/null" }
c = { out = "/dev/null" }
[devices.shared]
mode = "direct"
ports = ["a"]
[devices.bond]
mode = "bond"
ports = ["b", "c"]
receive = {}
[devices.switch]
mode = "bridge"
ports = ["a", "b", "c"]
receive = {}
[devices.pass]
mode = "bridge"
ports = ["a", "b"]
absent = "bypass"
receive = { a = "udp" }
[devices.tunnel]
mode = "direct"
ports = ["b"]
receive = {}
send = { b = { encap = { vxlan = { vni = 42, local = "192.0.2.1", remote = "192.0.2.7" } }, ethernet = { src = "02:00:00:00:00:01", dst = "02:00:00:00:00:02" } } }
[devices.retag]
mode = "bridge"
ports = ["a", "b"]
receive = {}
send = { policy = "opposite", a = { encap = { vlan = "pop" } }, b = { encap = { vlan = 7 } } }
[nfs.honest]
devices = ["shared:rx"]
[nfs.liar]
devices = ["shared", "bond:tx", "switch:tx", "pass:tx", "tunnel:tx", "retag:tx"]
may_define = ["a"]
instances = 12
"#;

const SENDING: [&str; 5] = ["bond", "switch", "pass", "tunnel", "retag"];

fn liar(stage: &Stage) -> LyingNf {
    LyingNf::connect(&stage.socket_of("liar"), "liar")
}

/// Lets the honest NF begin while `lies` goes on; it must receive everything.
fn beside_an_honest_nf(stage: &Stage, lies: impl FnOnce()) -> Value {
    let (honest, shared) = stage.open("honest", "shared");
    let expected = frames(&traffic()).len() as u64 * PASSES;
    let count = std::thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&shared, |_| {}));
        lies();
        serving.join().unwrap()
    });
    assert_eq!(count, expected, "the honest NF got every packet");
    honest.close();
    stage.await_gone("liar");
    stage.settle()
}

fn define(liar: &LyingNf, name: &str, table: Value) -> Result<(), (ErrorCode, String)> {
    liar.say(&ToPlatform::Open {
        device: name.into(),
        rx: Some(false),
        tx: Some(true),
        rule: None,
        ring: None,
        define: Some(table),
    });
    let answered = |message: &FromPlatform| {
        matches!(
            message,
            FromPlatform::Opened { .. } | FromPlatform::Error { .. }
        )
    };
    match liar.hear_until("an answer", answered).0 {
        FromPlatform::Error { code, message, .. } => Err((code, message)),
        _ => Ok(()),
    }
}

fn absurd_tables() -> Vec<(String, Value)> {
    let direct =
        |receive: Value| json!({ "mode": "direct", "ports": ["a"], "receive": { "a": receive } });
    let mut deep = json!("all");
    for _ in 0..60 {
        deep = json!({ "match": deep });
    }
    let mut tables = vec![
        ("n".into(), json!(null)),
        ("n".into(), json!([])),
        ("n".into(), json!({})),
        ("n".into(), json!({ "mode": 7, "ports": "a" })),
        ("n".into(), json!({ "mode": "direct", "ports": [] })),
        ("n".into(), json!({ "mode": "direct", "ports": ["a", "a"] })),
        (
            "n".into(),
            json!({ "mode": "bridge", "ports": vec!["a"; 2_000] }),
        ),
        (
            "n".into(),
            json!({ "mode": "bridge", "ports": ["a", -1, 1e300, true, {}] }),
        ),
        (
            "n".into(),
            json!({ "mode": "direct", "ports": ["a"], "send": { "a": { "encap": vec![json!({ "vlan": 1 }); 500] } } }),
        ),
        (
            "n".into(),
            json!({ "mode": "direct", "ports": ["a"], "send": { "a": { "encap": { "vxlan": { "vni": u64::MAX } } } } }),
        ),
        ("n".into(), direct(deep)),
        ("n".into(), direct(json!("(".repeat(20_000)))),
        ("n".into(), direct(json!("not ".repeat(5_000)))),
        (
            "n".into(),
            direct(
                json!({ "match": "all", "decap": vec!["vxlan"; 3_000], "direction": "sideways" }),
            ),
        ),
        (String::new(), direct(json!("all"))),
        ("n".repeat(20_000), direct(json!("all"))),
        ("../../\u{0}\n".into(), direct(json!("all"))),
    ];
    // Granted is `a` alone; `z` does not exist.
    for ports in [json!(["b"]), json!(["a", "b"]), json!(["z"])] {
        tables.push(("n".into(), json!({ "mode": "bridge", "ports": ports })));
    }
    tables
}

#[test]
fn absurd_devices_of_an_nfs_own_are_refused_and_leave_nothing_behind() {
    let stage = Stage::new(DEVICES);
    let before = stage.platform.stats()["devices"].clone();
    let lies = || {
        let liar = liar(&stage);
        for (name, table) in absurd_tables() {
            let refused = define(&liar, &name, table.clone());
            let shown: String = format!("{name}: {table}").chars().take(200).collect();
            assert!(refused.is_err(), "{shown}");
            assert_eq!(stage.platform.stats()["devices"], before, "{shown}");
        }
        let fine = json!({ "mode": "direct", "ports": ["a"], "receive": { "a": "udp" } });
        for n in 0..8 {
            define(&liar, &format!("own{n}"), fine.clone()).unwrap();
        }
        let (code, message) = define(&liar, "own0", fine.clone()).unwrap_err();
        assert!(message.contains("already"), "{code:?} {message}");
        let (code, message) = define(&liar, "own8", fine).unwrap_err();
        assert!(message.contains("at most 8"), "{code:?} {message}");
    };
    beside_an_honest_nf(&stage, lies);
    stage.await_stats("its devices are gone", |stats| stats["devices"] == before);
}

#[test]
fn many_nfs_together_define_no_more_devices_than_a_port_has_cells() {
    let stage = Stage::new(DEVICES);
    let fine = json!({ "mode": "direct", "ports": ["a"], "receive": { "a": "tcp" } });
    let crowd: Vec<LyingNf> = (0..12).map(|_| liar(&stage)).collect();
    let mut made = 0;
    for (n, liar) in crowd.iter().enumerate() {
        for own in 0..8 {
            match define(liar, &format!("own{own}"), fine.clone()) {
                Ok(()) => made += 1,
                Err((code, message)) => assert_eq!(code, ErrorCode::NoRoom, "{n}: {message}"),
            }
        }
    }
    let devices = stage.platform.stats()["devices"].as_object().unwrap().len();
    assert_eq!((made, devices), (64 - 6, 64), "six are the file's");
    let stats = beside_an_honest_nf(&stage, || drop(crowd));
    assert!(
        number(&stats["ports"]["a"]["bypassed"]) > 0,
        "the bypass is among them"
    );
}

/// A descriptor of what is lent, with everything that is the NF's to say said at random.
fn lie_about(lent: &Descriptor, handles: &[u8]) -> Descriptor {
    let mut rng = rand::rng();
    let ports = [u16::MAX, u16::MAX - 1, 0, 1, 2, 3, 31, 255, rng.random()];
    let handle = handles[rng.random_range(0..handles.len())];
    let args = [handle, handle, handle, handle | 0x80, rng.random()];
    Descriptor {
        op: [Op::Forward, Op::Mirror][rng.random_range(0..2)] as u8,
        arg: args[rng.random_range(0..args.len())],
        offset: ports[rng.random_range(0..ports.len())],
        length: rng.random(),
        hop: rng.random(),
        ..*lent
    }
}

#[test]
fn ports_that_do_not_exist_hops_and_lengths_are_at_the_most_the_liars_own_loss() {
    let stage = Stage::new(DEVICES);
    let mut liar = liar(&stage);
    let handles: Vec<u8> = SENDING
        .iter()
        .map(|device| liar.open(device).number)
        .collect();
    // Open before the stream begins, and dropped at the end of the lies.
    let mut shared: LyingHandle = liar.open("shared");
    let platform = &stage.platform;
    let lies = move || {
        for _ in 0..60 {
            let mut words = Vec::new();
            for lent in liar.take(&mut shared, 16) {
                let lie = lie_about(&lent, &handles);
                words.push(lie);
                if lie.op == Op::Mirror as u8 {
                    words.push(Descriptor {
                        op: Op::Release as u8,
                        arg: 0xff,
                        ..lent
                    });
                }
            }
            assert!(liar.present(&words), "none of this is a breach");
        }
        let stats = platform.stats();
        assert_eq!(
            number(&stats["nfs"]["liar/0"]["refused"]),
            0,
            "each had an open share"
        );
    };
    beside_an_honest_nf(&stage, lies);
}

/// A frame of private memory, of this length, to go out over a handle as if it had come by port `hop`.
fn built(over: u8, length: u16, hop: u8) -> Descriptor {
    Descriptor {
        pool: PRIVATE_POOL,
        length,
        hop,
        op: Op::Forward as u8,
        arg: over,
        ..Descriptor::default()
    }
}

#[test]
fn built_frames_too_short_for_a_header_leave_whole_or_under_a_name() {
    let stage = Stage::new(DEVICES);
    let lies = || {
        let mut liar = liar(&stage);
        let handles = SENDING.map(|device| liar.open(device).number);
        for over in handles {
            for hop in 0..=u8::MAX {
                let all: Vec<Descriptor> = (0..20).map(|length| built(over, length, hop)).collect();
                assert!(liar.present(&all));
            }
        }
    };
    let stats = beside_an_honest_nf(&stage, lies);
    let drops = |device: &str| books(&stats, "liar", device)["out"]["drops"].clone();
    assert_eq!(drops("bond"), json!({}));
    assert_eq!(
        drops("switch"),
        json!({ "no_route": 20 * (256 - 3) }),
        "of three ports"
    );
    assert_eq!(drops("pass"), json!({ "no_route": 20 * (256 - 2) }));
    assert_eq!(drops("tunnel"), json!({ "no_encap": 14 * 256 }));
    assert_eq!(
        drops("retag"),
        json!({ "no_encap": 14 * 2, "no_route": 20 * (256 - 2) })
    );
}

#[test]
fn a_built_frame_of_any_link_leaves_whole_or_under_a_name() {
    const LENGTHS: u16 = 60;
    let stage = Stage::new(DEVICES);
    let mut random = rand::rng();
    let tokens = [1, 4, 6, 4 | 1 << 8, 6 | 0xffff_ff00, u32::MAX];
    let lies = || {
        let mut liar = liar(&stage);
        let handles = SENDING.map(|device| liar.open(device).number);
        for over in handles {
            for token in tokens {
                assert!(
                    liar.private
                        .copy_in(0, &random.random::<[u8; LENGTHS as usize]>())
                );
                let lie = |length| Descriptor {
                    token,
                    ..built(over, length, 0)
                };
                let all: Vec<Descriptor> = (0..LENGTHS).map(lie).collect();
                assert!(liar.present(&all));
            }
        }
    };
    let stats = beside_an_honest_nf(&stage, lies);
    let drops = |device: &str| books(&stats, "liar", device)["out"]["drops"].clone();
    for device in ["bond", "switch", "pass"] {
        assert_eq!(drops(device), json!({}), "{device}");
    }
    for device in ["tunnel", "retag"] {
        // Two of the tokens mean Ethernet, the others IP, which fits in neither VXLAN nor a tag.
        let wanted = json!({ "no_encap": 2 * 14, "no_ethernet": 4 * LENGTHS });
        assert_eq!(drops(device), wanted, "{device}");
    }
}

#[test]
fn what_is_no_frame_reaches_no_nic() {
    let stage = Stage::new(
        r#"
[platform]
buffers = 4096
[ports]
nic = "net_null0,no-rx=1"
[devices.nic]
mode = "direct"
ports = ["nic"]
[nfs.liar]
devices = ["nic"]
"#,
    );
    let mut liar = liar(&stage);
    let handle = liar.open("nic");
    let all: Vec<Descriptor> = (0..20)
        .map(|length| built(handle.number, length, u8::MAX))
        .flat_map(|ethernet| [0, 4, 6].map(|token| Descriptor { token, ..ethernet }))
        .collect();
    assert!(liar.present(&all));
    let stats = stage.await_stats("the rest is sent", |stats| {
        number(&stats["ports"]["nic"]["tx"]["transmitted"]) == 6
    });
    assert_eq!(
        books(&stats, "liar", "nic")["out"]["drops"],
        json!({ "bad_frame": 14, "no_ethernet": 40 })
    );
    drop(liar);
    stage.await_gone("liar");
    stage.settle();
}

#[test]
fn what_is_refused_has_no_turn_of_a_bond() {
    const LENT: u64 = 16;
    let stage = Stage::new(
        r#"
[ports]
in = { pcap = "$IN", rate = "max", wait_for = ["liar"] }
n0 = "net_null0,no-rx=1"
n1 = "net_null1,no-rx=1"
[devices.shared]
mode = "direct"
ports = ["in"]
[devices.bond]
mode = "bond"
ports = ["n0", "n1"]
receive = {}
[nfs.liar]
devices = ["shared:rx", "bond:tx"]
"#,
    );
    let mut liar = liar(&stage);
    let bond = liar.open("bond").number;
    let mut shared = liar.open("shared");
    let mut lent = Vec::new();
    while lent.len() < LENT as usize {
        lent.extend(liar.take(
            &mut shared,
            u32::try_from(LENT).unwrap() - lent.len() as u32,
        ));
    }
    // Each is sent and then sent again: if the second, which is refused, had a turn, all would leave by one port.
    let twice: Vec<Descriptor> = lent
        .iter()
        .flat_map(|&lent| [lent; 2])
        .map(|lent| Descriptor {
            op: Op::Forward as u8,
            arg: bond,
            ..lent
        })
        .collect();
    assert!(liar.present(&twice));
    let sent = |stats: &Value, port: &str| number(&stats["ports"][port]["tx"]["transmitted"]);
    let stats = stage.await_stats("all were sent", |stats| {
        sent(stats, "n0") + sent(stats, "n1") == LENT
    });
    assert_eq!([sent(&stats, "n0"), sent(&stats, "n1")], [LENT / 2; 2]);
    assert_eq!(number(&stats["nfs"]["liar/0"]["refused"]), LENT);
    drop((shared, liar));
    stage.await_gone("liar");
    stage.settle();
}

#[test]
fn a_capture_that_lies_about_lengths_is_encapsulated_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.pcap");
    let lengths = [60, u32::MAX, u32::MAX - 2, 0x0001_0000];
    record(&path, lengths.map(|wire| (vec![2; 60], wire)));
    let stage = Stage::new(
        &r#"
[ports]
in = { pcap = "$LONG", rate = "lossless" }
out = { out = "$DIR/out.pcapng" }
[devices.tag]
mode = "bridge"
ports = ["in", "out"]
send = { policy = "opposite", out = { encap = { vlan = 7 } } }
[nfs.wire]
devices = ["tag"]
"#
        .replace("$LONG", path.to_str().unwrap()),
    );
    let (nf, handle) = stage.open("wire", "tag");
    assert_eq!(serve(&handle, |burst| send_all(&handle, burst)), 4);
    nf.close();
    stage.settle();
    let lengths: Vec<(usize, u32)> = frames(&stage.path("out.pcapng"))
        .into_iter()
        .map(|(bytes, _, wire)| (bytes.len(), wire))
        .collect();
    assert_eq!(
        lengths,
        [(64, 64), (64, u32::MAX), (64, u32::MAX), (64, 0x0001_0004)]
    );
}
