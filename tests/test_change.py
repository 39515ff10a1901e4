"""A running platform that changes: apply under traffic, devices of NFs' own, traces."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp  # noqa: E402
from command_line import call  # noqa: E402
from mvmp import _mvmp  # noqa: E402
from mvmp.demo.books import all_handles, drops_by_name  # noqa: E402
from nf_processes import await_that, check_books, forwarder  # noqa: E402
from stages import CPUS, capture, frames, lossless, needs_two_cpus, role, written  # noqa: E402

RING_SLOTS = 64


def cli(socket: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line on that platform."""
    return call(*arguments, "--socket", str(socket))


def toml(config: dict[str, Any]) -> str:
    """A configuration as TOML: its tables inline."""

    def value(of: Any) -> str:
        if isinstance(of, dict):
            return "{ " + ", ".join(f"{json.dumps(key)} = {value(item)}" for key, item in of.items()) + " }"
        if isinstance(of, list):
            return "[" + ", ".join(value(item) for item in of) + "]"
        return json.dumps(of)

    return "\n".join(f"{table} = {value(content)}" for table, content in config.items()) + "\n"


def endless(folder: Path, *, match: str = "all", **more: Any) -> dict[str, Any]:
    """A capture that is played for ever, without loss, through one device."""
    file = folder / "in.pcap"
    if not file.exists():
        capture(folder, "in", frames(64))
    return {
        "ports": {"a": {"pcap": str(file), "loop": 0, "rate": "lossless", "wait_for": 1}},
        "devices": {
            "tap": {"mode": "direct", "ports": ["a"], "receive": {"a": match}},
            **more.pop("devices", {}),
        },
        "nfs": {"nf": role("tap:rx"), **more.pop("nfs", {})},
        **more,
    }


class Counting(threading.Thread):
    """An NF that counts what it gets from a device, until it is told to stop or the device is gone."""

    def __init__(self, socket: Path, name: str = "nf", device: str = "tap") -> None:
        super().__init__(daemon=True)
        self.nf = mvmp.Nf(name, socket=str(socket.parent / "nf" / name / "mvmp.sock"))
        self.handle = self.nf.open(device)
        self.count = 0
        self.ports: set[int] = set()
        self.detached: Exception | None = None
        self.enough = threading.Event()
        self.start()

    def run(self) -> None:
        """Takes what comes."""
        try:
            while not self.enough.is_set():
                burst = self.handle.rx_burst(32, timeout=0.1)
                self.ports |= set(burst.src_port.tolist())
                self.count += len(burst)
                burst.release()
        except mvmp.Closed as error:
            self.detached = error

    def until(self, more: int) -> None:
        """Waits until so many more packets have come."""
        goal = self.count + more
        deadline = time.monotonic() + 30
        while self.count < goal:
            assert time.monotonic() < deadline, "nothing comes any more"
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends it."""
        self.enough.set()
        self.join(timeout=30)
        self.nf.close()


def apply(socket: Path, config: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`mvmp apply` with that configuration."""
    file = socket.parent / "new.toml"
    file.write_text(toml(config))
    return cli(socket, "apply", str(file), *arguments)


def test_a_rule_changes_under_traffic_and_the_nf_keeps_its_handle(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    with mvmp.Platform(endless(tmp_path), socket=str(socket)) as platform:
        nf = Counting(socket)
        nf.until(1000)
        assert nf.ports == set(range(1000, 1064))
        done = apply(socket, endless(tmp_path, match="udp src port 1000"))
        assert done.returncode == 0, done.stderr
        nf.until(64)
        nf.ports.clear()
        nf.until(1000)
        assert nf.ports == {1000}
        nf.stop()
        assert nf.detached is None
        handle = platform.stats()["closed_handles"]
        assert all(not closed["drops"] for closed in handle), "lossless: no packet was lost"
        drops = platform.stats()["ports"]["a"]["drops"]
        assert set(drops) <= {"unmatched", "no_nf"}


def test_a_thousand_rules_are_applied_and_no_packet_is_lost(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    rules = " or ".join(
        f"(udp src port {1000 + n % 64} and dst net 10.{n % 250}.0.0/16)" for n in range(1000)
    )
    with mvmp.Platform(endless(tmp_path), socket=str(socket)) as platform:
        nf = Counting(socket)
        nf.until(1000)
        for match in (rules, "all", rules):
            assert apply(socket, endless(tmp_path, match=match)).returncode == 0
            nf.until(1000)
        before = platform.stats()["ports"]["a"]
        nf.stop()
        assert set(before["drops"]) <= {"unmatched"}
        assert not [closed for closed in platform.stats()["closed_handles"] if closed["drops"]]


def test_devices_and_roles_come_and_go(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    more = endless(
        tmp_path,
        devices={"second": {"mode": "direct", "ports": ["a"], "receive": {"a": "udp src port 1001"}}},
        nfs={"late": role("second:rx")},
    )
    with mvmp.Platform(endless(tmp_path), socket=str(socket)) as platform:
        nf = Counting(socket)
        assert apply(socket, more).returncode == 0
        late = Counting(socket, "late", "second")
        late.until(100)
        assert late.ports == {1001}
        assert "second" in cli(socket, "status", "--policies").stdout
        # Without it again: its NF is told, the other notices nothing.
        assert apply(socket, endless(tmp_path)).returncode == 0
        late.join(timeout=30)
        assert isinstance(late.detached, mvmp.Closed)
        nf.until(1000)
        late.stop()
        nf.stop()
        assert not (tmp_path / "nf" / "late").exists()
        assert "second" not in platform.stats()["devices"]


def test_a_port_comes_to_a_bond_while_it_sends(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"

    def config(*outs: str) -> dict[str, Any]:
        base = endless(tmp_path)
        base["ports"] |= {out: {"out": str(tmp_path / f"{out}.pcap")} for out in outs}
        base["devices"]["bond"] = {"mode": "bond", "ports": list(outs), "receive": {}}
        base["nfs"]["nf"] = role("tap:rx", "bond:tx")
        return base

    stop = threading.Event()
    with mvmp.Platform(config("b", "c"), socket=str(socket)) as platform:

        def send() -> None:
            with mvmp.Nf("nf", socket=str(tmp_path / "nf" / "nf" / "mvmp.sock")) as nf:
                tap, bond = nf.open("tap"), nf.open("bond")
                while not stop.is_set():
                    bond.tx_burst(tap.rx_burst(32, timeout=0.1), timeout=None)

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while platform.stats()["ports"]["b"]["tx"]["transmitted"] < 100:
            assert time.monotonic() < deadline
        done = apply(socket, config("b", "c", "d"))
        assert done.returncode == 0, done.stderr
        while platform.stats()["ports"]["d"]["tx"]["transmitted"] < 100:
            assert time.monotonic() < deadline
        done = apply(socket, config("c", "d"))
        assert done.returncode == 0, done.stderr
        stop.set()
        thread.join(timeout=30)
        for port in platform.stats()["ports"].values():
            assert not port["tx"]["drops"], "whoever leaves a bond leaves it empty"
    assert len(written(tmp_path / "d.pcap")) >= 100


def test_a_bond_never_chooses_a_port_that_is_not_served_yet_or_no_more(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"

    def config(*ports: str) -> dict[str, Any]:
        base = endless(tmp_path, devices={"bond": {"mode": "bond", "ports": list(ports), "receive": {}}})
        base["ports"] |= {port: {"out": "/dev/null"} for port in ports}
        base["nfs"]["nf"] = role("tap:rx", "bond:tx")
        return base

    with mvmp.Platform(config("b", "c"), socket=str(socket)) as platform:
        nf = Spreading(socket, "bond")
        # A moment in each round at which a port could be chosen too early.
        for _ in range(40):
            for ports in ("bcdefghijk", "bc"):
                await_each_sends(platform, ["b", "c"])
                reply = _mvmp.operator(str(socket), {"type": "apply", "config": config(*ports)})
                assert reply["type"] == "applied", reply
        nf.end(platform)
        assert drops_by_name(platform.stats()) == {}


def test_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    with mvmp.Platform(endless(tmp_path), socket=str(socket)) as platform:
        nf = Counting(socket)
        before, pools = (
            cli(socket, "status", "--policies", "-o", "json").stdout,
            len(platform.stats()["pools"]),
        )
        wrong = endless(tmp_path, match="udp prt 5")
        done = apply(socket, wrong)
        assert done.returncode == 1 and "did you mean `port`" in done.stderr
        # Of two new ports, the second cannot be opened: by then there are a pool, a port and a role's socket.
        missing = endless(tmp_path, match="tcp", nfs={"late": role("tap:rx")})
        missing["ports"]["y"] = {"out": str(tmp_path / "y.pcap")}
        missing["ports"]["z"] = {"pcap": str(tmp_path / "none.pcap")}
        (tmp_path / "none.pcap").write_bytes(b"no capture")
        done = apply(socket, missing)
        assert done.returncode == 1 and "none.pcap" in done.stderr
        assert cli(socket, "status", "--policies", "-o", "json").stdout == before
        stats = platform.stats()
        assert set(stats["ports"]) == {"a"} and len(stats["pools"]) == pools
        assert not (tmp_path / "nf" / "late").exists()
        nf.until(500)
        nf.stop()


def test_an_nf_defines_a_device_of_its_own(tmp_path: Path) -> None:
    sent = frames(64)
    config = {
        "ports": {
            "a": lossless(pcap=capture(tmp_path, "a", sent), wait_for=1),
            "b": lossless(out=str(tmp_path / "b.pcap")),
        },
        "devices": {"other": {"mode": "rootless"}},
        "nfs": {"nf": role("other", may_define=["a", "b"]), "poor": role("other", may_define=["b"])},
    }
    mine = {"name": "mine", "mode": "bridge", "ports": ["a", "b"], "receive": {"a": "udp src port 1000"}}
    socket = tmp_path / "mvmp.sock"
    with mvmp.Platform(config, socket=str(socket)) as platform:
        with mvmp.Nf("poor", socket=str(tmp_path / "nf" / "poor" / "mvmp.sock")) as poor:
            with pytest.raises(mvmp.NotAuthorized, match="may_define"):
                poor.open(mine)
            with pytest.raises(mvmp.ConfigError, match="unknown port `c`"):
                poor.open({"mode": "direct", "ports": ["c"]})
            with pytest.raises(mvmp.PolicyError, match="libpcap may look names up"):
                poor.open({"mode": "direct", "ports": ["b"], "receive": {"b": "pcap: host example.org"}})
            with pytest.raises(mvmp.PolicyError, match="libpcap may look names up"):
                poor.open("other", match="pcap: tcp")
            with pytest.raises(TypeError, match="a name, or a dict"):
                poor.open([1])  # type: ignore[arg-type]
        with mvmp.Nf("nf", socket=str(tmp_path / "nf" / "nf" / "mvmp.sock")) as nf:
            handle = nf.open(mine)
            assert "nf.0.mine" in platform.stats()["devices"]
            got = []
            for burst in handle.bursts(8):
                got.extend(bytes(packet) for packet in burst)
                handle.tx_burst(burst, timeout=None)
            assert got == sent[:1]
            handle.close()
        deadline = time.monotonic() + 30
        while "nf.0.mine" in platform.stats()["devices"]:
            assert time.monotonic() < deadline, "it lives as long as it is open"
        platform.wait_drained(timeout=30)
        check_books(platform.stats())
    assert written(tmp_path / "b.pcap") == sent[:1]


def test_a_trace_shows_each_step_with_the_rule(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    with mvmp.Platform(endless(tmp_path, match="udp src port 1000 or udp src port 1001"), socket=str(socket)):
        nf = Counting(socket)
        nf.until(100)
        done = cli(socket, "trace", "tap", "-n", "64", "-o", "json")
        nf.stop()
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    seen = [step for step in steps if step["step"] == "seen"]
    assert len(seen) == 64
    assert sum(step["wanted"] for step in seen) == 2
    for step in seen:
        assert step["layers"] == ["ethernet", "ipv4", "udp"] and step["port"] == "a"
        assert step["handles"] == ([{"nf": "nf/0", "outcome": "delivered"}] if step["wanted"] else [])
        assert "port 1000" in step["rule"]
    assert any(step["step"] == "returned" and step["what"] == "released" for step in steps)


def test_a_trace_shows_what_leaves_and_to_whom_but_its_sender(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    config = endless(
        tmp_path,
        devices={
            "line": {
                "mode": "direct",
                "ports": ["b"],
                "receive": {"b": {"match": "udp src port 1000", "direction": "out"}},
            },
        },
        nfs={"nf": role("tap:rx", "line"), "ids": role("line:rx")},
    )
    config["ports"]["a"]["wait_for"] = ["nf"]
    config["ports"]["b"] = {"out": str(tmp_path / "out.pcapng")}
    with mvmp.Platform(config, socket=str(socket)):
        ids = Counting(socket, "ids", "line")
        wire = mvmp.Nf("nf", socket=str(socket.parent / "nf" / "nf" / "mvmp.sock"))
        tap, line = wire.open("tap"), wire.open("line")
        enough = threading.Event()

        def forward() -> None:
            while not enough.is_set():
                line.tx_burst(tap.rx_burst(32, timeout=0.1), timeout=1)
                line.rx_burst(32, timeout=0).release()

        worker = threading.Thread(target=forward)
        worker.start()
        ids.until(10)
        done = cli(socket, "trace", "line", "-n", "64", "-o", "json")
        enough.set()
        worker.join(timeout=30)
        ids.stop()
        wire.close()
    assert done.returncode == 0, done.stderr
    seen = [step for step in map(json.loads, done.stdout.splitlines()) if step["step"] == "seen"]
    assert len(seen) == 64 and sum(step["wanted"] for step in seen) == 1
    for step in seen:
        assert (step["port"], step["direction"]) == ("b", "out")
        assert step["handles"] == ([{"nf": "ids/0", "outcome": "delivered"}] if step["wanted"] else [])


def with_two_workers(folder: Path, devices: dict[str, list[str]]) -> dict[str, Any]:
    """A stream on the first worker, and devices over ports that are written to, the first on the second."""
    config = endless(folder)
    config["platform"] = {"workers": CPUS[:2], "buffers": 4096}
    for device, ports in devices.items():
        mode = "bond" if len(ports) > 1 else "direct"
        config["devices"][device] = {"mode": mode, "ports": ports, "receive": {}}
        config["ports"] |= {port: {"out": str(folder / f"{port}.pcap")} for port in ports}
    config["nfs"]["nf"] = role("tap:rx", *(f"{device}:tx" for device in devices))
    return config


class Spreading(threading.Thread):
    """An NF that sends what it gets from the stream over devices in turn, more of them as it is told."""

    def __init__(self, socket: Path, device: str) -> None:
        super().__init__(daemon=True)
        self.nf = mvmp.Nf("nf", socket=str(socket.parent / "nf" / "nf" / "mvmp.sock"))
        self.ways = [self.nf.open(device)]
        self.tap = self.nf.open("tap")
        self.enough = threading.Event()
        self.start()

    def run(self) -> None:
        """Sends each burst by the next way."""
        for turn in itertools.count():
            if self.enough.is_set():
                return
            self.ways[turn % len(self.ways)].tx_burst(self.tap.rx_burst(32, timeout=0.1), timeout=None)

    def end(self, platform: mvmp.Platform) -> None:
        """Ends it, and the stream."""
        self.enough.set()
        self.join(timeout=30)
        platform.remove_port("a")
        self.nf.close()


def await_each_sends(platform: mvmp.Platform, ports: list[str]) -> None:
    """Waits until each of these ports has sent more than it had."""
    counts = [platform.stats()["ports"][port]["tx"] for port in ports]
    wanted = {port: count["transmitted"] + 500 for port, count in zip(ports, counts, strict=True)}
    ready = lambda: all(  # noqa: E731
        platform.stats()["ports"][port]["tx"]["transmitted"] >= count for port, count in wanted.items()
    )
    await_that(ready, f"{ports} send")


def check_what_was_spread(platform: mvmp.Platform, nf: Spreading, folder: Path, ports: list[str]) -> None:
    """Nothing was lost on the way to a port, each has written what it counted, and all books are right."""
    nf.end(platform)
    is_home = lambda pool: pool["free"] == pool["buffers"]  # noqa: E731
    await_that(lambda: all(map(is_home, platform.stats()["pools"])), "all buffers home")
    stats = platform.stats()
    check_books(stats)
    transmitted = {port: stats["ports"][port]["tx"]["transmitted"] for port in ports}
    assert drops_by_name(stats) == {}
    assert sum(transmitted.values()) == sum(handle["out"]["sent"] for handle in all_handles(stats))
    platform.stop()
    for port, count in transmitted.items():
        assert len(written(folder / f"{port}.pcap")) == count


@needs_two_cpus
def test_a_device_over_a_new_port_is_sent_to_from_both_workers(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    devices = {"old": ["b"]}
    with mvmp.Platform(with_two_workers(tmp_path, devices), socket=str(socket)) as platform:
        nf = Spreading(socket, "old")
        await_each_sends(platform, ["b"])
        devices |= {"one": ["c"], "two": ["d"]}
        done = apply(socket, with_two_workers(tmp_path, devices))
        assert done.returncode == 0, done.stderr
        assert [pool["worker"] for pool in platform.stats()["pools"]] == [0, 1, 0, 1]
        nf.ways += [nf.nf.open("one"), nf.nf.open("two")]
        await_each_sends(platform, ["b", "c", "d"])
        check_what_was_spread(platform, nf, tmp_path, ["b", "c", "d"])


@needs_two_cpus
def test_a_port_comes_to_a_bond_of_another_worker_while_it_sends(tmp_path: Path) -> None:
    socket = tmp_path / "mvmp.sock"
    with mvmp.Platform(with_two_workers(tmp_path, {"bond": ["b", "c"]}), socket=str(socket)) as platform:
        nf = Spreading(socket, "bond")
        await_each_sends(platform, ["b", "c"])
        done = apply(socket, with_two_workers(tmp_path, {"bond": ["b", "c", "d"]}))
        assert done.returncode == 0, done.stderr
        assert [pool["worker"] for pool in platform.stats()["pools"]] == [0, 1]
        await_each_sends(platform, ["b", "c", "d"])
        check_what_was_spread(platform, nf, tmp_path, ["b", "c", "d"])


def flows_of(nfs: list[Counting]) -> list[set[int]]:
    """The flows that each of these is handed from now on, once all that come round have come."""
    for nf in nfs:
        nf.until(RING_SLOTS + 32)  # what was handed out before
        nf.ports.clear()
        nf.until(256)
    return [set(nf.ports) for nf in nfs]


def test_flows_of_a_member_that_dies_go_to_the_others_and_come_back_with_it(tmp_path: Path) -> None:
    config = endless(tmp_path)
    config["platform"] = {"buffers": 4096, "ring": RING_SLOTS}
    config["ports"]["a"]["wait_for"] = 3
    config["nfs"] = {"dpi": role("tap", instances=3, groups={"tap": "dpi"})}
    socket, all_flows = tmp_path / "mvmp.sock", set(range(1000, 1064))
    with mvmp.Platform(config, socket=str(socket)) as platform:
        with forwarder("dpi", tmp_path / "nf" / "dpi", "tap") as mortal:
            others = [Counting(socket, "dpi") for _ in range(2)]
            one, two = flows_of(others)
            assert one and two and not one & two and one | two < all_flows
            mortal.kill()
            await_that(lambda: len(platform.stats()["nfs"]) == 2, "it is known to be dead")
        more = flows_of(others)
        assert more[0] >= one and more[1] >= two, "who lives keeps its flows"
        assert not more[0] & more[1] and more[0] | more[1] == all_flows
        with forwarder("dpi", tmp_path / "nf" / "dpi", "tap"):
            assert flows_of(others) == [one, two], "the same name has the same flows again"
        for nf in others:
            nf.stop()
