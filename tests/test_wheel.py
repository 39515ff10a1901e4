"""The wheel is self-contained: it runs in a bare Debian root as nobody, without DPDK or huge pages."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(1800)  # it builds a release
@pytest.mark.skipif(os.geteuid() != 0, reason="a bare root file system takes root to make")
def test_the_wheel_runs_in_a_bare_root_as_nobody() -> None:
    command = ["make", "--no-print-directory", "bare-root"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    said = done.stdout + done.stderr
    if "Failed to mount" in said or "unshare: unshare failed" in said:
        pytest.skip("no mount namespaces on this machine")
    assert done.returncode == 0, said[-4000:]
    assert "4 of 4 ok" in done.stdout, said[-4000:]
    assert "the wheel runs in a bare root as nobody" in done.stdout
