//! The cases of policies and tunnels: what rules cost, and what it costs to see what is inside.

use crate::cases::{Case, Figure, nf};
use crate::circulating::{Circulating, SEEDER};
use crate::traffic::{DEVICES, RECEIVING, dealt, in_vxlan, plain, rule, wanted};

/// Frames in one ring of `net_ring`: it has 1,023 slots.
const IN_ONE_RING: usize = 900;
/// Bonds send by their ports in turn, so that each ring has an eighth of these; half of them fit one handle's ring.
const IN_EIGHT_RINGS: usize = 3_600;
/// Rules in the series of costs.
const RULES: [usize; 5] = [1, 10, 100, 1_000, 4_000];

/// `rules-N` has N of them.
pub fn rules_of(name: &str) -> Option<f64> {
    name.strip_prefix("rules-")?.parse().ok()
}

/// A platform with `ports` ports and one device for each of `cells`: its mode, and of each of its
/// ports what is received. The NF has the first devices.
fn config(ports: usize, receiving: usize, mode: &str, cells: &[Vec<String>]) -> String {
    let mut text = "[platform]\nworkers = [0]\n[ports]\n".to_owned();
    for port in 0..ports {
        text += &format!("r{port} = \"net_ring{port}\"\n");
    }
    let names: Vec<String> = (0..ports).map(|port| format!("\"r{port}\"")).collect();
    for (device, receive) in cells.iter().enumerate() {
        text += &format!(
            "[devices.d{device}]\nmode = \"{mode}\"\nports = [{}]\n[devices.d{device}.receive]\n",
            names.join(", ")
        );
        for (port, cell) in receive.iter().enumerate() {
            text += &format!("r{port} = {cell}\n");
        }
    }
    let devices: Vec<String> = (0..receiving)
        .map(|device| format!("\"d{device}\""))
        .collect();
    text + &format!(
        "[nfs.wire]\ndevices = [{}]\n[nfs.{SEEDER}]\ndevices = [\"d0:tx\"]\n",
        devices.join(", ")
    )
}

fn matching(rule: &str) -> String {
    format!("{{ match = \"{rule}\" }}")
}

/// One NF process has the first `receiving` devices open and sends back by each what it got there.
fn case(
    name: String,
    what: String,
    (ports, receiving, mode): (usize, usize, &str),
    cells: &[Vec<String>],
    frames: Vec<Vec<u8>>,
) -> Case {
    let nothing: Vec<Vec<String>> = cells
        .iter()
        .map(|cells| cells.iter().map(|_| matching("none")).collect())
        .collect();
    let devices: Vec<String> = (0..receiving).map(|device| format!("d{device}")).collect();
    let devices = devices.join(",");
    Case {
        name,
        what,
        figure: Figure::Transmitted,
        config: config(ports, receiving, mode, cells),
        nfs: vec![nf("wire", &devices, &devices, 64)],
        ports: (0..ports).map(|port| format!("r{port}")).collect(),
        circulating: Some(Circulating {
            frames,
            drained: config(ports, receiving, mode, &nothing),
        }),
    }
}

/// Rules over the devices of one port; the first devices together want every frame.
fn rules(count: usize) -> Case {
    let cells: Vec<Vec<String>> = dealt(0, count)
        .iter()
        .map(|rule| vec![matching(rule)])
        .collect();
    case(
        format!("rules-{count}"),
        format!(
            "{count} rule{} over {DEVICES} devices, {RECEIVING} of them receiving; 64-byte frames",
            if count == 1 { "" } else { "s" }
        ),
        (1, RECEIVING, "direct"),
        &cells,
        wanted(IN_ONE_RING, count),
    )
}

/// 64 cells as in Table 1: 8 bonds over 8 ports.
fn table() -> Case {
    const SIDE: usize = 8;
    let cell = |device: usize, port: usize| match device {
        0 => format!(
            "tcp and src net 100.64.0.0/10 and not dst port {}",
            7_000 + port
        ),
        1 => format!(
            "udp and src net 100.64.0.0/10 and not dst port {}",
            7_000 + port
        ),
        _ => rule(device * SIDE + port),
    };
    let cells: Vec<Vec<String>> = (0..SIDE)
        .map(|device| {
            (0..SIDE)
                .map(|port| matching(&cell(device, port)))
                .collect()
        })
        .collect();
    case(
        "policies-64".into(),
        "64 policies, 8 bonds over 8 ports, 2 of them receiving; 64-byte frames".into(),
        (SIDE, RECEIVING, "bond"),
        &cells,
        plain(IN_EIGHT_RINGS),
    )
}

pub fn all() -> Vec<Case> {
    let one = |name: &str, what: &str, cell: &str, frames| {
        let cells = [vec![cell.to_owned()]];
        case(name.into(), what.into(), (1, 1, "direct"), &cells, frames)
    };
    let mut cases = vec![
        one(
            "ring",
            "no rule: one NF, one device; 64-byte frames, 5-tuples varied",
            "\"all\"",
            plain(IN_ONE_RING),
        ),
        table(),
    ];
    cases.extend(RULES.map(rules));
    cases.push(one(
        "decap-vxlan",
        "one device that decapsulates VXLAN; 114-byte frames, inner 5-tuples varied",
        "{ decap = [\"vxlan\"] }",
        in_vxlan(IN_ONE_RING),
    ));
    cases
}
