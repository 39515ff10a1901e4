"""Hosts in network namespaces, each wired by a veth to a platform in another one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import MVMP, call
from namespaces import Namespace, why_not

RECORDER = """
import signal, socket, struct, sys
OUTGOING = 4
ends = []
signal.signal(signal.SIGTERM, lambda *_: ends.append(True))
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as s, open(sys.argv[2], "wb") as file:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    s.bind((sys.argv[1], 3))
    s.settimeout(0.1)
    file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 262144, 1))
    print("listening", flush=True)
    while True:
        try:
            frame, address = s.recvfrom(1 << 17)
        except TimeoutError:
            if ends:
                break
            continue
        if address[2] != OUTGOING:
            file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
"""


def skip_without_namespaces() -> None:
    """Skips a file of tests where hosts cannot be made."""
    for tool in ("ip", "ethtool", "nsenter", "unshare"):
        if shutil.which(tool) is None:
            pytest.skip(f"no `{tool}` here: `make deps` installs it", allow_module_level=True)
    if (reason := why_not()) is not None:
        pytest.skip(reason, allow_module_level=True)


def needs(tool: str) -> pytest.MarkDecorator:
    """Skips without a program."""
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"no `{tool}` here: `make deps` installs it")


def wire(inner: Namespace, host: Namespace, side: str, *addresses: str) -> None:
    """A veth from `inner` to a host, which gets these addresses and, as the platform asks, no offloads."""
    eth = f"{side}-eth"
    inner.run("ip", "link", "add", f"{side}0", "type", "veth", "peer", "name", eth)
    inner.run("ip", "link", "set", eth, "netns", str(host.pid))
    for address in addresses:
        add_address(host, eth, address)
    host.run("ethtool", "-K", eth, "tx", "off", "tso", "off", "gso", "off")
    host.run("ip", "link", "set", eth, "up")


def add_address(host: Namespace, interface: str, address: str) -> None:
    """Gives an interface an address that holds at once."""
    host.run("ip", "addr", "add", address, "dev", interface, *(["nodad"] if ":" in address else []))


@contextmanager
def platform(
    inner: Namespace, folder: Path, configuration: str
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A platform over interfaces of a namespace, in a process of its own."""
    file, socket = folder / "platform.toml", folder / "mvmp.sock"
    file.write_text(configuration)
    command = [*MVMP, "up", str(file), "--socket", str(socket), "-o", "json"]
    with inner.started(*command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "ready"
        yield process, socket


def check_ports(stats: dict[str, Any]) -> None:
    """Received is dispatched or a named drop; accepted is transmitted or one."""
    for port in stats["ports"].values():
        assert port["received"] == port["dispatched"] + sum(port["drops"].values())
        assert port["tx"]["accepted"] == port["tx"]["transmitted"] + sum(port["tx"]["drops"].values())


def is_up(host: Namespace, eth: str) -> bool:
    """Whether a link has its carrier."""
    return "LOWER_UP" in host.run("ip", "link", "show", eth).stdout


def status(socket: Path) -> dict[str, Any]:
    """The tree of counters."""
    tree: dict[str, Any] = json.loads(call("status", "--socket", str(socket), "-o", "json").stdout)
    return tree


@contextmanager
def recorded(host: Namespace, eth: str, file: Path) -> Iterator[None]:
    """What a host receives, written to a capture."""
    command = [sys.executable, "-c", RECORDER, eth, str(file)]
    with host.started(*command, stdout=subprocess.PIPE) as recorder:
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == "listening\n"
        yield
        recorder.send_signal(signal.SIGTERM)
        recorder.wait(20)
