"""What `mvmp doctor` looks at: one function a subject, each reads /proc or /sys and returns a `Finding`.

None of them changes anything, and none raises where a file is absent: containers hide much.
"""

from __future__ import annotations

import array
import fcntl
import os
import pwd
import resource
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

F_ADD_SEALS = 1033
SEALS_OF_A_POOL = 0x17  # F_SEAL_SEAL | SHRINK | GROW | FUTURE_WRITE
SIOCETHTOOL = 0x8946
MERGING_OFFLOADS = {"gro": 0x2B, "tso": 0x1E, "gso": 0x23}  # ETHTOOL_GGRO, _GTSO, _GGSO
CAPABILITIES = {"NET_ADMIN": 12, "NET_RAW": 13, "IPC_LOCK": 14, "SYS_ADMIN": 21}
DPDK_DRIVERS = ("vfio-pci", "uio_pci_generic", "igb_uio")
NIC_CLASS = "0x02"  # PCI class of network controllers


@dataclass(frozen=True)
class Finding:
    """One line of the report; `missing` means that the platform cannot run."""

    subject: str
    state: Literal["ok", "note", "missing"]
    found: str
    mend: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """For JSON."""
        return asdict(self)


def text_of(path: str | Path, default: str = "") -> str:
    """The file's text without surrounding space; `default` where it cannot be read."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return default


def probe_seals() -> str | None:
    """Tries the seal that packet memory needs; `None` if the kernel has it, else what it said."""
    fd = os.memfd_create("mvmp-probe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, 4096)
        fcntl.fcntl(fd, F_ADD_SEALS, SEALS_OF_A_POOL)
    except OSError as error:
        return error.strerror
    finally:
        os.close(fd)
    return None


def seals(known: object) -> Finding:
    """Whether the kernel makes memory read-only for good; `known`: what the extension says, if it says so."""
    refusal = probe_seals() if known is None else None if known is True else str(known)
    kernel = f"Linux {os.uname().release}"
    if refusal is None:
        return Finding("seals", "ok", f"{kernel} keeps packet memory read-only for NFs (F_SEAL_FUTURE_WRITE)")
    return Finding(
        "seals",
        "missing",
        f"{kernel}: F_SEAL_FUTURE_WRITE: {refusal}",
        "boot a kernel of 5.14 or later",
    )


def huge_pages() -> Finding:
    """Huge pages, free and in all. Without them the platform runs, more slowly."""
    found = []
    free_in_all = 0
    for folder in sorted(Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB")):
        kib = int(folder.name.removeprefix("hugepages-").removesuffix("kB"))
        total, free = (
            int(text_of(folder / "nr_hugepages", "0")),
            int(text_of(folder / "free_hugepages", "0")),
        )
        free_in_all += free * kib
        if total:
            found.append(f"{free} of {total} pages of {kib // 1024} MiB free")
    if free_in_all >= 64 * 1024:
        return Finding("huge pages", "ok", ", ".join(found))
    what = ", ".join(found) or "none"
    return Finding(
        "huge pages",
        "note",
        f"{what}; plain pages are used, which is somewhat slower",
        "sysctl -w vm.nr_hugepages=256",
    )


def cpus() -> Finding:
    """The CPUs that workers may be pinned to."""
    allowed = sorted(os.sched_getaffinity(0))
    isolated = text_of("/sys/devices/system/cpu/isolated")
    what = f"{len(allowed)} allowed ({ranges(allowed)}); isolated: {isolated or 'none'}"
    if len(allowed) == 1:
        return Finding(
            "CPUs",
            "note",
            f"{what}; the worker and its NFs share one",
            "allow a second CPU: taskset, --cpus=2",
        )
    return Finding(
        "CPUs",
        "ok",
        f"{what}; a worker takes {allowed[-1]} unless the configuration says otherwise",
    )


def ranges(numbers: list[int]) -> str:
    """`[0, 1, 2, 5]` as `0-2,5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def effective_capabilities(status: str) -> set[str]:
    """Those of `CAPABILITIES` that a /proc/PID/status text grants."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            bits = int(line.split()[1], 16)
            return {name for name, bit in CAPABILITIES.items() if bits >> bit & 1}
    return set()


def user_name() -> str:
    """The user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def rights() -> Finding:
    """Captures, null ports and NFs need no right at all; kernel interfaces do."""
    held = effective_capabilities(text_of("/proc/self/status"))
    needed = {"NET_ADMIN", "NET_RAW"}
    if needed <= held:
        return Finding("rights", "ok", f"{user_name()} may open kernel interfaces (NET_ADMIN, NET_RAW)")
    lacking = " and ".join(f"CAP_{name}" for name in sorted(needed - held))
    return Finding(
        "rights",
        "note",
        f"{user_name()} lacks {lacking}: captures and NFs work, kernel interfaces do not",
        "run `mvmp up` as root, or in a namespace of your own: unshare -Urn",
    )


def locked_memory() -> Finding:
    """The limit that af_xdp and VFIO meet first."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if (
        soft == resource.RLIM_INFINITY
        or soft >= 64 << 20
        or "IPC_LOCK" in effective_capabilities(text_of("/proc/self/status"))
    ):
        limit = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft >> 20} MiB"
        return Finding("locked memory", "ok", limit)
    return Finding(
        "locked memory",
        "note",
        f"{soft >> 10} KiB; af_xdp and physical NICs may need more",
        "ulimit -l unlimited",
    )


def nics() -> Finding:
    """Physical NICs, and which of them DPDK could take without cutting this machine off."""
    tested = "no physical NIC was used in any test of this release"
    found, spare = [], []
    for device in sorted(Path("/sys/bus/pci/devices").glob("*")):
        if not text_of(device / "class").startswith(NIC_CLASS):
            continue
        driver = (device / "driver").resolve().name if (device / "driver").exists() else "none"
        found.append(f"{device.name} ({driver})")
        if driver not in DPDK_DRIVERS and not any(is_up(path) for path in device.glob("**/net/*")):
            spare.append(device.name)
    if not found:
        return Finding("NICs", "note", f"no physical NIC here; {tested}")
    bind = f"modprobe vfio-pci && dpdk-devbind.py -b vfio-pci {spare[0]}" if spare else None
    return Finding("NICs", "note", f"{', '.join(found)}; {tested}", bind)


def is_up(interface: Path) -> bool:
    """Whether a network interface is in use."""
    return text_of(interface / "operstate") not in ("", "down")


def offload_reader(control: socket.socket) -> Callable[[str, int], bool]:
    """A function (interface, ETHTOOL_G… command) → is it on, by the ioctl that ethtool uses."""

    def is_on(interface: str, command: int) -> bool:
        value = array.array("I", [command, 0])
        request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
        try:
            fcntl.ioctl(control, SIOCETHTOOL, request)
        except OSError:
            return False
        return bool(value[1])

    return is_on


def offloads() -> list[Finding]:
    """Interfaces whose offloads merge frames: NFs would see packets that no cable carried."""
    merging = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        is_on = offload_reader(control)
        for _, interface in socket.if_nameindex():
            on = [name for name, command in MERGING_OFFLOADS.items() if is_on(interface, command)]
            if on and interface != "lo" and is_up(Path("/sys/class/net") / interface):
                merging[interface] = on
    if not merging:
        return [Finding("offloads", "ok", "no interface merges frames")]
    return [
        Finding(
            "offloads",
            "note",
            f"{interface} merges frames ({', '.join(on)}); turn it off before you make it a port",
            f"ethtool -K {interface} " + " ".join(f"{name} off" for name in on),
        )
        for interface, on in merging.items()
    ]
