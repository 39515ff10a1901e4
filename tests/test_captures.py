"""Every Ethernet capture of the collection goes through a platform and an NF, and comes out as it was."""

from __future__ import annotations

import csv
import gzip
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from capture_files import NO_CAPTURES, Record, captures_folder, records
from nf_processes import check_books, forwarder

CAPTURES = captures_folder()
TRAFFIC = Path(str(resources.files("mvmp") / "data" / "traffic.pcapng"))
TOO_LONG = 9600  # bytes; longer frames are a named drop
AT_ONCE = 15  # captures, each with a port for reading, one for writing, and a bridge between them


def ethernet_captures() -> list[Path]:
    """The collection's captures of Ethernet."""
    if CAPTURES is None:
        return []
    with (CAPTURES / "INDEX.tsv").open(newline="") as index:
        rows = csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [CAPTURES / row["file"] for row in rows if row["linktype"] == "ether"]


def batches() -> list[list[Path]]:
    """As many captures as one platform takes at a time."""
    files = ethernet_captures()
    return [files[at : at + AT_ONCE] for at in range(0, len(files), AT_ONCE)] or [[]]


def named(files: list[Path]) -> str:
    """A batch, by its first."""
    return f"{files[0].stem}-and-{len(files) - 1}-more" if files else "none"


def side_by_side(files: list[Path], folder: Path, suffix: str) -> dict[str, Any]:
    """A platform that plays all these captures at once, each by a bridge of its own to a file of its own."""
    ports: dict[str, Any] = {}
    devices = {}
    for number, file in enumerate(files):
        ports[f"in{number}"] = {"pcap": str(file), "rate": "lossless"}
        ports[f"out{number}"] = {"out": str(folder / f"{number}{suffix}")}
        devices[f"bridge{number}"] = {"mode": "bridge", "ports": [f"in{number}", f"out{number}"]}
    return {"platform": {"open": True, "buffers": 2048}, "ports": ports, "devices": devices}


def as_kept(record: Record) -> Record:
    """Malformed captures are mended: a frame of no byte on the wire, a time beyond 64 bits."""
    return record._replace(
        wire_length=record.wire_length or len(record.frame),
        timestamp_ns=min(record.timestamp_ns, 2**63 - 1),
    )


def plain(file: Path, folder: Path) -> Path:
    """The capture itself, or what is in it if it is compressed."""
    if file.suffix != ".gz":
        return file
    content = folder / file.stem
    content.write_bytes(gzip.decompress(file.read_bytes()))
    return content


@pytest.mark.skipif(CAPTURES is None, reason=NO_CAPTURES)
@pytest.mark.parametrize("files", batches(), ids=named)
def test_captures_come_out_as_they_went_in(files: list[Path], tmp_path: Path) -> None:
    files = [plain(file, tmp_path) for file in files]
    configuration = side_by_side(files, tmp_path, ".pcapng")
    socket = tmp_path / "mvmp.sock"
    with mvmp.Platform(configuration, socket=socket) as platform:
        with forwarder("forwarder", socket, *configuration["devices"]) as nf:
            platform.wait_drained(timeout=60)
            assert nf.wait(timeout=20) == 0, "the loop ends in order with the last capture"
        stats = platform.stats()
    check_books(stats)
    for number, file in enumerate(files):
        played = records(file)
        short = [record for record in played if len(record.frame) <= TOO_LONG]
        port = stats["ports"][f"in{number}"]
        assert port["received"] == len(played), file
        assert port["drops"] == ({"too_long": len(played) - len(short)} if short != played else {}), file
        assert records(tmp_path / f"{number}.pcapng") == [as_kept(record) for record in short], file


def test_a_handle_that_is_opened_after_the_end_ends_too(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "platform": {"open": True},
        "ports": {"in": {"pcap": str(TRAFFIC)}},
        "devices": {"span0": {"mode": "direct", "ports": ["in"]}},
    }
    with mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as platform:
        with mvmp.Nf("first", socket=platform.socket) as nf:
            assert sum(len(burst) for burst in nf.open("span0").bursts(64)) > 0
        with mvmp.Nf("late", socket=platform.socket) as nf:
            handle = nf.open("span0")
            assert not handle.rx_burst(1, timeout=20) and handle.ended
