"""The demonstration: its verdicts about books that do not balance; with the extension, the whole of it."""

from __future__ import annotations

import copy
import fcntl
import hashlib
import json
import mmap
import os
import shutil
import socket
import struct
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")

try:
    from mvmp import _mvmp

    HAS_PLATFORM = hasattr(_mvmp, "Platform")
except ImportError:
    HAS_PLATFORM = False

from mvmp.demo import books, crash, read_only
from mvmp.demo.capture_file import digest, frames
from mvmp.demo.nfs import intruder
from mvmp.demo.processes import Nursery

needs_platform = pytest.mark.skipif(
    not HAS_PLATFORM, reason="the extension module is not built with the platform"
)
TRAFFIC = Path(str(files("mvmp") / "data" / "traffic.pcapng"))
DEMO_TOML = files("mvmp") / "demo" / "demo.toml"
POLICIES_TOML = Path(__file__).parent.parent / "policies" / "demo.toml"


def handle(**changes: Any) -> dict[str, Any]:
    """A handle whose books balance."""
    out = {
        "sent": 2,
        "forwarded": 3,
        "mirrored": 9,
        "released": 4,
        "tx_ring_full": 1,
        "nf_died": 0,
        "drops": {},
    }
    row = {
        "nf": "watcher",
        "device": "bridge0",
        "offered": 12,
        "delivered": 10,
        "drops": {"quota": 2},
        "held": 1,
    }
    return {**row, "out": out, **changes}


def balanced() -> dict[str, Any]:
    """A tree of counters that balances."""
    tx = {"accepted": 5, "transmitted": 4, "drops": {"tx_full": 1}}
    return {
        "ports": {"in": {"received": 13, "dispatched": 12, "drops": {"no_nf": 1}, "tx": tx}},
        "handles": [handle()],
        "closed_handles": [handle(held=0, delivered=9, offered=11)],
        "pools": [{"pool": 0, "buffers": 8, "free": 7, "held": 1, "in_pmd": 0}],
        "reclaims": {"count": 20, "buffers": 5, "last_us": 10, "max_us": 11},
    }


def test_the_configuration_in_policies_is_the_one_that_the_demo_runs() -> None:
    assert POLICIES_TOML.read_text() == DEMO_TOML.read_text()
    document = tomllib.loads(DEMO_TOML.read_text())
    assert set(document["nfs"]) == {"firewall", "counter", "watcher"}


def test_frames_of_pcap_in_both_byte_orders_are_read(tmp_path: Path) -> None:
    for order, name in (("<", "little"), (">", "big")):
        header = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
        records = b"".join(struct.pack(f"{order}IIII", 1, 2, len(f), 99) + f for f in (b"abc", b"", b"defg"))
        path = tmp_path / f"{name}.pcap"
        path.write_bytes(header + records)
        assert list(frames(path)) == [b"abc", b"", b"defg"]


def test_frames_of_pcapng_are_read_and_other_blocks_skipped(tmp_path: Path) -> None:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        size = len(body) + 12
        return struct.pack("<II", kind, size) + body + struct.pack("<I", size)

    content = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    content += block(1, struct.pack("<HHI", 1, 0, 0))
    for frame in (b"abcde", b"xy"):
        content += block(6, struct.pack("<IIIII", 0, 0, 0, len(frame), 99) + frame) + block(5, bytes(8))
    path = tmp_path / "x.pcapng"
    path.write_bytes(content)
    assert list(frames(path)) == [b"abcde", b"xy"]
    count, sha256 = digest(path)
    expected = struct.pack("<I", 5) + b"abcde" + struct.pack("<I", 2) + b"xy"
    assert (count, sha256) == (2, hashlib.sha256(expected).hexdigest())


def test_a_file_that_ends_within_a_frame_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
        + struct.pack("<IIII", 1, 2, 10, 10)
        + b"abc"
    )
    with pytest.raises(ValueError, match="within a frame"):
        list(frames(path))
    path.write_bytes(b"not a capture file, but long enough")
    with pytest.raises(ValueError, match="not a capture"):
        frames(path)


def test_the_intruder_writes_into_memory_that_is_not_sealed() -> None:
    """Its attempts must be able to succeed, else their failure would prove nothing."""
    fd = os.memfd_create("unsealed")
    os.ftruncate(fd, 1 << 16)
    attempts = intruder.attack(fd)
    os.close(fd)
    assert attempts == dict.fromkeys(
        ("mmap", "mprotect", "re-open", "punch hole", "pwrite"), intruder.ALLOWED
    )


def test_the_intruder_is_refused_by_the_seal() -> None:
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 1 << 16)
    with mmap.mmap(fd, 1 << 16):
        fcntl.fcntl(fd, 1033, 0x17)
        attempts = intruder.attack(fd)
    os.close(fd)
    assert set(attempts.values()) <= {"EPERM", "EACCES"}, attempts


def test_balanced_books_are_ok() -> None:
    assert books.imbalances(balanced()) == []
    outcome = books.balance({"part": balanced()})
    assert outcome.ok
    assert "quota" in outcome.text and "tx_full" in outcome.text


@pytest.mark.parametrize(
    "path",
    [
        ("ports", "in", "received"),
        ("ports", "in", "tx", "accepted"),
        ("handles", 0, "offered"),
        ("handles", 0, "held"),
        ("closed_handles", 0, "out", "released"),
        ("pools", 0, "free"),
    ],
)
def test_one_packet_too_many_anywhere_is_seen(path: tuple[Any, ...]) -> None:
    stats = copy.deepcopy(balanced())
    place: Any = stats
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] += 1
    assert len(books.imbalances(stats)) == 1
    assert books.balance({"part": stats}).ok is False


def test_a_watcher_that_missed_one_packet_fails_the_crash() -> None:
    stats = balanced()
    stats["handles"] = [handle(offered=10, delivered=10, drops={})]
    stats["closed_handles"] = []
    stats["pools"][0] |= {"free": 8, "held": 0}
    assert crash.verdict(stats, 10).ok is False, "the port dispatched 12, the watcher was offered 10"
    stats["ports"]["in"]["dispatched"] = 10
    assert crash.verdict(stats, 10).ok
    assert crash.verdict(stats, 9).ok is False
    stats["pools"][0]["free"] = 7
    assert crash.verdict(stats, 10).ok is False


def test_one_attempt_that_succeeded_fails_read_only() -> None:
    refused = {"mmap": "EPERM"}
    result = {"attempts": {"memory": refused, "records": refused}, "unchanged": True}
    assert read_only.verdict(result, "nobody").ok
    assert read_only.verdict({**result, "unchanged": False}, "nobody").ok is False
    attempts = {"memory": refused, "records": {"mmap": intruder.ALLOWED}}
    assert read_only.verdict({**result, "attempts": attempts}, "nobody").ok is False


@pytest.mark.skipif(
    not TRAFFIC.exists() or shutil.which("tcpdump") is None,
    reason="no recorded traffic, or no tcpdump",
)
def test_the_recorded_hash_is_what_tcpdump_says(tmp_path: Path) -> None:
    recorded = json.loads(TRAFFIC.with_suffix(".json").read_text())
    out = tmp_path / "out.pcap"
    subprocess.run(["tcpdump", "-r", TRAFFIC, "-w", out, "not tcp port 23"], check=True, capture_output=True)
    wanted = recorded["not_tcp_port_23"]
    assert digest(out) == (wanted["frames"], wanted["sha256"])
    assert digest(TRAFFIC)[0] == recorded["packets"]
    assert 0 < wanted["frames"] < recorded["packets"], "the filter must have something to do"


def test_an_nf_that_cannot_connect_says_why_and_the_nursery_lives_on(tmp_path: Path) -> None:
    with Nursery() as nursery:
        for role in ("intruder", "intruder"):
            pid = nursery.start(role, str(tmp_path / "mvmp.sock"), [])
            with pytest.raises(RuntimeError, match="intruder: "):
                nursery.result(pid, 10.0)
        assert nursery.living == {}


def test_a_killed_nf_has_no_result(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent, Nursery() as nursery:
        path = str(tmp_path / "mvmp.sock")
        silent.bind(path)
        silent.listen()
        os.chmod(path, 0o666)
        for folder in [tmp_path, *list(tmp_path.parents)[:2]]:
            os.chmod(folder, 0o755)
        pid = nursery.start("intruder", path, [])
        nursery.kill(pid)
        with pytest.raises(TimeoutError):
            nursery.result(pid, 0.2)


@needs_platform
@pytest.mark.skipif(not TRAFFIC.exists(), reason="no recorded traffic")
def test_the_demonstration_keeps_its_four_promises() -> None:
    command = [sys.executable, "-m", "mvmp.cli", "demo"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=180, cwd="/")
    lines = finished.stdout.splitlines()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert lines[-1] == "4 of 4 ok"
    assert len(lines) <= 25
    assert sum(line.endswith("  ok") for line in lines) == 4
