"""Frames of a pcap or pcapng file: the demonstration checks what was written with a reader of its own."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

PCAP_ORDERS = {0xA1B2C3D4: "<", 0xA1B23C4D: "<", 0xD4C3B2A1: ">", 0x4D3CB2A1: ">"}
SECTION_HEADER = 0x0A0D0D0A
BYTE_ORDER_MAGIC = 0x1A2B3C4D
ENHANCED_PACKET = 6


def frames(path: Path) -> Iterator[bytes]:
    """The frames of a capture file.

    Raises:
        ValueError: It is neither pcap nor pcapng, or it ends in the middle.
    """
    content = path.read_bytes()
    (magic,) = struct.unpack_from("<I", content) if len(content) >= 24 else (0,)
    if magic in PCAP_ORDERS:
        return pcap_frames(content, PCAP_ORDERS[magic])
    if magic == SECTION_HEADER:
        return pcapng_frames(content)
    raise ValueError(f"{path}: not a capture file")


def pcap_frames(content: bytes, order: str) -> Iterator[bytes]:
    """Frames behind a pcap file's header."""
    at = 24
    while at < len(content):
        if at + 16 > len(content):
            raise ValueError("the file ends within a record's header")
        (length,) = struct.unpack_from(f"{order}I", content, at + 8)
        yield slice_of(content, at + 16, length)
        at += 16 + length


def pcapng_frames(content: bytes) -> Iterator[bytes]:
    """Frames of the enhanced packet blocks of a pcapng file."""
    at, order = 0, "<"
    while at + 12 <= len(content):
        (kind,) = struct.unpack_from(f"{order}I", content, at)
        if kind == SECTION_HEADER:
            order = "<" if struct.unpack_from("<I", content, at + 8)[0] == BYTE_ORDER_MAGIC else ">"
        (size,) = struct.unpack_from(f"{order}I", content, at + 4)
        if size < 12 or at + size > len(content):
            raise ValueError("the file ends within a block")
        if kind == ENHANCED_PACKET:
            (length,) = struct.unpack_from(f"{order}I", content, at + 20)
            yield slice_of(content, at + 28, length)
        at += size


def slice_of(content: bytes, at: int, length: int) -> bytes:
    """A frame, which must be whole."""
    frame = content[at : at + length]
    if len(frame) != length:
        raise ValueError("the file ends within a frame")
    return frame


def digest(path: Path) -> tuple[int, str]:
    """How many frames, and the SHA-256 over (length as u32 little endian, bytes) of each in order."""
    count, sha256 = 0, hashlib.sha256()
    for frame in frames(path):
        count += 1
        sha256.update(struct.pack("<I", len(frame)) + frame)
    return count, sha256.hexdigest()
