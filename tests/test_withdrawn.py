"""Handles opened and closed while the configuration takes them away: each question has its answer."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")
pytest.importorskip("scapy")

import mvmp
from mvmp import _mvmp
from stages import capture, frames, lossless, role

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

ROUNDS = 200
# An unanswered question waits for 30 s, and the connection is lost then.
MUCH = 20.0


def with_rights(*devices: str) -> dict[str, Any]:
    """Two devices, of which the NF may open these."""
    return {
        "ports": {"o": {"out": "/dev/null"}},
        "devices": {"d": {"mode": "direct", "ports": ["o"]}, "v": {"mode": "rootless"}},
        "nfs": {"x": role(*devices)},
    }


def test_opening_and_closing_while_the_right_goes_and_comes(tmp_path: Path) -> None:
    socket = str(tmp_path / "mvmp.sock")
    done, outcomes = threading.Event(), []
    with mvmp.Platform(with_rights("d", "v"), socket=socket):
        # Not closed where the test fails: that would wait for the answer that is missing.
        nf = mvmp.Nf("x", socket=str(tmp_path))
        kept = nf.open("v")

        def open_and_close() -> None:
            while not done.is_set():
                try:
                    nf.open("d").close()
                    outcomes.append("opened")
                except mvmp.Error as error:
                    assert not isinstance(error, mvmp.ConnectError | mvmp.PlatformLost), error
                    outcomes.append(type(error).__name__)

        thread = threading.Thread(target=open_and_close, daemon=True)
        thread.start()
        for n in range(ROUNDS):
            devices = ("v",) if n % 2 == 0 else ("d", "v")
            reply = _mvmp.operator(socket, {"type": "apply", "config": with_rights(*devices)})
            assert reply["type"] == "applied"
        done.set()
        thread.join(timeout=MUCH)
        assert not thread.is_alive(), "a question was not answered"
        assert len(set(outcomes)) > 1, "it was opened, and refused"
        assert not kept.closed and nf.open("d").device == "d", "the connection stands"
        nf.close()


def test_closing_what_is_being_taken_away(tmp_path: Path) -> None:
    socket = str(tmp_path / "mvmp.sock")
    with mvmp.Platform(with_rights("d", "v"), socket=socket):
        nf = mvmp.Nf("x", socket=str(tmp_path))
        for n in range(ROUNDS // 2):
            handle = nf.open("d")
            request = {"type": "apply", "config": with_rights("v")}
            taking = threading.Thread(target=_mvmp.operator, args=(socket, request))
            closing = threading.Thread(target=handle.close, daemon=True)
            taking.start()
            time.sleep(0.0002 * (n % 40))
            closing.start()
            closing.join(timeout=MUCH)
            assert not closing.is_alive(), "a question was not answered"
            taking.join()
            _mvmp.operator(socket, {"type": "apply", "config": with_rights("d", "v")})
        assert not nf.open("v").closed
        nf.close()


CLOSES_IN_ORDER = """
import sys, mvmp
nf = mvmp.Nf("x", socket=sys.argv[1])
source, virt = nf.open("d"), nf.open("v", rx=False, tx=True)
for burst in source.bursts(32):
    virt.tx_burst(burst, timeout=None)
print("closing", flush=True)
nf.close()
print("closed", flush=True)
"""


@pytest.mark.parametrize("killed", [False, True])
def test_who_closes_in_order_waits_for_what_it_sent_and_dead_its_packets_are_counted_so(
    tmp_path: Path, killed: bool
) -> None:
    config = {
        "ports": {"o": lossless(pcap=capture(tmp_path, "in", frames(500)))},
        "devices": {"d": {"mode": "direct", "ports": ["o"]}, "v": {"mode": "rootless"}},
        "nfs": {"x": role("d:rx", "v:tx"), "y": role("v:rx")},
    }
    socket = str(tmp_path / "mvmp.sock")
    with mvmp.Platform(config, socket=socket) as platform, mvmp.Nf("y", socket=str(tmp_path)) as y:
        slow = y.open("v", ring=64)
        command = [sys.executable, "-c", CLOSES_IN_ORDER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as nf:
            assert nf.stdout and nf.stdout.readline() == "closing\n"
            time.sleep(1.0)
            got = 0
            if killed:
                nf.kill()
            else:
                while got < 500:
                    got += len(slow.rx_burst(32, timeout=5.0))
                assert nf.stdout.readline() == "closed\n"
        deadline = time.monotonic() + MUCH
        while "x/0" in platform.stats()["nfs"]:
            assert time.monotonic() < deadline, "it is not swept"
            time.sleep(0.01)
        books = [books for books in platform.stats()["closed_handles"] if books["device"] == "d"]
        assert [books["delivered"] for books in books] == [500]
        out = books[0]["out"]
        assert out["released"] == 0 and out["forwarded"] + out["nf_died"] == 500
        assert (out["nf_died"] > 0) == killed and out["forwarded"] >= (64 if killed else 500)
