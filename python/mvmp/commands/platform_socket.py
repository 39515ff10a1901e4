"""Where a platform listens, and one request to its operator's socket (`PATH.ctl`)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

from mvmp.commands.output import CommandError


class Refused(CommandError):
    """The platform said no; `reply` is what it said."""

    def __init__(self, reply: dict[str, Any]) -> None:
        super().__init__(str(reply.get("message") or reply.get("error") or reply))
        self.reply = reply


def add_socket_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--socket PATH`."""
    parser.add_argument(
        "--socket",
        metavar="PATH",
        help="the platform's socket, or the folder of its mvmp.sock (default: $MVMP_SOCKET, else "
        "/run/mvmp/mvmp.sock for root and $XDG_RUNTIME_DIR/mvmp/mvmp.sock for others)",
    )


def default_socket(environment: Mapping[str, str], uid: int) -> str:
    """The path that platform and NFs agree on when nobody names one."""
    if environment.get("MVMP_SOCKET"):
        return environment["MVMP_SOCKET"]
    if uid == 0:
        return "/run/mvmp/mvmp.sock"
    if environment.get("XDG_RUNTIME_DIR"):
        return os.path.join(environment["XDG_RUNTIME_DIR"], "mvmp", "mvmp.sock")
    return f"/tmp/mvmp-{uid}/mvmp.sock"


def socket_of(args: argparse.Namespace) -> str:
    """The socket that a command speaks to: `--socket`, else the default; a folder means the socket in it."""
    path: str = args.socket or default_socket(os.environ, os.geteuid())
    return os.path.join(path, "mvmp.sock") if os.path.isdir(path) else path


def ask(socket: str, request: dict[str, Any]) -> dict[str, Any]:
    """One request and its reply.

    Raises:
        CommandError: Nobody listens there.
        Refused: The platform refused.
    """
    import mvmp
    from mvmp import _mvmp

    try:
        reply: dict[str, Any] = _mvmp.operator(socket, request)
    except (OSError, mvmp.ConnectError) as error:
        raise CommandError(
            f"no platform answers at {socket} ({error}); start one with `mvmp up FILE`, or name its --socket"
        ) from None
    if reply.get("type") == "error" or "error" in reply:
        raise Refused(reply)
    return reply
