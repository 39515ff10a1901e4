"""`mvmp down`: asks a platform to stop, and waits until it has."""

from __future__ import annotations

import argparse
import time
from typing import Any

from mvmp.commands.output import CommandError, add_output_option, print_json
from mvmp.commands.platform_socket import add_socket_option, ask, socket_of

PING_INTERVAL_S = 0.05


def configure(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "down",
        help="stop a platform",
        description="Stops the platform in order and waits until it is gone.",
    )
    add_socket_option(parser)
    parser.add_argument(
        "--timeout", type=float, default=15.0, metavar="S", help="how long to wait (default: 15 s)"
    )
    add_output_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Sends the request, then waits for the socket to fall silent."""
    socket = socket_of(args)
    ask(socket, {"type": "stop"})
    deadline = time.monotonic() + args.timeout
    while answers(socket):
        if time.monotonic() > deadline:
            raise CommandError(
                f"the platform at {socket} was told to stop, but still answers after {args.timeout} s"
            )
        time.sleep(PING_INTERVAL_S)
    if args.output == "json":
        print_json({"event": "stopped", "socket": socket})
    else:
        print(f"stopped: {socket}")
    return 0


def answers(socket: str) -> bool:
    """Whether a platform still listens there."""
    try:
        ask(socket, {"type": "ping"})
    except CommandError:
        return False
    return True
