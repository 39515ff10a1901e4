"""The policies of a configuration as the paper's Table 1: a row a port, a column a device.

A cell says what is received there and how it is sent. Shown by `mvmp status --policies` and by
`mvmp check --policies`.
"""

from __future__ import annotations

import argparse
from typing import Any

from mvmp.commands.output import Table, print_json, print_tables

Config = dict[str, Any]


def show(config: Config, args: argparse.Namespace) -> None:
    """Prints the tables, or the configuration as it holds, with its defaults."""
    if args.output == "json":
        print_json(config)
    else:
        print_tables([policies(config), roles(config)])


def policies(config: Config) -> Table:
    """Table 1."""
    devices: dict[str, Config] = config["devices"]
    rows = [
        [f"{name}\n{port_text(port)}", *(cell(device, name) for device in devices.values())]
        for name, port in config["ports"].items()
    ]
    sending = [sending_text(device) for device in devices.values()]
    if any(sending):
        rows.append(["(sending)", *sending])
    heads = [f"{name}\n{device['mode']}" for name, device in devices.items()]
    return Table("policies", ("port", *heads), rows)


def port_text(port: Config) -> str:
    """What a port is: `interface eth1`, `in.pcap → out.pcap`."""
    if "interface" in port or "devargs" in port:
        return str(port.get("devargs") or f"interface {port['interface']}")
    played, written = port.get("pcap", ""), port.get("out")
    return f"{played} → {written}".lstrip() if written else str(played)


def cell(device: Config, port: str) -> str:
    """What a device does with a port, a line each; nothing where the port is not of this device."""
    if port not in device.get("ports", ()):
        return ""
    receive = device["receive"].get(port)
    lines = ["nothing is received"] if receive is None else receive_lines(receive)
    send = device.get("send", {}).get(port, {})
    encap = send.get("encap", [])
    lines += [f"encap {layer_text(layer)}" for layer in (encap if isinstance(encap, list) else [encap])]
    if "ethernet" in send:
        lines.append(f"ethernet {send['ethernet']['src']} → {send['ethernet']['dst']}")
    return "\n".join(lines)


def receive_lines(receive: Config) -> list[str]:
    """The receiving half of a cell."""
    lines = [receive["match"]]
    for key in ("decap", "strip"):
        layers = receive.get(key)
        if layers:
            lines.append(f"{key} {layers if isinstance(layers, str) else ', '.join(layers)}")
    if receive["direction"] != "in":
        lines.append(f"direction {receive['direction']}")
    return lines


def layer_text(layer: Config) -> str:
    """One layer of an encapsulation: `vxlan vni 42 192.0.2.1 → 192.0.2.7`."""
    ((name, keys),) = layer.items()
    if not isinstance(keys, dict):
        return f"{name} {keys}"
    words = [name]
    words += [f"{key} {keys[key]}" for key in ("id", "vni", "key") if key in keys]
    if keys.get("pcp"):
        words.append(f"pcp {keys['pcp']}")
    if "tpid" in keys and keys["tpid"] != 0x8100:
        words.append(f"tpid {keys['tpid']:#06x}")
    if "local" in keys:
        words.append(f"{keys['local']} → {keys['remote']}")
    return " ".join(words)


def sending_text(device: Config) -> str:
    """How a device as a whole sends."""
    policy = device.get("send", {}).get("policy", "")
    bypass = "bypass without an NF" if device.get("absent") == "bypass" else ""
    return "\n".join(filter(None, (policy, bypass)))


def roles(config: Config) -> Table:
    """The authorization table."""
    rows = [
        [
            name,
            ", ".join(nf["devices"]),
            nf["instances"],
            ", ".join(f"{group} on {device}" for device, group in nf.get("groups", {}).items()),
            ", ".join(nf.get("may_define", ())),
        ]
        for name, nf in config["nfs"].items()
    ]
    return Table("NFs", ("role", "may open", "instances", "groups", "may define over"), rows)
