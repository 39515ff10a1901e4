"""Devices that NFs define for themselves: captures that wait for them, names, what is wrong with them."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from nf_processes import await_that
from stages import capture, frames, lossless, role


@pytest.mark.parametrize("wait_for", [{"wait_for": ["nf"]}, {}], ids=["named", "by default"])
def test_a_capture_waits_for_the_device_that_an_nf_defines(tmp_path: Path, wait_for: dict[str, Any]) -> None:
    sent = frames(64)
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", sent), **wait_for), "b": {"out": "/dev/null"}},
        "devices": {"other": {"mode": "rootless"}},
        "nfs": {"nf": role("other", may_define=["a", "b"])},
    }
    with mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as platform:

        def waits_for() -> list[str]:
            awaited: list[str] = platform.stats()["ports"]["a"]["waits_for"]
            return awaited

        assert waits_for() == ["nf"]
        with mvmp.Nf("nf", socket=tmp_path) as nf:
            own = "a device of its own over a"
            await_that(lambda: waits_for() == [f"nf to open other and {own}"], "it is known")
            nf.open("other")
            nf.open({"name": "elsewhere", "mode": "direct", "ports": ["b"]})
            await_that(lambda: waits_for() == [f"nf to open {own}"], "that is not it")
            time.sleep(0.2)  # in which a capture that does not wait is played
            handle = nf.open({"mode": "direct", "ports": ["a"]}, tx=False)
            got = [bytes(packet) for burst in handle.bursts(32) for packet in burst]
        assert got == sent
        assert platform.stats()["ports"]["a"]["drops"] == {}


def test_a_capture_waits_for_no_device_of_ones_own_where_the_file_has_one(tmp_path: Path) -> None:
    config = {
        "ports": {"a": lossless(pcap=capture(tmp_path, "a", frames(8)))},
        "devices": {"d": {"mode": "direct", "ports": ["a"]}},
        "nfs": {"nf": role("d:rx", may_define=["a"])},
    }
    with (
        mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")),
        mvmp.Nf("nf", socket=tmp_path) as nf,
    ):
        assert sum(len(burst) for burst in nf.open("d").bursts(32)) == 8


@pytest.fixture
def one() -> Any:
    """An NF whose role has as long a name as there is, and a port that it may define devices over."""
    name = "r" * 64
    config = {"ports": {"a": "net_null0"}, "nfs": {name: role(may_define=["a"])}}
    with tempfile.TemporaryDirectory() as folder:
        socket = str(Path(folder) / "s")
        with mvmp.Platform(config, socket=socket), mvmp.Nf(name, socket=folder) as nf:
            yield nf


def test_the_name_of_a_role_can_be_long(one: mvmp.Nf) -> None:
    table = {"mode": "direct", "ports": ["a"]}
    assert one.open(table).rx_burst(8, timeout=20)
    assert one.open({"name": "n" * 64, **table}).device
    with pytest.raises(mvmp.ConfigError, match="at most 64 characters"):
        one.open({"name": "n" * 65, **table})


def test_what_is_wrong_with_a_device_is_told_with_a_hint(one: mvmp.Nf) -> None:
    with pytest.raises(mvmp.ConfigError, match="unknown port `b`") as caught:
        one.open({"name": "mine", "mode": "direct", "ports": ["b"]})
    assert caught.value.hint == "did you mean `a`?" and str(caught.value).startswith("mine.ports: ")
