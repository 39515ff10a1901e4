"""An NF that only looks: it shares each packet with others, and nothing that happens to them concerns it."""

from __future__ import annotations

import mvmp


def run() -> dict[str, int]:
    """Counts packets and bytes until the stream ends."""
    packets = octets = 0
    with mvmp.Nf("watcher", wait=5.0) as nf:
        bridge = nf.open("bridge0", tx=False)
        for burst in bridge.bursts(256):
            packets += len(burst)
            octets += int(burst.length.sum())
    return {"packets": packets, "bytes": octets}


if __name__ == "__main__":
    print(run())
