"""The command line as its users run it: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

MVMP = (sys.executable, "-m", "mvmp.cli")


def call(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command line to its end."""
    return subprocess.run([*MVMP, *arguments], capture_output=True, text=True, timeout=60, **options)


def error_line(finished: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one line that an error is: no traceback, no log."""
    assert finished.returncode == code, finished
    lines = finished.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("mvmp: error: "), finished.stderr
    return lines[0].removeprefix("mvmp: error: ")
