//! The walk, held against tshark on captures that nobody of this project wrote.
//!
//! `MVMP_CAPTURES` names their folder (default `../shared/captures`); without it, or without
//! tshark and editcap, the tests say so and pass. Of every frame of every capture that holds a
//! tunnel or a tag, the innermost addresses and ports must be those that tshark sees.

use std::path::{Path, PathBuf};
use std::process::Command;

use mvmp_wire::packet::{
    Headers, LayerKind, LayerSet, Link, Stack, TunnelPorts, parse, walk_stack,
};

/// What tshark and we see differently, and why. Frames count from 1; none: all that differ.
const DIFFERENCES: [(&str, &[usize], &str); 13] = [
    (
        "ndpi-4.2/fuzz-2006-06-26-2594.pcap",
        &[669],
        "EtherType IPv4 over version 6: tshark believes the version, we neither",
    ),
    ("tcpdump-4.99.3/kday1.pcap", &[1], "likewise"),
    ("tcpdump-4.99.3/kday3.pcap", &[2], "likewise"),
    (
        "tcpdump-4.99.3/arista_ether.pcap",
        &[],
        "a vendor's time stamp header",
    ),
    ("zeek/vntag_vlan_sandwich_clean.pcap", &[], "VN-Tag"),
    ("tcpdump-4.99.3/mpls-over-udp.pcap", &[], "MPLS over UDP"),
    ("zeek/tunnels__gre-over-udp-4754.pcap", &[], "GRE over UDP"),
    ("tcpdump-head/nhrp-trace.pcap", &[1], "NHRP quotes a header"),
    (
        "tcpdump-head/sflow_expanded.pcap",
        &[1],
        "sFlow quotes a frame",
    ),
    (
        "zeek/trunc__mpls-6in6-broken.pcap.gz",
        &[1088],
        "a header that cannot be: tshark gives up earlier",
    ),
    (
        "zeek/tunnels__gtp__gtp1_gn_normal_incl_fragmentation.pcap",
        &[],
        "tshark looks into first fragments",
    ),
    (
        "zeek/tunnels__gtp__gtp2_different_udp_port.pcap",
        &[],
        "likewise",
    ),
    ("zeek/tunnels__gtp__gtp_ext_header.pcap", &[1], "likewise"),
];

const WORDS: [&str; 13] = [
    "vlan", "qinq", "gre", "vxlan", "geneve", "mpls", "pppoe", "gtp", "6in4", "4in6", "4in4",
    "6in6", "erspan",
];

fn captures() -> Option<PathBuf> {
    let named = std::env::var_os("MVMP_CAPTURES").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures");
    let folder = named.unwrap_or(root);
    let tools = ["tshark", "editcap"].map(|tool| Command::new(tool).arg("--version").output());
    if folder.join("INDEX.tsv").is_file() && tools.iter().all(Result::is_ok) {
        return Some(folder);
    }
    eprintln!(
        "skipped: needs tshark, editcap and MVMP_CAPTURES (there is no {})",
        folder.display()
    );
    None
}

/// Captures of Ethernet frames that hold one of these words.
fn listed(folder: &Path, words: &[&str]) -> Vec<String> {
    let index = std::fs::read_to_string(folder.join("INDEX.tsv")).expect("the index is text");
    let holds = |covers: &str| {
        covers
            .split(',')
            .filter_map(|item| item.split('=').next())
            .any(|word| words.contains(&word))
    };
    index
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|row| row.len() > 7 && row[3] == "ether" && holds(row[7]))
        .map(|row| row[0].to_owned())
        .collect()
}

/// The frames of a capture, after editcap has made a plain pcap of it.
fn frames(capture: &Path, options: &[&str]) -> Vec<Vec<u8>> {
    let made = Command::new("editcap")
        .args(["-F", "pcap"])
        .args(options)
        .arg(capture)
        .arg("-")
        .output()
        .expect("editcap runs");
    // Of a capture cut off in its last frame editcap writes the others, and complains.
    let bytes = made.stdout;
    let word = |at: usize| {
        bytes
            .get(at..at + 4)
            .map(|w| u32::from_le_bytes(w.try_into().expect("four")))
    };
    assert!(matches!(word(0), Some(0xa1b2_c3d4 | 0xa1b2_3c4d)));
    let mut frames = Vec::new();
    let mut at = 24;
    while let Some(length) = word(at + 8) {
        let start = at + 16;
        at = start + length as usize;
        frames.push(bytes[start..at].to_vec());
    }
    frames
}

/// Source and destination address and, where they can be compared, ports.
type Ends = (String, String, Option<(String, String)>);

/// What tshark sees innermost in each frame; none where that cannot be compared.
fn tshark(capture: &Path) -> Vec<Option<Option<Ends>>> {
    let fields = [
        "frame.protocols",
        "ip.src",
        "ip.dst",
        "ipv6.src",
        "ipv6.dst",
        "tcp.srcport",
        "tcp.dstport",
        "udp.srcport",
        "udp.dstport",
    ];
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(capture)
        .args(["-T", "fields", "-E", "occurrence=l"]);
    command.args(["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]);
    command.args(["-d", "udp.port==8472,vxlan"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| innermost(&line.split('\t').collect::<Vec<_>>()))
        .collect()
}

fn innermost(row: &[&str]) -> Option<Option<Ends>> {
    let names: Vec<_> = row[0].split(':').collect();
    let is_ip = |name: &&str| matches!(*name, "ip" | "ipv6");
    let Some(last) = names.iter().rposition(is_ip) else {
        return Some(None);
    };
    if names[..last].iter().any(|name| name.starts_with("icmp")) {
        return None;
    }
    let at = if names[last] == "ip" { 1 } else { 3 };
    // Too short or too odd for tshark to name addresses.
    if row[at].is_empty() || row[at + 1].is_empty() {
        return None;
    }
    let ports = match names[last + 1..]
        .iter()
        .find(|name| matches!(**name, "tcp" | "udp"))
    {
        Some(&"tcp") => Some((row[5].to_owned(), row[6].to_owned())),
        Some(_) => Some((row[7].to_owned(), row[8].to_owned())),
        None => None,
    };
    Some(Some((row[at].to_owned(), row[at + 1].to_owned(), ports)))
}

fn ours(frame: &[u8]) -> Option<Ends> {
    let mut stack = Stack::default();
    walk_stack(frame, Link::Ethernet, &TunnelPorts::default(), &mut stack);
    let ip = |kind| matches!(kind, LayerKind::Ipv4 | LayerKind::Ipv6);
    let layer = stack.layers().iter().rfind(|layer| ip(layer.kind))?;
    let (at, link) = match layer.kind {
        LayerKind::Ipv4 => (usize::from(layer.offset), Link::Ipv4),
        _ => (usize::from(layer.offset), Link::Ipv6),
    };
    let packet = &frame[at..];
    let found: Headers = parse(packet, link);
    let (src, dst) = match (found.src6(packet), found.dst6(packet)) {
        (Some(src), Some(dst)) => (
            std::net::Ipv6Addr::from(src).to_string(),
            std::net::Ipv6Addr::from(dst).to_string(),
        ),
        _ => (
            std::net::Ipv4Addr::from(found.src).to_string(),
            std::net::Ipv4Addr::from(found.dst).to_string(),
        ),
    };
    let ports = matches!(found.protocol, 6 | 17) && found.src_port >= 0;
    let ports = ports.then(|| (found.src_port.to_string(), found.dst_port.to_string()));
    Some((src, dst, ports))
}

#[test]
fn the_innermost_ends_are_those_that_tshark_sees() {
    let Some(folder) = captures() else { return };
    let mut compared = 0;
    let mut wrong = Vec::new();
    for name in listed(&folder, &WORDS) {
        let capture = folder.join(&name);
        let frames = frames(&capture, &[]);
        let known = DIFFERENCES.iter().find(|(file, _, _)| name == *file);
        for (number, (frame, expected)) in frames.iter().zip(tshark(&capture)).enumerate() {
            let Some(expected) = expected else { continue };
            compared += 1;
            let found = ours(frame);
            let explained = known.is_some_and(|(_, numbers, _)| {
                numbers.is_empty() || numbers.contains(&(number + 1))
            });
            if found != expected && !explained {
                wrong.push(format!(
                    "{name} frame {}: {found:?}, tshark {expected:?}",
                    number + 1
                ));
            }
        }
    }
    println!("{compared} frames compared");
    assert!(
        compared > 1000,
        "{compared} frames are too few to mean something"
    );
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Captures whose frames all have one stack: what we strip, and how many bytes that is.
const FIXED: [(&str, LayerSet, usize); 10] = [
    ("ndpi-4.2/mongodb.pcap", LayerSet::VLAN, 18),
    ("ndpi-4.2/6in4tunnel.pcap", LayerSet::IPIP, 34),
    ("ndpi-4.2/4in6tunnel.pcap", LayerSet::IPIP, 54),
    ("tcpdump-head/erspan-type-ii-2.pcap", LayerSet::ERSPAN, 50),
    ("zeek/erspanI.pcap", LayerSet::ERSPAN, 38),
    ("zeek/tunnels__vxlan.pcap", LayerSet::VXLAN, 50),
    ("tcpdump-head/gso-ipv6-vxlan-ipv4.pcap", LayerSet::VXLAN, 70),
    (
        "tcpdump-head/gso-ipv4-geneve-ipv6.pcap",
        LayerSet::GENEVE,
        50,
    ),
    (
        "suricata-verify/bug-5633-gre-02__gre-sample.pcap",
        LayerSet::GRE,
        38,
    ),
    (
        "zeek/tunnels__gtp__gtp4_udp_2152_inside.pcap",
        LayerSet::GTP,
        50,
    ),
];

#[test]
fn what_is_delivered_is_what_editcap_leaves_after_chopping() {
    let Some(folder) = captures() else { return };
    for (name, strip, bytes) in FIXED {
        let whole = frames(&folder.join(name), &[]);
        let chopped = frames(&folder.join(name), &["-C", &bytes.to_string()]);
        assert_eq!(whole.len(), chopped.len());
        for (frame, expected) in whole.iter().zip(chopped) {
            let mut stack = Stack::default();
            walk_stack(frame, Link::Ethernet, &TunnelPorts::default(), &mut stack);
            let delivered = stack.view(strip).of(frame);
            // editcap knows no padding, and leaves on what the outer lengths exclude.
            assert_eq!(delivered, &expected[..delivered.len()], "{name}");
            assert!(delivered.len() + 64 > expected.len(), "{name}");
        }
    }
}
