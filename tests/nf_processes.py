"""NFs as processes of their own, for tests; each ends at the end of its `with` at the latest."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mvmp.demo.books import imbalances

FORWARDER = """
import sys, mvmp
with mvmp.Nf(sys.argv[1], socket=sys.argv[2], wait=20) as nf:
    for device in sys.argv[3:]:
        nf.open(device)
    print("open", flush=True)
    for burst in nf.bursts(64):
        burst.forward(burst.handle)
"""


@contextmanager
def process(program: str, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Runs Python text in a process of its own; kills it if it is still there at the end."""
    child = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, **options
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate(timeout=20)


@contextmanager
def forwarder(role: str, socket: str | Path, *devices: str) -> Iterator[subprocess.Popen[str]]:
    """An NF process that has these devices open and sends each packet out again where it came in."""
    with process(FORWARDER, role, str(socket), *devices) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        yield child


def check_books(stats: dict[str, Any]) -> None:
    """All accounts balance, and every buffer is home: nothing held by NFs, nothing with drivers."""
    assert imbalances(stats) == []
    for pool in stats["pools"]:
        assert (pool["free"], pool["held"], pool["in_pmd"]) == (pool["buffers"], 0, 0), pool


def await_that(condition: Callable[[], object], what: str, within_s: float = 20.0) -> None:
    """Waits for a state; fails when it has not come in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"after {within_s:.0f} s still not: {what}"
        time.sleep(0.01)
