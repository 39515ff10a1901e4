"""The demonstration's side of the nursery: starts NFs, waits for their results, kills them."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

START_S = 20.0
KINDS_OF_END = ("done", "failed")


class Nursery:
    """A process that forks NFs; a context manager that ends it and whatever it started."""

    def __init__(self) -> None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # no threads before the forks
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mvmp.demo.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests = self._process.stdin
        self._stdout = self._process.stdout
        self._replies = self._stdout.fileno()
        self._rest = b""
        self._events: list[dict[str, Any]] = []
        self.living: dict[int, str] = {}
        self.user: str = self._await({"event": ("ready",)}, START_S)["user"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()
        self._requests.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()

    def start(self, role: str, socket: str, cpus: list[int]) -> int:
        """Starts an NF; returns its process id."""
        request = {"role": role, "socket": role_socket(socket, role), "cpus": cpus}
        self._requests.write(json.dumps(request).encode() + b"\n")
        self._requests.flush()
        pid: int = self._await({"event": ("started",)}, 5.0)["pid"]
        self.living[pid] = role
        return pid

    def result(self, pid: int, timeout: float) -> dict[str, Any]:
        """What the NF returned.

        Raises:
            RuntimeError: The NF failed.
            TimeoutError: It has not ended.
        """
        event = self._await({"event": KINDS_OF_END, "pid": (pid,)}, timeout)
        role = self.living.pop(pid)
        if event["event"] == "failed":
            raise RuntimeError(f"{role}: {event['error']}")
        result: dict[str, Any] = event["result"]
        return result

    def failure(self) -> str | None:
        """What an NF that failed meanwhile said, if one did."""
        self._read(0.0)
        failed = [event for event in self._events if event["event"] == "failed"]
        return f"{failed[0]['role']}: {failed[0]['error']}" if failed else None

    def end(self, pid: int) -> None:
        """Asks an NF to end in order."""
        os.kill(pid, signal.SIGTERM)

    def kill(self, pid: int) -> None:
        """Ends an NF at whatever instruction it is."""
        os.kill(pid, signal.SIGKILL)
        self.living.pop(pid, None)

    def clear(self) -> None:
        """Kills what still lives, and forgets what was said."""
        self._read(0.0)
        ended = {event.get("pid") for event in self._events if event["event"] in KINDS_OF_END}
        for pid in [pid for pid in self.living if pid not in ended]:
            self.kill(pid)
        self.living.clear()
        self._events.clear()

    def _await(self, wanted: dict[str, tuple[Any, ...]], timeout: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while True:
            for event in self._events:
                if all(event.get(key) in values for key, values in wanted.items()):
                    self._events.remove(event)
                    return event
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"no NF process said {' or '.join(wanted['event'])} within {timeout:.0f} s"
                )
            self._read(left)

    def _read(self, timeout: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            if not selector.select(timeout):
                return
        chunk = os.read(self._replies, 65536)
        if not chunk:
            if timeout > 0:
                raise RuntimeError("the process that starts the NFs has ended")
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._events += [json.loads(line) for line in lines]


def role_socket(socket: str, role: str) -> str:
    """The role's own socket beside the shared one, where there is one."""
    own = os.path.join(os.path.dirname(socket), "nf", role, "mvmp.sock")
    return own if os.path.exists(own) else socket


def cpus_beside_workers(stats: dict[str, Any]) -> list[int]:
    """The CPUs left for NFs; all, if workers have them all."""
    allowed = os.sched_getaffinity(0)
    return sorted(allowed - {worker["cpu"] for worker in stats["workers"]} or allowed)
