"""Types of the compiled half of mvmp. Users import from `mvmp`."""

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, final, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

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
    "Platform",
    "PlatformLost",
    "Policy",
    "PolicyError",
    "check_config",
    "config_schema",
    "doctor_facts",
    "explain_policy",
    "log_to_stderr",
    "operator",
    "read_config",
    "rehearse_capture",
]

_Mask: TypeAlias = (
    npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]] | Sequence[bool] | Sequence[int] | slice
)

class Error(Exception):
    """Everything that this package raises on its own account."""

class ConfigError(Error):
    """A configuration, device or setting that cannot be used."""

    line: int | None
    column: int | None
    hint: str | None

class PolicyError(Error):
    """A rule that cannot be used."""

    line: int | None
    column: int | None
    hint: str | None

class ConnectError(Error):
    """There is no platform to talk to, or it speaks another protocol."""

class NotAuthorized(Error):
    """The authorization table does not grant it."""

class NameInUse(Error):
    """All instances of the role are taken."""

class NotHeld(Error):
    """The packet has been sent or released."""

class Busy(Error):
    """Another thread is in a call on the same handle or burst."""

class Closed(Error):
    """The handle, the NF or the burst's connection is closed."""

class PlatformLost(Closed):
    """The platform is gone; `Nf.reconnect` opens the same handles again."""

class Detached(Closed):
    """The platform took the handle away."""

@final
class Nf:
    """One NF instance: a connection to the platform under a role.

    SIGTERM ends `bursts()` in order if the `Nf` is made in the main thread, the disposition is the
    default and no `Platform` lives in this process.

    Args:
        role: The name in the authorization table.
        socket: The NF socket, or the folder that holds `mvmp.sock`. None: `$MVMP_SOCKET`, else the
            role's own socket in the runtime folder, else the shared one.
        wait: Seconds to wait for the platform to come up.

    Raises:
        ConnectError: There is no platform there.
        NotAuthorized: The table does not name this role.
        NameInUse: All its instances are taken.
    """

    def __new__(cls, role: str, socket: str | os.PathLike[str] | None = None, wait: float = 0.0) -> Self: ...
    def open(
        self,
        device: str | Mapping[str, Any],
        rx: bool | None = None,
        tx: bool | None = None,
        match: str | None = None,
        ring: int | None = None,
    ) -> NfHandle:
        """Opens a device, or one of this NF's own (MVMP, section 3.3).

        Args:
            device: Its name; or the device itself, as in the configuration file (`{"mode": "direct",
                "ports": ["NIC1"], "receive": …}`, with a `name` if you like), over ports that
                `may_define` of the role names. It lives as long as it is open.
            rx: Whether to receive; None: what the table grants.
            tx: Whether to send; None: what the table grants.
            match: A rule that narrows what is received; no `pcap:` filter, since libpcap may look names up.
            ring: Rx ring slots, a power of two; None: the platform's default.

        Raises:
            NotAuthorized: The table does not grant it.
            ConfigError: There is no such device.
            PolicyError: `match` is wrong; has line, column and hint.
        """

    def bursts(self, n: int = 32) -> Bursts:
        """A loop over bursts of up to `n` packets of all handles that are open now, fairly.

        `burst.handle` says whose it is. Asking for the next burst releases what is left of the
        last one unless `burst.keep()` was called. Ends when all streams have ended, the platform
        shuts down, or SIGTERM comes.
        """

    @property
    def handles(self) -> tuple[NfHandle, ...]:
        """The handles that are open, in the order of opening."""

    @property
    def instance(self) -> str:
        """The name that the platform gave: `role/0`."""

    @property
    def lossless(self) -> bool:
        """Whether all sources are lossless captures: sending then waits for room by default."""

    def fileno(self) -> int:
        """A descriptor that is readable while any handle's is."""

    def reconnect(self, wait: float | None = None) -> None:
        """Connects again after `PlatformLost` and opens the same handles again.

        Earlier bursts raise `Closed`. Descriptors of `fileno()` of the handles are new ones.
        """

    def close(self) -> None:
        """Closes all handles and the connection, in order. Viewed packets stay until their last view dies.

        Waits until what was sent has gone on; without loss that takes as long as the slowest receiver does.
        Ctrl-C ends the wait and gives the connection up: what was not sent yet is lost.
        """

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class NfHandle:
    """One opening of one device. One thread at a time may call it; another gets `Busy`."""

    def rx_burst(self, n: int, timeout: float | None = 0) -> Burst:
        """Receives up to `n` packets.

        Args:
            n: At most so many.
            timeout: Seconds to wait for the first; 0: never, None: for ever.

        Returns:
            A burst; an empty one, which is false, when nothing came in time or the stream has ended.

        Raises:
            Detached, PlatformLost, Closed: Nothing can be received any more.
        """

    def tx_burst(
        self,
        burst: Burst,
        mask: _Mask | None = None,
        *,
        timeout: float | None = 0,
        in_port: str | int | None = None,
    ) -> int:
        """Moves packets to this handle's device, in order; no copy.

        Args:
            burst: What of it is still lent is sent.
            mask: Which packets of it: a boolean mask of shape (len(burst),) or indices.
            timeout: Seconds to wait for room; None: for ever, which is the default with lossless sources.
            in_port: The port to assume as the input where the send policy asks for it.

        Returns:
            How many were taken. The rest stays in the burst, as with `rte_eth_tx_burst`.

        Raises:
            NotHeld: `mask` names a packet that has left; nothing was sent.
            BufferError: A packet is being viewed; nothing was sent.
        """

    def mirror(
        self,
        burst: Burst,
        mask: _Mask | None = None,
        *,
        timeout: float | None = 0,
        in_port: str | int | None = None,
    ) -> int:
        """Sends packets as `tx_burst` does, and keeps them in the burst."""

    def send(
        self,
        frames: Sequence[Buffer],
        in_port: str | int | None = None,
        link: int = 1,
        *,
        timeout: float | None = 0,
    ) -> int:
        """Sends frames that the NF built, copied to its private memory.

        Args:
            frames: Bytes from the first header on.
            in_port: The port to assume as the input where the send policy asks for it.
            link: What they begin with, as in the column `link`: 1 Ethernet, 4 IPv4, 6 IPv6. What begins
                with IP leaves as a forwarded packet of that link does.
            timeout: As for `tx_burst`.

        Returns:
            How many there was room for.

        Raises:
            ValueError: There is no such `link`; nothing was sent.
            ConfigError: A frame can never fit; nothing was sent.
        """

    def bursts(self, n: int = 32) -> Bursts:
        """As `Nf.bursts`, of this handle alone."""

    def __aiter__(self) -> AsyncIterator[Burst]: ...
    def fileno(self) -> int:
        """Readable (level-triggered) while packets wait, at the end, on close and on loss."""

    def stats(self) -> dict[str, Any]:
        """`platform`: this handle's part of `mvmp status -o json`; `nf`: the library's own counters."""

    @property
    def ended(self) -> bool:
        """Nothing more will come."""

    @property
    def closed(self) -> bool:
        """Calls on it fail."""

    @property
    def device(self) -> str:
        """The device's name."""

    @property
    def rx(self) -> bool:
        """Whether it receives."""

    @property
    def tx(self) -> bool:
        """Whether it sends."""

    @property
    def ports(self) -> dict[str, int]:
        """The device's ports: name to number, as in the `in_port` column."""

    @property
    def mac(self) -> str | None:
        """The MAC address of the first port that has one."""

    @property
    def mtu(self) -> int | None:
        """The largest IP packet that every port carries, with what `encap` puts around it; None: no ports."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The device's own IP addresses (none, for now)."""

    def close(self) -> None:
        """Closes it. Viewed packets stay until their last view dies; the rest goes back to the platform.

        Waits until what was sent over it has gone on; Ctrl-C ends the wait, it is closed all the same.
        """

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class Bursts:
    """A loop over bursts; see `Nf.bursts`."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> Burst: ...

@final
class Burst:
    """Packets lent to this NF until they are sent or released.

    Columns are numpy arrays of their own, computed when first asked for and valid for ever. One
    first asked for after a packet has left raises `NotHeld`. Sub-bursts share the lending.
    """

    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __iter__(self) -> Iterator[Packet]: ...
    @overload
    def __getitem__(self, key: int | np.integer[Any], /) -> Packet: ...
    @overload
    def __getitem__(self, key: _Mask, /) -> Burst: ...
    @property
    def held(self) -> int:
        """How many are still lent."""

    @property
    def handle(self) -> NfHandle:
        """The handle that received it."""

    def forward(self, handle: NfHandle) -> int:
        """As `handle.tx_burst(self)`."""

    def mirror(self, handle: NfHandle) -> int:
        """As `handle.mirror(self)`."""

    def release(self) -> None:
        """Gives back what is still lent. Raises BufferError, before anything goes, if a packet is viewed."""

    def keep(self) -> Self:
        """Keeps the packets when a loop asks for its next burst; they go home with the last reference."""

    def pass_on(self) -> None:
        """What a loop does with its last burst: releases all but kept and viewed packets."""

    def match(self, policy: Policy) -> npt.NDArray[np.bool_]:
        """Which packets match, as `nf.open(match=…)` would say. Shape (n,), bool.

        What a rule asks of the frame as received (`vlan 7`, `outer(…)`, `length`, `pcap:`) is asked of
        `packet.outer` where layers were jumped over; the platform's `tunnel_ports` say what is a tunnel.
        """

    def headers(self, n: int, at: Literal["start", "l3", "payload"] = "start") -> npt.NDArray[np.uint8]:
        """`n` bytes of each packet from a place on: a copy, zero-filled. Shape (len, n), uint8."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    @property
    def in_port(self) -> npt.NDArray[np.uint16]:
        """Number of the port that received it; `handle.ports` names them. Shape (n,), uint16."""

    @property
    def length(self) -> npt.NDArray[np.uint32]:
        """Bytes of the packet as delivered. Shape (n,), uint32."""

    @property
    def wire_length(self) -> npt.NDArray[np.uint32]:
        """Bytes on the wire; more than was captured where a capture had cut the frame. Shape (n,), uint32."""

    @property
    def timestamp_ns(self) -> npt.NDArray[np.int64]:
        """When it was received, in ns since the epoch. Shape (n,), int64."""

    @property
    def direction(self) -> npt.NDArray[np.uint8]:
        """0: it came in through a port, 1: it goes out. Shape (n,), uint8."""

    @property
    def link(self) -> npt.NDArray[np.uint8]:
        """What the first byte is: 1 Ethernet, 4 IPv4, 6 IPv6. Shape (n,), uint8."""

    @property
    def l3_offset(self) -> npt.NDArray[np.uint16]:
        """Where the IP header begins; 65535: there is none. Shape (n,), uint16."""

    @property
    def payload_offset(self) -> npt.NDArray[np.uint16]:
        """Where the payload of the deepest header begins. Shape (n,), uint16."""

    @property
    def payload_length(self) -> npt.NDArray[np.uint16]:
        """Bytes of payload, padding excluded. Shape (n,), uint16."""

    @property
    def ether_type(self) -> npt.NDArray[np.uint16]:
        """EtherType after all VLAN tags; 0: there is none. Shape (n,), uint16."""

    @property
    def vlan(self) -> npt.NDArray[np.int32]:
        """VLAN id of the outermost tag as received, jumped over or not; -1 without. Shape (n,), int32."""

    @property
    def vni(self) -> npt.NDArray[np.int64]:
        """Outermost VXLAN or GENEVE network as received; -1 without. Shape (n,), int64."""

    @property
    def ip_version(self) -> npt.NDArray[np.uint8]:
        """4, 6, or 0. Shape (n,), uint8."""

    @property
    def protocol(self) -> npt.NDArray[np.int16]:
        """IP protocol, -1 without IP. Shape (n,), int16."""

    @property
    def src(self) -> npt.NDArray[np.uint32]:
        """IPv4 source address in host order, 0 unless IPv4. Shape (n,), uint32."""

    @property
    def dst(self) -> npt.NDArray[np.uint32]:
        """IPv4 destination address, likewise. Shape (n,), uint32."""

    @property
    def src6(self) -> npt.NDArray[np.uint8]:
        """IPv6 source address, zeros unless IPv6. Shape (n, 16), uint8."""

    @property
    def dst6(self) -> npt.NDArray[np.uint8]:
        """IPv6 destination address, likewise. Shape (n, 16), uint8."""

    @property
    def src_port(self) -> npt.NDArray[np.int32]:
        """Source port of TCP, UDP or SCTP, -1 without. Shape (n,), int32."""

    @property
    def dst_port(self) -> npt.NDArray[np.int32]:
        """Destination port, likewise. Shape (n,), int32."""

    @property
    def tcp_flags(self) -> npt.NDArray[np.uint16]:
        """TCP flags (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, …), 0 without TCP. Shape (n,), uint16."""

    @property
    def fragment(self) -> npt.NDArray[np.bool_]:
        """Whether it is a fragment, the first included. Shape (n,), bool."""

    @property
    def flow_hash(self) -> npt.NDArray[np.uint32]:
        """Symmetric over addresses, protocol and ports; 0 without IP. Shape (n,), uint32."""

@final
class Packet:
    """One packet of a burst. `memoryview(packet)` is read-only and keeps it lent; `bytes(packet)` copies."""

    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __release_buffer__(self, buffer: memoryview, /) -> None: ...
    def scapy(self) -> Any:
        """A scapy packet of a copy of the bytes."""

    @property
    def outer(self) -> OuterPacket | None:
        """The frame that it was received in; None when nothing was jumped over."""

    @property
    def in_port(self) -> int:
        """Number of the port that received it; `handle.ports` names them."""

    @property
    def length(self) -> int:
        """Bytes of the packet as delivered."""

    @property
    def wire_length(self) -> int:
        """Bytes on the wire; more than was captured where a capture had cut the frame."""

    @property
    def timestamp_ns(self) -> int:
        """When it was received, in ns since the epoch."""

    @property
    def direction(self) -> int:
        """0: it came in through a port, 1: it goes out."""

    @property
    def link(self) -> int:
        """What the first byte is: 1 Ethernet, 4 IPv4, 6 IPv6."""

    @property
    def l3_offset(self) -> int:
        """Where the IP header begins; 65535: there is none."""

    @property
    def payload_offset(self) -> int:
        """Where the payload of the deepest header begins."""

    @property
    def payload_length(self) -> int:
        """Bytes of payload, padding excluded."""

    @property
    def ether_type(self) -> int:
        """EtherType after all VLAN tags; 0: there is none."""

    @property
    def vlan(self) -> int:
        """VLAN id of the outermost tag as received, jumped over or not; -1 without."""

    @property
    def vni(self) -> int:
        """Outermost VXLAN or GENEVE network as received, jumped over or not; -1 without."""

    @property
    def ip_version(self) -> int:
        """4, 6, or 0."""

    @property
    def protocol(self) -> int:
        """IP protocol, -1 without IP."""

    @property
    def src(self) -> int:
        """IPv4 source address in host order, 0 unless IPv4."""

    @property
    def dst(self) -> int:
        """IPv4 destination address, likewise."""

    @property
    def src6(self) -> bytes:
        """IPv6 source address, zeros unless IPv6."""

    @property
    def dst6(self) -> bytes:
        """IPv6 destination address, likewise."""

    @property
    def src_port(self) -> int:
        """Source port of TCP, UDP or SCTP, -1 without."""

    @property
    def dst_port(self) -> int:
        """Destination port, likewise."""

    @property
    def tcp_flags(self) -> int:
        """TCP flags (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, …), 0 without TCP."""

    @property
    def fragment(self) -> bool:
        """Whether it is a fragment, the first included."""

    @property
    def flow_hash(self) -> int:
        """Symmetric over addresses, protocol and ports; 0 without IP."""

@final
class OuterPacket:
    """The frame that a packet was received in, where a policy has jumped over layers.

    Readable while the packet is lent.
    """

    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def scapy(self) -> Any:
        """A scapy packet of a copy of the bytes."""

    @property
    def layers(self) -> list[tuple[str, int, int | None]]:
        """Layers from the outside in: name, where it begins, number (VLAN id, VNI, …) or None."""

    @property
    def length(self) -> int:
        """Bytes of the frame as received."""

    @property
    def link(self) -> int:
        """What the first byte is: 1 Ethernet, 4 IPv4, 6 IPv6."""

    @property
    def ether_type(self) -> int:
        """EtherType after all VLAN tags; 0: there is none."""

    @property
    def vlan(self) -> int:
        """VLAN id of the outermost tag, -1 without."""

    @property
    def ip_version(self) -> int:
        """4, 6, or 0."""

    @property
    def protocol(self) -> int:
        """IP protocol, -1 without IP."""

    @property
    def src(self) -> int:
        """IPv4 source address in host order, 0 unless IPv4."""

    @property
    def dst(self) -> int:
        """IPv4 destination address, likewise."""

    @property
    def src6(self) -> bytes:
        """IPv6 source address, zeros unless IPv6."""

    @property
    def dst6(self) -> bytes:
        """IPv6 destination address, likewise."""

    @property
    def src_port(self) -> int:
        """Source port of TCP, UDP or SCTP, -1 without."""

    @property
    def dst_port(self) -> int:
        """Destination port, likewise."""

@final
class Policy:
    """A rule of the policy language, without a platform.

    Args:
        rule: The rule; with the prefix `pcap:` a libpcap filter.
        decap: Layers that are jumped over before the rule is asked; `"auto"` for all.
        strip: Likewise: to a rule they are the same.

    Raises:
        PolicyError: The rule or a layer is wrong; has line, column and hint.
    """

    def __new__(
        cls,
        rule: str,
        *,
        decap: str | Sequence[str] | None = None,
        strip: str | Sequence[str] | None = None,
    ) -> Self: ...
    def matches(self, frame: Buffer) -> bool:
        """Whether an Ethernet frame matches; tunnels are those of the usual UDP ports."""

    def match_many(self, frames: Sequence[Buffer]) -> npt.NDArray[np.bool_]:
        """Which of these Ethernet frames match, as `matches` says. Shape (n,), bool."""

    def explain(self) -> str:
        """What the rule says and costs, in plain words, with notes on what surprises people."""

@final
class Platform:
    """The platform: ports, pools, workers and the sockets that NFs connect to. One at a time in a process.

    Args:
        config: A TOML file, or the same as a dict.
        socket: The shared NF socket; None: `$MVMP_SOCKET`, else the default of the runtime folder.
        harden: Make this process undumpable, as `mvmp up` does.
        ports: Ports to replace, name to capture or devargs, or "NAME=WHAT" each.

    Raises:
        ConfigError: The configuration is wrong (has line, column and hint), or a port cannot be opened.
        OSError: The file cannot be read (`FileNotFoundError`, …), or a socket cannot be bound.
        Error: This machine, or this process, cannot run it.
    """

    def __new__(
        cls,
        config: str | os.PathLike[str] | dict[str, Any],
        *,
        socket: str | os.PathLike[str] | None = None,
        harden: bool = False,
        ports: dict[str, Any] | Sequence[str] | None = None,
    ) -> Self: ...
    def stop(self) -> None:
        """Stops in order: NFs are told, outputs are written, ports and memory are given back."""

    @property
    def socket(self) -> str:
        """The shared NF socket."""

    def stats(self) -> dict[str, Any]:
        """The books, as `mvmp status -o json` prints them."""

    def facts(self) -> dict[str, Any]:
        """What was found at start: user, DPDK, pages."""

    def wait_drained(self, timeout: float | None = None) -> None:
        """Waits until all captures have ended, nobody holds a packet, and outputs are written.

        Raises:
            TimeoutError: Says who holds how many packets.
        """

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until an operator stops the platform; whether that has happened."""

    def add_port(self, name: str, spec: Any) -> None:
        """Puts a port that the configuration's devices name (back) into service."""

    def remove_port(self, name: str) -> None:
        """Takes a port out of service."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

def check_config(
    config: str | os.PathLike[str] | dict[str, Any],
    ports: dict[str, Any] | Sequence[str] | None = None,
) -> list[str]:
    """Reads a configuration; what is allowed but perhaps not meant, a sentence each.

    Raises:
        ConfigError: It cannot be used; has line, column and hint.
        OSError: The file cannot be read.
    """

def read_config(
    config: str | os.PathLike[str] | dict[str, Any],
    ports: dict[str, Any] | Sequence[str] | None = None,
) -> dict[str, Any]:
    """A configuration as a tree, with its defaults, in the notation of the file."""

def explain_policy(rule: str) -> dict[str, Any]:
    """What a rule says and costs: `canonical`, `tree`, `indexed`, `cost`, `notes`, and `text` for people.

    Raises:
        PolicyError: The rule is wrong; has line, column and hint.
    """

def rehearse_capture(
    config: str | os.PathLike[str] | dict[str, Any],
    port: str,
    capture: str | os.PathLike[str],
    *,
    told: int = 0,
    ports: dict[str, Any] | Sequence[str] | None = None,
) -> dict[str, Any]:
    """What the policies of a configuration would do with a capture that came in by `port`.

    Sums for each device, and the first `told` packets one by one.
    """

def config_schema() -> str:
    """The JSON Schema of a configuration, as text."""

def operator(socket: str | os.PathLike[str], request: dict[str, Any]) -> dict[str, Any]:
    """Asks a running platform one thing over its operator's socket, `socket` with `.ctl` appended."""

def doctor_facts() -> dict[str, Any]:
    """What `mvmp doctor` can know without starting DPDK."""

def log_to_stderr(level: str = "info") -> None:
    """Writes the platform's log to stderr; `level` is error, warn, info or debug. Only the first call counts.

    Raises:
        ValueError: No such level.
    """
