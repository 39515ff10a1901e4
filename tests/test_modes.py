"""All device modes and policies of Table 1, over capture files, packet by packet."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")
pytest.importorskip("scapy")

import mvmp  # noqa: E402
from scapy.layers.inet import IP, TCP, UDP, fragment  # noqa: E402
from scapy.layers.inet6 import IPv6  # noqa: E402
from scapy.layers.l2 import ARP, GRE, Dot1Q, Ether  # noqa: E402
from scapy.layers.vxlan import VXLAN  # noqa: E402
from stages import (  # noqa: E402
    NfBody,
    Stage,
    capture,
    check_books,
    frames,
    lossless,
    role,
    send_back,
    watch,
    written,
)

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
EVERYONE = "ff:ff:ff:ff:ff:ff"


def tcp(src: str = "10.0.0.1", dst: str = "10.0.0.2", sport: int = 1000, dport: int = 80) -> Any:
    """A small TCP packet."""
    return IP(src=src, dst=dst) / TCP(sport=sport, dport=dport) / (b"x" * 10)


@pytest.mark.parametrize("policy", ["round-robin", "hash", "active-backup"])
def test_a_bond_sends_by_turn_by_flow_or_by_the_first_port(tmp_path: Path, policy: str) -> None:
    # Each flow twice, once in each direction.
    there = frames(64)
    back = [
        bytes(Ether(src=B, dst=A) / IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=53, dport=1000 + n) / b"b")
        for n in range(64)
    ]
    sent = [frame for pair in zip(there, back, strict=True) for frame in pair]
    outs = [str(tmp_path / f"out{n}.pcap") for n in (1, 2)]
    config = {
        "ports": {
            "in": lossless(pcap=capture(tmp_path, "in", sent)),
            "one": lossless(out=outs[0]),
            "two": lossless(out=outs[1]),
        },
        "devices": {
            "source": {"mode": "direct", "ports": ["in"]},
            "bond": {"mode": "bond", "ports": ["one", "two"], "receive": {}, "send": {"policy": policy}},
        },
        "nfs": {"nf": role("source:rx", "bond")},
    }

    def body(nf: mvmp.Nf) -> None:
        source, bond = nf.open("source"), nf.open("bond")
        for burst in source.bursts(32):
            bond.tx_burst(burst, timeout=None)

    with Stage(config, tmp_path, {"nf": body}):
        pass
    got = [written(out) for out in outs]
    assert Counter(got[0] + got[1]) == Counter(sent)
    if policy == "round-robin":
        assert got == [sent[0::2], sent[1::2]]
    elif policy == "active-backup":
        assert got == [sent, []]
    else:
        for n in range(64):
            assert (there[n] in got[0]) == (back[n] in got[0]), "both directions by one port"
        assert 16 < len(got[0]) < 112, "balanced"


def test_a_bridge_over_three_ports_learns_and_floods(tmp_path: Path) -> None:
    hello = bytes(Ether(src=B, dst=EVERYONE) / ARP(psrc="10.0.0.2", pdst="10.0.0.1"))
    answer = bytes(Ether(src=A, dst=B) / tcp())
    outs = {name: str(tmp_path / f"{name}.out.pcap") for name in "abc"}
    config = {
        "ports": {
            "a": lossless(pcap=capture(tmp_path, "a", [answer]), out=outs["a"], wait_for=2),
            "b": lossless(pcap=capture(tmp_path, "b", [hello]), out=outs["b"], wait_for=1),
            "c": lossless(out=outs["c"]),
        },
        "devices": {"bridge": {"mode": "bridge", "ports": ["a", "b", "c"]}},
        "nfs": {"nf": role("bridge"), "later": role("bridge:rx")},
    }
    with Stage(config, tmp_path, {"nf": send_back("bridge")}) as stage:
        while stage.platform.stats()["ports"]["b"]["dispatched"] == 0:
            pass
        # Now it is known where B is; A's answer may come.
        with mvmp.Nf("later", socket=str(tmp_path / "nf" / "later" / "mvmp.sock")) as later:
            seen: list[bytes] = []
            for burst in later.open("bridge").bursts(8):
                seen.extend(bytes(packet) for packet in burst)
        stage.finish()
    assert written(outs["a"]) == [hello] and written(outs["c"]) == [hello], "flooded, but not back"
    assert written(outs["b"]) == [answer], "learned"


@pytest.mark.parametrize("absent", ["drop", "bypass"])
def test_who_sends_while_no_nf_is_there(tmp_path: Path, absent: str) -> None:
    sent = frames(100)
    out = str(tmp_path / "out.pcap")
    config = {
        "ports": {
            "a": lossless(pcap=capture(tmp_path, "a", sent), wait_for=0),
            "b": lossless(out=out),
        },
        "devices": {"ips": {"mode": "bridge", "ports": ["a", "b"], "absent": absent}},
        "nfs": {"ips": role("ips")},
    }
    with Stage(config, tmp_path, {}) as stage:
        stats = stage.finish()
    port = stats["ports"]["a"]
    if absent == "bypass":
        assert written(out) == sent and port["bypassed"] == 100 and not port["drops"]
    else:
        assert written(out) == [] and port["drops"] == {"no_nf": 100}


def test_bypass_ends_when_an_nf_is_there_to_send(tmp_path: Path) -> None:
    sent = frames(100)
    out = str(tmp_path / "out.pcap")
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent)), "b": lossless(out=out)},
        "devices": {"ips": {"mode": "bridge", "ports": ["a", "b"], "absent": "bypass"}},
        "nfs": {"ips": role("ips")},
    }

    def every_second(nf: mvmp.Nf) -> None:
        handle = nf.open("ips")
        for burst in handle.bursts(32):
            handle.tx_burst(burst, (burst.src_port % 2) == 0, timeout=None)

    with Stage(config, tmp_path, {"ips": every_second}) as stage:
        stats = stage.finish()
    assert written(out) == sent[0::2]
    assert stats["ports"]["a"]["bypassed"] == 0


def vxlan(inner: Any, vni: int = 42, **ip: Any) -> Any:
    """That frame in VXLAN."""
    return (
        Ether(src=A, dst=B)
        / IP(src="192.0.2.1", dst="192.0.2.7", **ip)
        / UDP(sport=50000, dport=4789, chksum=0)
        / VXLAN(vni=vni, flags=8)
        / inner
    )


def test_decap_shows_the_inside_and_sends_the_whole(tmp_path: Path) -> None:
    inner = Ether(src=C, dst=A) / tcp(dport=443)
    sent = [bytes(vxlan(inner)), bytes(vxlan(inner, vni=7)), bytes(Ether(src=A, dst=B) / tcp())]
    out = str(tmp_path / "out.pcap")
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent)), "b": lossless(out=out)},
        "devices": {
            "ids": {
                "mode": "bridge",
                "ports": ["a", "b"],
                "receive": {"a": {"match": "tcp port 443", "decap": ["vxlan"]}},
            },
        },
        "nfs": {"ids": role("ids")},
    }
    seen: list[bytes] = []
    with Stage(config, tmp_path, {"ids": send_back("ids", seen)}) as stage:
        stats = stage.finish()
    assert seen == [bytes(inner)] * 2, "the match is asked of what is inside"
    assert written(out) == sent[:2], "it goes out again as it came"
    assert stats["ports"]["a"]["drops"] == {"unmatched": 1}


def test_faces_of_one_port_see_a_mixed_burst_each_in_its_way(tmp_path: Path) -> None:
    plain = [Ether(src=A, dst=B) / tcp(dport=1000 + n) for n in range(40)]
    inner = [Ether(src=C, dst=A) / IP(src="10.0.0.9") / UDP(dport=2000 + n) / b"inside" for n in range(40)]
    sent, shown, ports = [], [], []
    for n in range(40):
        # Bursts of tunnels alone, of plain frames alone, and mixed.
        if n % 3 or n < 8:
            sent.append(bytes(vxlan(inner[n])))
            shown.append(bytes(inner[n]))
            ports.append(2000 + n)
        if not n % 3 or n > 30:
            sent.append(bytes(plain[n]))
            shown.append(bytes(plain[n]))
            ports.append(1000 + n)
    outside = [4789 if port >= 2000 else port for port in ports]
    cells = {
        "whole": "all",
        "inside": {"match": "all", "decap": ["vxlan"]},
        "stripped": {"match": "all", "strip": ["vxlan"]},
        "udp": {"match": "udp", "decap": ["vxlan"]},
    }
    devices = {
        name: {"mode": "direct", "ports": ["a"], "receive": {"a": cell}} for name, cell in cells.items()
    }
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent))},
        "devices": devices,
        "nfs": {name: role(f"{name}:rx") for name in devices},
    }
    seen: dict[str, list[tuple[bytes, int]]] = {name: [] for name in devices}

    def collect(name: str) -> NfBody:
        def body(nf: mvmp.Nf) -> None:
            for burst in nf.open(name).bursts(64):
                seen[name] += zip(map(bytes, burst), burst.dst_port.tolist(), strict=True)

        return body

    with Stage(config, tmp_path, {name: collect(name) for name in devices}) as stage:
        stage.finish()
    inside = list(zip(shown, ports, strict=True))
    assert seen["whole"] == list(zip(sent, outside, strict=True))
    assert seen["inside"] == seen["stripped"] == inside
    assert seen["udp"] == [(frame, port) for frame, port in inside if port >= 2000]


def test_strip_removes_for_good_and_encap_puts_on(tmp_path: Path) -> None:
    inner = Ether(src=C, dst=A) / tcp(dport=443)
    sent = [bytes(vxlan(inner)), bytes(inner)]
    middle, back = str(tmp_path / "middle.pcap"), str(tmp_path / "back.pcap")
    tunnel = {"vni": 42, "local": "192.0.2.1", "remote": "192.0.2.7"}
    config = {
        "ports": {
            "wire": lossless(pcap=capture(tmp_path, "wire", sent), out=back),
            "lan": lossless(out=middle),
        },
        "devices": {
            "gateway": {
                "mode": "bridge",
                "ports": ["wire", "lan"],
                "receive": {"wire": {"match": "all", "strip": ["vxlan"]}},
            },
            "uplink": {
                "mode": "direct",
                "ports": ["wire"],
                "receive": {},
                "send": {"wire": {"encap": {"vxlan": tunnel}, "ethernet": {"src": A, "dst": B}}},
            },
        },
        "nfs": {"nf": role("gateway", "uplink:tx")},
    }

    def body(nf: mvmp.Nf) -> None:
        gateway, uplink = nf.open("gateway"), nf.open("uplink")
        for burst in gateway.bursts(32):
            burst.mirror(uplink)
            gateway.tx_burst(burst, timeout=None)

    with Stage(config, tmp_path, {"nf": body}):
        pass
    assert written(middle) == [bytes(inner)] * 2
    outer = [Ether(frame) for frame in written(back)]
    for packet in outer:
        assert (packet.src, packet.dst, packet[IP].src, packet[IP].dst) == (A, B, "192.0.2.1", "192.0.2.7")
        assert (packet[UDP].dport, packet[VXLAN].vni) == (4789, 42)
        assert bytes(packet[VXLAN].payload) == bytes(inner)


def test_what_begins_with_ip_has_an_interface_of_its_own_in_the_file(tmp_path: Path) -> None:
    tagged = [
        bytes(Ether(src=A, dst=B) / Dot1Q(vlan=7) / tcp()),
        bytes(Ether(src=A, dst=B) / Dot1Q(vlan=7) / IPv6() / UDP() / b"6"),
    ]
    plain = bytes(Ether(src=A, dst=B) / tcp())
    out = tmp_path / "out.pcapng"
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", [*tagged, plain])), "b": lossless(out=str(out))},
        "devices": {
            "nf": {
                "mode": "bridge",
                "ports": ["a", "b"],
                "receive": {"a": {"match": "all", "strip": ["vlan"]}},
            }
        },
        "nfs": {"nf": role("nf")},
    }
    with Stage(config, tmp_path, {"nf": send_back("nf")}):
        pass
    assert written(out) == [tagged[0][18:], tagged[1][18:], plain]


def test_two_devices_see_one_buffer_in_their_own_ways(tmp_path: Path) -> None:
    inner = Ether(src=C, dst=A) / tcp()
    sent = [bytes(vxlan(inner, vni=n)) for n in range(200)]
    out = str(tmp_path / "out.pcap")
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent)), "b": lossless(out=out)},
        "devices": {
            "raw": {"mode": "bridge", "ports": ["a", "b"], "receive": {"a": "all"}},
            "inside": {"mode": "direct", "ports": ["a"], "receive": {"a": {"decap": "auto"}}},
            "next": {"mode": "rootless"},
        },
        "nfs": {"raw": role("raw"), "inside": role("inside:rx", "next:tx"), "next": role("next:rx")},
    }
    seen: dict[str, list[bytes]] = defaultdict(list)

    def inside(nf: mvmp.Nf) -> None:
        handle, on = nf.open("inside"), nf.open("next")
        for burst in handle.bursts(32):
            assert set(burst.vni.tolist()) <= set(range(200))
            seen["inside"].extend(bytes(packet) for packet in burst)
            on.tx_burst(burst, timeout=None)

    with Stage(
        config,
        tmp_path,
        {"raw": send_back("raw", seen["raw"]), "inside": inside, "next": watch("next", seen["next"])},
    ):
        pass
    assert seen["raw"] == sent == written(out)
    assert seen["inside"] == [bytes(inner)] * 200
    assert seen["next"] == seen["inside"], "the next NF sees what the one before saw"


def test_a_group_has_each_flow_once_both_directions_and_fragments(tmp_path: Path) -> None:
    there = [
        bytes(
            Ether(src=A, dst=B)
            / IP(src="10.0.0.1", dst="10.0.0.2", id=n)
            / UDP(sport=1000 + n, dport=53)
            / (b"q" * 8)
        )
        for n in range(200)
    ]
    back = [
        bytes(
            Ether(src=B, dst=A)
            / IP(src="10.0.0.2", dst="10.0.0.1")
            / UDP(sport=53, dport=1000 + n)
            / (b"r" * 8)
        )
        for n in range(200)
    ]
    parts = [
        [
            bytes(Ether(src=A, dst=B) / piece)
            for piece in fragment(
                IP(src="10.0.0.1", dst="10.0.0.2", id=9000 + n) / UDP(sport=1000 + n, dport=53) / (b"f" * 64),
                fragsize=24,
            )
        ]
        for n in range(200)
    ]
    sent = there + back + [piece for pieces in parts for piece in pieces]
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent))},
        "devices": {"tap": {"mode": "direct", "ports": ["a"]}},
        "nfs": {"dpi": role("tap:rx", instances=3, groups={"tap": "dpi"}), "all": role("tap:rx")},
    }
    config["ports"]["a"]["wait_for"] = 4
    seen: dict[str, list[bytes]] = {name: [] for name in ("dpi#1", "dpi#2", "dpi#3", "all")}
    with Stage(config, tmp_path, {name: watch("tap", seen[name]) for name in seen}):
        pass
    assert seen["all"] == sent
    members = [set(seen[name]) for name in seen if name != "all"]
    assert sum(len(seen[name]) for name in seen if name != "all") == len(sent)
    for n in range(200):
        flow = {there[n], back[n], *parts[n]}
        owners = [member for member in members if member & flow]
        assert len(owners) == 1, f"flow {n} has one member, fragments too"
    assert all(len(member) > 100 for member in members), "balanced"


def test_one_port_in_several_devices_opened_several_times(tmp_path: Path) -> None:
    sent = frames(64) + [bytes(Ether(src=A, dst=B) / tcp(sport=n)) for n in range(64)]
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent))},
        "devices": {
            "udp": {"mode": "direct", "ports": ["a"], "receive": {"a": "udp"}},
            "tcp": {"mode": "direct", "ports": ["a"], "receive": {"a": "tcp"}},
        },
        "nfs": {"both": role("udp:rx", "tcp:rx"), "other": role("udp:rx")},
    }
    seen: dict[str, list[bytes]] = defaultdict(list)

    def both(nf: mvmp.Nf) -> None:
        nf.open("udp")
        nf.open("tcp")
        for burst in nf.bursts(16):
            seen[burst.handle.device].extend(bytes(packet) for packet in burst)

    with Stage(config, tmp_path, {"both": both, "other": watch("udp", seen["other"])}):
        pass
    assert seen["udp"] == sent[:64] == seen["other"]
    assert seen["tcp"] == sent[64:]


def test_a_handles_own_match_only_narrows_what_its_device_receives(tmp_path: Path) -> None:
    sent = frames(64)
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent))},
        "devices": {
            "tap": {"mode": "direct", "ports": ["a"], "receive": {"a": "udp src portrange 1000-1009"}}
        },
        "nfs": {name: role("tap:rx") for name in ("wider", "narrower", "beside")},
    }
    seen: dict[str, list[bytes]] = defaultdict(list)
    matches = {"wider": "udp", "narrower": "udp src port 1003", "beside": "udp src port 1010"}
    nfs = {name: watch("tap", seen[name], match=match) for name, match in matches.items()}
    with Stage(config, tmp_path, nfs) as stage:
        stats = stage.finish()
    assert dict(seen) == {"wider": sent[:10], "narrower": [sent[3]], "beside": []}
    assert stats["ports"]["a"]["drops"] == {"unmatched": 54}


def test_gre_in_a_file_that_begins_with_ip(tmp_path: Path) -> None:
    inner = tcp(src="10.9.0.1")
    sent = [bytes(IP(src="192.0.2.1", dst="192.0.2.2") / GRE() / inner)]
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent, link=101))},
        "devices": {
            "tap": {
                "mode": "direct",
                "ports": ["a"],
                "receive": {"a": {"match": "tcp and src host 10.9.0.1", "decap": ["gre"]}},
            }
        },
        "nfs": {"nf": role("tap:rx")},
    }
    seen: list[bytes] = []
    with Stage(config, tmp_path, {"nf": watch("tap", seen)}):
        pass
    assert seen == [bytes(inner)]


def test_the_books_are_checked() -> None:
    wrong = {"ports": {"p": {"received": 2, "dispatched": 1, "drops": {}, "tx": {}}}, "pools": []}
    with pytest.raises(AssertionError):
        check_books(wrong)
