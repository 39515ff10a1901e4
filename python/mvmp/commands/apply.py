"""`mvmp apply FILE`: makes another configuration hold on a running platform, or says what would change."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mvmp.commands.output import CommandError, add_output_option, print_json
from mvmp.commands.platform_socket import Refused, add_socket_option, ask, socket_of
from mvmp.commands.up import add_port_option, replaced_ports


def configure(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "apply",
        help="make another configuration hold on a running platform",
        description="Compares FILE with what a running platform does and carries out the difference. A "
        "file that is wrong, or of which anything cannot be done, changes nothing. Exit code 1: nothing is "
        "changed.",
    )
    parser.add_argument("file", metavar="FILE", help="the configuration (TOML)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")
    add_port_option(parser)
    add_socket_option(parser)
    add_output_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Sends the file and prints what is different, a line each."""
    ports = replaced_ports(args.port) or {}
    request = {
        "type": "apply",
        "config": text_of(args.file),
        "file": args.file,
        "ports": [f"{name}={what}" for name, what in ports.items()],
        "dry_run": args.dry_run,
    }
    try:
        reply = ask(socket_of(args), request)
    except Refused as refused:
        if args.output == "json":
            print_json(refused.reply)
            return 1
        print_lines(refused.reply.get("changes", []))
        raise
    if args.output == "json":
        print_json(reply)
        return exit_code(reply)
    print_lines(reply["changes"])
    print(verdict(args.file, reply))
    return exit_code(reply)


def text_of(file: str) -> str:
    """The file's text.

    Raises:
        CommandError: It is not text.
    """
    try:
        return Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(f"{file}: not UTF-8: {error}") from None


def print_lines(lines: list[str]) -> None:
    """What is different."""
    for line in lines:
        print(line)


def refused_count(reply: dict[str, Any]) -> int:
    """How many items of a dry run could not be carried out."""
    return sum(1 for item in reply["items"] if item["refused"])


def exit_code(reply: dict[str, Any]) -> int:
    """1 for a dry run of what could not be carried out."""
    return 1 if refused_count(reply) else 0


def verdict(file: str, reply: dict[str, Any]) -> str:
    """The last line."""
    count = len(reply["items"])
    if count == 0:
        return f"{file}: nothing to change"
    changes = "1 change" if count == 1 else f"{count} changes"
    if not reply["dry_run"]:
        return f"{file}: applied, {changes}"
    refused = refused_count(reply)
    return f"{file}: {changes}" + (f", {refused} of them not while the platform runs" if refused else "")
