"""`mvmp demo`: shows in half a minute, on this machine, what the platform promises."""

from __future__ import annotations

import argparse
from typing import Any

from mvmp.commands.output import add_output_option


def configure(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "demo",
        help="see in half a minute what it does",
        description="Plays recorded traffic through Python NFs in processes of their own, lets one attack "
        "the packet memory, kills another under load, and balances the books. Needs no NIC, no root, no "
        "huge pages.",
    )
    add_output_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the demonstration; exit code 1 if a promise was broken."""
    from mvmp.demo.show import show

    return show(as_json=args.output == "json")
