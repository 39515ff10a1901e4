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


def shared_memory_bytes() -> int:
    """What this process has touched of its shared mappings: pools, most of all."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssShmem"))


def base(folder: Path) -> dict[str, Any]:
    """A platform with small pools."""
    return {
        "platform": {"buffers": 256},
        "ports": {"a": playing(folder)},
        "devices": {"d": over("a")},
        "nfs": {"x": role("d")},
    }


def with_port(config: dict[str, Any], name: str, port: dict[str, Any]) -> dict[str, Any]:
    """The same with one port more, that the role may receive from."""
    return {
        **config,
        "ports": {**config["ports"], name: port},
        "devices": {**config["devices"], name: over(name)},
        "nfs": {"x": role("d", name)},
    }


def pool_numbers(platform: mvmp.Platform) -> list[int]:
    """The pools that there are."""
    return [pool["pool"] for pool in platform.stats()["pools"]]


def test_the_memory_of_ports_that_come_and_go_is_given_back(tmp_path: Path) -> None:
    config = base(tmp_path)
    with mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as platform:
        before = 0
        # More than DPDK has heaps for.
        for turn in range(36):
            apply(platform, with_port(config, f"t{turn}", playing(tmp_path)))
            assert pool_numbers(platform) == [0, 1]
            apply(platform, config)
            await_that(lambda: pool_numbers(platform) == [0], "the pool is gone")
            before = before or shared_memory_bytes()
        assert shared_memory_bytes() < before + (4 << 20)


def test_a_pool_stays_while_packets_of_it_are_held_and_its_number_while_it_is_mapped(tmp_path: Path) -> None:
    config = base(tmp_path)
    config["devices"]["v"] = {"mode": "rootless"}
    config["nfs"]["holder"] = role("v:rx")

    def and_port(name: str) -> dict[str, Any]:
        more = with_port(config, name, playing(tmp_path))
        return {**more, "nfs": {"x": role("d", name, "v:tx"), "holder": role("v:rx")}}

    with mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as platform:
        with mvmp.Nf("x", socket=tmp_path) as nf, mvmp.Nf("holder", socket=tmp_path) as holder:
            apply(platform, and_port("b"))
            apart, gate, hold = nf.open("b"), nf.open("v"), holder.open("v")
            packets = apart.rx_burst(8, timeout=20)
            frame = bytes(packets[0])
            gate.tx_burst(packets)
            held = hold.rx_burst(8, timeout=20)
            apply(platform, config)
            await_that(lambda: apart.closed, "the device is gone")
            for _ in range(20):
                assert [pool["held"] > 0 for pool in platform.stats()["pools"]] == [False, True]
            assert bytes(held[0]) == frame
            held.release()
            await_that(lambda: pool_numbers(platform) == [0], "the pool is gone")
            apply(platform, and_port("c"))
            assert pool_numbers(platform) == [0, 2], "number 1 is the one that these NFs know"
            assert set(nf.open("c").rx_burst(8, timeout=20).in_port) == {2}
            apply(platform, config)
            await_that(lambda: pool_numbers(platform) == [0], "the pool is gone")
        await_that(lambda: not platform.stats()["nfs"], "the NFs are gone")
        apply(platform, and_port("e"))
        assert pool_numbers(platform) == [0, 1]


def test_other_ports_are_served_on_when_a_pool_goes(tmp_path: Path) -> None:
    config = base(tmp_path)
    with mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as platform:
        with mvmp.Nf("x", socket=tmp_path) as nf:
            config = with_port(config, "c", {})
            config["ports"]["c"] = {**playing(tmp_path), "pcap": capture(tmp_path, "c", frames(3))}
            both = with_port(config, "b", playing(tmp_path))
            both["ports"] = {name: both["ports"][name] for name in "abc"}  # its pool comes before that of `c`
            apply(platform, {**both, "nfs": {"x": role("d", "c")}})
            handle = nf.open("c")
            assert handle.rx_burst(8, timeout=20)
            config["nfs"] = {"x": role("d", "c")}
            apply(platform, config)
            await_that(lambda: pool_numbers(platform) == [0, 2], "the pool is gone")
            for _ in range(20):
                burst = handle.rx_burst(8, timeout=20)
                assert set(map(bytes, burst)) <= set(frames(3))
                burst.release()
        home = lambda: [pool["free"] - pool["buffers"] for pool in platform.stats()["pools"]] == [0, 0]  # noqa: E731
        await_that(home, "all buffers are home")


def test_a_port_that_was_gone_can_come_back_to_other_ports(tmp_path: Path) -> None:
    config = base(tmp_path)
    with (
        mvmp.Platform(
            with_port(config, "b", playing(tmp_path)), socket=str(tmp_path / "mvmp.sock")
        ) as platform,
        mvmp.Nf("x", socket=tmp_path) as nf,
    ):
        apply(platform, config)
        await_that(lambda: not platform.stats()["ports"]["b"]["present"], "it is gone")
        config["ports"]["b"] = playing(tmp_path)
        config["devices"]["both"] = over("a", "b")
        config["nfs"]["x"] = role("d", "both")
        apply(platform, config)
        await_that(lambda: pool_numbers(platform) == [0], "it shares the other's pool")
        both = nf.open("both")
        seen: set[int] = set()
        await_that(lambda: seen.update(both.rx_burst(64, timeout=1).in_port) or seen == {0, 1}, "both come")
