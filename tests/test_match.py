"""A rule has one answer for one packet, whoever asks it: `burst.match`, `nf.open(match=…)`, a cell."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")
pytest.importorskip("scapy")

import mvmp
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.utils import wrpcap
from stages import Stage

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

Chosen = dict[str, set[bytes]]
Handles = dict[mvmp.NfHandle, str]

TUNNEL_PORTS = {"vxlan": [9999], "geneve": [9998]}
RULES = (
    "vxlan",
    "vxlan 42",
    "geneve 44",
    "vlan 7",
    "vlan 8",
    "outer(src host 192.0.2.1)",
    "outer(udp port 4789)",
    "src host 192.0.2.1",
    "src host 10.0.0.1",
    "tcp port 443",
    "ether src 02:00:00:00:00:0c",
    "length > 100",
    "greater 1000",
    "vxlan and not (vxlan 43 or less 1000)",
)
FILTERS = ("pcap: vlan 7", "pcap: greater 1000", "pcap: udp dst port 9998")


def frames() -> list[Any]:
    """Tunnels on the platform's ports, one on a port that is none there, and a frame that was cut."""
    ether = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b")
    outer = IP(src="192.0.2.1", dst="192.0.2.7")
    user = Ether(src="02:00:00:00:00:0c", dst="02:00:00:00:00:0d")
    user /= IP(src="10.0.0.1", dst="10.0.0.2") / TCP(dport=443)
    cut = ether / Dot1Q(vlan=7) / outer / UDP(dport=9999) / VXLAN(vni=45, flags=8) / user / bytes(30)
    packets = [
        ether / Dot1Q(vlan=7) / outer / UDP(dport=9999) / VXLAN(vni=42, flags=8) / user,
        ether / Dot1Q(vlan=7) / outer / UDP(dport=4789) / VXLAN(vni=42, flags=8) / user,
        ether / Dot1Q(vlan=8) / Dot1Q(vlan=7) / outer / UDP(dport=9999) / VXLAN(vni=43, flags=8) / user,
        ether / outer / UDP(dport=9998) / GENEVE(vni=44, proto=0x6558) / user,
        user,
        cut,
    ]
    built = [Ether(bytes(packet)) for packet in packets]
    built[-1].wirelen = 1400
    return built


def opened(nf: mvmp.Nf, device: str) -> Handles:
    """Handles on a device: one without a rule, and one for each."""
    return {nf.open(device, tx=False): ""} | {nf.open(device, tx=False, match=rule): rule for rule in RULES}


def answers(
    nf: mvmp.Nf, handles: Handles, asked: dict[str, mvmp.Policy], virt: mvmp.NfHandle | None = None
) -> tuple[Chosen, Chosen]:
    """What `match` chooses of the packets of the handle without a rule, and what came by the others.

    Packets are named by the frame as received. Those of the handle without a rule go on to `virt`.
    """
    by_match: Chosen = {rule: set() for rule in asked}
    by_handle: Chosen = {rule: set() for rule in asked}
    for burst in nf.bursts(32):
        if rule := handles[burst.handle]:
            by_handle[rule].update(bytes(packet.outer or packet) for packet in burst)
            continue
        for rule, policy in asked.items():
            chosen = burst[burst.match(policy)]
            by_match[rule].update(bytes(packet.outer or packet) for packet in chosen)
        if virt is not None:
            assert burst.forward(virt) == len(burst)
    return by_match, by_handle


CELLS: list[dict[str, Any]] = [
    {},
    {"decap": ["vlan"]},
    {"strip": ["vlan"]},
    {"decap": ["vlan", "vxlan", "geneve"]},
    {"decap": ["vxlan"], "strip": ["vlan"]},
    {"strip": "auto"},
]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_match_says_what_the_platform_says(tmp_path: Path, cell: dict[str, Any]) -> None:
    played, virt_is_open = tmp_path / "in.pcap", threading.Event()
    wrpcap(str(played), frames())
    filters = {f"filter{at}": rule for at, rule in enumerate(FILTERS)}
    config = {
        "platform": {"tunnel_ports": TUNNEL_PORTS},
        "ports": {"a": {"pcap": str(played), "wait_for": 1 + len(RULES) + len(FILTERS)}},
        "devices": {
            "wire": {"mode": "direct", "ports": ["a"], "receive": {"a": {"match": "all", **cell}}},
            "virt": {"mode": "rootless"},
        }
        | {
            name: {"mode": "direct", "ports": ["a"], "receive": {"a": {"match": rule, **cell}}}
            for name, rule in filters.items()
        },
        "nfs": {
            "first": {"devices": ["wire:rx", "virt:tx", *filters]},
            "second": {"devices": ["virt:rx"]},
        },
    }
    asked = {rule: mvmp.Policy(rule) for rule in RULES}
    found: dict[str, tuple[Chosen, Chosen]] = {}

    def first(nf: mvmp.Nf) -> None:
        assert virt_is_open.wait(20)
        virt = nf.open("virt", rx=False)
        handles = opened(nf, "wire") | {nf.open(name, tx=False): rule for name, rule in filters.items()}
        found["wire"] = answers(nf, handles, asked | {rule: mvmp.Policy(rule) for rule in FILTERS}, virt)

    def second(nf: mvmp.Nf) -> None:
        handles = opened(nf, "virt")
        virt_is_open.set()
        found["virt"] = answers(nf, handles, asked)

    with Stage(config, tmp_path, {"first": first, "second": second}):
        pass
    for by_match, by_handle in found.values():
        assert by_match == by_handle
        assert all(0 < len(chosen) < len(frames()) for chosen in by_match.values()), (
            "each rule tells some apart"
        )


def test_match_jumps_further_from_what_was_delivered(tmp_path: Path) -> None:
    played = tmp_path / "in.pcap"
    wrpcap(str(played), frames())
    jump = {"decap": ["vxlan", "geneve"]}
    cells: dict[str, dict[str, Any]] = {
        "whole": {},
        "untagged": {"decap": ["vlan"]},
        "cell": {"match": "tcp and vlan", **jump},
    }
    devices = {
        name: {"mode": "direct", "ports": ["a"], "receive": {"a": {"match": "all", **cell}}}
        for name, cell in cells.items()
    }
    config = {
        "platform": {"tunnel_ports": TUNNEL_PORTS},
        "ports": {"a": {"pcap": str(played), "wait_for": len(devices)}},
        "devices": devices,
        "nfs": {"nf": {"devices": [f"{name}:rx" for name in devices]}},
    }
    policy = mvmp.Policy("tcp and vlan", decap=jump["decap"])
    chosen: Chosen = {name: set() for name in devices}

    def body(nf: mvmp.Nf) -> None:
        handles = {nf.open(name): name for name in devices}
        for burst in nf.bursts(32):
            name = handles[burst.handle]
            mask = slice(None) if name == "cell" else burst.match(policy)
            chosen[name].update(bytes(packet.outer or packet) for packet in burst[mask])

    with Stage(config, tmp_path, {"nf": body}):
        pass
    assert chosen["whole"] == chosen["untagged"] == chosen["cell"]
    assert len(chosen["cell"]) == 3, "those on the platform's ports"
