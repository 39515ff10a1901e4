"""Tunnels through a real platform: others read what it puts on, and an NF sees what it jumps over."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from capture_files import records, tshark

np = pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")
pytest.importorskip("scapy")

import mvmp  # noqa: E402
from scapy.contrib.geneve import GENEVE  # noqa: E402
from scapy.layers.inet import IP, TCP, UDP  # noqa: E402
from scapy.layers.inet6 import IPv6  # noqa: E402
from scapy.layers.l2 import GRE, Dot1Q, Ether  # noqa: E402
from scapy.layers.vxlan import VXLAN  # noqa: E402
from scapy.utils import wrpcap  # noqa: E402
from stages import NfBody, Stage, capture, lossless, role, send_back, written  # noqa: E402

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
ETHERNET, RAW_IP = 1, 101
FOUR = {"local": "192.0.2.1", "remote": "192.0.2.7"}
SIX = {"local": "2001:db8::1", "remote": "2001:db8::7"}

# (encap, what the packet begins with, the layers that scapy sees in front of it)
ENCAPS: list[tuple[Any, int, list[Any]]] = [
    ({"vlan": 7}, ETHERNET, []),
    ([{"vlan": 7}, {"vlan": {"id": 8, "tpid": 0x88A8, "pcp": 3}}], ETHERNET, []),
    ({"vxlan": {"vni": 42, **FOUR}}, ETHERNET, [Ether, IP, UDP, VXLAN]),
    ({"vxlan": {"vni": 42, **SIX}}, ETHERNET, [Ether, IPv6, UDP, VXLAN]),
    ([{"vxlan": {"vni": 42, **FOUR}}, {"vlan": 7}], ETHERNET, [Ether, Dot1Q, IP, UDP, VXLAN]),
    ({"geneve": {"vni": 42, **FOUR}}, ETHERNET, [Ether, IP, UDP, GENEVE]),
    ({"geneve": {"vni": 42, **SIX}}, ETHERNET, [Ether, IPv6, UDP, GENEVE]),
    ({"gre": {**FOUR}}, ETHERNET, [Ether, IP, GRE]),
    ({"gre": {"key": 9, **SIX}}, ETHERNET, [Ether, IPv6, GRE]),
    ({"gre": {**FOUR}}, RAW_IP, [Ether, IP, GRE]),
    ({"ipip": {**FOUR}}, RAW_IP, [Ether, IP]),
    ({"ipip": {**SIX}}, RAW_IP, [Ether, IPv6]),
]


def users(link: int) -> list[bytes]:
    """Packets with right checksums, of odd and even length."""
    packets = [
        IP(src="10.0.0.1", dst="10.0.0.2", tos=0xB8) / TCP(sport=1000 + n) / (b"x" * n) for n in range(40)
    ]
    packets += [
        IPv6(src="2001:db8:1::1", dst="2001:db8:1::2") / UDP(sport=1000 + n, dport=9999) / (b"y" * 40)
        for n in range(40)
    ]
    if link == ETHERNET:
        packets = [Ether(src=C, dst=A) / packet for packet in packets]
    return [bytes(packet) for packet in packets]


def through(
    folder: Path, frames: list[bytes], link: int, cell: dict[str, Any], receive: Any, body: NfBody
) -> Path:
    """What leaves a bridge when these frames come in; `cell` is how the second port sends."""
    played, out = folder / "in.pcap", folder / "out.pcap"
    wrpcap(str(played), frames, linktype=link)
    config = {
        "ports": {"a": {"pcap": str(played), "rate": "lossless"}, "b": {"out": str(out)}},
        "devices": {
            "wire": {"mode": "bridge", "ports": ["a", "b"], "receive": {"a": receive}, "send": {"b": cell}}
        },
        "nfs": {"nf": {"devices": ["wire"]}},
    }
    with Stage(config, folder, {"nf": body}):
        pass
    return out


@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")
@pytest.mark.parametrize(("encap", "link", "layers"), ENCAPS, ids=lambda value: str(value)[:60])
def test_what_is_put_on_is_read_without_a_warning(
    tmp_path: Path, encap: Any, link: int, layers: list[Any]
) -> None:
    frames = users(link)
    cell = {"encap": encap, "ethernet": {"src": A, "dst": B}}
    out = through(tmp_path, frames, link, cell, "all", send_back("wire"))
    sent = [record.frame for record in records(out)]
    assert len(sent) == len(frames)
    for frame, inner in zip(sent, frames, strict=True):
        packet = Ether(frame)
        for kind in layers:
            assert type(packet) is kind
            packet = packet.payload
        if layers:
            assert bytes(packet) == inner
        else:
            assert frame[:12] + frame[-len(inner) + 12 :] == inner, "tags lie behind the addresses"
    bad = "_ws.malformed || ip.checksum.status == 0 || udp.checksum.status == 0 || tcp.checksum.status == 0"
    assert tshark(out, "-Y", bad) == []
    assert len(tshark(out, "-Y", "ip.src == 10.0.0.1")) == 40
    assert len(tshark(out, "-Y", "ipv6.src == 2001:db8:1::1")) == 40


@pytest.mark.parametrize("encap", [{"vlan": 7}, {"vxlan": {"vni": 42, **FOUR}}, {"gre": {**SIX}}], ids=str)
def test_what_does_not_fit_a_port_any_more_is_a_named_drop(tmp_path: Path, encap: Any) -> None:
    longest = {"vlan": 4, "vxlan": 14 + 20 + 8 + 8, "gre": 14 + 40 + 4}[next(iter(encap))]
    frames = [bytes(Ether(src=C, dst=A) / bytes(length)) for length in (400, 486, 487, 500)]
    out = tmp_path / "out.pcap"
    cell = {"encap": encap, "ethernet": {"src": A, "dst": B}}
    config = {
        "ports": {
            "a": {"pcap": str(capture(tmp_path, "in", frames)), "rate": "lossless"},
            "b": {"out": str(out), "max_frame": 500 + longest},
        },
        "devices": {"wire": {"mode": "bridge", "ports": ["a", "b"], "send": {"b": cell}}},
        "nfs": {"nf": {"devices": ["wire"]}},
    }
    with Stage(config, tmp_path, {"nf": send_back("wire")}) as stage:
        stats = stage.finish()
    assert [len(record.frame) - longest for record in records(out)] == [414, 500]
    assert [handle["out"]["drops"] for handle in stats["closed_handles"]] == [{"mtu_exceeded": 2}]


def test_an_nf_sees_the_packet_as_delivered_and_the_frame_around_it(tmp_path: Path) -> None:
    inner = Ether(src=C, dst=A) / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1000, dport=443) / b"inside"
    outer = (
        IP(src="192.0.2.1", dst="192.0.2.7") / UDP(sport=50000, dport=4789, chksum=0) / VXLAN(vni=42, flags=8)
    )
    tunnelled = bytes(Ether(src=A, dst=B) / Dot1Q(vlan=7) / outer / inner)
    plain = bytes(Ether(src=A, dst=B) / IP(src="10.0.0.3", dst="10.0.0.4") / TCP(dport=443) / b"plain")
    seen: list[tuple[int, ...]] = []

    def body(nf: mvmp.Nf) -> None:
        handle = nf.open("wire")
        for burst in handle.bursts(32):
            for packet in burst:
                columns = burst.vlan, burst.vni, burst.dst_port, burst.length, burst.direction
                at = len(seen)
                seen.append(tuple(int(column[at]) for column in columns))
                assert (packet.vlan, packet.vni, packet.dst_port, packet.length, packet.direction) == seen[at]
                if packet.vni < 0:
                    assert packet.outer is None
                    assert bytes(packet) == plain
                    continue
                assert bytes(packet) == bytes(inner)
                frame = packet.outer
                assert frame is not None
                assert bytes(frame) == tunnelled
                assert (len(frame), frame.length, frame.link, frame.vlan) == (
                    len(tunnelled),
                    len(tunnelled),
                    1,
                    7,
                )
                assert (frame.src, frame.dst) == (0xC0000201, 0xC0000207)
                assert (frame.src_port, frame.dst_port, frame.protocol) == (50000, 4789, 17)
                names = [(name, number) for name, _, number in frame.layers]
                assert names == [
                    ("ether", None),
                    ("vlan", 7),
                    ("ip", None),
                    ("udp", None),
                    ("vxlan", 42),
                    ("ether", None),
                    ("ip", None),
                    ("tcp", None),
                ]
                assert frame.layers[5][1] == len(tunnelled) - len(inner)
                assert frame.scapy()[VXLAN].vni == 42
            handle.tx_burst(burst, timeout=None)

    receive = {"match": "tcp port 443", "decap": ["vlan", "vxlan"]}
    out = through(tmp_path, [tunnelled, plain], ETHERNET, {}, receive, body)
    assert seen == [(7, 42, 443, len(inner), 0), (-1, -1, 443, len(plain), 0)]
    assert [record.frame for record in records(out)] == [tunnelled, plain]


def test_a_number_of_32_ones_is_told_from_none(tmp_path: Path) -> None:
    inner = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(dport=99) / b"inside"
    keys = {"key_present": 1, "key": 0xFFFFFFFF}, {}
    frames = [bytes(Ether(src=A, dst=B) / IP() / GRE(proto=0x800, **key) / inner) for key in keys]
    seen: list[int | None] = []

    def body(nf: mvmp.Nf) -> None:
        handle = nf.open("wire")
        for burst in handle.bursts(32):
            for packet in burst:
                assert packet.outer is not None
                seen.extend(number for name, _, number in packet.outer.layers if name == "gre")
            handle.tx_burst(burst, timeout=None)

    through(tmp_path, frames, ETHERNET, {}, {"decap": ["gre"]}, body)
    assert seen == [0xFFFFFFFF, None]


def test_the_frame_around_a_packet_goes_with_it(tmp_path: Path) -> None:
    frame = bytes(Ether(src=A, dst=B) / Dot1Q(vlan=7) / IP() / UDP() / b"x")

    def body(nf: mvmp.Nf) -> None:
        handle = nf.open("wire")
        for burst in handle.bursts(32):
            outer = burst[0].outer
            assert outer is not None
            handle.tx_burst(burst, timeout=None)
            with pytest.raises(mvmp.NotHeld):
                bytes(outer)
            assert "not readable" in repr(outer)

    through(tmp_path, [frame], ETHERNET, {}, {"decap": ["vlan"]}, body)


def test_offline_sees_what_is_inside(tmp_path: Path) -> None:
    inner = Ether(src=A, dst=B) / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(dport=443)
    whole = bytes(
        Ether(src=A, dst=B) / Dot1Q(vlan=7) / IP(src="192.0.2.1") / UDP(dport=4789) / VXLAN(vni=42) / inner
    )
    source, out = (
        capture(tmp_path, "offline", [whole, bytes(Ether() / IP() / UDP(dport=53))]),
        tmp_path / "out.pcap",
    )
    for how, left in (
        ({"decap": ["vlan", "vxlan"]}, whole),
        ({"decap": "auto"}, whole),
        ({"strip": "auto"}, bytes(inner)),
    ):
        with mvmp.offline(source, match="tcp port 443", out=out, **how) as handle:
            seen = []
            for burst in handle.bursts(32):
                seen += [(bytes(packet), vni) for packet, vni in zip(burst, burst.vni.tolist(), strict=True)]
                burst.forward(handle)
        assert [frame for frame, _ in seen] == [bytes(inner)], how
        assert written(out) == [left], how
    with pytest.raises(mvmp.ConfigError, match="vxlam"), mvmp.offline(source, decap=["vxlam"]):
        pass


def gre_flows(count: int) -> list[bytes]:
    """Four packets of each of eight flows, all in one GRE tunnel; the last byte is the flow."""
    return [
        bytes(
            Ether(src=A, dst=B)
            / IP(src="192.0.2.1", dst="192.0.2.7")
            / GRE()
            / IP(src="10.0.0.1", dst="10.0.0.2")
            / UDP(sport=1000 + n % 8, dport=53)
            / bytes([n % 8])
        )
        for n in range(count)
    ]


def test_a_flow_inside_of_a_tunnel_keeps_its_port_whoever_made_the_frame(tmp_path: Path) -> None:
    sent = gre_flows(64)
    outs = [str(tmp_path / f"out{n}.pcap") for n in (1, 2)]
    config = {
        "ports": {
            "in": lossless(pcap=capture(tmp_path, "in", sent)),
            "one": lossless(out=outs[0]),
            "two": lossless(out=outs[1]),
        },
        "devices": {
            "in": {"mode": "direct", "ports": ["in"]},
            "bond": {"mode": "bond", "ports": ["one", "two"], "send": {"policy": "hash"}},
        },
        "nfs": {"nf": role("in", "bond:tx")},
    }

    def half_built(nf: mvmp.Nf) -> None:
        bond = nf.open("bond", rx=False, tx=True)
        for burst in nf.open("in").bursts(32):
            late = np.arange(len(burst)) % 16 >= 8
            bond.send([bytes(burst[int(n)]) for n in np.flatnonzero(~late)], timeout=None)
            bond.tx_burst(burst, late, timeout=None)

    with Stage(config, tmp_path, {"nf": half_built}):
        pass
    got = [Counter(frame[-1] for frame in written(out)) for out in outs]
    assert got[0] + got[1] == Counter(frame[-1] for frame in sent)
    assert got[0] and got[1] and not set(got[0]) & set(got[1])


def test_the_source_port_of_a_tunnel_is_the_inner_flows(tmp_path: Path) -> None:
    sent = gre_flows(32)
    out = str(tmp_path / "out.pcap")
    tunnel = {"vxlan": {"vni": 42, "local": "192.0.2.1", "remote": "192.0.2.7"}}
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent), out=out)},
        "devices": {
            "d": {
                "mode": "direct",
                "ports": ["a"],
                "send": {"a": {"encap": tunnel, "ethernet": {"src": A, "dst": B}}},
            }
        },
        "nfs": {"nf": role("d")},
    }
    with Stage(config, tmp_path, {"nf": send_back("d")}):
        pass
    ports = {(frame[-1], Ether(frame)[UDP].sport) for frame in written(out)}
    assert len(ports) == len({flow for flow, _ in ports}) == len({port for _, port in ports}) == 8
