"""Counts packets and bytes by IP protocol.

mvmp run examples/counter.py --pcap in.pcap
"""

from collections import Counter

import mvmp

packets: Counter[int] = Counter()
octets: Counter[int] = Counter()

with mvmp.Nf("counter", wait=5.0) as nf:
    span = nf.open("span0")
    for burst in span.bursts(256):
        for protocol in set(burst.protocol.tolist()):  # a column: numpy, computed in Rust
            chosen = burst.protocol == protocol
            packets[protocol] += int(chosen.sum())
            octets[protocol] += int(burst.wire_length[chosen].sum())

for protocol, count in packets.most_common():
    name = f"IP protocol {protocol}" if protocol >= 0 else "not IP"
    print(f"{name:16}{count:12,} packets{octets[protocol]:16,} bytes")
