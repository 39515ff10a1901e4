"""Two hosts, each in a network namespace, whose only way to each other leads through a platform and its NF.

host a   a-eth ══ veth ══ a0 ┐                    ┌ b0 ══ veth ══ b-eth   host b
                             └ bridge0 ◀─▶ NF ◀─▶ bridge0
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from namespaces import Namespace, Namespaces, why_not
from nf_processes import await_that, forwarder

for tool in ("ip", "ethtool", "nsenter", "unshare"):
    if shutil.which(tool) is None:
        pytest.skip(f"no `{tool}` here: `make deps` installs it", allow_module_level=True)
if (reason := why_not()) is not None:
    pytest.skip(reason, allow_module_level=True)

CONFIGURATION = """
[platform]
open = true
buffers = 8192
[ports]
a0 = { interface = "a0" }
b0 = { interface = "b0" }
[devices.bridge0]
mode = "bridge"
ports = ["a0", "b0"]
"""
WEB_SERVER = """
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
http.server.ThreadingHTTPServer(("10.9.0.2", 8080), handler).serve_forever()
"""
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


class Wired(NamedTuple):
    """What a test finds in place."""

    a: Namespace
    b: Namespace
    socket: Path


def needs(tool: str) -> pytest.MarkDecorator:
    """Skips without a program."""
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"no `{tool}` here: `make deps` installs it")


def wire(inner: Namespace, host: Namespace, side: str, number: int) -> None:
    """A veth from `inner` to a host, which gets addresses and, as the platform asks, no offloads."""
    eth = f"{side}-eth"
    inner.run("ip", "link", "add", f"{side}0", "type", "veth", "peer", "name", eth)
    inner.run("ip", "link", "set", eth, "netns", str(host.pid))
    host.run("ip", "addr", "add", f"10.9.0.{number}/24", "dev", eth)
    host.run("ip", "-6", "addr", "add", f"fd00:9::{number}/64", "dev", eth, "nodad")
    host.run("ethtool", "-K", eth, "tx", "off", "tso", "off", "gso", "off")
    host.run("ip", "link", "set", eth, "up")


@contextmanager
def platform(inner: Namespace, folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A platform over a0 and b0, in a process of its own."""
    file, socket = folder / "platform.toml", folder / "mvmp.sock"
    file.write_text(CONFIGURATION)
    command = [sys.executable, "-m", "mvmp.cli", "up", str(file), "--socket", str(socket), "-o", "json"]
    with inner.started(*command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "ready"
        yield process, socket


@contextmanager
def stage(folder: Path) -> Iterator[Wired]:
    """Both hosts, their platform, and no NF yet."""
    with Namespaces(3) as spaces:
        inner, a, b = spaces.all
        wire(inner, a, "a", 1)
        wire(inner, b, "b", 2)
        before = offloads(inner)
        with platform(inner, folder) as (process, socket):
            during = offloads(inner)
            assert all(during[name].count(": off") > before[name].count(": off") for name in ("a0", "b0"))
            assert "generic-receive-offload: off" in during["a0"]
            await_that(lambda: is_up(a, "a-eth") and is_up(b, "b-eth"), "both links up")
            yield Wired(a, b, socket)
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=30)
            assert process.returncode == 0
            check_ports(json.loads(said)["stats"])
        assert offloads(inner) == before, "what the platform has turned off it turns on again"


def check_ports(stats: dict[str, Any]) -> None:
    """Received is dispatched or a named drop; accepted is transmitted or one."""
    for port in stats["ports"].values():
        assert port["received"] == port["dispatched"] + sum(port["drops"].values())
        assert port["tx"]["accepted"] == port["tx"]["transmitted"] + sum(port["tx"]["drops"].values())


def offloads(inner: Namespace) -> dict[str, str]:
    """The features of both interfaces."""
    return {name: inner.run("ethtool", "-k", name).stdout for name in ("a0", "b0")}


def is_up(host: Namespace, eth: str) -> bool:
    """Whether a link has its carrier."""
    return "LOWER_UP" in host.run("ip", "link", "show", eth).stdout


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    """One stage for all tests; each starts an NF of its own."""
    with stage(tmp_path_factory.mktemp("veth")) as made:
        yield made


@needs("ping")
@pytest.mark.parametrize("address", ["10.9.0.2", "fd00:9::2"])
def test_hosts_ping_each_other_through_an_nf(wired: Wired, address: str) -> None:
    with forwarder("forwarder", wired.socket, "bridge0"):
        said = wired.a.run("ping", "-n", "-i", "0.05", "-c", "40", "-W", "5", address).stdout
    assert " 40 received, 0% packet loss" in said


@needs("ping")
def test_without_an_nf_nothing_gets_through(wired: Wired) -> None:
    said = wired.a.run("ping", "-n", "-i", "0.05", "-c", "5", "-W", "1", "10.9.0.2", check=False)
    assert said.returncode == 1, said.stdout


@needs("ping")
def test_ping_resumes_when_a_killed_nf_is_started_again(wired: Wired) -> None:
    ping = ["ping", "-n", "-O", "-i", "0.05", "-w", "60", "10.9.0.2"]
    with wired.a.started(*ping, stdout=subprocess.PIPE, bufsize=1) as pinging:
        assert pinging.stdout is not None
        lines = iter(pinging.stdout.readline, "")
        with forwarder("forwarder", wired.socket, "bridge0") as nf:
            assert any("bytes from" in line for line in lines)
            nf.kill()
            nf.wait(20)
        assert any("no answer yet" in line for line in lines), "nobody forwards"
        with forwarder("forwarder", wired.socket, "bridge0"):
            answered = [next(line for line in lines if "bytes from" in line) for _ in range(20)]
        assert len(answered) == 20
    stats = mvmp_status(wired.socket)
    assert stats["reclaims"]["count"] >= 1
    assert all(handle["held"] == 0 for handle in stats["handles"])


def mvmp_status(socket: Path) -> dict[str, Any]:
    """The tree of counters."""
    command = [sys.executable, "-m", "mvmp.cli", "status", "--socket", str(socket), "-o", "json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    tree: dict[str, Any] = json.loads(finished.stdout)
    return tree


@contextmanager
def web_server(host: Namespace, folder: Path) -> Iterator[None]:
    """A web server on host b."""
    with host.started(sys.executable, "-c", WEB_SERVER, str(folder), stderr=subprocess.DEVNULL):
        await_that(lambda: "8080" in host.run("ss", "-Hltn").stdout, "a web server listens")
        yield


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


@needs("curl")
@needs("tshark")
def test_a_file_arrives_whole_and_no_checksum_is_wrong(wired: Wired, tmp_path: Path) -> None:
    content = os.urandom(1 << 20)
    (tmp_path / "file").write_bytes(content)
    got, capture = tmp_path / "got", tmp_path / "a.pcap"
    url = "http://10.9.0.2:8080/file"
    with (
        forwarder("forwarder", wired.socket, "bridge0"),
        web_server(wired.b, tmp_path),
        recorded(wired.a, "a-eth", capture),
    ):
        wired.a.run("curl", "-sS", "--max-time", "50", "--noproxy", "*", "-o", str(got), url)
        wired.a.run("ping", "-n", "-i", "0.05", "-c", "5", "-W", "5", "fd00:9::2")
    assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(content).digest()
    seen = checksums(capture)
    assert seen.pop("bad") == 0
    assert seen["tcp"] > 300 and seen["icmp6"] >= 5, "the check has seen something"
    assert seen["longest"] <= 1514, "frames are as a wire would carry them"


def checksums(capture: Path) -> dict[str, int]:
    """What tshark says of every checksum in a capture."""
    options = [f"-o{name}.check_checksum:TRUE" for name in ("ip", "tcp", "udp")]
    fields = ["ip.checksum.status", "tcp.checksum.status", "icmpv6.checksum.status", "icmp.checksum.status"]
    arguments = [argument for field in [*fields, "frame.len"] for argument in ("-e", field)]
    finished = subprocess.run(
        ["tshark", "-r", str(capture), *options, "-T", "fields", "-E", "separator=;", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    rows = [line.split(";") for line in finished.stdout.splitlines()]
    return {
        "bad": sum(word not in ("", "Good", "1") for row in rows for word in row[:-1]),
        "tcp": sum(row[1] in ("Good", "1") for row in rows),
        "icmp6": sum(row[2] in ("Good", "1") for row in rows),
        "longest": max(int(row[-1]) for row in rows),
    }


@needs("iperf3")
@pytest.mark.parametrize("more", [[], ["-R"], ["-u", "-b", "20M", "-l", "1400"]], ids=["tcp", "back", "udp"])
def test_bulk_traffic_of_iperf3_gets_through(wired: Wired, more: list[str]) -> None:
    amount = ["-n", "1M" if "-u" in more else "4M"]
    with (
        forwarder("forwarder", wired.socket, "bridge0"),
        wired.b.started("iperf3", "-s", "-1", "-B", "10.9.0.2", stdout=subprocess.DEVNULL) as server,
    ):
        await_that(lambda: "5201" in wired.b.run("ss", "-Hltn").stdout, "iperf3 listens")
        said = wired.a.run("iperf3", "-c", "10.9.0.2", "-J", *amount, *more, timeout=90).stdout
        assert server.wait(20) == 0
    end_report = json.loads(said)["end"]
    if "-u" in more:
        assert end_report["sum"]["packets"] > 700
        assert end_report["sum"]["lost_percent"] < 50, "a loaded machine may lose some"
    else:
        assert end_report["sum_sent"]["bytes"] >= 4_000_000
        assert end_report["sum_received"]["bytes"] > 1_000_000, (
            "what is under way when iperf3 ends does not count"
        )


def test_the_platform_says_what_it_changed_and_what_is_left_to_do(tmp_path: Path) -> None:
    with Namespaces(3) as spaces:
        inner, a, b = spaces.all
        wire(inner, a, "a", 1)
        wire(inner, b, "b", 2)
        with platform(inner, tmp_path) as (_, socket):
            notes = " ".join(mvmp_status(socket)["ports"]["a0"]["notes"])
    assert re.search(r"a0: .*offload.* turned off", notes)
    assert "ethtool -K PEER tx off" in notes, "the other end is out of reach"
