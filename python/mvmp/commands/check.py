"""`mvmp check FILE`: reads a configuration as `mvmp up` would; says what is wrong or perhaps not meant."""

from __future__ import annotations

import argparse
from typing import Any

from mvmp.commands import table1
from mvmp.commands.output import add_output_option, print_json
from mvmp.commands.up import add_port_option, replaced_ports


def configure(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "check",
        help="check a configuration",
        description="Reads FILE as `mvmp up` would, but starts nothing. Exit code 1: it cannot be used.",
    )
    parser.add_argument("file", metavar="FILE", help="the configuration (TOML)")
    parser.add_argument(
        "--policies",
        action="store_true",
        help="show its policies as a table of ports and devices, instead of warnings",
    )
    add_port_option(parser)
    add_output_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints warnings and a verdict, or the policies."""
    import mvmp
    from mvmp import _mvmp

    ports = replaced_ports(args.port)
    try:
        warnings: list[str] = _mvmp.check_config(args.file, ports)
    except (mvmp.ConfigError, OSError) as error:
        if args.output != "json":
            raise
        why = error.strerror if isinstance(error, OSError) else str(error)
        print_json({"file": args.file, "ok": False, "error": why, "warnings": []})
        return 1
    if args.policies:
        table1.show(_mvmp.read_config(args.file, ports), args)
        return 0
    if args.output == "json":
        print_json({"file": args.file, "ok": True, "warnings": warnings})
        return 0
    for warning in warnings:
        print(f"warning: {warning}")
    count = (
        "no warnings" if not warnings else "1 warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
    )
    print(f"{args.file}: ok, {count}")
    return 0
