"""Which crate may depend on which: the edges that docs/architecture.md draws, kept."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def edges() -> dict[str, set[str]]:
    """Each workspace crate's ordinary dependencies on others, development ones left out."""
    command = ["cargo", "metadata", "--format-version", "1", "--offline"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    metadata: dict[str, Any] = json.loads(done.stdout)
    names = {package["id"]: package["name"] for package in metadata["packages"]}

    def ordinary(node: dict[str, Any]) -> set[str]:
        kinds = ((dep["pkg"], [kind["kind"] for kind in dep["dep_kinds"]]) for dep in node["deps"])
        return {names[package] for package, of in kinds if None in of}

    return {names[node["id"]]: ordinary(node) for node in metadata["resolve"]["nodes"]}


def reached(edges: dict[str, set[str]], crate: str) -> set[str]:
    """Everything that a crate links."""
    seen: set[str] = set()
    waiting = [crate]
    while waiting:
        new = edges.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


def test_only_the_core_reaches_dpdk(edges: dict[str, set[str]]) -> None:
    assert "dpdk-sys" in edges["mvmp-core"]
    assert {crate for crate, uses in edges.items() if "dpdk-sys" in uses} == {"mvmp-core"}


def test_an_nf_links_no_dpdk(edges: dict[str, set[str]]) -> None:
    assert not {"dpdk-sys", "mvmp-core"} & reached(edges, "mvmp-nf")


def test_policies_and_the_wire_are_pure(edges: dict[str, set[str]]) -> None:
    ours = {"dpdk-sys", "mvmp-core", "mvmp-nf", "mvmp-py", "mvmp-testkit"}
    assert not ours & reached(edges, "mvmp-policy")
    assert not (ours | {"mvmp-policy"}) & reached(edges, "mvmp-wire")


def test_nothing_that_ships_uses_the_testkit(edges: dict[str, set[str]]) -> None:
    assert "mvmp-testkit" not in reached(edges, "mvmp-py")
