"""An NF that hands all but Telnet on to the next NF. Moves, no copies: the packets stay where they are."""

from __future__ import annotations

import mvmp

TELNET = 23
TCP = 6


def run() -> dict[str, int]:
    """Filters until the stream ends; returns how many packets passed and how many were dropped."""
    passed = dropped = 0
    with mvmp.Nf("firewall", wait=5.0) as nf:
        bridge = nf.open("bridge0", tx=False)
        onward = nf.open("virt0", rx=False)
        for burst in bridge.bursts(256):
            telnet = (burst.protocol == TCP) & ((burst.src_port == TELNET) | (burst.dst_port == TELNET))
            passed += onward.tx_burst(burst, ~telnet)
            dropped += int(telnet.sum())  # what is not sent is released with the burst
    return {"passed": passed, "dropped": dropped}


if __name__ == "__main__":
    print(run())
