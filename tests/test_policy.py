"""Rules judged twice: by the compiled matcher, and by a naive one written here on what scapy-free structs build."""

from __future__ import annotations

import ipaddress
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp  # noqa: E402
from capture_files import write_pcap  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

PORTS = [0, 22, 53, 80, 443, 65535]
ADDRESSES4 = ["10.0.0.1", "10.0.0.2", "10.1.2.3", "192.168.7.9"]
ADDRESSES6 = ["fd00::1", "fd00::2", "2001:db8::9"]
NETS = ["10.0.0.0/8", "10.0.0.0/30", "192.168.0.0/16", "fd00::/16", "2001:db8::/32"]
MACS = ["02:00:00:00:00:01", "02:00:00:00:00:02"]
NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "icmp6": 58}


class Packet(NamedTuple):
    """What a frame was built from."""

    version: int  # 4, 6; 0 is ARP
    protocol: int
    src: str
    dst: str
    src_port: int
    dst_port: int
    src_mac: str
    dst_mac: str
    vlans: tuple[int, ...]

    def frame(self) -> bytes:
        """The Ethernet frame."""
        macs = bytes.fromhex(f"{self.dst_mac}:{self.src_mac}".replace(":", ""))
        tags = b"".join(struct.pack("!HH", 0x8100, vlan) for vlan in self.vlans)
        kind = {4: 0x0800, 6: 0x86DD, 0: 0x0806}[self.version]
        return (macs + tags + struct.pack("!H", kind) + self.network()).ljust(90, b"\0")

    def network(self) -> bytes:
        """From the network header on."""
        if self.version == 0:
            return struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + bytes(20)
        payload = self.transport()
        src, dst = ipaddress.ip_address(self.src).packed, ipaddress.ip_address(self.dst).packed
        if self.version == 4:
            length = 20 + len(payload)
            return struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 64, self.protocol, 0) + src + dst + payload
        return struct.pack("!IHBB", 6 << 28, len(payload), self.protocol, 64) + src + dst + payload

    def transport(self) -> bytes:
        """From the transport header on."""
        ports = struct.pack("!HH", self.src_port, self.dst_port)
        if self.protocol == 6:
            return ports + struct.pack("!IIBBHHH", 0, 0, 5 << 4, 0x10, 0, 0, 0)
        if self.protocol == 17:
            return ports + struct.pack("!HH", 8, 0)
        if self.protocol == 132:
            return ports + bytes(8)
        return struct.pack("!BBHI", 8, 0, 0, 0)


Test = Callable[[Packet], bool]
Rule = tuple[str, Test]


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    """Packets from small sets of values, so that rules often match."""
    version = draw(st.sampled_from([4, 4, 6, 6, 0]))
    addresses = st.sampled_from(ADDRESSES6 if version == 6 else ADDRESSES4)
    protocols = ["tcp", "udp", "sctp", "icmp6" if version == 6 else "icmp"]
    return Packet(
        version,
        NUMBERS[draw(st.sampled_from(protocols))],
        draw(addresses),
        draw(addresses),
        draw(st.sampled_from(PORTS)),
        draw(st.sampled_from(PORTS)),
        draw(st.sampled_from(MACS)),
        draw(st.sampled_from(MACS)),
        tuple(draw(st.lists(st.sampled_from([1, 42, 4095]), max_size=2))),
    )


def ends(packet: Packet, way: str, src: object, dst: object) -> list[object]:
    """Source, destination, or both."""
    return {"src": [src], "dst": [dst], "": [src, dst]}[way]


def has_ports(packet: Packet) -> bool:
    """Whether its transport protocol has ports."""
    return packet.version != 0 and packet.protocol in (6, 17, 132)


def protocol_rule(word: str) -> Rule:
    """`tcp`, …"""
    return word, lambda packet: packet.version != 0 and packet.protocol == NUMBERS[word]


def version_rule(word: str, version: int) -> Rule:
    """`ip`, `ip6`, `arp`."""
    return word, lambda packet: packet.version == version


def host_rule(way: str, address: str) -> Rule:
    """`src host A`."""
    return f"{way} host {address}".strip(), lambda packet: (
        packet.version != 0 and address in ends(packet, way, packet.src, packet.dst)
    )


def net_rule(way: str, net: str) -> Rule:
    """`net N`."""
    network = ipaddress.ip_network(net)

    def test(packet: Packet) -> bool:
        chosen = ends(packet, way, packet.src, packet.dst)
        return packet.version == network.version and any(
            ipaddress.ip_address(str(address)) in network for address in chosen
        )

    return f"{way} net {net}".strip(), test


def port_rule(protocol: str, way: str, first: int, last: int) -> Rule:
    """`tcp dst port P`, `portrange P-Q`."""
    span = f"port {first}" if first == last else f"portrange {first}-{last}"

    def test(packet: Packet) -> bool:
        chosen = ends(packet, way, packet.src_port, packet.dst_port)
        fits = not protocol or packet.protocol == NUMBERS[protocol]
        return has_ports(packet) and fits and any(first <= int(str(port)) <= last for port in chosen)

    return " ".join(word for word in (protocol, way, span) if word), test


def mac_rule(way: str, mac: str) -> Rule:
    """`ether src M`."""
    return f"ether {way or 'host'} {mac}", lambda packet: mac in ends(
        packet, way, packet.src_mac, packet.dst_mac
    )


def vlan_rule(vlan: int | None) -> Rule:
    """`vlan`, `vlan 42`: anywhere in the stack."""
    if vlan is None:
        return "vlan", lambda packet: bool(packet.vlans)
    return f"vlan {vlan}", lambda packet: vlan in packet.vlans


WAYS = st.sampled_from(["", "src", "dst"])
TCPDUMP_WORDS = st.one_of(
    st.sampled_from(["tcp", "udp", "sctp", "icmp", "icmp6"]).map(protocol_rule),
    st.sampled_from([("ip", 4), ("ip6", 6), ("arp", 0)]).map(lambda pair: version_rule(*pair)),
    st.builds(host_rule, WAYS, st.sampled_from(ADDRESSES4 + ADDRESSES6)),
    st.builds(net_rule, WAYS, st.sampled_from(NETS)),
    st.builds(
        lambda protocol, way, ports: port_rule(protocol, way, min(ports), max(ports)),
        st.sampled_from(["", "tcp", "udp"]),
        WAYS,
        st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS)),
    ),
    st.builds(mac_rule, WAYS, st.sampled_from(MACS)),
)


def combined(words: st.SearchStrategy[Rule]) -> st.SearchStrategy[Rule]:
    """Rules of rules: `not`, `and`, `or`, brackets."""

    def joined(left: Rule, word: str, right: Rule) -> Rule:
        (a, first), (b, second) = left, right
        if word == "and":
            return f"({a}) and ({b})", lambda packet: first(packet) and second(packet)
        return f"({a}) or ({b})", lambda packet: first(packet) or second(packet)

    def negated(rule: Rule) -> Rule:
        return f"not ({rule[0]})", lambda packet: not rule[1](packet)

    return st.recursive(
        words,
        lambda inner: st.builds(joined, inner, st.sampled_from(["and", "or"]), inner) | inner.map(negated),
        max_leaves=6,
    )


OUR_WORDS = TCPDUMP_WORDS | st.sampled_from([None, 1, 42]).map(vlan_rule)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(rule=combined(OUR_WORDS), built=st.lists(packets(), min_size=1, max_size=16))
def test_a_policy_says_what_the_naive_matcher_says(rule: Rule, built: list[Packet]) -> None:
    text, naive = rule
    policy = mvmp.Policy(text)
    frames = [packet.frame() for packet in built]
    expected = [naive(packet) for packet in built]
    assert policy.match_many(frames).tolist() == expected
    assert [policy.matches(frame) for frame in frames] == expected


@settings(max_examples=300, deadline=None, derandomize=True)
@given(rule=combined(OUR_WORDS), frame=st.binary(max_size=120))
def test_any_bytes_are_judged_alike_alone_and_among_others(rule: Rule, frame: bytes) -> None:
    policy = mvmp.Policy(rule[0])
    verdict = policy.matches(frame)
    assert policy.match_many([frame, b"", frame]).tolist()[::2] == [verdict, verdict]
    assert mvmp.Policy(f"not ({rule[0]})").matches(frame) is not verdict
    assert policy.explain()


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="no `tcpdump` here: `make deps` installs it")
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rule=combined(TCPDUMP_WORDS), built=st.lists(packets(), min_size=1, max_size=24))
def test_a_policy_says_what_tcpdump_says_of_untagged_frames(
    tmp_path: Path, rule: Rule, built: list[Packet]
) -> None:
    frames = [packet._replace(vlans=()).frame() for packet in built]
    capture = write_pcap(tmp_path / "in.pcap", frames)
    command = ["tcpdump", "--nano", "-tt", "-n", "-q", "-r", str(capture), rule[0]]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "rejects all packets" in finished.stderr:
        matched: set[int] = set()
    else:
        assert finished.returncode == 0, finished.stderr
        # `write_pcap` gives each frame its number in milliseconds.
        matched = {
            int(line.split(".")[1][:3]) + 1000 * (int(line.split(".")[0]) - 1_700_000_000)
            for line in finished.stdout.splitlines()
            if line.startswith("17000000")
        }
    assert mvmp.Policy(rule[0]).match_many(frames).tolist() == [at in matched for at in range(len(frames))]
