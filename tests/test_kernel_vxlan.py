"""A plain host reaches the kernel's own VXLAN interface through a platform, which puts VXLAN on.

host a   a-eth ══ veth ══ a0 ┐                            ┌ b0 ══ veth ══ b-eth ─ vx   host b
               plain         └ gateway ◀─▶ NF ◀─▶ gateway ┘      VXLAN
"""

from __future__ import annotations

import json
import signal
import threading
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

from capture_files import tshark
from mvmp.demo.books import imbalances
from namespaces import Namespace, Namespaces
from nf_processes import await_that, forwarder
from wires import (
    add_address,
    check_ports,
    is_up,
    needs,
    platform,
    recorded,
    skip_without_namespaces,
    status,
    wire,
)

skip_without_namespaces()

GATEWAY_MAC, HOST_MAC = "02:00:00:00:00:01", "02:00:00:00:00:07"
CONFIGURATION = """
[platform]
open = true
buffers = 8192
[ports]
a0 = {{ interface = "a0" }}
b0 = {{ interface = "b0" }}
[devices.gateway]
mode = "bridge"
ports = ["a0", "b0"]
receive = {{ a0 = "all", b0 = {{ match = "vxlan", strip = ["vxlan"] }} }}
[devices.gateway.send.b0]
encap = {{ vxlan = {{ vni = 42, local = "{local}", remote = "{remote}" }} }}
ethernet = {{ src = "{gateway}", dst = "{host}" }}
[devices.tap]
mode = "direct"
ports = ["b0"]
receive = {{ b0 = {{ match = "icmp type echo-reply", decap = ["vxlan"] }} }}
"""


class Stage(NamedTuple):
    """What a test finds in place."""

    a: Namespace
    b: Namespace
    socket: Path


def vxlan_interface(host: Namespace, ours: str, theirs: str) -> None:
    """The kernel's end of the tunnel, at 10.9.0.2; the platform's is found without ARP."""
    kind = ["type", "vxlan", "id", "42", "dstport", "4789"]
    made = host.run("ip", "link", "add", "vx", *kind, "local", ours, "remote", theirs, check=False)
    if made.returncode != 0:
        pytest.skip(f"no VXLAN interface here: {made.stderr.strip()}")
    host.run("ip", "neigh", "add", theirs, "lladdr", GATEWAY_MAC, "dev", "b-eth")
    add_address(host, "vx", "10.9.0.2/24")
    host.run("ip", "link", "set", "vx", "up")


def is_at_rest(stats: dict[str, Any]) -> bool:
    """Whether all accounts balance and no NF holds anything."""
    return imbalances(stats) == [] and not any(pool["held"] or pool["shares"] for pool in stats["pools"])


@contextmanager
def stage(folder: Path, local: str, remote: str) -> Iterator[Stage]:
    """Both hosts and their platform; at the end its books are checked."""
    with Namespaces(3) as spaces:
        inner, a, b = spaces.all
        wire(inner, a, "a", "10.9.0.1/24")
        wire(inner, b, "b", f"{remote}/{64 if ':' in remote else 24}")
        b.run("ip", "link", "set", "b-eth", "address", HOST_MAC)
        vxlan_interface(b, remote, local)
        words = {"local": local, "remote": remote, "gateway": GATEWAY_MAC, "host": HOST_MAC}
        with platform(inner, folder, CONFIGURATION.format(**words)) as (process, socket):
            await_that(lambda: is_up(a, "a-eth") and is_up(b, "b-eth"), "both links up")
            yield Stage(a, b, socket)
            await_that(lambda: is_at_rest(status(socket)), "right books, and nothing held")
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=30)
            assert process.returncode == 0
            check_ports(json.loads(said)["stats"])


@contextmanager
def watched(socket: Path, device: str, seen: list[tuple[int, bytes]]) -> Iterator[None]:
    """An NF that notes the tunnel's number and the bytes of what it receives."""
    enough = threading.Event()
    with mvmp.Nf("watcher", socket=str(socket)) as nf:
        handle = nf.open(device, tx=False)

        def watch() -> None:
            while not enough.is_set():
                with handle.rx_burst(32, timeout=0.1) as burst:
                    seen.extend((packet.vni, bytes(packet)) for packet in burst)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join(timeout=30)


@needs("ping")
@needs("tshark")
@pytest.mark.parametrize(
    ("local", "remote"), [("192.0.2.1", "192.0.2.7"), ("2001:db8::1", "2001:db8::7")], ids=["IPv4", "IPv6"]
)
def test_the_kernel_answers_what_is_put_into_vxlan(tmp_path: Path, local: str, remote: str) -> None:
    seen: list[tuple[int, bytes]] = []
    into, out = tmp_path / "into.pcap", tmp_path / "out.pcap"
    with stage(tmp_path, local, remote) as (a, b, socket):
        with (
            forwarder("forwarder", socket, "gateway"),
            watched(socket, "tap", seen),
            recorded(b, "b-eth", into),
            recorded(a, "a-eth", out),
        ):
            # Odd and even lengths, and one that fills a frame of 1,500 bytes around it.
            for size in ("56", "57", "1380"):
                said = a.run("ping", "-n", "-i", "0.05", "-c", "3", "-W", "5", "-s", size, "10.9.0.2").stdout
                assert " 3 received, 0% packet loss" in said
            await_that(lambda: len(seen) == 9, "the NF beside it has seen all answers")
        counters = b.run("ip", "-s", "-j", "link", "show", "vx").stdout
    received = json.loads(counters)[0]["stats64"]["rx"]
    assert received["packets"] >= 10 and received["errors"] == received["dropped"] == 0
    assert {vni for vni, _ in seen} == {42}
    assert all(frame[12:14] == b"\x08\x00" and frame[34] == 0 for _, frame in seen), "bare echo replies"
    bad = "_ws.malformed || ip.checksum.status == 0 || udp.checksum.status == 0 || icmp.checksum.status == 0"
    assert tshark(into, "-Y", bad) == tshark(out, "-Y", bad) == []
    assert len(tshark(into, "-Y", "vxlan.vni == 42 && icmp.type == 8")) == 9
    assert len(tshark(into, "-Y", "vxlan.vni == 42 && arp.opcode == 1")) >= 1
    assert len(tshark(out, "-Y", "!vxlan && icmp.type == 0")) == 9
    assert len(tshark(out, "-Y", "!vxlan && arp.opcode == 2")) >= 1
