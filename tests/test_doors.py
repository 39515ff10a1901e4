"""Floods of connections: who floods a socket, or takes all descriptors, shuts out nobody for good."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from nf_processes import await_that

ROLES = ("one", "two", "three")
FILES = 120  # descriptors that a starved platform may have open
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def configuration(folder: Path) -> Path:
    """A platform without ports, with a door for each role."""
    text = '[platform]\nbuffers = 4096\nalive_s = 1\n[devices.virt0]\nmode = "rootless"\n'
    file = folder / "doors.toml"
    file.write_text(text + "".join(f'[nfs.{role}]\ndevices = ["virt0"]\n' for role in ROLES))
    return file


def door(folder: Path, role: str) -> Path:
    return folder / "nf" / role / "mvmp.sock"


def connects(one: socket.socket, path: Path) -> bool:
    """Connects, waiting a second for room in the listener's queue."""
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        try:
            one.connect(str(path))
            return True
        except BlockingIOError:
            time.sleep(0.002)
    return False


@contextmanager
def flood(path: Path, count: int) -> Iterator[None]:
    """Connections that say nothing, as many of `count` as the listener takes."""
    with ExitStack() as stack:
        for _ in range(count):
            one = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            one.setblocking(False)
            if not connects(one, path):
                break
        yield


def ask(operator: socket.socket, request: str) -> dict[str, Any]:
    """One answer of the platform to its operator."""
    operator.send(json.dumps({"type": request}).encode())
    reply: dict[str, Any] = json.loads(operator.recv(1 << 20))
    return reply


def test_two_flooded_doors_leave_the_third_open(tmp_path: Path) -> None:
    with mvmp.Platform(configuration(tmp_path), socket=tmp_path / "mvmp.sock") as platform:
        with flood(door(tmp_path, "one"), 300), flood(door(tmp_path, "two"), 300):
            with mvmp.Nf("three", socket=door(tmp_path, "three")) as nf:
                nf.open("virt0")
                assert list(platform.stats()["nfs"]) == ["three/0"]
            assert platform.stats()["platform"]["connections"]["hung_up"] > 300
        # Who was silent is forgotten: the doors that were flooded are open again.
        with mvmp.Nf("one", socket=door(tmp_path, "one")), mvmp.Nf("two", socket=door(tmp_path, "two")):
            assert set(platform.stats()["nfs"]) == {"one/0", "two/0"}


def opens(path: Path) -> bool:
    """Whether an NF can come in; one that finds no descriptors left is told so."""
    try:
        with mvmp.Nf("one", socket=path) as nf:
            nf.open("virt0")
    except mvmp.Error as error:
        assert "Too many open files" in str(error)
        return False
    return True


def processor_ticks(pid: int) -> int:
    """What a process has used of its CPUs."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_platform_without_descriptors_neither_spins_nor_forgets_who_waits(tmp_path: Path) -> None:
    path = tmp_path / "mvmp.sock"
    command = [sys.executable, "-m", "mvmp.cli", "up", str(configuration(tmp_path)), "--socket", str(path)]

    def starve() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=starve
    ) as child:
        try:
            assert child.stdout is not None and child.stderr is not None
            assert any(line.startswith("ready") for line in child.stdout)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as operator:
                operator.settimeout(20)
                operator.connect(f"{path}.ctl")

                def put_off() -> int:
                    return int(ask(operator, "status")["platform"]["connections"]["put_off"])

                with ExitStack() as crowds:
                    for role in ROLES:
                        crowds.enter_context(flood(door(tmp_path, role), 100))
                    await_that(lambda: put_off() > 2, "descriptors run out")
                    before, ticks = put_off(), processor_ticks(child.pid)
                    time.sleep(1)  # of waiting, in which little may be done
                    assert put_off() - before < 50
                    assert processor_ticks(child.pid) - ticks < TICKS_PER_S // 2
                await_that(lambda: opens(door(tmp_path, "one")), "descriptors are free again")
                assert ask(operator, "stop") == {"ok": True}
            assert child.wait(20) == 0
            log = child.stderr.read()
            assert log.count("no connection can be accepted now") == 1, log
        finally:
            child.kill()
