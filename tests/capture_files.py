"""A reader of capture files for tests, from the formats' specifications, not from our code.

It knows what the platform promises to keep: the bytes, the timestamp, the length on the wire.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PCAP_RESOLUTIONS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1, 0xA1B2CD34: 1000}
MODIFIED = 0xA1B2CD34
SECTION, INTERFACE, OLD_PACKET, SIMPLE, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
IF_TSRESOL, IF_TSOFFSET = 9, 14
ETHERNET = 1


class Record(NamedTuple):
    """One packet of a capture."""

    timestamp_ns: int
    wire_length: int
    frame: bytes


class Interface(NamedTuple):
    """What a pcapng interface description says of its packets."""

    link: int
    snap: int
    units_per_second: int
    offset_s: int


NO_CAPTURES = "no collection of captures: set MVMP_CAPTURES"


def captures_folder() -> Path | None:
    """The captures that nobody of this project wrote; `None` where they are not there."""
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "captures"
    folder = Path(os.environ.get("MVMP_CAPTURES") or beside)
    return folder if (folder / "INDEX.tsv").is_file() else None


def records(path: Path) -> list[Record]:
    """Every whole packet of a capture; what a file that was cut begins and does not end is left out."""
    content = path.read_bytes()
    if struct.unpack_from("<I", content)[0] == SECTION:
        return list(pcapng_records(content))
    return list(pcap_records(content))


def pcap_records(content: bytes) -> Iterator[Record]:
    """Packets of a pcap file in either byte order, in micro- or nanoseconds."""
    order = next(o for o in "<>" if struct.unpack_from(o + "I", content)[0] in PCAP_RESOLUTIONS)
    (magic,) = struct.unpack_from(order + "I", content)
    header = 24 if magic == MODIFIED else 16
    at = 24
    while at + header <= len(content):
        seconds, fraction, length, wire = struct.unpack_from(order + "4I", content, at)
        frame = content[at + header : at + header + length]
        if len(frame) < length:
            return
        yield Record(seconds * 10**9 + fraction * PCAP_RESOLUTIONS[magic], wire, frame)
        at += header + length


def pcapng_records(content: bytes) -> Iterator[Record]:
    """Packets of enhanced, simple and old packet blocks."""
    at, order = 0, "<"
    interfaces: list[Interface] = []
    while at + 12 <= len(content):
        if struct.unpack_from("<I", content, at)[0] == SECTION:
            order = "<" if content[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces = []
        kind, size = struct.unpack_from(order + "2I", content, at)
        body = content[at + 8 : at + size - 4]
        if size < 12 or at + size > len(content):
            return
        if kind == INTERFACE:
            interfaces.append(interface(order, body))
        elif kind == ENHANCED:
            number, high, low, length, wire = struct.unpack_from(order + "5I", body)
            yield Record(nanoseconds(interfaces[number], high, low), wire, body[20 : 20 + length])
        elif kind == OLD_PACKET:
            number, _, high, low, length, wire = struct.unpack_from(order + "2H4I", body)
            yield Record(nanoseconds(interfaces[number], high, low), wire, body[20 : 20 + length])
        elif kind == SIMPLE:
            (wire,) = struct.unpack_from(order + "I", body)
            yield Record(0, wire, body[4 : 4 + min(wire, interfaces[0].snap or wire)])
        at += size


def interface(order: str, body: bytes) -> Interface:
    """An interface description block."""
    link, _, snap = struct.unpack_from(order + "2HI", body)
    units, offset, at = 10**6, 0, 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "2H", body, at)
        value = body[at + 4 : at + 4 + length]
        if code == IF_TSRESOL:
            units = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
        elif code == IF_TSOFFSET:
            (offset,) = struct.unpack(order + "q", value)
        at += 4 + length + -length % 4
    return Interface(link, snap, units, offset)


def nanoseconds(of: Interface, high: int, low: int) -> int:
    """A pcapng timestamp since the epoch."""
    return (high << 32 | low) * 10**9 // of.units_per_second + of.offset_s * 10**9


def write_pcap(path: Path, frames: Iterable[bytes]) -> Path:
    """A pcap file in nanoseconds, one millisecond between frames."""
    header = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, ETHERNET)
    packed = [
        struct.pack("<IIII", 1_700_000_000 + i // 1000, i % 1000 * 10**6, len(frame), len(frame)) + frame
        for i, frame in enumerate(frames)
    ]
    path.write_bytes(header + b"".join(packed))
    return path


def tshark(capture: Path, *options: str) -> list[str]:
    """Lines that tshark prints of a capture, checksums checked."""
    checked = [option for name in ("ip", "udp", "tcp") for option in ("-o", f"{name}.check_checksum:TRUE")]
    command = ["tshark", "-r", str(capture), *checked, *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
