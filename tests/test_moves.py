"""Devices whose ports change under open handles: who stays and hears of it, who has to open again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from mvmp import _mvmp
from nf_processes import await_that
from stages import capture, frames, role, written


def apply(platform: mvmp.Platform, config: dict[str, Any]) -> None:
    """Makes another configuration hold."""
    reply = _mvmp.operator(str(platform.socket), {"type": "apply", "config": config})
    assert reply["type"] == "applied", reply


def playing(folder: Path, **more: Any) -> dict[str, Any]:
    """A port over a capture without end."""
    return {"pcap": capture(folder, "in", frames(64)), "rate": 2000, "loop": 0, "wait_for": 0, **more}


def over(*ports: str) -> dict[str, Any]:
    """A device over these."""
    return {"mode": "bridge" if len(ports) > 1 else "direct", "ports": list(ports)}


def test_a_handle_whose_device_moves_to_another_pool_is_told_to_open_again(tmp_path: Path) -> None:
    config = {
        "platform": {"buffers": 4096},
        "ports": {"a": playing(tmp_path), "b": playing(tmp_path)},
        "devices": {"d": over("a"), "e": over("b"), "v": {"mode": "rootless"}},
        "nfs": {"x": role("d", "v")},
    }
    with (
        mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as platform,
        mvmp.Nf("x", socket=tmp_path) as nf,
    ):
        device, rootless = nf.open("d"), nf.open("v")
        assert device.rx_burst(8, timeout=20)
        config["devices"]["d"] = over("b")
        apply(platform, config)
        await_that(lambda: device.closed, "it is taken away")
        with pytest.raises(mvmp.Detached, match="another pool's"):
            device.rx_burst(8)
        assert not rootless.closed
        again = nf.open("d")
        assert set(again.rx_burst(8, timeout=20).in_port) == {1} and again.ports == {"b": 1}


def test_a_handle_hears_of_ports_that_come_to_its_device_and_go(tmp_path: Path) -> None:
    out = {name: str(tmp_path / f"{name}.pcap") for name in ("o", "o2")}
    config = {
        "platform": {"buffers": 4096},
        "ports": {"a": playing(tmp_path), "o": {"out": out["o"]}, "o2": {"out": out["o2"]}},
        "devices": {"d": over("a", "o"), "spare": over("a", "o2")},
        "nfs": {"x": role("d")},
    }
    frame = frames(1)
    with (
        mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as platform,
        mvmp.Nf("x", socket=tmp_path) as nf,
    ):
        handle = nf.open("d")
        assert handle.ports == {"a": 0, "o": 1} and handle.mtu == 9578
        with pytest.raises(mvmp.ConfigError, match="no port o2"):
            handle.send(frame, in_port="o2")
        config["devices"]["d"] = over("o", "o2")
        apply(platform, config)
        await_that(lambda: handle.ports == {"o": 1, "o2": 2}, "it knows them")
        assert handle.send(frame, in_port="o2") == 1  # and leaves by the other
        await_that(lambda: platform.stats()["ports"]["o"]["tx"]["transmitted"] == 1, "it has left")
        platform.remove_port("o")
        platform.add_port("o", {"out": str(tmp_path / "again.pcap"), "max_frame": 2022})
        await_that(lambda: handle.mtu == 2000, "it knows what the port takes now")
        assert handle.send(frame, in_port="o") == 1
        later = nf.open("d", tx=False)
        assert later.ports == handle.ports and not handle.closed
    assert written(out["o2"]) == frame and written(out["o"]) == frame
