"""Frames that NFs build: whom they reach, and who can read them."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")
pytest.importorskip("scapy")

import mvmp
from stages import CPUS, capture, frames, needs_two_cpus

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

TABLE_1 = Path(__file__).parents[1] / "policies" / "table1.toml"


def two_pools(traffic: str, order: str, workers: int) -> dict[str, Any]:
    """`x` reads `b` and builds frames for `y`; only `z` reads `a`."""
    ports = {name: {"pcap": traffic, "rate": 1, "wait_for": ["nobody"]} for name in order}
    return {
        "platform": {"workers": CPUS[:workers]},
        "ports": ports,
        "devices": {
            "da": {"mode": "direct", "ports": ["a"]},
            "db": {"mode": "direct", "ports": ["b"]},
            "v": {"mode": "rootless"},
        },
        "nfs": {
            "x": {"devices": ["db", "v"]},
            "y": {"devices": ["v:rx"]},
            "z": {"devices": ["da:rx"]},
            "nobody": {"devices": ["da:rx"]},
        },
    }


def pools_with(text: bytes) -> set[int]:
    """The pools, all of them mapped by the platform in this process, in which these bytes lie."""
    pools = set()
    with open("/proc/self/mem", "rb") as memory:
        for line in Path("/proc/self/maps").read_text().splitlines():
            if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) .*mvmp-pool-([0-9]+)", line):
                start, end, number = int(found[1], 16), int(found[2], 16), int(found[3])
                memory.seek(start)
                if text in memory.read(end - start):
                    pools.add(number)
    return pools


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=needs_two_cpus)])
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_built_frame_reaches_who_is_to_have_it_and_lies_where_nobody_else_reads(
    tmp_path: Path, order: str, workers: int
) -> None:
    socket = str(tmp_path / "mvmp.sock")
    secret = b"of x for y and for port b"
    frame = bytes(14) + secret + bytes(30)
    with (
        mvmp.Platform(two_pools(capture(tmp_path, "traffic", frames(10)), order, workers), socket=socket),
        mvmp.Nf("x", socket=str(tmp_path)) as x,
        mvmp.Nf("y", socket=str(tmp_path)) as y,
        mvmp.Nf("z", socket=str(tmp_path)) as z,
    ):
        db, v, received = x.open("db"), x.open("v", rx=False, tx=True), y.open("v")
        z.open("da")
        assert v.send([frame] * 10) == db.send([frame] * 10) == 10
        got: list[bytes] = []
        while len(got) < 10 and (burst := received.rx_burst(32, timeout=5.0)):
            got += [bytes(packet) for packet in burst]
        assert got == [frame] * 10
        while db.stats()["platform"]["out"]["built"] < 10:
            time.sleep(0.01)
        drops = [handle.stats()["platform"]["drops"] for handle in (received, v)]
        assert drops == [{}, {}]
        assert pools_with(secret) == {order.index("b")}, "z reads the other pool"


def test_the_firewall_and_the_ips_of_table_1_build_frames_for_each_other(tmp_path: Path) -> None:
    ports = {f"NIC{n}": capture(tmp_path, "traffic", frames(10)) for n in range(1, 7)}
    frame = bytes(range(60))
    with (
        mvmp.Platform(str(TABLE_1), socket=str(tmp_path / "mvmp.sock"), ports=ports),
        mvmp.Nf("firewall", socket=str(tmp_path)) as firewall,
        mvmp.Nf("ips", socket=str(tmp_path)) as ips,
    ):
        one, other = firewall.open("virt0"), ips.open("virt0")
        for sender, receiver in ((one, other), (other, one)):
            assert sender.send([frame] * 10) == 10
            got: list[bytes] = []
            while len(got) < 10 and (burst := receiver.rx_burst(32, timeout=5.0)):
                got += [bytes(packet) for packet in burst]
            assert got == [frame] * 10
