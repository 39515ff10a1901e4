"""Ports that come and go under traffic, starts and stops, signals, workers and hand-overs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from capture_files import Record, records, write_pcap
from nf_processes import await_that, check_books, forwarder, process
from stages import CPUS, capture, needs_two_cpus

TRAFFIC = Path(str(files("mvmp") / "data" / "traffic.pcapng"))
PLAYED = records(TRAFFIC)


def endless(out: Path, **capture: Any) -> dict[str, Any]:
    """The project's own traffic over and over, by a bridge to a file."""
    return {
        "platform": {"open": True, "buffers": 4096},
        "ports": {
            "in": {"pcap": str(TRAFFIC), "loop": 0, "rate": 20_000, **capture},
            "out": {"out": str(out)},
        },
        "devices": {"bridge0": {"mode": "bridge", "ports": ["in", "out"]}},
    }


def transmitted(platform: mvmp.Platform, port: str = "out") -> int:
    """What a port has sent."""
    return int(platform.stats()["ports"][port]["tx"]["transmitted"])


def is_quiet(platform: mvmp.Platform) -> bool:
    """Whether every buffer is home."""
    return all(pool["free"] == pool["buffers"] for pool in platform.stats()["pools"])


def lost(platform: mvmp.Platform, reason: str) -> int:
    """What the only handle has lost on the way out."""
    return int(platform.stats()["handles"][0]["out"]["drops"].get(reason, 0))


def test_a_port_that_comes_back_as_something_else_takes_what_that_takes(tmp_path: Path) -> None:
    socket, bare = tmp_path / "mvmp.sock", [bytes([0x45]) + bytes(59)] * 50
    config = endless(tmp_path / "out.pcapng", pcap=capture(tmp_path, "bare", bare, link=101))
    config["devices"]["bridge0"]["receive"] = {"in": "all"}
    with mvmp.Platform(config, socket=socket) as platform, forwarder("forwarder", socket, "bridge0"):
        await_that(lambda: transmitted(platform) > 100, "IP goes to a file")
        platform.remove_port("out")
        before = transmitted(platform)
        platform.add_port("out", "net_null0")
        await_that(lambda: lost(platform, "no_ethernet") > 100, "what begins with IP is none for a NIC")
        assert transmitted(platform) == before


def test_a_port_goes_and_another_comes_in_its_place_under_traffic(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    frames = [bytes([number]) * 60 for number in range(200)]
    other = write_pcap(tmp_path / "other.pcap", frames)
    with mvmp.Platform(endless(tmp_path / "out.pcapng"), socket=socket) as platform:
        with forwarder("forwarder", socket, "bridge0") as nf:
            for round_number in (1, 2, 3):
                await_that(lambda wanted=1000 * round_number: transmitted(platform) > wanted, "traffic")
                platform.remove_port("in")
                assert platform.stats()["ports"]["in"]["present"] is False
                await_that(lambda: is_quiet(platform), "all buffers home")
                before = platform.stats()["ports"]["in"]["received"]
                if round_number < 3:
                    platform.add_port("in", {"pcap": str(TRAFFIC), "loop": 0, "rate": 20_000})
            platform.add_port("in", {"pcap": str(other), "rate": 20_000})
            await_that(lambda: platform.stats()["ports"]["in"]["ended"], "the end of the last capture")
            await_that(lambda: is_quiet(platform), "all buffers home")
            assert platform.stats()["ports"]["in"]["received"] - before == len(frames)
            assert nf.poll() is None or nf.returncode == 0, "the NF has noticed nothing"
        stats = platform.stats()
        check_books(stats)
    written = [record.frame for record in records(tmp_path / "out.pcapng")]
    assert written[-len(frames) :] == frames
    assert len(written) == stats["ports"]["out"]["tx"]["transmitted"]


def test_a_port_for_sending_goes_and_comes_back_under_traffic(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    first, second = tmp_path / "first.pcapng", tmp_path / "second.pcapng"
    with mvmp.Platform(endless(first), socket=socket) as platform, forwarder("forwarder", socket, "bridge0"):
        await_that(lambda: transmitted(platform) > 1000, "traffic")
        platform.remove_port("out")
        whole = len(records(first))
        assert whole == transmitted(platform), "what was sent is in the file when the port is gone"
        received = platform.stats()["ports"]["in"]["received"]
        await_that(lambda: platform.stats()["ports"]["in"]["received"] > received + 1000, "traffic goes on")
        platform.add_port("out", {"out": str(second)})
        await_that(lambda: transmitted(platform) > whole + 1000, "traffic")
        platform.remove_port("in")
        await_that(lambda: is_quiet(platform), "all buffers home")
        stats = platform.stats()
        check_books(stats)
    assert len(records(first)) == whole
    assert len(records(second)) == stats["ports"]["out"]["tx"]["transmitted"] - whole


def test_a_capture_that_was_removed_at_once_still_has_its_books(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    with mvmp.Platform(endless(tmp_path / "out.pcapng", rate="max"), socket=socket) as platform:
        with forwarder("forwarder", socket, "bridge0"):
            for _ in range(20):
                platform.remove_port("in")
                platform.add_port("in", {"pcap": str(TRAFFIC), "loop": 0, "rate": "max"})
            platform.remove_port("in")
            await_that(lambda: is_quiet(platform), "all buffers home")
        check_books(platform.stats())


def open_descriptors() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/fd"))


def test_platforms_start_and_stop_many_times_and_leave_nothing_behind(tmp_path: Path) -> None:
    socket, out = tmp_path / "mvmp.sock", tmp_path / "out.pcapng"
    settled = (0, 0)
    for round_number in range(12):
        with mvmp.Platform(endless(out, loop=1, rate="lossless"), socket=socket) as platform:
            with mvmp.Nf("forwarder", socket=socket) as nf:
                handle = nf.open("bridge0")
                sent = sum(burst.forward(handle) for burst in handle.bursts(64))
            platform.wait_drained(timeout=30)
            check_books(platform.stats())
        assert sent == len(PLAYED)
        assert records(out) == PLAYED
        assert not socket.exists() and not Path(f"{socket}.ctl").exists()
        left = (open_descriptors(), threading.active_count())
        if round_number == 2:
            settled = left
        if round_number > 2:
            assert left == settled, "neither descriptors nor threads add up"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_under_traffic_stops_in_order_and_writes_what_was_sent(
    tmp_path: Path, number: signal.Signals
) -> None:
    file, socket, out = tmp_path / "p.toml", tmp_path / "mvmp.sock", tmp_path / "out.pcapng"
    file.write_text(
        f'[platform]\nbuffers = 4096\n[ports]\nin = {{ pcap = "{TRAFFIC}", loop = 0, rate = "max" }}\n'
        f'out = {{ out = "{out}" }}\n[devices.bridge0]\nmode = "bridge"\nports = ["in", "out"]\n'
        '[nfs.forwarder]\ndevices = ["bridge0"]\n'
    )
    command = [sys.executable, "-m", "mvmp.cli", "up", str(file), "--socket", str(socket), "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as platform:
        try:
            assert platform.stdout is not None
            assert json.loads(platform.stdout.readline())["event"] == "ready"
            with forwarder("forwarder", tmp_path / "nf/forwarder", "bridge0") as nf:
                await_that(lambda: out.exists() and out.stat().st_size > 100_000, "output")
                platform.send_signal(number)
                said, _ = platform.communicate(timeout=30)
                assert nf.wait(timeout=20) == 0, "its loop ends in order"
        finally:
            platform.kill()
    assert platform.returncode == 0
    assert not [path for path in tmp_path.rglob("*") if "sock" in path.name]
    assert not (tmp_path / "nf").exists()
    written = records(out)
    sent = json.loads(said)["stats"]["ports"]["out"]["tx"]["transmitted"]
    assert len(written) >= sent > 0, "what was counted before the end is in the file"
    follows = dict(zip(map(key, PLAYED), map(key, PLAYED[1:] + PLAYED[:1]), strict=True))
    assert all(key(record) in follows for record in written), "whole records only"


def key(record: Record) -> tuple[int, bytes]:
    """What tells packets of the traffic apart."""
    return record.timestamp_ns, record.frame


def two_domains(folder: Path) -> dict[str, Any]:
    """Two captures, each with a bridge to a file, and a rootless device; a worker for each capture."""
    half = len(PLAYED) // 2
    left = write_pcap(folder / "left.pcap", [record.frame for record in PLAYED[:half]])
    right = write_pcap(folder / "right.pcap", [record.frame for record in PLAYED[half:]])
    return {
        "platform": {"workers": CPUS[:2], "buffers": 4096, "open": True},
        "ports": {
            "left-in": {"pcap": str(left), "rate": "lossless"},
            "left-out": {"out": str(folder / "left-out.pcapng")},
            "right-in": {"pcap": str(right), "rate": "lossless"},
            "right-out": {"out": str(folder / "right-out.pcapng")},
        },
        "devices": {
            "left": {"mode": "bridge", "ports": ["left-in", "left-out"]},
            "right": {"mode": "bridge", "ports": ["right-in", "right-out"]},
            "virt0": {"mode": "rootless"},
        },
    }


def played_frames(folder: Path, side: str) -> list[bytes]:
    """What a side's capture holds."""
    return [record.frame for record in records(folder / f"{side}.pcap")]


def written_frames(folder: Path, side: str) -> list[bytes]:
    """What a side's output holds."""
    return [record.frame for record in records(folder / f"{side}-out.pcapng")]


def check_two_workers(stats: dict[str, Any]) -> None:
    """Each domain has its own worker, and nothing is missing."""
    check_books(stats)
    assert sorted(pool["worker"] for pool in stats["pools"]) == [0, 1]


@needs_two_cpus
def test_one_nf_serves_the_ports_of_two_workers(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    with mvmp.Platform(two_domains(tmp_path), socket=socket) as platform:
        with forwarder("forwarder", socket, "left", "right") as nf:
            assert nf.wait(timeout=60) == 0
        platform.wait_drained(timeout=60)
        check_two_workers(platform.stats())
    for side in ("left", "right"):
        assert written_frames(tmp_path, side) == played_frames(tmp_path, side)


CROSSING = """
import sys, mvmp
with mvmp.Nf("crossing", socket=sys.argv[1], wait=20) as nf:
    left, right = nf.open("left"), nf.open("right")
    print("open", flush=True)
    for burst in nf.bursts(32):
        away, port = (right, "right-in") if burst.handle is left else (left, "left-in")
        assert away.tx_burst(burst, in_port=port) == len(burst)
"""


@needs_two_cpus
def test_packets_are_handed_over_to_ports_of_another_worker(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    with mvmp.Platform(two_domains(tmp_path), socket=socket) as platform:
        with process(CROSSING, str(socket)) as nf:
            assert nf.wait(timeout=60) == 0
        platform.wait_drained(timeout=60)
        check_two_workers(platform.stats())
    assert written_frames(tmp_path, "right") == played_frames(tmp_path, "left")
    assert written_frames(tmp_path, "left") == played_frames(tmp_path, "right")


COLLECTING = """
import sys, mvmp
with mvmp.Nf("collecting", socket=sys.argv[1], wait=20) as nf:
    left, right, virt0 = nf.open("left"), nf.open("right"), nf.open("virt0", rx=False)
    print("open", flush=True)
    for burst in nf.bursts(32):
        assert virt0.tx_burst(burst) == len(burst)
"""
SPREADING = """
import sys, mvmp
with mvmp.Nf("spreading", socket=sys.argv[1], wait=20) as nf:
    virt0, right = nf.open("virt0"), nf.open("right", rx=False)
    print("open", flush=True)
    for burst in nf.bursts(32):
        assert right.tx_burst(burst, in_port="right-in") == len(burst)
"""


@needs_two_cpus
def test_a_rootless_device_carries_packets_of_both_workers(tmp_path: Path) -> None:
    configuration = two_domains(tmp_path)
    roles = ["collecting", "spreading"]
    for name in ("left-in", "right-in"):
        configuration["ports"][name]["wait_for"] = roles
    configuration["nfs"] = {
        "collecting": {"devices": ["left:rx", "right:rx", "virt0:tx"]},
        "spreading": {"devices": ["virt0:rx", "right:tx"]},
    }
    socket = tmp_path / "mvmp.sock"
    with mvmp.Platform(configuration, socket=socket) as platform:
        with (
            process(COLLECTING, str(tmp_path / "nf/collecting")) as first,
            process(SPREADING, str(tmp_path / "nf/spreading")) as second,
        ):
            assert (first.wait(timeout=60), second.wait(timeout=60)) == (0, 0)
        platform.wait_drained(timeout=60)
        check_two_workers(platform.stats())
    arrived = written_frames(tmp_path, "right")
    left, right = played_frames(tmp_path, "left"), played_frames(tmp_path, "right")
    assert sorted(arrived) == sorted(left + right)
    assert is_subsequence(left, arrived) and is_subsequence(right, arrived), (
        "each worker's packets keep their order"
    )


def is_subsequence(part: list[bytes], whole: list[bytes]) -> bool:
    """Whether `part` is in `whole` in its order, others between."""
    rest = iter(whole)
    return all(any(frame == other for other in rest) for frame in part)


FILTERING_NF = """
import mvmp
with mvmp.Nf("filter", wait=5) as nf:
    span = nf.open("span0")
    for burst in span.bursts(64):
        span.tx_burst(burst, burst.protocol == 17)
"""


def test_run_on_a_capture_writes_what_the_nf_lets_through(tmp_path: Path) -> None:
    script, out = tmp_path / "nf.py", tmp_path / "out.pcapng"
    script.write_text(FILTERING_NF)
    command = [sys.executable, "-m", "mvmp.cli", "run", str(script), "--pcap", str(TRAFFIC), "-w", str(out)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    with mvmp.offline(TRAFFIC) as handle:
        udp = [bytes(packet) for burst in handle.bursts(64) for packet in burst if packet.protocol == 17]
    assert 0 < len(udp) < len(PLAYED)
    assert [record.frame for record in records(out)] == udp
    assert f"{len(PLAYED)} packets in, {len(udp)} out" in finished.stderr


@pytest.mark.parametrize("rate", ["lossless", "max", 50_000])
def test_offline_gives_every_packet_with_time_and_wire_length(rate: str | float) -> None:
    seen = []
    with mvmp.offline(TRAFFIC, rate=rate) as handle:
        for burst in handle.bursts(128):
            seen += [Record(packet.timestamp_ns, packet.wire_length, bytes(packet)) for packet in burst]
    assert seen == PLAYED


def test_offline_may_be_left_early(tmp_path: Path) -> None:
    for _ in range(3):
        with mvmp.offline(TRAFFIC, out=tmp_path / "out.pcap") as handle:
            for burst in handle.bursts(8):
                handle.tx_burst(burst)
                break
    with pytest.raises(RuntimeError, match="mine"), mvmp.offline(TRAFFIC) as handle:
        raise RuntimeError("mine")
    with mvmp.offline(TRAFFIC) as handle:
        assert sum(len(burst) for burst in handle.bursts(256)) == len(PLAYED)
