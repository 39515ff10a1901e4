"""An NF that means harm: it speaks the protocol without our library, gets its descriptors, tries to write.

It tries what the seals are to make impossible, with the strongest descriptors it can get: the one it was
given, and the same memory opened anew for writing.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import mmap
import os
import socket
from collections.abc import Callable
from typing import Any

PROTOCOL = 1
MAX_MESSAGE_BYTES = 64 * 1024
MAX_FDS = 200
PUNCH_HOLE = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
PAGE = 2 << 20  # works for plain and for huge pages
ALLOWED = "ALLOWED"

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]


def run() -> dict[str, Any]:
    """Opens `virt0`, attacks the pool's memory and records; returns what the kernel said to each attempt."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as platform:
        platform.settimeout(5.0)
        platform.connect(os.environ["MVMP_SOCKET"])
        opened, fds = opens_device(platform, "virt0")
        memory, records = fds[0], fds[1]
        before = digest(memory)
        attempts = {"memory": attack(memory), "records": attack(records)}
        unchanged = digest(memory) == before
    return {"attempts": attempts, "unchanged": unchanged, "pool_bytes": opened["pools"][0]["bytes"]}


def say(platform: socket.socket, **message: Any) -> None:
    """Sends one message."""
    platform.send(json.dumps(message).encode())


def hear(platform: socket.socket, kind: str) -> tuple[dict[str, Any], list[int]]:
    """The next message of this kind and its descriptors.

    Raises:
        ConnectionError: The platform refused, or closed.
    """
    while True:
        data, fds, _, _ = socket.recv_fds(platform, MAX_MESSAGE_BYTES, MAX_FDS)
        message: dict[str, Any] = json.loads(data) if data else {"type": "closed"}
        if message["type"] == kind:
            return message, fds
        if message["type"] in ("error", "closed", "bye"):
            raise ConnectionError(f"the platform said {message}")


def opens_device(platform: socket.socket, device: str) -> tuple[dict[str, Any], list[int]]:
    """Hello and open, as the protocol has them; returns descriptors: the pool's memory, its records, more."""
    say(platform, type="hello", protocol=PROTOCOL, role="intruder", library="none")
    hear(platform, "welcome")
    say(platform, type="mapped")
    hear(platform, "ready")
    say(platform, type="open", device=device)
    opened, fds = hear(platform, "opened")
    say(platform, type="mapped", handle=opened["handle"])
    return opened, fds


def attack(fd: int) -> dict[str, str]:
    """Every way to write into the memory behind `fd`: the name of the error, or `ALLOWED`."""
    again = open_anew(fd)
    return {
        "mmap": outcome(lambda: map_writable(fd)),
        "mprotect": outcome(lambda: make_writable(fd)),
        "re-open": outcome(lambda: map_writable(again)) if isinstance(again, int) else again,
        "punch hole": outcome(lambda: punch_hole(again if isinstance(again, int) else fd)),
        "pwrite": outcome(lambda: write_into(again if isinstance(again, int) else fd)),
    }


def outcome(attempt: Callable[[], object]) -> str:
    """Makes the attempt."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return ALLOWED


def open_anew(fd: int) -> int | str:
    """The same memory opened for writing, or the name of the error."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))


def map_pages(fd: int, protection: int) -> int:
    """Maps the first pages, shared."""
    address = libc.mmap(None, size_to_map(fd), protection, mmap.MAP_SHARED, fd, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "mmap")
    return int(address)


def size_to_map(fd: int) -> int:
    """A length that is within the memory."""
    return min(PAGE, os.fstat(fd).st_size)


def map_writable(fd: int) -> None:
    """Asks for a writable mapping."""
    map_pages(fd, mmap.PROT_READ | mmap.PROT_WRITE)


def make_writable(fd: int) -> None:
    """Maps for reading, which is allowed, then asks for more."""
    address = map_pages(fd, mmap.PROT_READ)
    if libc.mprotect(address, size_to_map(fd), mmap.PROT_READ | mmap.PROT_WRITE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def punch_hole(fd: int) -> None:
    """Asks the kernel to take the pages away, which would zero them."""
    if libc.fallocate(fd, PUNCH_HOLE, 0, size_to_map(fd)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def write_into(fd: int) -> None:
    """Writes by a system call."""
    os.pwrite(fd, b"intruder", 0)


def digest(fd: int) -> str:
    """What the first pages hold."""
    with mmap.mmap(fd, size_to_map(fd), mmap.MAP_SHARED, mmap.PROT_READ) as pages:
        return hashlib.sha256(pages).hexdigest()


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
