"""What leaves by a port, for those who receive it: `direction = "out"` and `"inout"`."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")
pytest.importorskip("scapy")

import mvmp
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from stages import (
    CPUS,
    Stage,
    capture,
    frames,
    lossless,
    needs_two_cpus,
    role,
    send_back,
    watch,
    written,
)

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


@pytest.mark.parametrize("direction", ["in", "out", "inout"])
def test_an_ids_inspects_what_comes_in_and_what_leaves(tmp_path: Path, direction: str) -> None:
    from_a, from_b = frames(50), frames(50, Ether(src=B, dst=A))
    outs = {name: str(tmp_path / f"{name}.out.pcap") for name in "ab"}
    config = {
        "ports": {
            "a": lossless(pcap=capture(tmp_path, "a", from_a), out=outs["a"]),
            "b": lossless(pcap=capture(tmp_path, "b", from_b), out=outs["b"]),
        },
        "devices": {
            "bridge": {"mode": "bridge", "ports": ["a", "b"]},
            "tap": {
                "mode": "direct",
                "ports": ["a"],
                "receive": {"a": {"match": "all", "direction": direction}},
            },
        },
        "nfs": {"fw": role("bridge"), "ids": role("tap:rx")},
    }
    seen: list[tuple[int, bytes]] = []

    def ids(nf: mvmp.Nf) -> None:
        for burst in nf.open("tap").bursts(32):
            seen.extend((packet.direction, bytes(packet)) for packet in burst)

    with Stage(config, tmp_path, {"fw": send_back("bridge"), "ids": ids}):
        pass
    assert written(outs["a"]) == from_b and written(outs["b"]) == from_a
    came = [(0, frame) for frame in from_a] if direction != "out" else []
    left = [(1, frame) for frame in from_b] if direction != "in" else []
    assert Counter(seen) == Counter(came + left)


def test_who_sends_a_packet_is_not_shown_it(tmp_path: Path) -> None:
    sent = frames(20)
    out = str(tmp_path / "out.pcap")
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent), out=out)},
        "devices": {
            "tap": {
                "mode": "direct",
                "ports": ["a"],
                "receive": {"a": {"match": "all", "direction": "inout"}},
            }
        },
        "nfs": {"one": role("tap"), "two": role("tap:rx")},
    }
    seen: list[bytes] = []
    with Stage(config, tmp_path, {"one": send_back("tap"), "two": watch("tap", seen)}) as stage:
        stats = stage.finish()
    assert written(out) == sent
    assert Counter(seen) == Counter(sent + sent), "in, and out"
    copied = sum(handle["copied"] for handle in stats["handles"] if handle["nf"].startswith("two"))
    assert copied <= 20


TAGGED = [
    bytes(
        Ether(src=A, dst=B)
        / Dot1Q(vlan=5)
        / Dot1Q(vlan=n % 2)
        / IP(src="10.0.0.1")
        / UDP(sport=n, dport=99)
        / (b"x" * n)
    )
    for n in range(40)
]
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "vxlan": (
        {},
        {
            "encap": {"vxlan": {"vni": 42, "local": "192.0.2.1", "remote": "192.0.2.7"}},
            "ethernet": {"src": A, "dst": B},
        },
    ),
    "vlan off and on": ({}, {"encap": [{"vlan": "pop"}, {"vlan": "pop"}, {"vlan": 7}]}),
    "decapsulated": ({"decap": ["vlan"]}, {"encap": {"vlan": 7}}),
    "stripped": ({"strip": ["vlan"]}, {"ethernet": {"src": A, "dst": B}}),
}


@pytest.mark.parametrize("rule", ["udp dst port 99 and vlan 1", "all"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=needs_two_cpus)])
def test_what_leaves_is_shown_before_encapsulation_whoever_serves_the_port(
    tmp_path: Path, shape: str, rule: str, workers: int
) -> None:
    receive, send = SHAPES[shape]
    out = str(tmp_path / "out.pcapng")
    config = {
        "platform": {"workers": CPUS[:workers]},
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", TAGGED)), "b": lossless(out=out)},
        "devices": {
            "in": {"mode": "direct", "ports": ["a"], "receive": {"a": {"match": "all", **receive}}},
            "out": {
                "mode": "direct",
                "ports": ["b"],
                "receive": {"b": {"match": rule, "direction": "inout"}},
                "send": {"b": send},
            },
        },
        "nfs": {"sender": role("in", "out"), "ids": role("out:rx")},
    }
    returned, seen, from_port = [], [], set()

    def sender(nf: mvmp.Nf) -> None:
        source, sink = nf.open("in"), nf.open("out")
        for burst in nf.bursts(32):
            if burst.handle is source:
                from_port.update(burst.in_port.tolist())
                sink.tx_burst(burst, timeout=None)
            else:
                returned.extend(bytes(packet) for packet in burst)

    def ids(nf: mvmp.Nf) -> None:
        for burst in nf.open("out").bursts(32):
            columns = burst.direction, burst.in_port, burst.wire_length, burst.link
            seen.extend(zip(map(bytes, burst), *(column.tolist() for column in columns), strict=True))

    with Stage(config, tmp_path, {"sender": sender, "ids": ids}) as stage:
        stats = stage.finish()
    assert len(written(out)) == len(TAGGED)
    assert not returned, "never to the handle that sent it"
    stripped, (port,) = shape == "stripped", from_port
    wanted = TAGGED if rule == "all" else [] if stripped else TAGGED[1::2]
    assert Counter(seen) == Counter(
        (bytes(Ether(frame)[IP]) if stripped else frame, 1, port, len(frame), 4 if stripped else 1)
        for frame in wanted
    )
    assert sum(sum(handle["drops"].values()) for handle in stats["closed_handles"]) == 0


@needs_two_cpus
def test_lossless_waits_for_who_watches_another_workers_port(tmp_path: Path) -> None:
    sent = frames(3000)
    config = {
        "platform": {"workers": CPUS[:2]},
        "ports": {
            "a": lossless(pcap=capture(tmp_path, "a", sent)),
            "b": lossless(out=str(tmp_path / "out.pcap")),
        },
        "devices": {
            "in": {"mode": "direct", "ports": ["a"]},
            "out": {"mode": "direct", "ports": ["b"], "receive": {"b": {"direction": "out"}}},
        },
        "nfs": {"sender": role("in", "out:tx"), "slow": role("out:rx")},
    }
    seen: list[bytes] = []

    def sender(nf: mvmp.Nf) -> None:
        sink = nf.open("out", rx=False, tx=True)
        for burst in nf.open("in").bursts(64):
            sink.tx_burst(burst, timeout=None)

    def slow(nf: mvmp.Nf) -> None:
        for burst in nf.open("out", ring=64).bursts(16):
            seen.extend(bytes(packet) for packet in burst)
            time.sleep(0.001)

    with Stage(config, tmp_path, {"sender": sender, "slow": slow}) as stage:
        stats = stage.finish()
    assert written(tmp_path / "out.pcap") == seen == sent
    assert not any(handle["drops"] or handle["out"]["drops"] for handle in stats["closed_handles"])


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=needs_two_cpus)])
def test_two_who_receive_what_the_other_sends_do_not_send_for_ever(tmp_path: Path, workers: int) -> None:
    (sent,) = frames(1)
    both = {"direction": "inout"}
    ports, out = (["a", "b"], "b") if workers == 1 else (["b"], "b")
    config = {
        "platform": {"workers": CPUS[:workers]},
        "ports": {
            "a": lossless(pcap=capture(tmp_path, "a", [sent])),
            "b": lossless(out=str(tmp_path / "b.pcap")),
        },
        "devices": {
            "in": {"mode": "direct", "ports": ["a"]},
            **{
                name: {"mode": "bridge" if workers == 1 else "direct", "ports": ports, "receive": {out: both}}
                for name in ("one", "two")
            },
        },
        "nfs": {"first": role("in", "one"), "second": role("two")},
    }

    def first(nf: mvmp.Nf) -> None:
        source, sink = nf.open("in"), nf.open("one")
        for burst in nf.bursts(32):
            sink.tx_burst(burst, in_port="a" if workers == 1 else None, timeout=None)
            assert burst.handle in (source, sink)

    def second(nf: mvmp.Nf) -> None:
        handle = nf.open("two")
        for burst in handle.bursts(32):
            handle.tx_burst(burst, in_port="a" if workers == 1 else None, timeout=None)

    with Stage(config, tmp_path, {"first": first, "second": second}) as stage:
        stats = stage.finish()
    assert written(tmp_path / "b.pcap") == [sent] * 256
    drops = [handle["out"]["drops"] for handle in stats["closed_handles"]]
    assert sorted(drops, key=len) == [{}, {}, {"hop_limit": 1}]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=needs_two_cpus)])
def test_a_slow_sender_does_not_wait_for_room_for_what_it_never_gets(tmp_path: Path, workers: int) -> None:
    base = frames(2000)
    sent = [base[n % 2000] for n in range(20_000)]
    source = lossless(pcap=capture(tmp_path, "a", sent))
    out = str(tmp_path / "out.pcap")
    if workers == 1:
        ports = {"a": {**source, "out": out}}
        devices = {"tap": {"mode": "direct", "ports": ["a"], "receive": {"a": {"direction": "inout"}}}}
    else:
        ports = {"a": source, "b": lossless(out=out)}
        devices = {
            "tap": {"mode": "direct", "ports": ["a"]},
            "sink": {"mode": "direct", "ports": ["b"], "receive": {"b": {"direction": "inout"}}},
        }
    config = {
        "platform": {"workers": CPUS[:workers]},
        "ports": ports,
        "devices": devices,
        "nfs": {"nf": role(*devices)},
    }

    def body(nf: mvmp.Nf) -> None:
        handles = [nf.open(device) for device in devices]
        for burst in nf.bursts(32):
            time.sleep(0.0005)
            handles[-1].tx_burst(burst, timeout=None)

    with Stage(config, tmp_path, {"nf": body}):
        pass
    assert written(out) == sent
