"""Network namespaces for tests, with or without root, each held by a sleeping process and gone with it.

Without root everything lives in a user namespace of its own. Nothing outside is touched.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

HOLD = ["sleep", "900"]


class Namespace:
    """A network namespace and a way to run commands in it."""

    def __init__(self, holder: subprocess.Popen[bytes]) -> None:
        self.pid = holder.pid
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        self.prefix = ["nsenter", "--target", str(self.pid), *user, "--net", "--"]

    def run(self, *command: str, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in it to its end."""
        finished = subprocess.run([*self.prefix, *command], capture_output=True, text=True, timeout=timeout)
        if check and finished.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {finished.stdout}{finished.stderr}")
        return finished

    @contextmanager
    def started(self, *command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """Starts a command in it; kills it if it is still there at the end."""
        child = subprocess.Popen([*self.prefix, *command], text=True, **options)
        try:
            yield child
        finally:
            child.kill()
            child.communicate(timeout=20)


class Namespaces:
    """Some network namespaces; a context manager that makes and ends them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
            first = stack.enter_context(held(["unshare", *root, "--net", "--", *HOLD]))
            self.all = [Namespace(first)]
            inside = [] if os.geteuid() == 0 else [*self.all[0].prefix]
            for _ in range(1, self._count):
                self.all.append(
                    Namespace(stack.enter_context(held([*inside, "unshare", "--net", "--", *HOLD])))
                )
            for namespace in self.all:
                namespace.run("ip", "link", "set", "lo", "up")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@contextmanager
def held(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds a network namespace, once it is in it."""
    ours = os.readlink("/proc/self/ns/net")
    with subprocess.Popen(command, stderr=subprocess.PIPE) as child:
        try:
            deadline = time.monotonic() + 10
            while not is_in_another(child.pid, ours):
                if child.poll() is not None or time.monotonic() > deadline:
                    said = (
                        child.stderr.read().decode()
                        if child.poll() is not None and child.stderr
                        else "time is up"
                    )
                    raise PermissionError(f"no network namespace to be had: {said.strip()}")
                time.sleep(0.005)
            yield child
        finally:
            child.kill()


def is_in_another(pid: int, ours: str) -> bool:
    """Whether a process holds a network namespace that is not ours, and has come to rest there."""
    try:
        with open(f"/proc/{pid}/comm") as comm:
            return comm.read().strip() == HOLD[0] and os.readlink(f"/proc/{pid}/ns/net") != ours
    except OSError:
        return False


def why_not() -> str | None:
    """Why namespaces cannot be made here, or `None`."""
    try:
        with Namespaces(2):
            return None
    except (OSError, RuntimeError) as error:
        return str(error)
