"""Two hosts, each in a network namespace, whose only way to each other leads through a platform and its NF.

host a   a-eth ══ veth ══ a0 ┐                    ┌ b0 ══ veth ══ b-eth   host b
                             └ bridge0 ◀─▶ NF ◀─▶ bridge0
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from capture_files import tshark
from namespaces import Namespace, Namespaces
from nf_processes import await_that, forwarder
from wires import check_ports, is_up, needs, platform, recorded, skip_without_namespaces, status, wire

skip_without_namespaces()

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


class Wired(NamedTuple):
    """What a test finds in place."""

    a: Namespace
    b: Namespace
    socket: Path


@contextmanager
def stage(folder: Path) -> Iterator[Wired]:
    """Both hosts, their platform, and no NF yet."""
    with Namespaces(3) as spaces:
        inner, a, b = spaces.all
        wire(inner, a, "a", "10.9.0.1/24", "fd00:9::1/64")
        wire(inner, b, "b", "10.9.0.2/24", "fd00:9::2/64")
        before = offloads(inner)
        with platform(inner, folder, CONFIGURATION) as (process, socket):
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


def offloads(inner: Namespace) -> dict[str, str]:
    """The features of both interfaces."""
    return {name: inner.run("ethtool", "-k", name).stdout for name in ("a0", "b0")}


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
    stats = status(wired.socket)
    assert stats["reclaims"]["count"] >= 1
    assert all(handle["held"] == 0 for handle in stats["handles"])


@contextmanager
def web_server(host: Namespace, folder: Path) -> Iterator[None]:
    """A web server on host b."""
    with host.started(sys.executable, "-c", WEB_SERVER, str(folder), stderr=subprocess.DEVNULL):
        await_that(lambda: "8080" in host.run("ss", "-Hltn").stdout, "a web server listens")
        yield


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
    fields = ["ip.checksum.status", "tcp.checksum.status", "icmpv6.checksum.status", "icmp.checksum.status"]
    arguments = [argument for field in [*fields, "frame.len"] for argument in ("-e", field)]
    lines = tshark(capture, "-T", "fields", "-E", "separator=;", *arguments)
    rows = [line.split(";") for line in lines]
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
        wire(inner, a, "a", "10.9.0.1/24", "fd00:9::1/64")
        wire(inner, b, "b", "10.9.0.2/24", "fd00:9::2/64")
        with platform(inner, tmp_path, CONFIGURATION) as (_, socket):
            notes = " ".join(status(socket)["ports"]["a0"]["notes"])
    assert re.search(r"a0: .*offload.* turned off", notes)
    assert "ethtool -K PEER tx off" in notes, "the other end is out of reach"
