"""`mvmp policy test FILE CAPTURE`: which device would be handed which packets of a capture, and why."""

from __future__ import annotations

import argparse
from typing import Any

from mvmp.commands.output import CommandError, Table, add_output_option, print_json, print_tables

TOLD = 100


def configure(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "test",
        help="play a capture to the policies of a configuration, without a platform",
        description="Says which device of FILE would be handed how many packets of CAPTURE, if they came "
        "in by a port.",
    )
    parser.add_argument("file", metavar="FILE", help="the configuration (TOML)")
    parser.add_argument("capture", metavar="CAPTURE", help="the capture (pcap or pcapng)")
    parser.add_argument("--port", metavar="NAME", help="the port (default: the only one)")
    parser.add_argument("-v", "--verbose", action="store_true", help="say why, packet by packet")
    parser.add_argument(
        "-n",
        "--count",
        type=int,
        default=TOLD,
        metavar="N",
        help=f"with -v: the first N packets (default: {TOLD})",
    )
    add_output_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the sums, after the packets if they were asked for."""
    from mvmp import _mvmp

    if args.count < 0:
        raise CommandError(f"-n {args.count}: a number of packets", 2)
    port = args.port or only_port(_mvmp.read_config(args.file), args.file)
    told = args.count if args.verbose else 0
    try:
        report = _mvmp.rehearse_capture(args.file, port, args.capture, told=told)
    except ValueError as error:
        raise CommandError(f"--port: {error}", 2) from None
    if args.output == "json":
        print_json(report)
        return 0
    for packet in report["told"]:
        print("\n".join(packet_lines(packet)))
    print_tables([sums(report)])
    print(headline(report))
    return 0


def only_port(config: dict[str, Any], file: str) -> str:
    """The port of a configuration by which packets come in, if it has one.

    Raises:
        CommandError: It has none, or several.
    """
    ports = [name for name, port in config["ports"].items() if "pcap" in port or "out" not in port]
    if len(ports) != 1:
        known = ", ".join(ports) or "none"
        raise CommandError(f"{file}: name the port with --port NAME; its ports: {known}", 2)
    return str(ports[0])


def packet_lines(packet: dict[str, Any]) -> list[str]:
    """A line for the packet and one for each device: what is jumped over, what the rule is asked of."""
    head = f"packet {packet['packet']}, {packet['wire_length']} bytes"
    if packet["too_long"]:
        return [f"{head}: longer than the port's max_frame"]
    if packet["unsupported"]:
        return [f"{head}: of a link type that is not supported"]
    lines = [head]
    for verdict in packet["devices"]:
        if verdict["direction"] == "out":
            lines.append(f"  - {verdict['device']}: receives what leaves, not what comes in")
            continue
        mark = "+" if verdict["wanted"] else "-"
        jumped = "/".join(verdict["jumped"])
        behind = f" behind {jumped}" if jumped else ""
        asked = "/".join(verdict["delivered"])
        word = "matches" if verdict["wanted"] else "does not match"
        lines.append(f"  {mark} {verdict['device']}: {asked}{behind} {word} `{verdict['rule']}`")
    return lines


def sums(report: dict[str, Any]) -> Table:
    """One row a device."""
    rows = [
        [device["device"], device["packets"], device["bytes"], device["jumped"], rule_of(device)]
        for device in report["devices"]
    ]
    return Table(
        f"packets that came in by {report['port']}", ("device", "packets", "bytes", "jumped", "rule"), rows
    )


def rule_of(device: dict[str, Any]) -> str:
    """The rule of a cell; of packets that leave, where it does not look at others."""
    outward = " (of what leaves)" if device["direction"] == "out" else ""
    return f"{device['rule']}{outward}"


def headline(report: dict[str, Any]) -> str:
    """What the capture held."""
    text = f"{report['packets']:,} packets, {report['unmatched']:,} that no device wants"
    if report["too_long"]:
        text += f", {report['too_long']:,} too long"
    if report["link_type"]:
        text += f", {report['link_type']:,} of a link type that is not supported"
    return text
