"""In CI nothing is skipped: a test that skips there, for want of Docker, root or a program, has failed.

Only the collection of captures (`MVMP_CAPTURES`) may be absent.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest
from capture_files import NO_CAPTURES

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def judged(report: Report) -> Report:
    """The report; a skip is a failure where `CI` is `true`."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return report
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if NO_CAPTURES not in reason:
        report.outcome = "failed"
        report.longrepr = f"nothing is skipped in CI (CI=true): {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judges each test."""
    return judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judges each file: one may skip as a whole."""
    return judged((yield))
