"""Every copy that is lost on its way out has a name, and where nothing may be lost nothing is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")
pytest.importorskip("scapy")

import mvmp
from mvmp import _mvmp
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
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
SHORT = bytes(12)
LONG = bytes(Ether(src=A, dst=B) / IP(src="10.0.0.1") / UDP(sport=1, dport=2) / (b"z" * 100))
FITS = bytes(Ether(src=A, dst=B) / IP(src="10.0.0.1") / UDP(sport=1, dport=2) / b"z")
NARROW = {"max_frame": 70}
TAG = {"encap": {"vlan": 7}}


@pytest.mark.parametrize("watched", [False, True])
def test_what_a_bypass_cannot_send_is_counted_by_its_own_name_at_the_port(
    tmp_path: Path, watched: bool
) -> None:
    sent = [SHORT, LONG, FITS] * 10
    out = str(tmp_path / "out.pcap")
    config: dict[str, Any] = {
        "ports": {
            "a": lossless(pcap=capture(tmp_path, "a", sent), wait_for=int(watched)),
            "b": {**lossless(out=out), **NARROW},
        },
        "devices": {"ips": {"mode": "bridge", "ports": ["a", "b"], "absent": "bypass", "send": {"b": TAG}}},
        "nfs": {"watch": role("ips:rx")},
    }
    seen: list[bytes] = []
    nfs = {"watch": watch("ips", seen)} if watched else {}
    with Stage(config, tmp_path, nfs) as stage:
        stats = stage.finish()
    a, b = stats["ports"]["a"], stats["ports"]["b"]["tx"]
    assert (a["received"], a["dispatched"], a["bypassed"], a["drops"]) == (30, 30, 30, {})
    assert (b["accepted"], b["transmitted"]) == (30, 10)
    assert b["drops"] == {"no_encap": 10, "mtu_exceeded": 10}
    assert len(written(out)) == 10 and seen == (sent if watched else [])


def test_each_copy_of_a_flood_that_is_lost_is_counted(tmp_path: Path) -> None:
    sent = [SHORT, LONG, FITS] * 10
    outs = {name: str(tmp_path / f"{name}.pcap") for name in "bcd"}
    ports = {name: {**lossless(out=out), **(NARROW if name != "d" else {})} for name, out in outs.items()}
    config: dict[str, Any] = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent)), **ports},
        "devices": {"switch": {"mode": "bridge", "ports": [*"abcd"], "send": {"b": TAG, "c": TAG}}},
        "nfs": {"nf": role("switch")},
    }
    with Stage(config, tmp_path, {"nf": send_back("switch")}) as stage:
        stats = stage.finish()
    (handle,) = stats["closed_handles"]
    assert handle["out"]["sent"] == 30
    assert handle["out"]["drops"] == {"no_encap": 2 * 10, "mtu_exceeded": 2 * 10}
    assert [len(written(out)) for out in outs.values()] == [10, 10, 30]


@needs_two_cpus
def test_lossless_floods_to_the_ports_of_another_worker_whole(tmp_path: Path) -> None:
    sent = frames(3000)
    outs = {name: str(tmp_path / f"{name}.pcap") for name in "bcd"}
    config = {
        "platform": {"workers": CPUS[:2]},
        "ports": {
            "a": lossless(pcap=capture(tmp_path, "a", sent)),
            **{name: lossless(out=out) for name, out in outs.items()},
        },
        "devices": {
            "in": {"mode": "direct", "ports": ["a"]},
            "switch": {"mode": "bridge", "ports": [*"bcd"], "receive": {}},
        },
        "nfs": {"nf": role("in", "switch:tx")},
    }

    def body(nf: mvmp.Nf) -> None:
        switch = nf.open("switch", rx=False, tx=True)
        for burst in nf.open("in").bursts(256):
            switch.tx_burst(burst, in_port="d", timeout=None)

    with Stage(config, tmp_path, {"nf": body}) as stage:
        stats = stage.finish()
    assert [written(out) for out in outs.values()] == [sent, sent, []]
    assert not any(handle["out"]["drops"] for handle in stats["closed_handles"])


def test_what_a_bypass_was_to_send_by_a_port_that_is_gone_is_counted_there(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "ports": {
            "a": {"pcap": capture(tmp_path, "a", frames(500)), "rate": 5000, "wait_for": 0},
            "b": {"out": str(tmp_path / "out.pcap")},
        },
        "devices": {"ips": {"mode": "bridge", "ports": ["a", "b"], "absent": "bypass"}},
        "nfs": {"nf": role("ips")},
    }
    with Stage(config, tmp_path, {}) as stage:
        while stage.platform.stats()["ports"]["a"]["received"] < 100:
            time.sleep(0.001)
        _mvmp.operator(str(stage.socket), {"type": "remove_port", "name": "b"})
        stats = stage.finish()
    a, b = stats["ports"]["a"], stats["ports"]["b"]["tx"]
    assert a["bypassed"] == b["accepted"] == 500
    assert b["drops"] == {"port_gone": 500 - b["transmitted"]} and b["drops"]["port_gone"] > 0
