"""`mvmp schema`: the JSON Schema of the configuration, for editors."""

from __future__ import annotations

import argparse
from typing import Any


def configure(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "schema",
        help="print the JSON Schema of the configuration",
        description="Prints the JSON Schema of the configuration, for editors that complete and check TOML.",
    )
    parser.add_argument(
        "-o", "--output", choices=("json",), default="json", help="form of the output (only json)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the schema."""
    from mvmp import _mvmp

    print(_mvmp.config_schema())
    return 0
