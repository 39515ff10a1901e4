"""`mvmp trace`: which packet each step belongs to, and what is said of those that are not delivered."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")
pytest.importorskip("scapy")

import mvmp
from command_line import call
from mvmp import _mvmp
from stages import capture, frames, role

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

FORWARD = """
import sys, mvmp
with mvmp.Nf("first", socket=sys.argv[1]) as nf:
    tap, virt = nf.open("tap"), nf.open("virt", rx=False, tx=True)
    for burst in tap.bursts(32):
        burst.forward(virt)
"""
RECEIVE = """
import sys, mvmp
with mvmp.Nf("second", socket=sys.argv[1]) as nf:
    for burst in nf.open("virt").bursts(32):
        pass
"""


def flowing(folder: Path, **nfs: Any) -> dict[str, Any]:
    """A capture that is played for ever at 2,000 packets a second."""
    port = {"pcap": capture(folder, "in", frames(64)), "loop": 0, "rate": 2000, "wait_for": 0}
    return {
        "ports": {"a": port},
        "devices": {
            "tap": {"mode": "direct", "ports": ["a"], "receive": {"a": "udp"}},
            "virt": {"mode": "rootless"},
        },
        "nfs": nfs,
    }


def steps(folder: Path, device: str, count: int) -> list[dict[str, Any]]:
    """What a trace of so many packets tells."""
    done = call("trace", device, "-n", str(count), "-o", "json", "--socket", str(folder / "mvmp.sock"))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_step_says_to_which_packet_it_belongs_over_ports_and_without(tmp_path: Path) -> None:
    config = flowing(tmp_path, first=role("tap", "virt:tx"), second=role("virt:rx"))
    with mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")):
        bodies = [
            subprocess.Popen([sys.executable, "-c", body, str(tmp_path)], stderr=subprocess.DEVNULL)
            for body in (FORWARD, RECEIVE)
        ]
        try:
            steps(tmp_path, "tap", 5)
            traces = {device: steps(tmp_path, device, 40) for device in ("tap", "virt")}
            text = call("trace", "virt", "-n", "2", "--socket", str(tmp_path / "mvmp.sock")).stdout
        finally:
            for body in bodies:
                body.terminate()
                body.wait(timeout=30)
    for device, came in traces.items():
        told: dict[int, list[str]] = defaultdict(list)
        for step in came:
            told[step["packet"]].append(step["step"])
        assert sorted(told) == list(range(1, 41))
        assert all(words[0] == "seen" and words.count("seen") == 1 for words in told.values())
        seen = [step for step in came if step["step"] == "seen"]
        port = ("a", "in") if device == "tap" else (None, None)
        assert {(step["port"], step["direction"]) for step in seen} == {port}
        nf = "first/0" if device == "tap" else "second/0"
        assert [step["handles"] for step in seen] == [[{"nf": nf, "outcome": "delivered"}]] * 40
        what = ("sent", "virt") if device == "tap" else ("released", None)
        returned = [step for step in came if step["step"] == "returned" and step["nf"] == nf]
        assert returned and {(step["what"], step["over"]) for step in returned} == {what}
    assert "#1 " in text and " over virt, " in text


def test_a_full_ring_is_called_so_in_a_group_too(tmp_path: Path) -> None:
    config = flowing(tmp_path, lazy=role("tap:rx", groups={"tap": "all"}))
    with (
        mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as platform,
        mvmp.Nf("lazy", socket=str(tmp_path)) as lazy,
    ):
        handle = lazy.open("tap", ring=64)
        while not handle.stats()["platform"]["drops"].get("ring_full"):
            time.sleep(0.01)
        came = steps(tmp_path, "tap", 10)
        outcomes = {handle["outcome"] for step in came for handle in step["handles"]}
        assert outcomes == {"dropped: its ring was full or it holds too many"}
        assert platform.stats()["ports"]["a"]["received"] > 0


def test_one_trace_at_a_time(tmp_path: Path) -> None:
    config = flowing(tmp_path, first=role("tap"))
    config["ports"]["a"]["wait_for"] = 1
    socket = str(tmp_path / "mvmp.sock")
    with mvmp.Platform(config, socket=socket):
        begin = {"type": "trace", "device": "tap", "count": 3}
        assert _mvmp.operator(socket, begin) == {"ok": True}
        assert _mvmp.operator(socket, {"type": "traced"})["left"] == 3
        refused = call("trace", "virt", "-n", "1", "--socket", socket)
        assert refused.returncode == 1
        assert "a trace of `tap` is under way" in refused.stderr
        assert _mvmp.operator(socket, {"type": "traced"})["left"] == 3, "it goes on"
        assert _mvmp.operator(socket, {**begin, "count": 0}) == {"ok": True}
        assert _mvmp.operator(socket, {**begin, "count": 1}) == {"ok": True}
