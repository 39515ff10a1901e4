"""`mvmp up FILE`: runs a platform in this process, in the foreground or detached.

Ctrl-C, SIGTERM and `mvmp down` stop it in order; a second signal ends it at once. A detached platform is
the same command in a session of its own, which says over a pipe that it is ready.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from mvmp.commands.output import CommandError, add_output_option, drops_text, print_json
from mvmp.commands.platform_socket import add_socket_option, socket_of

if TYPE_CHECKING:
    from mvmp import Platform

WAIT_S = 0.2  # how soon a signal is obeyed while the main thread waits in the extension


def configure(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "up",
        help="run a platform",
        description="Runs the platform that FILE describes until Ctrl-C, SIGTERM or `mvmp down`.",
    )
    parser.add_argument("file", metavar="FILE", help="the configuration (TOML)")
    parser.add_argument(
        "-d",
        "--detach",
        action="store_true",
        help="run in the background; returns when it is ready",
    )
    add_socket_option(parser)
    add_port_option(parser)
    parser.add_argument(
        "--until-drained",
        action="store_true",
        help="stop when all captures have been played and every packet is home",
    )
    parser.add_argument(
        "--harden",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep processes of the same user from reading and writing this one's memory (default: on)",
    )
    add_output_option(parser)
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def add_port_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--port NAME=FILE`."""
    parser.add_argument(
        "--port",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="put a capture file (or devargs, or an interface) in the place of a port; may be repeated",
    )


def replaced_ports(arguments: list[str]) -> dict[str, str] | None:
    """`--port` arguments as a dictionary; `None` without any.

    Raises:
        CommandError: An argument is not NAME=FILE.
    """
    ports: dict[str, str] = {}
    for argument in arguments:
        name, sign, spec = argument.partition("=")
        if not (name and sign and spec):
            raise CommandError(f"--port {argument}: expected NAME=FILE, for example --port NIC1=in.pcap", 2)
        ports[name] = spec
    return ports or None


class StopSignals:
    """SIGINT and SIGTERM as a flag, while this lives; the second one has its default effect."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, disposition in self._before.items():
            signal.signal(number, disposition)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        signal.signal(number, signal.SIG_DFL)


def run(args: argparse.Namespace) -> int:
    """Starts the platform, says where it is, and waits for its end."""
    ports = replaced_ports(args.port)
    if args.detach:
        return detach(args)
    import mvmp
    from mvmp import _mvmp

    _mvmp.log_to_stderr()
    # The signals first: what is told to stop while it starts gives interfaces back all the same.
    with (
        StopSignals() as signals,
        mvmp.Platform(args.file, socket=socket_of(args), harden=args.harden, ports=ports) as platform,
    ):
        announce(platform, args)
        code = wait(platform, signals, until_drained=args.until_drained)
        stats: dict[str, Any] | None = platform.stats()
    if args.until_drained and stats and print_faults(stats):
        code = 1
    if args.output == "json":
        print_json({"event": "stopped", "stats": stats}, lines=True)
    else:
        # After `mvmp down` the platform has gone with its counters.
        print(summary(stats) if stats else "stopped by `mvmp down`", flush=True)
    return code


def announce(platform: Platform, args: argparse.Namespace) -> None:
    """Who and where, then `ready`; over `--ready-fd` too, for the process that waits there."""
    facts = platform.facts()
    stats = platform.stats()
    ready: dict[str, Any] = {
        "event": "ready",
        "pid": os.getpid(),
        "socket": platform.socket,
        "ports": sorted(stats["ports"]),
        "devices": sorted(stats["devices"]),
        "facts": facts,
    }
    if args.output == "json":
        print_json(ready, lines=True)
    else:
        print(facts["line"])
        named = (
            f"ports {', '.join(ready['ports']) or 'none'}; devices {', '.join(ready['devices']) or 'none'}"
        )
        print(f"ready: socket {platform.socket}; {named}", flush=True)
    if args.ready_fd is not None:
        with os.fdopen(args.ready_fd, "w") as pipe:
            pipe.write(json.dumps(ready))


def wait(platform: Platform, signals: StopSignals, *, until_drained: bool) -> int:
    """Waits for a signal, `mvmp down`, or (if asked) the end of all captures; returns the exit code."""
    undrained = "no packet has been played"
    while signals.received is None:
        if not until_drained:
            if platform.wait(WAIT_S):
                return 0
            continue
        try:
            platform.wait_drained(WAIT_S)
            return 0
        except TimeoutError as error:
            undrained = " ".join(str(error).split())
        if platform.wait(0):
            break
    if until_drained:
        print(f"mvmp: stopped before all was drained: {undrained}", file=sys.stderr)
        return 1
    return 0


def print_faults(stats: dict[str, Any]) -> bool:
    """Says on stderr which captures could not be read to their end, or written; whether there were any."""
    faults = [f"{name}: {fault}" for name, port in stats["ports"].items() for fault in port["faults"]]
    for fault in faults:
        print(f"mvmp: error: {fault}", file=sys.stderr)
    return bool(faults)


def summary(stats: dict[str, Any]) -> str:
    """What went through, in one line: `stopped after 3.2 s: received 10, transmitted 8; drops: none`."""
    ports = stats["ports"].values()
    received = sum(port["received"] for port in ports)
    transmitted = sum(port["tx"]["transmitted"] for port in ports)
    drops: dict[str, int] = {}
    for row in [
        *ports,
        *(port["tx"] for port in ports),
        *stats["handles"],
        *stats.get("closed_handles", []),
    ]:
        for reason, count in row["drops"].items():
            drops[reason] = drops.get(reason, 0) + count
    named = drops_text(drops)
    seconds = stats["platform"]["uptime_s"]
    return (
        f"stopped after {seconds:.1f} s: received {received:,}, transmitted {transmitted:,}"
        f"; drops: {named or 'none'}"
    )


def detached_command(args: argparse.Namespace, socket: str, ready_fd: int) -> list[str]:
    """The command line of the process in the background."""
    command = [
        sys.executable,
        "-m",
        "mvmp.cli",
        "up",
        args.file,
        "--socket",
        socket,
        "--ready-fd",
        str(ready_fd),
    ]
    for port in args.port:
        command += ["--port", port]
    if args.until_drained:
        command.append("--until-drained")
    return [*command, "--harden" if args.harden else "--no-harden"]


def detach(args: argparse.Namespace) -> int:
    """Starts the platform in a session of its own and returns when it is ready."""
    socket = os.path.abspath(socket_of(args))
    log = Path(f"{socket}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    read_fd, write_fd = os.pipe()
    with open(log, "wb") as output:
        child = subprocess.Popen(
            detached_command(args, socket, write_fd),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[write_fd],
            start_new_session=True,
        )
    os.close(write_fd)
    with os.fdopen(read_fd) as pipe:
        line = pipe.read()  # until it is ready, or gone
    if not line:
        code = child.wait()
        raise CommandError(f"{last_line(log)} (exit code {code}; log: {log})")
    child.returncode = 0  # it is meant to outlive us: no warning from Popen's destructor
    ready = json.loads(line)
    if args.output == "json":
        print_json({**ready, "log": str(log)})
    else:
        print(f"ready: pid {ready['pid']}, socket {ready['socket']}, log {log}; stop it with `mvmp down`")
    return 0


def last_line(log: Path) -> str:
    """The last line that a process left in its log, without our own prefix."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("mvmp: error: ") if lines else "the platform ended without a word"
