"""The argument parser that all commands share."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line in the one-line form of every other error."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong and where help is, and ends with exit code 2."""
        print(f"mvmp: error: {message} (see `{self.prog} --help`)", file=sys.stderr)
        raise SystemExit(2)
