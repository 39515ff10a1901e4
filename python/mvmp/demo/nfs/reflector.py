"""An NF that looks at one column of each burst and sends all of it back: as fast as Python goes."""

from __future__ import annotations

import time

import mvmp

WARM_UP_S = 0.3
MEASURED_S = 2.7


def run() -> dict[str, float]:
    """Reflects for three seconds; returns how many packets it sent in how many measured seconds."""
    with mvmp.Nf("reflector", wait=5.0) as nf:
        nic = nf.open("nic0")
        reflect(nic, WARM_UP_S)
        started = time.perf_counter()
        packets, web = reflect(nic, MEASURED_S)
        seconds = time.perf_counter() - started
    return {"packets": packets, "web": web, "seconds": seconds}


def reflect(nic: mvmp.NfHandle, seconds: float) -> tuple[int, int]:
    """Reflects for so long; returns packets sent and packets to port 80."""
    packets = web = 0
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        burst = nic.rx_burst(256)
        if burst:
            web += int((burst.dst_port == 80).sum())
            packets += nic.tx_burst(burst)
    return packets, web


if __name__ == "__main__":
    print(run())
