"""A skip in CI is a failure, but for the one thing that may be absent."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from capture_files import NO_CAPTURES

HERE = Path(__file__).parent
FILES = {
    "test_mark.py": "import pytest\n@pytest.mark.skipif(True, reason='no root')\ndef test_a(): pass\n",
    "test_call.py": "import pytest\ndef test_a(): pytest.skip('no tool')\n",
    "test_module.py": "import pytest\npytest.skip('no Docker', allow_module_level=True)\n",
    "test_import.py": "import pytest\npytest.importorskip('no_such_module')\n",
}
ALLOWED = f"import pytest\n@pytest.mark.skipif(True, reason={NO_CAPTURES!r})\ndef test_a(): pass\n"
EXPECTED = "import pytest\n@pytest.mark.xfail\ndef test_a(): assert False\n"


def outcome(folder: Path, ci: str, text: str) -> int:
    """The exit code of these tests, run under the rules of this folder's own."""
    for name in ("conftest.py", "capture_files.py"):
        shutil.copy(HERE / name, folder)
    (folder / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    environment = {**os.environ, "CI": ci}
    done = subprocess.run([*command, "test_it.py"], cwd=folder, env=environment, capture_output=True)
    return done.returncode


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_a_skip_fails_in_ci_and_only_there(tmp_path: Path, text: str) -> None:
    assert outcome(tmp_path, "true", text) in {pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED}
    assert outcome(tmp_path, "", text) in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}


@pytest.mark.parametrize("text", [ALLOWED, EXPECTED], ids=["no-captures", "expected-failure"])
def test_what_may_be_absent_may_be_absent_in_ci(tmp_path: Path, text: str) -> None:
    assert outcome(tmp_path, "true", text) == pytest.ExitCode.OK
