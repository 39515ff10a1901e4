"""What a kernel interface would throw away without a word is not handed to it: the named drop `mtu_exceeded`.

captures ─▶ NF ─▶ b0 ══ veth ══ b-eth   host, which counts what arrives
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from capture_files import records, write_pcap
from namespaces import Namespaces
from nf_processes import await_that, forwarder
from wires import check_ports, is_up, platform, recorded, skip_without_namespaces, status, wire

MTU, ETHERNET, TAG = 1500, 14, 4
VLAN, PROVIDER, EXPERIMENT = b"\x81\x00", b"\x88\xa8", b"\x88\xb5"
TUNNEL = {"vni": 42, "local": "192.0.2.1", "remote": "192.0.2.7"}
ADDRESSES = {"src": "02:00:00:00:00:aa", "dst": "02:00:00:00:00:bb"}

# Devices: what each puts on, how much longer that makes a frame, its first EtherType then, and what
# `handle.mtu` says: one 802.1Q tag comes on top of an MTU, all else counts.
DEVICES: dict[str, tuple[Any, int, bytes | None, int]] = {
    "plain": ([], 0, None, 1500),
    "tagged": ([{"vlan": 7}], 4, VLAN, 1500),
    "provider": ([{"vlan": {"id": 7, "tpid": 0x88A8}}], 4, PROVIDER, 1496),
    "twice": ([{"vlan": 7}, {"vlan": 8}], 8, VLAN, 1496),
    "qinq": ([{"vlan": 7}, {"vlan": {"id": 8, "tpid": 0x88A8}}], 8, PROVIDER, 1492),
    "vxlan": ([{"vxlan": TUNNEL}], 50, b"\x08\x00", 1450),
    "gre": ([{"gre": {"local": "192.0.2.1", "remote": "192.0.2.7"}}], 38, b"\x08\x00", 1462),
}


def source(number: int) -> bytes:
    """The source address of a device's frames."""
    return bytes([2, 0, 0, 0, 1, number])


def frames(number: int, longer: int) -> list[bytes]:
    """Frames around the limit, with and without tags of their own."""
    lengths = range(MTU + ETHERNET - longer - 6, MTU + ETHERNET - longer + 10)
    kinds = (EXPERIMENT, VLAN + b"\x00\x05" + EXPERIMENT, PROVIDER + b"\x00\x05" + EXPERIMENT)
    heads = [b"\x02\x00\x00\x00\x00\x0b" + source(number) + kind for kind in kinds]
    return [head + bytes(length - len(head)) for head in heads for length in lengths]


def fits(frame: bytes, longer: int, first: bytes | None) -> bool:
    """Whether the kernel sends it: its MTU behind an Ethernet header, or behind one with an 802.1Q tag."""
    most = MTU + ETHERNET + (TAG if (first or frame[12:14]) == VLAN else 0)
    return len(frame) + longer <= most


def configuration(folder: Path) -> str:
    """Each device brings the frames of a capture to the one interface, in its own way."""
    lines = ["[platform]", "open = true", "buffers = 8192", "[ports]", 'b0 = { interface = "b0" }']
    for number, (name, (_, longer, _, _)) in enumerate(DEVICES.items()):
        capture = write_pcap(folder / f"{name}.pcap", frames(number, longer))
        lines.append(f'in-{name} = {{ pcap = "{capture}", rate = 1000 }}')
    for name, (encap, *_) in DEVICES.items():
        layers = ", ".join(toml(layer) for layer in encap)
        send = f"encap = [{layers}], ethernet = {toml(ADDRESSES)}" if encap else ""
        lines += [f"[devices.{name}]", 'mode = "bridge"', f'ports = ["in-{name}", "b0"]']
        lines += [f'receive = {{ in-{name} = "all" }}', f"send = {{ b0 = {{ {send} }} }}"]
    return "\n".join(lines)


def toml(value: Any) -> str:
    """A value in a line of TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


def inner_source(frame: bytes) -> bytes:
    """The source address of the frame that a device was given."""
    at = frame.find(bytes([2, 0, 0, 0, 1]))
    return frame[at : at + 6]


def played(socket: Path) -> bool:
    """Whether all captures are at their end, and nobody holds anything."""
    stats = status(socket)
    ports = [port for name, port in stats["ports"].items() if name != "b0"]
    return all(port["ended"] for port in ports) and not any(pool["shares"] for pool in stats["pools"])


def test_what_is_too_long_for_an_interface_is_a_named_drop_and_all_else_arrives(tmp_path: Path) -> None:
    skip_without_namespaces()
    heard = tmp_path / "heard.pcap"
    with Namespaces(2) as spaces:
        inner, host = spaces.all
        wire(inner, host, "b")
        with platform(inner, tmp_path, configuration(tmp_path)) as (process, socket):
            await_that(lambda: is_up(host, "b-eth"), "the link up")
            with recorded(host, "b-eth", heard), forwarder("forwarder", socket, *DEVICES):
                await_that(lambda: played(socket), "all captures played")
            with mvmp.Nf("probe", socket=str(socket)) as nf:
                mtus = {name: nf.open(name, rx=False).mtu for name in DEVICES}
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=30)
    stats = json.loads(said)["stats"]
    check_ports(stats)
    sent, lost, arrived = {}, {}, {}
    for number, (name, (_, longer, first, _)) in enumerate(DEVICES.items()):
        given = frames(number, longer)
        sent[name] = sum(fits(frame, longer, first) for frame in given)
        lost[name] = len(given) - sent[name]
        arrived[name] = sum(inner_source(record.frame) == source(number) for record in records(heard))
    assert arrived == sent
    drops = {
        books["device"]: books["out"]["drops"] for books in stats["closed_handles"] if books["nf"] != "probe"
    }
    assert drops == {name: {"mtu_exceeded": count} for name, count in lost.items()}
    out = stats["ports"]["b0"]["tx"]
    assert out["transmitted"] == sum(sent.values())
    assert out["bytes"] == sum(
        len(frame) + longer
        for number, (_, longer, first, _) in enumerate(DEVICES.values())
        for frame in frames(number, longer)
        if fits(frame, longer, first)
    )
    assert mtus == {name: mtu for name, (*_, mtu) in DEVICES.items()}
