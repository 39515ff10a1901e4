"""The Python face is typed: mypy's strict mode passes, and the stubs say what the module is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_mypy_is_content_with_the_package() -> None:
    done = run("mypy", "--strict", "python")
    assert done.returncode == 0, done.stdout


def test_the_stubs_describe_the_compiled_module() -> None:
    done = run("mypy.stubtest", "mvmp._mvmp", "--allowlist", "tests/stubtest_allowlist.txt")
    assert done.returncode == 0, done.stdout
