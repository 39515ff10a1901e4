"""`mvmp policy …`: rules and configurations, asked without a platform."""

from __future__ import annotations

from typing import Any

from mvmp.commands import policy_explain, policy_test
from mvmp.commands.parser import Parser


def configure(commands: Any) -> None:
    """Adds the group and its commands."""
    parser = commands.add_parser(
        "policy", help="ask rules and policies", description="Asks rules and policies, without a platform."
    )
    group = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    policy_explain.configure(group)
    policy_test.configure(group)
