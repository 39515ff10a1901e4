"""`mvmp policy explain`: what a rule says, what it costs, and what surprises people about it."""

from __future__ import annotations

import argparse
from typing import Any

from mvmp.commands.output import CommandError, add_output_option, print_json


def configure(group: Any) -> None:
    """Adds the command's parser."""
    parser = group.add_parser(
        "explain",
        help="what a rule says and costs",
        description="Prints a rule as it was understood: a tree in plain words, its cost per packet, notes.",
    )
    parser.add_argument("rule", metavar="RULE", help="the rule, in one argument or several", nargs="+")
    add_output_option(parser)
    parser.add_argument("--json", action="store_const", const="json", dest="output", help="short for -o json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the explanation."""
    from mvmp import PolicyError, _mvmp

    try:
        explained = _mvmp.explain_policy(" ".join(args.rule))
    except PolicyError as error:
        reason = str(error).splitlines()[0]
        if args.output == "json":
            place = {"line": error.line, "column": error.column, "hint": error.hint}
            print_json({"error": reason, **place})
            return 1
        hint = f" (hint: {error.hint})" if error.hint else ""
        raise CommandError(f"the rule is wrong at {reason}{hint}") from error
    text = explained.pop("text")
    if args.output == "json":
        print_json(explained)
    else:
        print(text)
    return 0
