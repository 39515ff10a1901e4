"""mvmp: many network functions, one traffic.

An NF in six lines::

    import mvmp

    with mvmp.Nf("firewall") as nf:
        bridge = nf.open("bridge0")
        for burst in nf.bursts(32):
            bridge.tx_burst(burst[burst.dst_port != 23])

Importing the package initialises nothing: no DPDK, no thread, no signal handler.
"""

from mvmp import _mvmp
from mvmp._mvmp import (
    Burst,
    Bursts,
    Busy,
    Closed,
    ConfigError,
    ConnectError,
    Detached,
    Error,
    NameInUse,
    Nf,
    NfHandle,
    NotAuthorized,
    NotHeld,
    OuterPacket,
    Packet,
    PlatformLost,
    Policy,
    PolicyError,
)
from mvmp._offline import offline

__all__ = [
    "Burst",
    "Bursts",
    "Busy",
    "Closed",
    "ConfigError",
    "ConnectError",
    "Detached",
    "Error",
    "NameInUse",
    "Nf",
    "NfHandle",
    "NotAuthorized",
    "NotHeld",
    "OuterPacket",
    "Packet",
    "PlatformLost",
    "Policy",
    "PolicyError",
    "offline",
]

# The NF-only wheel has no platform in it.
if hasattr(_mvmp, "Platform"):
    from mvmp._mvmp import Platform as Platform

    __all__ += ["Platform"]
