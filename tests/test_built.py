"""Frames that an NF builds, with what they begin with: they leave as forwarded packets do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")
pytest.importorskip("scapy")

import mvmp
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.utils import RawPcapNgReader, RawPcapReader
from stages import Stage, capture, lossless, role

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
ETHERNET, RAW_IP = 1, 101
ADDRESSES = {"ethernet": {"src": A, "dst": B}}
ENDS = {"local": "192.0.2.1", "remote": "192.0.2.7"}
SIX = {"local": "2001:db8::1", "remote": "2001:db8::7"}


def packets() -> list[bytes]:
    """IPv4 and IPv6 in turn, of all short lengths."""
    return [
        bytes(ip / UDP(sport=n + 1, dport=99) / bytes(n))
        for n in range(40)
        for ip in (IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="2001:db8:1::1", dst="2001:db8:1::2"))
    ]


def tagged() -> list[bytes]:
    return [
        bytes(Ether(src=A, dst=B) / Dot1Q(vlan=7) / (IP if p[0] >> 4 == 4 else IPv6)(p)) for p in packets()
    ]


def links_and_frames(path: Path) -> list[tuple[int, bytes]]:
    """What a capture file says that its frames begin with, and the frames."""
    with RawPcapReader(str(path)) as reader:
        ng = isinstance(reader, RawPcapNgReader)
        return [(meta.linktype if ng else reader.linktype, frame) for frame, meta in reader]


def forward(handle: mvmp.NfHandle, burst: mvmp.Burst) -> None:
    handle.tx_burst(burst, timeout=None)


def rebuild(handle: mvmp.NfHandle, burst: mvmp.Burst) -> None:
    for packet in burst:
        assert handle.send([bytes(packet)], packet.in_port, packet.link, timeout=None) == 1


# (what comes in and its link type, how it is received, how the other port sends, the file)
WAYS: list[tuple[list[bytes], int, Any, dict[str, Any], str]] = [
    (packets(), RAW_IP, "all", {}, "out.pcapng"),
    (packets(), RAW_IP, "all", {}, "out.pcap"),
    (packets(), RAW_IP, "all", ADDRESSES, "out.pcap"),
    (packets(), RAW_IP, "all", {"encap": {"ipip": ENDS}}, "out.pcap"),
    (packets(), RAW_IP, "all", {"encap": {"ipip": SIX}, **ADDRESSES}, "out.pcap"),
    (packets(), RAW_IP, "all", {"encap": {"vlan": 7}}, "out.pcap"),
    (packets(), RAW_IP, "all", {"encap": {"vxlan": {"vni": 1, **ENDS}}, **ADDRESSES}, "out.pcap"),
    (tagged(), ETHERNET, {"strip": ["vlan"]}, ADDRESSES, "out.pcap"),
    (tagged(), ETHERNET, {"strip": "auto"}, {"encap": {"gre": ENDS}, **ADDRESSES}, "out.pcap"),
    (tagged(), ETHERNET, {"decap": "auto"}, {}, "out.pcapng"),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way[1]}-{way[2]}-{list(way[3])}-{way[4]}")
def test_what_begins_with_ip_leaves_as_it_would_if_it_were_forwarded(
    tmp_path: Path, way: tuple[list[bytes], int, Any, dict[str, Any], str]
) -> None:
    frames, link, receive, send, out = way
    left: list[Any] = []
    ways: list[Callable[[mvmp.NfHandle, mvmp.Burst], None]] = [forward, rebuild]
    for pass_on in ways:
        folder = tmp_path / pass_on.__name__
        folder.mkdir()

        def body(nf: mvmp.Nf, pass_on: Any = pass_on) -> None:
            handle = nf.open("wire")
            for burst in handle.bursts(32):
                pass_on(handle, burst)

        config = {
            "ports": {
                "a": lossless(pcap=capture(folder, "in", frames, link)),
                "b": lossless(out=str(folder / out)),
            },
            "devices": {
                "wire": {
                    "mode": "bridge",
                    "ports": ["a", "b"],
                    "receive": {"a": receive},
                    "send": {"b": send},
                }
            },
            "nfs": {"nf": role("wire")},
        }
        with Stage(config, folder, {"nf": body}) as stage:
            stats = stage.finish()
        drops = stats["closed_handles"][0]["out"]["drops"]
        left.append((links_and_frames(folder / out), drops))
    if "decap" in receive:
        assert left[1] == (list(zip([228, 229] * 40, packets(), strict=True)), {}), "it had not the frame"
    else:
        assert left[0] == left[1]
        assert len(left[0][0]) + sum(left[0][1].values()) == len(frames)


def test_other_nfs_see_what_was_built(tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    config = {
        "platform": {"open": True},
        "ports": {"b": lossless(out=str(out))},
        "devices": {
            "chain": {"mode": "rootless"},
            "exit": {"mode": "direct", "ports": ["b"], "receive": {}},
            "watch": {
                "mode": "direct",
                "ports": ["b"],
                "receive": {"b": {"match": "src host 10.0.0.1", "direction": "out"}},
            },
        },
    }
    four = bytes(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=99))
    six = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=1, dport=99))
    built = [(bytes(Ether(src=A, dst=B) / IP(four)), 1, 14), (four, 4, 0), (six, 6, 0)]
    socket = str(tmp_path / "mvmp.sock")
    with (
        mvmp.Platform(config, socket=socket),
        mvmp.Nf("sender", socket=socket) as sender,
        mvmp.Nf("receiver", socket=socket) as receiver,
    ):
        chain, into = sender.open("chain"), receiver.open("chain", match="udp dst port 99")
        watch, leave = receiver.open("watch", tx=False), receiver.open("exit", rx=False)
        for frame, link, _ in built:
            assert chain.send([frame], link=link) == 1
        seen: list[tuple[bytes, int, int]] = []
        while len(seen) < len(built):
            burst = into.rx_burst(8, timeout=20)
            assert burst
            seen += list(zip(map(bytes, burst), burst.link.tolist(), burst.l3_offset.tolist(), strict=True))
            burst.forward(leave)
        assert seen == built
        watched: list[tuple[bytes, int, int]] = []
        while len(watched) < 2:
            burst = watch.rx_burst(8, timeout=20)
            assert burst
            watched += list(
                zip(map(bytes, burst), burst.link.tolist(), burst.direction.tolist(), strict=True)
            )
        assert watched == [(built[0][0], 1, 1), (four, 4, 1)]
    assert links_and_frames(out) == [(1, built[0][0]), (228, four), (229, six)]


def test_what_begins_with_ip_reaches_no_nic_without_addresses(tmp_path: Path) -> None:
    config = {
        "platform": {"open": True},
        "ports": {"bare": "net_null0,no-rx=1", "addressed": "net_null1,no-rx=1"},
        "devices": {
            "chain": {"mode": "rootless"},
            "bare": {"mode": "direct", "ports": ["bare"]},
            "addressed": {"mode": "direct", "ports": ["addressed"], "send": {"addressed": ADDRESSES}},
        },
    }
    socket = str(tmp_path / "mvmp.sock")
    ethernet = bytes(Ether(src=A, dst=B) / IP() / UDP() / bytes(20))
    with (
        mvmp.Platform(config, socket=socket) as platform,
        mvmp.Nf("sender", socket=socket) as sender,
        mvmp.Nf("receiver", socket=socket) as receiver,
    ):
        chain, into = sender.open("chain"), receiver.open("chain")
        bare, addressed = receiver.open("bare"), receiver.open("addressed")
        for handle in bare, addressed:
            assert handle.send([ethernet]) == 1
            assert handle.send(packets()[:4], link=4) == 4
        # The same by way of another NF, which forwards them.
        for over in bare, addressed:
            assert chain.send([ethernet]) + chain.send(packets()[:4], None, 6) == 5
            passed = 0
            while passed < 5:
                burst = into.rx_burst(8, timeout=20)
                assert burst
                passed += burst.forward(over)

        def books() -> dict[str, Any]:
            stats = platform.stats()
            handles = {handle["device"]: handle["out"] for handle in stats["handles"] if handle["slot"] > 1}
            sent = {name: port["tx"]["transmitted"] for name, port in stats["ports"].items()}
            return {"sent": sent, "drops": {name: out["drops"] for name, out in handles.items()}}

        wanted = {
            "sent": {"bare": 2, "addressed": 10},
            "drops": {"bare": {"no_ethernet": 8}, "addressed": {}},
        }
        deadline = time.monotonic() + 20
        while books() != wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        assert books() == wanted


def test_a_bridge_learns_nothing_from_what_begins_with_ip(tmp_path: Path) -> None:
    # Where an Ethernet header has its source, this packet has `station`.
    raw = packets()[0]
    station = ":".join(f"{byte:02x}" for byte in raw[6:12])
    frame = bytes(Ether(src=A, dst=station) / ARP())
    outs = {name: tmp_path / f"{name}.out.pcapng" for name in "abc"}
    config = {
        "ports": {
            "a": lossless(pcap=capture(tmp_path, "a", [raw], RAW_IP), out=str(outs["a"]), wait_for=1),
            "b": lossless(pcap=capture(tmp_path, "b", [frame]), out=str(outs["b"]), wait_for=2),
            "c": lossless(out=str(outs["c"])),
        },
        "devices": {"bridge": {"mode": "bridge", "ports": ["a", "b", "c"]}},
        "nfs": {"nf": role("bridge"), "later": role("bridge:rx")},
    }

    def body(nf: mvmp.Nf) -> None:
        bridge = nf.open("bridge")
        for burst in bridge.bursts(8):
            rebuild(bridge, burst)

    with Stage(config, tmp_path, {"nf": body}) as stage:
        while stage.platform.stats()["ports"]["c"]["tx"]["transmitted"] == 0:
            pass
        with mvmp.Nf("later", socket=str(tmp_path / "nf" / "later" / "mvmp.sock")) as later:
            for _ in later.open("bridge").bursts(8):
                pass
        stage.finish()
    assert links_and_frames(outs["b"]) == [(228, raw)]
    assert links_and_frames(outs["c"]) == [(228, raw), (1, frame)], "nobody knows where that station is"
