"""Captures that cannot be read to their end, and files that do not take every packet: nobody overlooks it."""

from __future__ import annotations

import json
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from capture_files import ETHERNET, SECTION, write_pcap
from command_line import MVMP, call
from stages import Stage, capture, frames, lossless, send_back, watch, written

COOKED, RAW = 113, 101
INTERFACE, ENHANCED = 1, 6
SENDING_NF = """
import mvmp
with mvmp.Nf("counter", wait=5) as nf:
    packets = 0
    handle = nf.open("span0")
    for burst in handle.bursts(32):
        packets += len(burst)
        handle.tx_burst(burst)
    print("packets", packets)
"""


def block(kind: int, body: bytes) -> bytes:
    """A pcapng block."""
    body += bytes(-len(body) % 4)
    return struct.pack("<2I", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


def pcapng(path: Path, *packets: tuple[int, bytes]) -> str:
    """A pcapng file of packets, each with its link type; an interface is described when one of it comes."""
    links: list[int] = []
    file = block(SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    for link, frame in packets:
        if link not in links:
            links.append(link)
            file += block(INTERFACE, struct.pack("<HHI", link, 0, 0))
        head = struct.pack("<5I", links.index(link), 0, 0, len(frame), len(frame))
        file += block(ENHANCED, head + frame)
    path.write_bytes(file)
    return str(path)


def with_cooked_ones(path: Path) -> str:
    """Thirty Ethernet frames, with seven of a link type that is not supported among them."""
    packets = [(ETHERNET, frame) for frame in frames(30)]
    packets[10:10] = [(COOKED, bytes(40))] * 6 + [(COOKED, b"")]
    return pcapng(path, *packets)


@pytest.fixture(params=["cut short", "damaged"])
def unreadable(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A capture of which the first 29 packets can be read, and what is said of it."""
    content = bytearray(write_pcap(tmp_path / "in.pcap", [bytes([n]) * 60 for n in range(30)]).read_bytes())
    if request.param == "damaged":
        content[-76 + 8 : -76 + 12] = b"\xff" * 4
    else:
        content.pop()
    (tmp_path / "in.pcap").write_bytes(content)
    return str(tmp_path / "in.pcap"), request.param


def span(source: str, **out: str) -> dict[str, Any]:
    """A device on a capture."""
    return {
        "platform": {"open": True},
        "ports": {"in": lossless(pcap=source, **out)},
        "devices": {"span0": {"mode": "direct", "ports": ["in"]}},
    }


def test_offline_delivers_what_can_be_read_and_then_raises(unreadable: tuple[str, str]) -> None:
    source, what = unreadable
    seen: list[bytes] = []
    with pytest.raises(mvmp.Error, match=f"in.pcap is {what}"), mvmp.offline(source) as handle:
        for burst in handle.bursts(32):
            seen.extend(bytes(packet) for packet in burst)
    assert seen == [bytes([n]) * 60 for n in range(29)]


def test_offline_raises_when_its_output_cannot_be_written() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    source = str(Path(mvmp.__file__).parent / "data" / "traffic.pcapng")
    with (
        pytest.raises(mvmp.Error, match="cannot write /dev/full"),
        mvmp.offline(source, out="/dev/full") as handle,
    ):
        for burst in handle.bursts(32):
            handle.tx_burst(burst)


def test_run_says_why_a_capture_ended_early(unreadable: tuple[str, str], tmp_path: Path) -> None:
    source, what = unreadable
    script = tmp_path / "nf.py"
    script.write_text(SENDING_NF)
    finished = call("run", str(script), "--pcap", source)
    assert finished.returncode == 1
    assert "packets 29" in finished.stdout and "29 packets in, 29 out" in finished.stderr
    assert f"mvmp: error: {source} is {what}" in finished.stderr


def up_until_drained(configuration: str, folder: Path) -> tuple[int, dict[str, Any], str]:
    """A platform that an NF is run on until all is drained: exit code, last statistics, what was said."""
    file, socket, script = folder / "p.toml", folder / "mvmp.sock", folder / "nf.py"
    file.write_text(configuration)
    script.write_text(SENDING_NF)
    command = [*MVMP, "up", str(file), "--socket", str(socket), "--until-drained", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as platform:
        deadline = time.monotonic() + 20
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert call("run", str(script), "--socket", str(socket)).returncode == 0
        said, complaints = platform.communicate(timeout=30)
    stats: dict[str, Any] = json.loads(said.splitlines()[-1])["stats"]
    return platform.returncode, stats, complaints


SPAN = """
[platform]
open = true
[ports]
in = {{ pcap = "{source}", rate = "lossless" }}
[devices.span0]
mode = "direct"
ports = ["in"]
"""


def test_up_until_drained_says_why_a_capture_ended_early(unreadable: tuple[str, str], tmp_path: Path) -> None:
    source, what = unreadable
    code, stats, complaints = up_until_drained(SPAN.format(source=source), tmp_path)
    assert code == 1
    assert f"mvmp: error: in: {source} is {what}" in complaints
    assert stats["ports"]["in"]["received"] == 29
    [fault] = stats["ports"]["in"]["faults"]
    assert fault.startswith(f"{source} is {what}")


def test_packets_of_a_link_type_that_is_not_supported_are_skipped_and_counted(tmp_path: Path) -> None:
    source, seen = with_cooked_ones(tmp_path / "in.pcapng"), list[bytes]()
    with Stage(span(source), tmp_path, {"watcher": watch("span0", seen)}) as stage:
        port = stage.finish()["ports"]["in"]
    assert seen == frames(30)
    assert (port["received"], port["dispatched"], port["drops"]) == (37, 30, {"link_type": 7})
    assert port["faults"] == [], "the file was read to its end"


def test_who_plays_a_capture_hears_of_packets_that_could_not_be_played(tmp_path: Path) -> None:
    source, script = with_cooked_ones(tmp_path / "in.pcapng"), tmp_path / "nf.py"
    script.write_text(SENDING_NF)
    finished = call("run", str(script), "--pcap", source)
    assert finished.returncode == 0, finished.stderr
    assert "37 packets in, 30 out, drops: link_type 7" in finished.stderr
    with pytest.warns(RuntimeWarning, match="link_type 7") as warned, mvmp.offline(source) as handle:
        assert sum(len(burst) for burst in handle.bursts(32)) == 30
    assert [warning.filename for warning in warned] == [__file__]


def test_policy_test_counts_packets_that_could_not_be_played(tmp_path: Path) -> None:
    source, file = with_cooked_ones(tmp_path / "in.pcapng"), tmp_path / "p.toml"
    file.write_text(SPAN.format(source=source))
    finished = call("policy", "test", str(file), source, "-v")
    assert finished.returncode == 0, finished.stderr
    assert "37 packets, 0 that no device wants, 7 of a link type that is not supported" in finished.stdout
    assert "packet 11, 40 bytes: of a link type that is not supported" in finished.stdout


def test_a_capture_of_nothing_else_is_refused_at_start(tmp_path: Path) -> None:
    cooked = capture(tmp_path, "cooked", [bytes(40)], COOKED)
    for source in (cooked, pcapng(tmp_path / "cooked.pcapng", (COOKED, bytes(40)))):
        with pytest.raises(mvmp.ConfigError, match="link type 113"):
            mvmp.Platform(span(source), socket=str(tmp_path / "mvmp.sock"))


def test_a_pcap_file_loses_packets_of_another_link_type_alone(tmp_path: Path) -> None:
    plain = frames(20)
    bare = [frame[14:] for frame in plain]
    mixed = [(ETHERNET, plain[0]), *((RAW, packet) for packet in bare), *((ETHERNET, f) for f in plain[1:])]
    source, out = pcapng(tmp_path / "in.pcapng", *mixed), tmp_path / "out.pcap"
    with Stage(span(source, out=str(out)), tmp_path, {"forwarder": send_back("span0")}) as stage:
        port = stage.finish()["ports"]["in"]
        assert written(out) == plain
    assert (port["tx"]["accepted"], port["tx"]["transmitted"]) == (40, 20)
    assert port["tx"]["drops"] == {"link_type": 20}
    assert port["faults"] == []
