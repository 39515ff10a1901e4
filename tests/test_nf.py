"""The NF's side in Python: bursts, columns, lending, waiting, the end of streams, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp  # noqa: E402

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

TRAFFIC = Path(str(files("mvmp") / "data" / "traffic.pcapng"))
COLUMNS = {
    "in_port": "uint16",
    "length": "uint32",
    "wire_length": "uint32",
    "timestamp_ns": "int64",
    "direction": "uint8",
    "link": "uint8",
    "l3_offset": "uint16",
    "payload_offset": "uint16",
    "payload_length": "uint16",
    "ether_type": "uint16",
    "vlan": "int32",
    "vni": "int64",
    "ip_version": "uint8",
    "protocol": "int16",
    "src": "uint32",
    "dst": "uint32",
    "src_port": "int32",
    "dst_port": "int32",
    "tcp_flags": "uint16",
    "fragment": "bool",
    "flow_hash": "uint32",
}


@pytest.fixture
def handle() -> Iterator[mvmp.NfHandle]:
    with mvmp.offline(TRAFFIC) as opened:
        yield opened


@pytest.fixture
def burst(handle: mvmp.NfHandle) -> Iterator[mvmp.Burst]:
    received = handle.rx_burst(64, timeout=20)
    while len(received) < 8:
        received.release()
        received = handle.rx_burst(64, timeout=20)
        assert received, "the capture has hundreds of packets"
    yield received


def pair(folder: Path) -> dict[str, Any]:
    """A capture on one device, and a rootless one."""
    return {
        "platform": {"open": True},
        "ports": {"file": {"pcap": str(TRAFFIC), "rate": "lossless"}},
        "devices": {
            "in": {"mode": "direct", "ports": ["file"], "receive": {"file": "all"}},
            "chain": {"mode": "rootless"},
        },
    }


def test_a_column_agrees_with_the_packets_one_by_one(burst: mvmp.Burst) -> None:
    for name, dtype in COLUMNS.items():
        column = getattr(burst, name)
        assert column.dtype == dtype and column.shape == (len(burst),), name
        assert column.tolist() == [getattr(packet, name) for packet in burst], name
        assert getattr(burst, name) is column, "it is computed once"
    for name in ("src6", "dst6"):
        column = getattr(burst, name)
        assert column.shape == (len(burst), 16)
        assert [bytes(row) for row in column] == [getattr(packet, name) for packet in burst]


def test_columns_agree_with_scapy(burst: mvmp.Burst) -> None:
    pytest.importorskip("scapy")
    inet = pytest.importorskip("scapy.layers.inet")
    seen = 0
    for packet in burst:
        dissected = packet.scapy()
        assert bytes(dissected) == bytes(packet)
        if inet.TCP in dissected:
            tcp = dissected[inet.TCP]
            assert (packet.src_port, packet.dst_port) == (tcp.sport, tcp.dport)
            assert packet.tcp_flags == int(tcp.flags)
            seen += 1
    assert seen > 0


def test_a_part_of_a_burst_has_the_columns_of_its_packets(burst: mvmp.Burst) -> None:
    length, src = burst.length, burst.src
    mask = length > np.median(length)
    for key in (mask, slice(1, 6), slice(None, None, -2), np.array([5, 2, 3]), [0, -1]):
        assert burst[key].length.tolist() == length[key].tolist()
    assert burst[mask][1:].src.tolist() == src[mask][1:].tolist()
    assert not burst[np.zeros(len(burst), dtype=bool)]
    with pytest.raises(IndexError):
        burst[len(burst)]
    with pytest.raises(IndexError):
        burst[np.ones(len(burst) + 1, dtype=bool)]
    with pytest.raises(ValueError, match="named twice"):
        burst[[1, 1]]


def test_headers_are_the_first_bytes_of_each_packet(burst: mvmp.Burst) -> None:
    start, l3 = burst.headers(20), burst.headers(4, at="l3")
    for row, packet in enumerate(burst):
        whole = bytes(packet)
        assert bytes(start[row]) == whole[:20].ljust(20, b"\0")
        assert bytes(l3[row]) == whole[packet.l3_offset :][:4].ljust(4, b"\0")


def test_a_policy_says_the_same_of_bursts_and_of_bytes(burst: mvmp.Burst) -> None:
    policy = mvmp.Policy("tcp")
    mask = burst.match(policy)
    assert mask.tolist() == (burst.protocol == 6).tolist()
    frames = [bytes(packet) for packet in burst]
    assert policy.match_many(frames).tolist() == mask.tolist()
    assert [policy.matches(frame) for frame in frames] == mask.tolist()
    assert "tcp" in policy.explain()


def test_a_wrong_rule_says_where_and_what_to_try() -> None:
    with pytest.raises(mvmp.PolicyError) as caught:
        mvmp.Policy("tcp prt 80")
    assert (caught.value.line, caught.value.column) == (1, 5)
    assert "port" in (caught.value.hint or "")


def test_offline_delivers_what_matches_and_writes_what_is_sent(tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    with mvmp.offline(TRAFFIC, match="tcp", out=out) as handle:
        sent = sum(burst.forward(handle) for burst in handle.bursts(256))
    assert sent > 0
    with mvmp.offline(out) as handle:
        protocols = [burst.protocol for burst in handle.bursts(256)]
    assert len(np.concatenate(protocols)) == sent
    assert (np.concatenate(protocols) == 6).all()
    with pytest.raises(mvmp.PolicyError), mvmp.offline(TRAFFIC, match="tcp prt 80"):
        pass


def test_what_has_left_is_not_held_and_says_so_before_anything_moves(burst: mvmp.Burst) -> None:
    handle, count, length = burst.handle, len(burst), burst.length
    assert handle.tx_burst(burst, [0, 1]) == 2
    assert (len(burst), burst.held) == (count, count - 2)
    with pytest.raises(mvmp.NotHeld):
        burst[1]
    with pytest.raises(mvmp.NotHeld):
        handle.tx_burst(burst, [5, 1])
    assert burst.held == count - 2
    with pytest.raises(mvmp.NotHeld):
        _ = burst.vlan
    assert burst.length is length
    assert burst.forward(handle) == count - 2
    assert burst.held == 0 and burst.forward(handle) == 0


def test_a_viewed_packet_is_read_only_and_can_neither_be_sent_nor_released(
    burst: mvmp.Burst,
) -> None:
    view = memoryview(burst[3])
    assert view.readonly and bytes(view) == bytes(burst[3])
    assert not np.frombuffer(view, dtype=np.uint8).flags.writeable
    count = burst.held
    for move in (burst.release, lambda: burst.forward(burst.handle), burst[2:5].release):
        with pytest.raises(BufferError):
            move()
    assert burst.held == count
    burst[:3].release()
    view.release()
    burst.release()
    assert burst.held == 0


def test_a_view_outlives_loop_handle_and_nf(tmp_path: Path) -> None:
    socket = str(tmp_path / "mvmp.sock")
    with mvmp.Platform(pair(tmp_path), socket=socket) as platform:
        with mvmp.Nf("ids", socket=socket) as nf:
            handle = nf.open("in")
            for burst in nf.bursts(8):
                view, copy = memoryview(burst[0]), bytes(burst[0])
                break
            handle.close()
        assert bytes(view) == copy
        with pytest.raises(mvmp.Closed):
            handle.rx_burst(1)
        with pytest.raises(mvmp.Closed):
            burst[0].length  # noqa: B018
        view.release()
        platform.wait_drained(timeout=20)


def test_a_loop_releases_what_was_not_kept(handle: mvmp.NfHandle) -> None:
    last: mvmp.Burst | None = None
    kept: list[mvmp.Burst] = []
    for burst in handle.bursts(4):
        if last is not None:
            assert last.held == (len(last) if last in kept else 0)
        if len(kept) < 2:
            kept.append(burst.keep())
        last = burst
    assert handle.ended and last is not None and last.held == 0
    assert all(burst.held == len(burst) for burst in kept)


def test_a_chain_over_a_rootless_device_loses_nothing_and_ends(tmp_path: Path) -> None:
    socket = str(tmp_path / "mvmp.sock")
    lengths: list[int] = []

    def collect(ready: threading.Event) -> None:
        with mvmp.Nf("collector", socket=socket) as nf:
            handle = nf.open("chain")
            ready.set()
            for burst in handle.bursts(16):
                lengths.extend(burst.length.tolist())

    with mvmp.Platform(pair(tmp_path), socket=socket) as platform:
        ready = threading.Event()
        collector = threading.Thread(target=collect, args=(ready,))
        collector.start()
        assert ready.wait(20)
        sent = []
        with mvmp.Nf("forwarder", socket=socket) as nf:
            chain = nf.open("chain", rx=False)
            for burst in nf.open("in").bursts(16):
                sent.extend(burst.length.tolist())
                assert burst.forward(chain) == len(burst)
        collector.join(20)
        assert not collector.is_alive()
        platform.wait_drained(timeout=20)
    assert lengths == sent and len(sent) > 100


def test_built_frames_arrive_as_they_were_built(tmp_path: Path) -> None:
    socket = str(tmp_path / "mvmp.sock")
    frames = [bytes([size % 256]) * size for size in (0, 1, 13, 14, 60, 1514)]
    config = {"platform": {"open": True}, "devices": {"chain": {"mode": "rootless"}}}
    with (
        mvmp.Platform(config, socket=socket),
        mvmp.Nf("sender", socket=socket) as sender,
        mvmp.Nf("receiver", socket=socket) as receiver,
    ):
        out, into = sender.open("chain"), receiver.open("chain")
        assert out.send([frames[0], *map(bytearray, frames[1:])]) == len(frames)
        seen: list[bytes] = []
        while len(seen) < len(frames):
            burst = into.rx_burst(8, timeout=20)
            assert burst
            seen += [bytes(packet) for packet in burst]
        assert seen == frames
        assert not out.rx_burst(8), "the sender never gets its own"


def test_two_threads_in_one_handle_are_told(tmp_path: Path) -> None:
    socket = str(tmp_path / "mvmp.sock")
    config = {"platform": {"open": True}, "devices": {"chain": {"mode": "rootless"}}}
    with mvmp.Platform(config, socket=socket), mvmp.Nf("ids", socket=socket) as nf:
        handle = nf.open("chain")
        told: list[mvmp.Busy] = []
        deadline = time.monotonic() + 30

        def receive() -> None:
            try:
                while not told and time.monotonic() < deadline:
                    handle.rx_burst(1, timeout=0.05)
            except mvmp.Busy as busy:
                told.append(busy)

        threads = [threading.Thread(target=receive) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert told, "whichever came second"
        handle.close()


def test_bursts_come_by_asyncio(handle: mvmp.NfHandle) -> None:
    async def count() -> int:
        return sum([len(burst) async for burst in handle])

    assert asyncio.run(count()) > 100


def test_the_end_of_the_platform_ends_the_loop_in_order(tmp_path: Path) -> None:
    socket = str(tmp_path / "mvmp.sock")
    config = {"platform": {"open": True}, "devices": {"chain": {"mode": "rootless"}}}
    platform = mvmp.Platform(config, socket=socket)
    with mvmp.Nf("ids", socket=socket) as nf:
        handle = nf.open("chain")
        stopper = threading.Timer(0.2, platform.stop)
        stopper.start()
        assert [len(burst) for burst in nf.bursts(8)] == []
        stopper.join()
        with pytest.raises(mvmp.PlatformLost):
            handle.rx_burst(1)
        with mvmp.Platform(config, socket=socket):
            nf.reconnect(wait=5)
            assert not handle.rx_burst(1) and not handle.closed


CHILD = """
import mvmp, sys
with mvmp.Nf("ids", socket=sys.argv[1], wait=20) as nf:
    handle = nf.open("chain")
    print("open", flush=True)
    {loop}
    print("after", flush=True)
print("end", flush=True)
"""


@pytest.mark.parametrize(
    ("number", "loop", "output", "code"),
    [
        (signal.SIGTERM, "for burst in nf.bursts(8): pass", ["after", "end"], 0),
        (signal.SIGTERM, "handle.rx_burst(1, timeout=None)", [], 143),
        (signal.SIGINT, "for burst in nf.bursts(8): pass", [], -signal.SIGINT),
    ],
)
def test_signals_end_an_nf(
    tmp_path: Path, number: signal.Signals, loop: str, output: list[str], code: int
) -> None:
    socket = str(tmp_path / "mvmp.sock")
    config = {"platform": {"open": True}, "devices": {"chain": {"mode": "rootless"}}}
    script = textwrap.dedent(CHILD.format(loop=loop))
    with mvmp.Platform(config, socket=socket):
        with subprocess.Popen(
            [sys.executable, "-c", script, socket],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
            time.sleep(0.3)  # It is on its way into the loop, of which nothing outside can tell.
            child.send_signal(number)
            assert child.stdout.read().split() == output
        assert child.returncode == code


def test_a_forked_child_has_inert_objects(burst: mvmp.Burst) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            burst[0].length  # noqa: B018
        except mvmp.Closed:
            os.write(write, b"closed")
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert os.read(read, 16) == b"closed"
    os.close(read)
    assert len(bytes(burst[0])) == burst.length[0]


def test_without_a_platform_the_error_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(mvmp.ConnectError, match=str(tmp_path)):
        mvmp.Nf("ids", socket=tmp_path / "mvmp.sock")


def test_closed_handles_leave_nothing_open(tmp_path: Path) -> None:
    config = {"devices": {"v": {"mode": "rootless"}}, "platform": {"open": True}}
    socket = str(tmp_path / "mvmp.sock")

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with mvmp.Platform(config, socket=socket), mvmp.Nf("n", socket=socket) as nf:
        nf.open("v").close()
        # One that is closed is forgotten when the next is opened.
        nf.open("v").close()
        before = descriptors()
        for _ in range(20):
            nf.open("v").close()
        assert descriptors() <= before


def test_a_time_beyond_all_clocks_is_for_ever(tmp_path: Path) -> None:
    with mvmp.offline(TRAFFIC) as handle:
        assert len(handle.rx_burst(8, timeout=1e19)) > 0
    with pytest.raises(mvmp.ConnectError), mvmp.Nf("n", socket=str(tmp_path / "no" / "mvmp.sock"), wait=0.0):
        pass
