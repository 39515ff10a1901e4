"""Line 4, *speed*: a Python NF that computes a column and forwards, on a port that invents 64-byte frames."""

from __future__ import annotations

from typing import Any

from mvmp.demo.processes import cpus_beside_workers
from mvmp.demo.stage import Outcome, Stage

LINE_RATE_MPPS = 14.88  # 10 Gb/s Ethernet, 64-byte frames

CONFIGURATION: dict[str, Any] = {
    "ports": {"NIC1": {"devargs": "net_null0,size=64"}},
    "devices": {"nic0": {"mode": "direct", "ports": ["NIC1"]}},
    "nfs": {"reflector": {"devices": ["nic0"]}},
}


def play(stage: Stage) -> Outcome:
    """Measures for some three seconds; a figure without a verdict: it depends on the machine and its load."""
    with stage.platform("speed", CONFIGURATION) as platform:
        cpus = cpus_beside_workers(platform.stats())
        result = stage.nursery.result(stage.nursery.start("reflector", platform.socket, cpus), 15.0)
        platform.remove_port("NIC1")
    mpps = result["packets"] / result["seconds"] / 1e6
    text = (
        f"one Python NF, a column and forward: {mpps:.2f} Mpps of 64 B from net_null, no NIC "
        f"(10 Gb/s line rate: {LINE_RATE_MPPS})"
    )
    return Outcome("speed", text, None, {"mpps": mpps, **result})
