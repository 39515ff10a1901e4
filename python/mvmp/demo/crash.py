"""Line 3, *crash*: SIGKILL the firewall under load, often; the watcher misses nothing, no buffer is lost."""

from __future__ import annotations

import random
import time
from typing import Any

import mvmp
from mvmp.demo.processes import cpus_beside_workers
from mvmp.demo.stage import Outcome, Stage, await_state, configuration

KILLS = 20
SECONDS = 5.0


def play(stage: Stage) -> Outcome:
    """Plays the capture for ever, kills, stops the source, counts."""
    document = configuration(loop=0)
    document["ports"]["out"] = {"out": "/dev/null"}  # a stream without end leaves no file
    with stage.platform("crash", document) as platform:
        return Crash(stage, platform).play()


class Crash:
    """One run of this part."""

    def __init__(self, stage: Stage, platform: mvmp.Platform) -> None:
        self.stage = stage
        self.nursery = stage.nursery
        self.platform = platform
        self.cpus = cpus_beside_workers(platform.stats())
        self.random = random.Random(23)

    def play(self) -> Outcome:
        """Twenty deaths, then the end of the stream."""
        watcher, counter = self.start("watcher"), self.start("counter")
        for _ in range(KILLS):
            self.kill_one_under_load()
        firewall = self.start("firewall")
        self.await_load("firewall")
        self.platform.remove_port("in")
        watched = self.result_of(watcher)
        for pid in (firewall, counter):
            self.result_of(pid)
        await_state(self.all_home, "all buffers to come home", self.nursery, SECONDS)
        return verdict(self.platform.stats(), watched["packets"])

    def start(self, role: str) -> int:
        """Starts an NF beside the worker."""
        return self.nursery.start(role, self.platform.socket, self.cpus)

    def await_load(self, role: str) -> None:
        """Waits until packets reach this NF."""
        await_state(
            lambda: delivered(self.platform.stats(), role) > 0,
            f"packets for {role}",
            self.nursery,
            SECONDS,
        )

    def kill_one_under_load(self) -> None:
        """A firewall is born, gets packets, and dies at an instruction that nobody chose."""
        pid = self.start("firewall")
        self.await_load("firewall")
        time.sleep(self.random.uniform(0.0, 0.02))
        before = self.platform.stats()["reclaims"]["count"]
        self.nursery.kill(pid)
        await_state(
            lambda: self.platform.stats()["reclaims"]["count"] > before,
            "the reclaim",
            self.nursery,
            SECONDS,
        )

    def result_of(self, pid: int) -> dict[str, Any]:
        """An NF's result when its stream has ended; it is asked to end if the stream does not."""
        try:
            return self.nursery.result(pid, SECONDS)
        except TimeoutError:
            self.nursery.end(pid)
            return self.nursery.result(pid, SECONDS)

    def all_home(self) -> bool:
        """Whether every buffer of every pool is free."""
        return all(pool["free"] == pool["buffers"] for pool in self.platform.stats()["pools"])


def delivered(stats: dict[str, Any], role: str) -> int:
    """Packets handed to the living instances of a role."""
    return sum(handle["delivered"] for handle in stats["handles"] if handle["nf"].split("/")[0] == role)


def verdict(stats: dict[str, Any], watched: int) -> Outcome:
    """Compares the watcher's own count with the books, and looks whether everything is home."""
    handles = [h for h in [*stats["handles"], *stats["closed_handles"]] if h["nf"].split("/")[0] == "watcher"]
    offered = sum(handle["offered"] for handle in handles)
    dropped = sum(sum(handle["drops"].values()) for handle in handles)
    # The port's own count says the same; a port that was removed may be gone from the tree.
    dispatched = stats["ports"].get("in", {}).get("dispatched", offered)
    missed = max(offered, dispatched) - watched
    free = sum(pool["free"] for pool in stats["pools"])
    buffers = sum(pool["buffers"] for pool in stats["pools"])
    reclaims = stats["reclaims"]
    ok = missed == 0 and dropped == 0 and watched > 0 and free == buffers and reclaims["count"] >= KILLS
    text = (
        f"{KILLS} SIGKILLs under load: watcher missed {missed:,} of {dispatched:,}; "
        f"buffers home {free:,} of {buffers:,}; "
        f"sweep {reclaims['last_us']:,.0f} µs, longest {reclaims['max_us']:,.0f}"
    )
    details = {
        "kills": KILLS,
        "offered": offered,
        "watched": watched,
        "free": free,
        "buffers": buffers,
    }
    return Outcome("crash", text, ok, {**details, "reclaims": reclaims})
