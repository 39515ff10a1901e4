"""The six principles of virtual devices (Zheng et al., §3.1), each over capture files with real packets."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")
pytest.importorskip("scapy")

import mvmp
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Dot1Q, Ether
from stages import Stage, capture, frames, lossless, role, send_back, watch, written

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


def web(count: int, ether: Ether | None = None) -> list[bytes]:
    """So many frames to a web server."""
    ether = ether or Ether(src=A, dst=B)
    return [
        bytes(ether / IP(src="10.0.1.1", dst="10.0.1.2") / TCP(sport=2000 + n, dport=80))
        for n in range(count)
    ]


def test_one_port_belongs_to_several_devices(tmp_path: Path) -> None:
    udp, tcp = frames(100), web(100)
    sent = [frame for pair in zip(udp, tcp, strict=True) for frame in pair]
    outs = {name: str(tmp_path / f"{name}.pcap") for name in ("b", "c")}
    config = {
        "ports": {
            "a": lossless(pcap=capture(tmp_path, "a", sent)),
            "b": lossless(out=outs["b"]),
            "c": lossless(out=outs["c"]),
        },
        "devices": {
            "tap": {"mode": "direct", "ports": ["a"]},
            "inline": {"mode": "bridge", "ports": ["a", "b"], "receive": {"a": "udp"}},
            "web": {"mode": "bridge", "ports": ["a", "c"], "receive": {"a": "tcp port 80"}},
        },
        "nfs": {"ids": role("tap:rx"), "dns": role("inline"), "proxy": role("web")},
    }
    seen: list[bytes] = []
    nfs = {"ids": watch("tap", seen), "dns": send_back("inline"), "proxy": send_back("web")}
    with Stage(config, tmp_path, nfs) as stage:
        stats = stage.finish()
    assert seen == sent
    assert written(outs["b"]) == udp and written(outs["c"]) == tcp
    assert stats["ports"]["a"]["received"] == stats["ports"]["a"]["dispatched"] == 200, "received once"


def test_one_device_spans_several_ports(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    sent = {
        name: frames(50, Ether(src=f"02:00:00:00:01:{n:02x}", dst="ff:ff:ff:ff:ff:ff"))
        for n, name in enumerate(names)
    }
    outs = {name: str(tmp_path / f"{name}.out.pcap") for name in names}
    config = {
        "ports": {name: lossless(pcap=capture(tmp_path, name, sent[name]), out=outs[name]) for name in names},
        "devices": {
            "switch": {"mode": "bridge", "ports": names},
            "wide": {"mode": "bond", "ports": names},
        },
        "nfs": {"switch": role("switch"), "ids": role("wide:rx")},
    }
    seen: dict[int, list[bytes]] = defaultdict(list)

    def ids(nf: mvmp.Nf) -> None:
        for burst in nf.open("wide").bursts(32):
            for packet in burst:
                seen[packet.in_port].append(bytes(packet))

    with Stage(config, tmp_path, {"switch": send_back("switch"), "ids": ids}):
        pass
    assert [seen[port] for port in sorted(seen)] == list(sent.values()), "each port's in its order"
    for name in names:
        others = [frame for other in names if other != name for frame in sent[other]]
        assert Counter(written(outs[name])) == Counter(others), "a broadcast leaves by every other port"


def test_one_device_is_opened_by_several_nfs(tmp_path: Path) -> None:
    sent = frames(128) + web(128)
    out = str(tmp_path / "out.pcap")
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent)), "b": lossless(out=out)},
        "devices": {"link": {"mode": "bridge", "ports": ["a", "b"]}},
        "nfs": {"fw": role("link"), "ids": role("link:rx"), "meter": role("link:rx", instances=2)},
    }
    # Each of the meters has a match of its own.
    config["ports"]["a"]["wait_for"] = 4
    seen: dict[str, list[bytes]] = defaultdict(list)
    nfs = {
        "fw": send_back("link", seen["fw"]),
        "ids": watch("link", seen["ids"]),
        "meter#1": watch("link", seen["meter#1"], match="udp"),
        "meter#2": watch("link", seen["meter#2"], match="tcp"),
    }
    with Stage(config, tmp_path, nfs):
        pass
    assert seen["fw"] == seen["ids"] == written(out) == sent
    assert seen["meter#1"] == sent[:128] and seen["meter#2"] == sent[128:]


def test_one_nf_opens_several_devices(tmp_path: Path) -> None:
    inside, outside = frames(60), web(60)
    outs = {name: str(tmp_path / f"{name}.out.pcap") for name in ("lan", "wan", "log")}
    config = {
        "ports": {
            "lan": lossless(pcap=capture(tmp_path, "lan", inside), out=outs["lan"]),
            "wan": lossless(pcap=capture(tmp_path, "wan", outside), out=outs["wan"]),
            "log": lossless(out=outs["log"]),
        },
        "devices": {name: {"mode": "direct", "ports": [name]} for name in ("lan", "wan", "log")},
        "nfs": {"router": role("lan", "wan", "log:tx")},
    }

    def router(nf: mvmp.Nf) -> None:
        lan, wan, log = (nf.open(name) for name in ("lan", "wan", "log"))
        for burst in nf.bursts(16):
            burst.mirror(log)
            (wan if burst.handle is lan else lan).tx_burst(burst, timeout=None)

    with Stage(config, tmp_path, {"router": router}):
        pass
    assert written(outs["wan"]) == inside and written(outs["lan"]) == outside
    assert Counter(written(outs["log"])) == Counter(inside + outside)


def test_a_device_without_ports_connects_nfs(tmp_path: Path) -> None:
    sent = frames(200)
    out = str(tmp_path / "out.pcap")
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent)), "b": lossless(out=out)},
        "devices": {
            "link": {"mode": "bridge", "ports": ["a", "b"]},
            "queue": {"mode": "rootless"},
        },
        "nfs": {"fw": role("link", "queue"), "ips": role("queue")},
    }
    asked: list[bytes] = []

    def fw(nf: mvmp.Nf) -> None:
        link, queue = nf.open("link"), nf.open("queue")
        for burst in nf.bursts(32):
            (queue if burst.handle is link else link).tx_burst(burst, timeout=None)

    def ips(nf: mvmp.Nf) -> None:
        # A two-way queue: what it lets pass goes back by the way it came.
        queue = nf.open("queue")
        for burst in queue.bursts(32):
            asked.extend(bytes(packet) for packet in burst)
            queue.tx_burst(burst, burst.src_port % 4 != 0, timeout=None)

    with Stage(config, tmp_path, {"fw": fw, "ips": ips}):
        pass
    assert asked == sent, "and nothing that it sent itself"
    assert written(out) == [frame for n, frame in enumerate(sent) if n % 4]


def test_a_policy_belongs_to_a_port_and_a_device(tmp_path: Path) -> None:
    tag = Ether(src=A, dst=B) / Dot1Q(vlan=7)
    plain, tagged = frames(40) + web(40), frames(40, tag) + web(40, tag)
    outs = {name: str(tmp_path / f"{name}.out.pcap") for name in ("a", "b")}
    config = {
        "ports": {
            "a": lossless(pcap=capture(tmp_path, "a", plain), out=outs["a"]),
            "b": lossless(pcap=capture(tmp_path, "b", tagged), out=outs["b"]),
        },
        "devices": {
            # One device, another policy at each port, for both directions.
            "edge": {
                "mode": "bridge",
                "ports": ["a", "b"],
                "receive": {"a": "udp", "b": {"match": "tcp and vlan 7", "decap": ["vlan"]}},
                "send": {"policy": "opposite", "b": {"encap": {"vlan": 9}}},
            },
            # The same ports, and policies of its own.
            "all": {"mode": "bond", "ports": ["a", "b"], "receive": {"a": "tcp", "b": "all"}},
        },
        "nfs": {"gw": role("edge"), "ids": role("all:rx")},
    }
    gw: list[bytes] = []
    ids: list[bytes] = []
    with Stage(config, tmp_path, {"gw": send_back("edge", gw), "ids": watch("all", ids)}) as stage:
        stats = stage.finish()
    assert all(port["drops"] == {} for port in stats["ports"].values()), "between them they want everything"
    assert Counter(ids) == Counter(plain[40:] + tagged)
    bare = [frame[18:] for frame in tagged[40:]]
    assert Counter(gw) == Counter(plain[:40] + bare)
    assert written(outs["b"]) == [frame[:12] + b"\x81\x00\x00\x09" + frame[12:] for frame in plain[:40]]
    assert written(outs["a"]) == tagged[40:], "what was jumped over goes out again"
