"""An NF that counts what reaches it, by protocol, and sends it out of the bridge."""

from __future__ import annotations

import numpy as np

import mvmp


def run() -> dict[str, int]:
    """Counts until the stream ends; returns packets, those sent, and packets by IP protocol (-1: not IP)."""
    protocols = np.zeros(257, dtype=np.int64)
    packets = sent = 0
    with mvmp.Nf("counter", wait=5.0) as nf:
        chain = nf.open("virt0", tx=False)
        bridge = nf.open("bridge0", rx=False)
        for burst in chain.bursts(256):
            protocols += np.bincount(burst.protocol.astype(np.int64) + 1, minlength=257)
            packets += len(burst)
            sent += bridge.tx_burst(burst)
    counts = {f"protocol {i - 1}": int(protocols[i]) for i in np.flatnonzero(protocols)}
    return {"packets": packets, "sent": sent, **counts}


if __name__ == "__main__":
    print(run())
