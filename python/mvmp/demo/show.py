"""Runs the parts one after the other, prints a line for each; exit code 1 if a promise was broken."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from mvmp.commands.machine import user_name
from mvmp.commands.output import CommandError, print_json
from mvmp.demo import books, crash, read_only, real_traffic, speed
from mvmp.demo.processes import Nursery
from mvmp.demo.stage import Outcome, Stage, recorded_traffic

PATH = "in ▶ bridge0 ▶ firewall ▶ virt0 ▶ counter ▶ bridge0 ▶ out; watcher shares every packet of bridge0"
PARTS: tuple[tuple[str, Callable[[Stage], Outcome]], ...] = (
    ("real traffic", real_traffic.play),
    ("read-only", read_only.play),
    ("crash", crash.play),
    ("speed", speed.play),
)


def show(*, as_json: bool) -> int:
    """Runs the demonstration."""
    if not recorded_traffic().is_file():
        raise CommandError(f"{recorded_traffic()}: the recorded traffic is not in this installation")
    started = time.monotonic()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="mvmp-demo-") as name, Nursery() as nursery:
        Path(name).chmod(0o755)
        stage = Stage(Path(name), nursery)
        for title, part in PARTS:
            outcomes.append(attempt(title, part, stage))
            if not as_json:
                if len(outcomes) == 1:
                    print(f"{who_and_where(stage)}\n{PATH}", flush=True)
                print(line(len(outcomes), outcomes[-1]), flush=True)
        outcomes.append(attempt("books", lambda stage: books.balance(stage.closing_stats), stage))
    if as_json:
        print_json(report(stage, outcomes, time.monotonic() - started))
    else:
        print(line(len(outcomes), outcomes[-1]))
        print(closing(outcomes, time.monotonic() - started))
    return 0 if all(outcome.ok is not False for outcome in outcomes) else 1


def attempt(title: str, part: Callable[[Stage], Outcome], stage: Stage) -> Outcome:
    """A part's outcome; whatever stops it is a broken promise, in one line."""
    try:
        return part(stage)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(title, reason, False, {"error": reason})


def who_and_where(stage: Stage) -> str:
    """Version, users, DPDK, pages: from the facts of the platform that just ran."""
    try:
        ours = version("mvmp")
    except PackageNotFoundError:
        ours = "(not installed)"
    facts = stage.facts
    pages = f"{facts['page_bytes'] // 1024:,} KiB pages" if "page_bytes" in facts else "no platform came up"
    huge = "huge" if facts.get("huge_pages") else "plain"
    who = f"platform as {user_name()}, NFs as {stage.nursery.user}"
    return f"mvmp {ours}: {who}; {facts.get('dpdk', 'DPDK ?')}, {huge} {pages}, no NIC"


def line(number: int, outcome: Outcome) -> str:
    """One numbered line; a figure without a verdict has none."""
    verdict = "" if outcome.ok is None else "  ok" if outcome.ok else "  FAIL"
    return f"{number} {outcome.title:13}{outcome.text}{verdict}"


def verdicts(outcomes: list[Outcome]) -> tuple[int, int]:
    """How many promises were kept, of how many."""
    judged = [outcome for outcome in outcomes if outcome.ok is not None]
    return sum(1 for outcome in judged if outcome.ok), len(PARTS)  # speed has no verdict, books has


def closing(outcomes: list[Outcome], seconds: float) -> str:
    """What to try next, then the verdict in the last line."""
    here = Path(str(files("mvmp")))
    kept, of = verdicts(outcomes)
    return "\n".join(
        (
            f"took {seconds:.0f} s; try next:",
            f"  mvmp run {here / 'demo' / 'nfs' / 'watcher.py'} --pcap {recorded_traffic()}",
            f"  mvmp check {here / 'demo' / 'demo.toml'}",
            "  mvmp doctor",
            f"{kept} of {of} ok",
        )
    )


def report(stage: Stage, outcomes: list[Outcome], seconds: float) -> dict[str, Any]:
    """The same as JSON."""
    kept, of = verdicts(outcomes)
    return {
        "who_and_where": who_and_where(stage),
        "facts": stage.facts,
        "parts": [{"title": o.title, "text": o.text, "ok": o.ok, **o.details} for o in outcomes],
        "ok": kept,
        "of": of,
        "seconds": round(seconds, 1),
    }
