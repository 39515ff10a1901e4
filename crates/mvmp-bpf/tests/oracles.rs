//! Held against libpcap's own expectations and against tcpdump, on a collection of captures that
//! `MVMP_CAPTURES` names (else `../shared/captures`). Without it the tests say so and do nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mvmp_bpf::Program;

fn captures() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures");
    let folder = std::env::var_os("MVMP_CAPTURES").map_or(beside, PathBuf::from);
    if let Err(error) = mvmp_bpf::library_version() {
        eprintln!("skipped: {error}");
        return None;
    }
    if folder.join("INDEX.tsv").exists() {
        return Some(folder);
    }
    eprintln!("skipped: no captures; set MVMP_CAPTURES to a folder with INDEX.tsv");
    None
}

/// A capture file of the classic kind.
struct Capture {
    link_type: i32,
    /// Bytes on the wire, and those that were kept.
    packets: Vec<(u32, Vec<u8>)>,
}

fn read(bytes: &[u8]) -> Option<Capture> {
    let swapped = match bytes.get(..4)? {
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => true,
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => false,
        _ => return None,
    };
    let word = |at: usize| {
        let bytes = *bytes.get(at..)?.first_chunk::<4>()?;
        Some(if swapped {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    };
    // Files and libpcap number raw IP differently.
    let link_type = match word(20)? & 0xffff {
        101 => mvmp_bpf::LINK_RAW,
        same => same as i32,
    };
    let snap = word(16)
        .filter(|snap| *snap > 0)
        .map_or(usize::MAX, |snap| snap as usize);
    let mut packets = vec![];
    let mut at = 24;
    while let (Some(kept), Some(wire)) = (word(at + 8), word(at + 12)) {
        let Some(packet) = bytes.get(at + 16..at + 16 + kept as usize) else {
            break;
        };
        // As libpcap does with a file that keeps more than it says.
        let snapped = packet.len().min(snap);
        packets.push((wire, packet[..snapped].to_vec()));
        at += 16 + kept as usize;
    }
    Some(Capture { link_type, packets })
}

#[test]
fn libpcap_s_own_expected_counts_are_reached() {
    let Some(folder) = captures() else { return };
    let table =
        std::fs::read_to_string(folder.join("libpcap/filter_apply.tsv")).expect("the table");
    let (mut rows, mut skipped) = (0, 0);
    for row in table.lines().skip(1) {
        let cells: Vec<&str> = row.split('\t').collect();
        let [name, file, expression, accepted, packets, "same"] = cells[..] else {
            continue;
        };
        let path = folder.join("libpcap").join(format!("filter_{file}"));
        // pcapng is not read here: tcpdump turns it into the classic kind.
        let Some(capture) = read(&std::fs::read(&path).expect(file)).or_else(|| tcpdump(&path, ""))
        else {
            eprintln!("skipped: {name}: no tcpdump to read {file}");
            skipped += 1;
            continue;
        };
        assert_eq!(
            capture.packets.len(),
            packets.parse::<usize>().expect("a count"),
            "{name}"
        );
        let program = Program::compile(expression, capture.link_type)
            .unwrap_or_else(|error| panic!("{name}: {expression}: {error}"));
        let matching = capture
            .packets
            .iter()
            .filter(|(wire, packet)| program.matches(packet, *wire));
        assert_eq!(
            matching.count(),
            accepted.parse::<usize>().expect("a count"),
            "{name}: {expression}"
        );
        rows += 1;
    }
    println!("{rows} rows of libpcap's table, {skipped} skipped");
    let same = table.lines().filter(|row| row.ends_with("\tsame")).count();
    assert!(rows + skipped == same && rows > 100, "{rows} of {same}");
}

/// Numbers that look random and are the same on each run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn expression(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(3) == 0 {
            return self.one(&PRIMITIVES).into();
        }
        let (left, right) = (self.expression(depth - 1), self.expression(depth - 1));
        match self.below(4) {
            0 => format!("not ({left})"),
            1 => format!("({left}) or ({right})"),
            2 => format!("({left}) and ({right})"),
            _ => format!("({left}) and not ({right})"),
        }
    }
}

const PRIMITIVES: [&str; 36] = [
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "vlan",
    "mpls",
    "pppoes",
    "port 80",
    "dst port 53",
    "portrange 1000-30000",
    "tcp portrange 20-443",
    "net 10.0.0.0/8",
    "src net 192.168.0.0/16",
    "host 10.0.0.1",
    "ip6 net fe80::/10",
    "ip broadcast or ip multicast",
    "ether multicast",
    "ether broadcast",
    "less 100",
    "greater 400",
    "len > 80",
    "tcp[13] & 2 != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "icmp[icmptype] = icmp-echo",
    "ip[6:2] & 0x1fff != 0",
    "ip proto 47",
    "ip6 proto 17",
    "ether proto 0x88cc",
    "ether[0] & 1 = 0",
    "udp[4:2] > 20",
    "ip[0] & 0xf != 5",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "len / (ip[8] - 64) > 1",
];

/// What tcpdump keeps; `None` where it refuses the expression.
fn tcpdump(file: &Path, expression: &str) -> Option<Capture> {
    let output = Command::new("tcpdump")
        .args(["-n", "-r"])
        .arg(file)
        .args(["-w", "-", expression])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| read(&output.stdout))
        .flatten()
}

#[test]
fn random_expressions_keep_the_packets_that_tcpdump_keeps() {
    let Some(folder) = captures() else { return };
    if Command::new("tcpdump").arg("--version").output().is_err() {
        eprintln!("skipped: no tcpdump");
        return;
    }
    let index = std::fs::read_to_string(folder.join("INDEX.tsv")).expect("the index");
    let files: Vec<PathBuf> = index
        .lines()
        .filter_map(|row| row.split('\t').next())
        .filter(|name| name.ends_with("pcap"))
        .map(|name| folder.join(name))
        .filter(|path| std::fs::metadata(path).is_ok_and(|file| file.len() < 2_000_000))
        .collect();
    let mut draw = Draw(20);
    let (mut pairs, mut packets, mut kept) = (0, 0, 0);
    let mut read_once: HashMap<PathBuf, Option<Capture>> = HashMap::new();
    for _ in 0..400 {
        let file = &files[draw.below(files.len())];
        let expression = draw.expression(3);
        let capture = read_once
            .entry(file.clone())
            .or_insert_with(|| read(&std::fs::read(file).unwrap_or_default()));
        let Some(capture) = capture.as_ref() else {
            continue;
        };
        let (Some(expected), Ok(program)) = (
            tcpdump(file, &expression),
            Program::compile(&expression, capture.link_type),
        ) else {
            continue;
        };
        let found = capture
            .packets
            .iter()
            .filter(|(wire, packet)| program.matches(packet, *wire));
        let found: Vec<_> = found.cloned().collect();
        assert_eq!(
            found.len(),
            expected.packets.len(),
            "{expression} on {}",
            file.display()
        );
        assert!(
            found == expected.packets,
            "{expression} on {}",
            file.display()
        );
        pairs += 1;
        packets += capture.packets.len();
        kept += found.len();
    }
    println!("{pairs} pairs, {packets} packets, {kept} kept by both");
    assert!(pairs > 100 && kept > 0);
}
