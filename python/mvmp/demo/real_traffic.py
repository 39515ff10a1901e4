"""Line 1, *real traffic*: a capture through firewall and counter into a file, while a watcher shares it.

What was written must be, frame by frame, what `tcpdump 'not tcp port 23'` lets through.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mvmp.demo.capture_file import digest
from mvmp.demo.processes import cpus_beside_workers
from mvmp.demo.stage import Outcome, Stage, configuration, recorded_traffic

SECONDS = 10.0


def play(stage: Stage) -> Outcome:
    """Plays the capture once."""
    expected = json.loads(recorded_traffic().with_suffix(".json").read_text())
    out = stage.folder / "out.pcapng"
    document = configuration(loop=1)
    document["ports"]["out"]["out"] = str(out)
    with stage.platform("traffic", document) as platform:
        stats = platform.stats()
        cpus = cpus_beside_workers(stats)
        pids = {
            role: stage.nursery.start(role, platform.socket, cpus)
            for role in ("watcher", "counter", "firewall")
        }
        results = {role: stage.nursery.result(pid, SECONDS) for role, pid in reversed(pids.items())}
        platform.wait_drained(SECONDS)
    return verdict(out, expected, results)


def verdict(out: Path, expected: dict[str, Any], results: dict[str, dict[str, Any]]) -> Outcome:
    """Compares the file that was written with what tcpdump lets through."""
    count, sha256 = digest(out)
    wanted = expected["not_tcp_port_23"]
    watched = results["watcher"]["packets"]
    same = (count, sha256) == (wanted["frames"], wanted["sha256"])
    ok = same and watched == expected["packets"] and results["counter"]["sent"] == count
    relation = "=" if same else f"is not {wanted['frames']:,} of"
    text = (
        f"{expected['packets']:,} frames in, {count:,} out {relation} tcpdump 'not tcp port 23' "
        f"(sha256 {sha256[:8]}); watcher saw {watched:,}, no copy"
    )
    return Outcome(
        "real traffic",
        text,
        ok,
        {"frames": count, "sha256": sha256, "expected": wanted, "nfs": results},
    )
