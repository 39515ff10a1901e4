"""Line 2, *read-only*: an NF that speaks the protocol without our library attacks packet memory."""

from __future__ import annotations

from typing import Any

from mvmp.demo.nfs.intruder import ALLOWED
from mvmp.demo.processes import cpus_beside_workers
from mvmp.demo.stage import Outcome, Stage

CONFIGURATION: dict[str, Any] = {
    "platform": {"buffers": 4096},
    "devices": {"virt0": {"mode": "rootless"}},
    "nfs": {"intruder": {"devices": ["virt0"]}},
}


def play(stage: Stage) -> Outcome:
    """Lets the intruder try everything."""
    with stage.platform("read-only", CONFIGURATION) as platform:
        cpus = cpus_beside_workers(platform.stats())
        result = stage.nursery.result(stage.nursery.start("intruder", platform.socket, cpus), 5.0)
    return verdict(result, stage.nursery.user)


def verdict(result: dict[str, Any], user: str) -> Outcome:
    """All refused, and nothing changed."""
    memory = result["attempts"]["memory"]
    answers = [answer for region in result["attempts"].values() for answer in region.values()]
    ok = bool(answers) and ALLOWED not in answers and result["unchanged"]
    named = ", ".join(f"{attempt} {answer}" for attempt, answer in memory.items())
    text = f"an NF ({user}) on packet memory: {named}" + (
        "" if result["unchanged"] else "; the memory has CHANGED"
    )
    return Outcome("read-only", text, ok, result)
