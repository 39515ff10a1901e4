"""A process that forks NFs on request: it imports and drops rights once, so NFs start in milliseconds.

Started by `processes.Nursery` as `python -m mvmp.demo.nursery`. It reads one JSON object a line from stdin
(`{"role", "socket", "cpus"}`) and writes one a line to stdout; so do its children, each line in one write:
`ready` (once), `started`, `done` with the NF's result, `failed` with the error. No `Nf` exists before a fork.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pwd
import signal
import sys
import threading
from typing import Any

import numpy as np  # before the fork and before rights are dropped: NFs start at once, from any folder

import mvmp

ROLES = ("firewall", "counter", "watcher", "reflector", "intruder")
NOBODY = 65534
PR_SET_DUMPABLE = 4
IMPORTED = (np, mvmp, threading)  # what the children find loaded


def tell(**event: Any) -> None:
    """Writes one event; a line is shorter than PIPE_BUF, so lines of several processes do not mix."""
    os.write(1, json.dumps(event).encode() + b"\n")


def become_nobody() -> str:
    """Drops root's rights, if we have them; returns the user's name.

    Dumpable again: else /proc/self would belong to root, and attempts would fail for the wrong reason.
    """
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        except OSError:  # a user namespace that knows no such user
            return "root"
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def serve() -> None:
    """Forks an NF for each request, until stdin ends; then ends with all its children's parent gone."""
    modules = {role: importlib.import_module(f"mvmp.demo.nfs.{role}") for role in ROLES}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the demonstration, which ends us
    tell(event="ready", user=become_nobody())
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            live(request, modules[request["role"]])
        tell(event="started", role=request["role"], pid=pid)


def live(request: dict[str, Any], module: Any) -> None:
    """A child's life: one NF, then the end; never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ["MVMP_SOCKET"] = request["socket"]
        if request["cpus"]:
            os.sched_setaffinity(0, request["cpus"])
        tell(event="done", pid=os.getpid(), role=request["role"], result=module.run())
        code = 0
    except BaseException as error:
        message = " ".join(f"{type(error).__name__}: {error}".split())[:1000]
        tell(event="failed", pid=os.getpid(), role=request["role"], error=message)
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
