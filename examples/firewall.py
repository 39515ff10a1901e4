"""Lets everything but Telnet pass.

mvmp run examples/firewall.py --pcap in.pcap -w out.pcap
"""

import mvmp

telnet = mvmp.Policy("tcp port 23")
passed = dropped = 0

with mvmp.Nf("firewall", wait=5.0) as nf:
    bridge = nf.open("bridge0")
    for burst in bridge.bursts(256):
        bad = burst.match(telnet)  # a mask, computed in Rust
        passed += bridge.tx_burst(burst, ~bad)
        dropped += int(bad.sum())  # what is not sent is released with the burst

print(f"{passed:,} packets passed, {dropped:,} dropped")
