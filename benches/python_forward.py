"""A Python NF for the benchmark: counts one column's values, forwards everything.

python_forward.py SOCKET_DIR ROLE DEVICE_IN DEVICE_OUT BURST
"""

import contextlib
import os
import sys

import mvmp
import numpy as np


def main() -> None:
    """Run until the platform ends."""
    folder, role, device_in, device_out, size = sys.argv[1:]
    os.sched_setaffinity(0, {1})
    count = 0
    with mvmp.Nf(role, socket=folder, wait=10.0) as nf:
        handle = nf.open(device_in)
        out = handle if device_out == device_in else nf.open(device_out)
        print("ready", flush=True)
        for burst in handle.bursts(int(size)):
            count += int(np.count_nonzero(burst.ether_type == 0x0800))
            out.tx_burst(burst)


if __name__ == "__main__":
    with contextlib.suppress(mvmp.PlatformLost):
        main()
