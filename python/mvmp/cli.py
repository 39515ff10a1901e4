"""The command line `mvmp`: one parser, one folder of commands, one place that turns errors into exit codes.

Called by the console script and by `python -m mvmp.cli`. What holds here:

* Exit codes: 0 done, 1 it did not work, 2 the command line is wrong (130 after Ctrl-C, as shells expect).
* An error that the user can mend is one line on stderr, `mvmp: error: …`; only our own bugs have a traceback.
* A command imports what it needs when it runs: `mvmp --help` loads neither numpy nor DPDK's EAL.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from mvmp.commands.output import CommandError
from mvmp.commands.parser import Parser

COMMANDS = ("demo", "up", "down", "apply", "check", "schema", "status", "policy", "trace", "run", "doctor")

DESCRIPTION = """\
Many network functions, each a process of its own, share the same packets at line rate and cannot hurt
each other. Start with `mvmp demo`; `mvmp doctor` says what this machine offers."""


class ShowVersion(argparse.Action):
    """`--version`, looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Prints name and version, and ends."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"mvmp {version('mvmp')}")
        except PackageNotFoundError:
            print("mvmp (not installed)")
        raise SystemExit(0)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands; each command adds its own options."""
    parser = Parser(
        prog="mvmp", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for name in COMMANDS:
        importlib.import_module(f"mvmp.commands.{name}").configure(commands)
    return parser


def is_expected(error: Exception) -> bool:
    """Whether `error` is the user's to mend rather than our bug."""
    if isinstance(error, OSError | ImportError):  # TimeoutError is an OSError
        return True
    base = getattr(sys.modules.get("mvmp"), "Error", None)
    return isinstance(base, type) and isinstance(error, base)


def one_line(error: Exception) -> str:
    """The error's text without line breaks; its type where it has no text."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    args = build_parser().parse_args(arguments)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except CommandError as error:
        print(f"mvmp: error: {one_line(error)}", file=sys.stderr)
        return error.code
    except BrokenPipeError:  # `mvmp status | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not is_expected(error):
            raise
        print(f"mvmp: error: {one_line(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
