"""What an NF sends on is judged by a program of others: nDPI finds in it what its authors expect.

Each capture of nDPI's own test suite is played by a port, received over a direct device, and sent on
to a file; `ndpiReader` on that file must say byte for byte what it is known to say of the original.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from capture_files import NO_CAPTURES, captures_folder, records
from stages import Stage

CAPTURES = captures_folder()
READER = shutil.which("ndpiReader")
PLAYABLE = {"ether", "rawip", "rawip4"}
LONGEST = 9600  # bytes; longer frames are a named drop, so such captures are left out
AT_ONCE = 15  # captures on one platform: a port for reading and one for writing each


def expectations() -> list[Path]:
    """What nDPI's authors expect, capture by capture."""
    return sorted((CAPTURES / "ndpi-4.2" / "expected").glob("*.out")) if CAPTURES else []


def batches() -> list[list[Path]]:
    """As many captures as one platform takes at a time."""
    files = expectations()
    return [files[at : at + AT_ONCE] for at in range(0, len(files), AT_ONCE)] or [[]]


def original(expected: Path) -> Path:
    """The capture that an expectation is about."""
    return expected.parent.parent / expected.stem


def verdict(capture: Path, folder: Path) -> bytes:
    """All that nDPI says of a capture."""
    said = folder / "said"
    said.unlink(missing_ok=True)
    command = [str(READER), "-q", "-t", "-i", str(capture), "-w", str(said), "-v", "2"]
    subprocess.run(command, capture_output=True, timeout=60, check=False)
    return said.read_bytes() if said.exists() else b""


def links() -> dict[str, str]:
    """The link type of each capture."""
    assert CAPTURES is not None
    with (CAPTURES / "INDEX.tsv").open(newline="") as index:
        rows = csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["file"]: row["linktype"] for row in rows}


def is_playable(capture: Path) -> bool:
    """Whether a port can play it: Ethernet or IP, and no frame that is dropped for its length."""
    if links()[f"ndpi-4.2/{capture.name}"] not in PLAYABLE:
        return False
    return all(len(record.frame) <= LONGEST for record in records(capture))


def side_by_side(captures: list[Path], folder: Path) -> dict[str, Any]:
    """A platform that plays all of these, each over a direct device, to a file of its own."""
    ports: dict[str, Any] = {}
    devices: dict[str, Any] = {}
    for number, capture in enumerate(captures):
        ports[f"in{number}"] = {"pcap": str(capture), "rate": "lossless", "wait_for": ["inspector"]}
        ports[f"out{number}"] = {"out": str(folder / f"{number}.pcapng")}
        for side in ("in", "out"):
            devices[f"{side}{number}"] = {"mode": "direct", "ports": [f"{side}{number}"]}
    opened = [f"{name}:{'rx' if name.startswith('in') else 'tx'}" for name in devices]
    platform = {"buffers": 2048}
    return {
        "platform": platform,
        "ports": ports,
        "devices": devices,
        "nfs": {"inspector": {"devices": opened}},
    }


def inspect(nf: mvmp.Nf, count: int) -> None:
    """Sends what comes from each capture to its file."""
    outs = {f"in{n}": nf.open(f"out{n}") for n in range(count)}
    for name in outs:
        nf.open(name)
    for burst in nf.bursts(64):
        outs[burst.handle.device].tx_burst(burst, timeout=None)


@pytest.mark.skipif(CAPTURES is None, reason=NO_CAPTURES)
@pytest.mark.skipif(READER is None, reason="no ndpiReader: install libndpi-bin")
@pytest.mark.parametrize(
    "expected", batches(), ids=lambda files: f"{files[0].stem}-and-more" if files else "none"
)
def test_ndpi_finds_in_what_comes_out_what_its_authors_expect(expected: list[Path], tmp_path: Path) -> None:
    playable = [file for file in expected if is_playable(original(file))]
    # This machine's nDPI may differ from its authors' of itself; that is not ours to judge.
    agreed = [file for file in playable if verdict(original(file), tmp_path) == file.read_bytes()]
    too_long, differ = len(expected) - len(playable), len(playable) - len(agreed)
    print(f"{len(expected)} captures: {too_long} not playable, {differ} differ already")
    assert len(agreed) >= len(expected) * 3 // 4, "nDPI here is another one than its authors'"
    config = side_by_side([original(file) for file in agreed], tmp_path)
    with Stage(config, tmp_path, {"inspector": lambda nf: inspect(nf, len(agreed))}) as stage:
        stats = stage.finish()
    for number, file in enumerate(agreed):
        port = stats["ports"][f"in{number}"]
        assert port["drops"] == {} and port["received"] == len(records(original(file))), file.stem
        assert verdict(tmp_path / f"{number}.pcapng", tmp_path) == file.read_bytes(), file.stem
