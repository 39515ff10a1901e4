"""What every part of the demonstration needs: a folder, a platform in it, states awaited with a deadline."""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import mvmp
from mvmp.demo.processes import Nursery


@dataclass
class Outcome:
    """What a part found: a line of text, a verdict (`None`: a figure without one), details for JSON."""

    title: str
    text: str
    ok: bool | None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Stage:
    """Where the parts play: their files, their NFs, and the counters that each platform had at its end."""

    folder: Path
    nursery: Nursery
    closing_stats: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def platform(self, part: str, configuration: dict[str, Any]) -> Iterator[mvmp.Platform]:
        """A platform that other users may connect to; its NFs are cleared away before it goes."""
        folder = self.folder / part
        folder.mkdir()
        folder.chmod(0o755)
        with mvmp.Platform(configuration, socket=str(folder / "mvmp.sock")) as platform:
            open_sockets(folder)
            self.facts = platform.facts()
            try:
                yield platform
                self.closing_stats[part] = platform.stats()
            finally:
                self.nursery.clear()


def open_sockets(folder: Path) -> None:
    """Lets any user reach the NF sockets (not the operator's): the NFs run as nobody when root shows this."""
    for directory, _, names in os.walk(folder):
        os.chmod(directory, 0o755)
        for name in names:
            if name.endswith(".sock"):
                os.chmod(os.path.join(directory, name), 0o666)


def recorded_traffic() -> Path:
    """The capture that comes with the package."""
    return Path(str(files("mvmp") / "data" / "traffic.pcapng"))


def configuration(**capture: Any) -> dict[str, Any]:
    """demo.toml with the recorded traffic at `in`, and `capture` on top of it."""
    document = tomllib.loads((files("mvmp") / "demo" / "demo.toml").read_text(encoding="utf-8"))
    document["ports"]["in"] |= {"pcap": str(recorded_traffic()), **capture}
    return document


def await_state(reached: Callable[[], bool], what: str, nursery: Nursery, seconds: float = 5.0) -> None:
    """Waits until it is so.

    Raises:
        TimeoutError: It was not so in time.
        RuntimeError: An NF failed meanwhile.
    """
    deadline = time.monotonic() + seconds
    while not reached():
        failure = nursery.failure()
        if failure:
            raise RuntimeError(failure)
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.002)
