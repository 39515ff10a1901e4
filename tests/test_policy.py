"""The compiled matcher against a naive one, written here from the documentation alone."""

from __future__ import annotations

import ipaddress
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import mvmp
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

HOSTS = ["10.0.0.1", "10.0.0.2", "10.1.0.1", "192.0.2.7"]
NETS = ["10.0.0.0/24", "10.0.0.0/8", "192.0.2.0/24"]
PORTS = [22, 23, 53, 80, 443]
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1}


@dataclass(frozen=True)
class Sample:
    """What a random packet is made from."""

    protocol: str
    src: str
    dst: str
    src_port: int
    dst_port: int
    vlan: int | None

    def frame(self) -> bytes:
        """The Ethernet frame."""
        if self.protocol == "icmp":
            payload = struct.pack("!BBHHH", 8, 0, 0, 1, 1)
        elif self.protocol == "udp":
            payload = struct.pack("!HHHH", self.src_port, self.dst_port, 8, 0)
        else:
            payload = struct.pack("!HHIIBBHHH", self.src_port, self.dst_port, 0, 0, 0x50, 2, 0, 0, 0)
        addresses = ipaddress.ip_address(self.src).packed + ipaddress.ip_address(self.dst).packed
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, PROTOCOLS[self.protocol], 0)
        tag = b"" if self.vlan is None else struct.pack("!HH", 0x8100, self.vlan)
        return bytes(12) + tag + b"\x08\x00" + header + addresses + payload

    def has_ports(self) -> bool:
        """TCP and UDP have."""
        return self.protocol != "icmp"


Naive = Callable[[Sample], bool]
Rule = tuple[str, Naive]

samples = st.builds(
    Sample,
    protocol=st.sampled_from(sorted(PROTOCOLS)),
    src=st.sampled_from(HOSTS),
    dst=st.sampled_from(HOSTS),
    src_port=st.sampled_from(PORTS),
    dst_port=st.sampled_from(PORTS),
    vlan=st.sampled_from([None, 7, 42]),
)


def host(name: str) -> Rule:
    return f"host {name}", lambda s: name in (s.src, s.dst)


def src_host(name: str) -> Rule:
    return f"src host {name}", lambda s: s.src == name


def dst_net(name: str) -> Rule:
    net = ipaddress.ip_network(name)
    return f"dst net {name}", lambda s: ipaddress.ip_address(s.dst) in net


def port(number: int) -> Rule:
    return f"port {number}", lambda s: s.has_ports() and number in (s.src_port, s.dst_port)


def dst_port(number: int) -> Rule:
    return f"dst port {number}", lambda s: s.has_ports() and s.dst_port == number


def port_range(ends: tuple[int, int]) -> Rule:
    low, high = sorted(ends)
    return (
        f"portrange {low}-{high}",
        lambda s: s.has_ports() and (low <= s.src_port <= high or low <= s.dst_port <= high),
    )


def protocol(name: str) -> Rule:
    return name, lambda s: s.protocol == name


def vlan(number: int) -> Rule:
    return f"vlan {number}", lambda s: s.vlan == number


# What both dialects say in the same words.
common: st.SearchStrategy[Rule] = st.one_of(
    st.sampled_from(HOSTS).map(host),
    st.sampled_from(HOSTS).map(src_host),
    st.sampled_from(NETS).map(dst_net),
    st.sampled_from(PORTS).map(port),
    st.sampled_from(PORTS).map(dst_port),
    st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS)).map(port_range),
    st.sampled_from(sorted(PROTOCOLS)).map(protocol),
    st.just(("ip", lambda s: True)),
)
primitives: st.SearchStrategy[Rule] = st.one_of(
    common,
    st.sampled_from([7, 42]).map(vlan),
    st.just(("ip6", lambda s: False)),
    st.just(("vlan", lambda s: s.vlan is not None)),
    st.just(("all", lambda s: True)),
    st.just(("none", lambda s: False)),
)


def negate(rule: Rule) -> Rule:
    text, naive = rule
    return f"not ({text})", lambda s: not naive(s)


def both(rules: tuple[Rule, Rule]) -> Rule:
    (a, left), (b, right) = rules
    return f"({a}) and ({b})", lambda s: left(s) and right(s)


def either(rules: tuple[Rule, Rule]) -> Rule:
    (a, left), (b, right) = rules
    return f"({a}) or ({b})", lambda s: left(s) or right(s)


rules: st.SearchStrategy[Rule] = st.recursive(
    primitives,
    lambda inner: st.one_of(
        inner.map(negate), st.tuples(inner, inner).map(both), st.tuples(inner, inner).map(either)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(rules, st.lists(samples, min_size=1, max_size=100))
def test_the_compiled_matcher_agrees_with_a_naive_one(rule: Rule, packets: list[Sample]) -> None:
    text, naive = rule
    policy = mvmp.Policy(text)
    frames = [packet.frame() for packet in packets]
    expected = [naive(packet) for packet in packets]
    assert [policy.matches(frame) for frame in frames] == expected
    assert policy.match_many(frames).tolist() == expected


def capture(frames: list[bytes]) -> bytes:
    """A capture file of Ethernet frames, numbered by their seconds."""
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)
    packets = (
        struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame for number, frame in enumerate(frames)
    )
    return header + b"".join(packets)


def kept_by_tcpdump(rule: str, frames: list[bytes]) -> list[bool]:
    """Which of these frames `tcpdump -r` keeps."""
    done = subprocess.run(
        ["tcpdump", "-n", "-r", "-", "-w", "-", rule], input=capture(frames), capture_output=True, check=False
    )
    # libpcap takes a filter that can never match for a mistake.
    assume(b"rejects all packets" not in done.stderr)
    assert done.returncode == 0, done.stderr
    found = done.stdout
    kept, at = set(), 24
    while at < len(found):
        number, _, length, _ = struct.unpack_from("<IIII", found, at)
        kept.add(number)
        at += 16 + length
    return [number in kept for number in range(len(frames))]


both_can_say: st.SearchStrategy[Rule] = st.recursive(
    st.one_of(
        common,
        st.just(("less 50", lambda s: len(s.frame()) <= 50)),
        st.just(("greater 50", lambda s: len(s.frame()) >= 50)),
    ),
    lambda inner: st.one_of(
        inner.map(negate), st.tuples(inner, inner).map(both), st.tuples(inner, inner).map(either)
    ),
    max_leaves=8,
)
untagged = st.lists(samples.filter(lambda sample: sample.vlan is None), min_size=1, max_size=64)


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="no tcpdump")
@settings(deadline=None, max_examples=60)
@given(both_can_say, untagged)
def test_both_dialects_keep_what_tcpdump_keeps(rule: Rule, packets: list[Sample]) -> None:
    text, naive = rule
    frames = [packet.frame() for packet in packets]
    kept = kept_by_tcpdump(text, frames)
    assert [naive(packet) for packet in packets] == kept
    assert mvmp.Policy(text).match_many(frames).tolist() == kept
    assert mvmp.Policy(f"pcap: {text}").match_many(frames).tolist() == kept


def in_vxlan(inner: bytes, vni: int) -> bytes:
    """The frame in VXLAN from 192.0.2.1 to 192.0.2.2."""
    udp = struct.pack("!HHHH", 50_000, 4789, 16 + len(inner), 0) + struct.pack("!II", 0x0800_0000, vni << 8)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 28 + 8 + len(inner), 0, 0, 64, 17, 0)
    addresses = ipaddress.ip_address("192.0.2.1").packed + ipaddress.ip_address("192.0.2.2").packed
    return bytes(12) + b"\x08\x00" + header + addresses + udp + inner


@settings(deadline=None, max_examples=200)
@given(rules, st.lists(samples, min_size=1, max_size=64), st.sampled_from([7, 42]))
def test_what_is_jumped_over_changes_nothing_for_a_rule(rule: Rule, packets: list[Sample], vni: int) -> None:
    text, naive = rule
    frames = [in_vxlan(packet.frame(), vni) for packet in packets]
    inside = mvmp.Policy(text, decap=["vxlan"])
    assert inside.match_many(frames).tolist() == [naive(packet) for packet in packets]
    both_sides = mvmp.Policy(f"vxlan {vni} and outer(src host 192.0.2.1) and ({text})", strip="auto")
    # `auto` jumps over the tag, too; `vlan` asks the frame as received.
    assert both_sides.match_many(frames).tolist() == [naive(packet) for packet in packets]


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=80))
def test_any_text_is_a_policy_or_a_policy_error_with_its_place(text: str) -> None:
    try:
        policy = mvmp.Policy(text)
    except mvmp.PolicyError as error:
        assert error.line >= 1
        assert error.column >= 1
        return
    assert policy.matches(b"") in (True, False)


@settings(deadline=None, max_examples=300)
@given(rules, st.binary(max_size=128))
def test_no_frame_however_broken_is_an_error(rule: Rule, frame: bytes) -> None:
    assert mvmp.Policy(rule[0]).matches(frame) in (True, False)


def test_a_mistyped_word_is_suggested() -> None:
    with pytest.raises(mvmp.PolicyError, match="tcp"):
        mvmp.Policy("tpc port 80")


def test_a_layer_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(mvmp.PolicyError, match="`vxlam` is no layer") as refused:
        mvmp.Policy("tcp", decap=["vxlam"])
    assert "vxlan, geneve" in str(refused.value.hint)


def test_explain_says_what_a_rule_costs(capsys: pytest.CaptureFixture[str]) -> None:
    from mvmp import cli

    assert cli.main(["policy", "explain", "host", "192.0.2.1"]) == 0
    assert "cost: indexed" in capsys.readouterr().out
    assert cli.main(["policy", "explain", "--json", "pcap: tcp"]) == 0
    assert "misses VLAN-tagged frames" in capsys.readouterr().out
    assert cli.main(["policy", "explain", "tpc"]) == 1
    said = capsys.readouterr().err
    assert said.endswith("rule is wrong at 1:1: `tpc` is an unknown word (hint: did you mean `tcp`?)\n")
