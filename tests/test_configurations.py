"""The configurations of `policies/`: each is sound, and each runs on captures, with all its NFs."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp
from mvmp import _mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

ROOT = Path(__file__).parent.parent
TRAFFIC = Path(str(files("mvmp") / "data" / "traffic.pcapng"))
FILES = sorted((ROOT / "policies").glob("*.toml"))
named = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def captures(config: dict[str, Any], folder: Path) -> dict[str, str]:
    """A capture in the place of each port: played where something is received, and written."""
    received = {port for device in config["devices"].values() for port in device.get("receive", {})}
    return {
        port: f"{TRAFFIC},out={folder / port}.pcap" if port in received else f"out={folder / port}.pcap"
        for port in config["ports"]
    }


@named
def test_it_is_sound_and_shown_as_a_table(file: Path) -> None:
    command = [sys.executable, "-m", "mvmp.cli", "check", str(file)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    table = subprocess.run([*command, "--policies"], capture_output=True, text=True, check=True).stdout
    config = _mvmp.read_config(file)
    for name in [*config["ports"], *config["devices"], *config["nfs"]]:
        assert name in table


@named
def test_it_says_what_it_is_for_and_how_to_try_it(file: Path) -> None:
    head = file.read_text().split("\n[")[0]
    assert head.startswith("# ") and f"policies/{file.name}" in head


def bystander(role: str, nf: dict[str, Any], config: dict[str, Any], folder: str) -> None:
    """An NF of this role that hands on what it gets: to the next NF if it may, else out, else back."""
    with mvmp.Nf(role, socket=folder) as instance:
        handles = {right.split(":")[0]: instance.open(right.split(":")[0]) for right in nf["devices"]}
        sends = [right.split(":")[0] for right in nf["devices"] if not right.endswith(":rx")]
        rootless = {name for name, device in config["devices"].items() if device["mode"] == "rootless"}
        for burst in instance.bursts(64):
            others = [name for name in sends if handles[name] is not burst.handle]
            ways = sorted(others, key=lambda name: name not in rootless) or sends
            if ways:
                handles[ways[0]].tx_burst(burst)


@named
def test_it_runs_on_captures_until_every_packet_is_home(file: Path, tmp_path: Path) -> None:
    config = _mvmp.read_config(file)
    ports = captures(config, tmp_path)
    platform = mvmp.Platform(file, socket=str(tmp_path / "mvmp.sock"), ports=ports)
    roles = [(role, nf) for role, nf in config["nfs"].items() for _ in range(nf["instances"])]
    with ThreadPoolExecutor(len(roles)) as threads, platform:
        nfs = [threads.submit(bystander, role, nf, config, str(tmp_path)) for role, nf in roles]
        for nf in nfs:
            nf.result(timeout=60)
        platform.wait_drained(timeout=20)
        stats = platform.stats()
    for name, what in ports.items():
        port = stats["ports"][name]
        assert port["received"] == port["dispatched"] + sum(port["drops"].values())
        assert (port["received"] > 0) == what.startswith(str(TRAFFIC))
