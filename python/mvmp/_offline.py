"""``mvmp.offline``: a capture file through a loop over bursts, with a platform of one's own."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvmp import _mvmp

if TYPE_CHECKING:
    from mvmp._mvmp import NfHandle

_DEVICE = "offline"
_EXPECTED = ("unmatched", "no_nf")  # drops: what `match` leaves out, what comes when nobody looks any more


@contextmanager
def offline(
    pcap: str | os.PathLike[str],
    *,
    match: str | None = None,
    decap: str | Sequence[str] | None = None,
    strip: str | Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    rate: str | float = "lossless",
    drain_timeout: float | None = 60.0,
) -> Iterator[NfHandle]:
    """Opens a capture file as a device of a private platform.

    Args:
        pcap: The capture, pcap or pcapng, not compressed.
        match: A rule; packets that do not match are not delivered. With ``decap`` or ``strip`` it is asked
            of what is inside.
        decap: Layers that are jumped over, as in a configuration: ``["vlan", "vxlan"]`` or ``"auto"``. What
            is sent goes out as it was read; ``packet.outer`` shows what was jumped over.
        strip: Layers that are removed: what is sent goes out without them.
        out: Where what is sent is written, as pcap or pcapng by its suffix.
        rate: "lossless" (no packet is dropped), "max", "recorded" or packets per second.
        drain_timeout: Seconds to wait at the end for what was sent to be written; None: for ever.

    Yields:
        The handle: ``for burst in handle.bursts(256): ...``.

    Raises:
        ConfigError: The file is not there or no capture, or layers are not known.
        PolicyError: ``match`` is wrong.
        TimeoutError: What was sent could not be written in time.
        Error: At the end: the capture is cut short or damaged, and what could be read was delivered; or what
            was sent could not be written.

    Warns:
        RuntimeWarning: At the end: packets were skipped, or not written; it names the reasons.
    """
    if not hasattr(_mvmp, "Platform"):
        raise _mvmp.ConfigError("this wheel has no platform in it; install the full mvmp package")
    if match is not None:
        # Here the error has the rule's own line and column, not the configuration's.
        _mvmp.Policy(match)
    port: dict[str, Any] = {"pcap": os.fspath(pcap), "rate": rate}
    if out is not None:
        port["out"] = os.fspath(out)
    cell: dict[str, Any] = {"match": match or "all"}
    for key, layers in (("decap", decap), ("strip", strip)):
        if layers is not None:
            cell[key] = layers if isinstance(layers, str) else list(layers)
    configuration = {
        "platform": {"open": True},
        "ports": {"file": port},
        "devices": {_DEVICE: {"mode": "direct", "ports": ["file"], "receive": {"file": cell}}},
    }
    with tempfile.TemporaryDirectory(prefix="mvmp-") as folder:
        socket = str(Path(folder) / "mvmp.sock")
        with _mvmp.Platform(configuration, socket=socket) as platform:
            with _mvmp.Nf(_DEVICE, socket=socket) as nf:
                handle = nf.open(_DEVICE)
                yield handle
                ended = handle.ended
            if ended:
                platform.wait_drained(timeout=drain_timeout)
                _look_back(os.fspath(pcap), platform.stats()["ports"]["file"])


def _look_back(pcap: str, port: dict[str, Any]) -> None:
    """Raises or warns if not all of a capture was delivered, or not all of what was sent is written."""
    if port["faults"]:
        raise _mvmp.Error("; ".join(port["faults"]))
    drops = Counter(port["drops"]) + Counter(port["tx"]["drops"])
    lost = [f"{name} {count:,}" for name, count in drops.items() if name not in _EXPECTED]
    if lost:
        # Of the caller's `with`: this function, the generator, and its context manager are ours.
        warnings.warn(f"{pcap}: drops: {', '.join(lost)}", RuntimeWarning, stacklevel=4)
