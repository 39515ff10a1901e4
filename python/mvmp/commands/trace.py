"""`mvmp trace DEVICE`: the next packets of a device, step by step, with the rule that was asked."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from mvmp.commands.output import CommandError, add_output_option
from mvmp.commands.platform_socket import add_socket_option, ask, socket_of

EVERY_S = 0.1
PACKETS_MAX = 1000


def configure(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "trace",
        help="show what becomes of the next packets of a device, step by step",
        description="Looks at the next packets that come by the ports of DEVICE, or over it if it has none: "
        "their layers, the rule that the device has for them, who was handed them, and what those NFs did "
        "with them (by the number of the packet). The traffic goes on meanwhile. With -o json, a line for "
        "each step.",
    )
    parser.add_argument("device", metavar="DEVICE", help="a device of the running platform")
    parser.add_argument("-n", "--count", type=count, default=10, metavar="N", help="packets (default: 10)")
    parser.add_argument(
        "--wait",
        type=float,
        default=10.0,
        metavar="S",
        help="seconds without a packet before it gives up (default: 10)",
    )
    add_socket_option(parser)
    add_output_option(parser)
    parser.set_defaults(run=run)


def count(text: str) -> int:
    """A number of packets."""
    number = int(text)
    if not 1 <= number <= PACKETS_MAX:
        raise argparse.ArgumentTypeError(f"a trace has 1 to {PACKETS_MAX} packets")
    return number


def run(args: argparse.Namespace) -> int:
    """Prints steps until all packets were seen, and what NFs do with them for a moment more."""
    socket = socket_of(args)
    ask(socket, {"type": "trace", "device": args.device, "count": args.count})
    heard, left = time.monotonic(), args.count
    try:
        while left:
            time.sleep(EVERY_S)
            left, steps = tell(socket, args)
            if steps:
                heard = time.monotonic()
            elif time.monotonic() - heard > args.wait:
                raise CommandError(
                    f"{args.count - left} of {args.count} packets came, and none for {args.wait:g} s"
                )
        time.sleep(EVERY_S)
        tell(socket, args)
    finally:
        ask(socket, {"type": "trace", "device": args.device, "count": 0})
    return 0


def tell(socket: str, args: argparse.Namespace) -> tuple[int, int]:
    """Prints what was traced since the last time; packets still to come, and steps that came."""
    reply = ask(socket, {"type": "traced"})
    for step in reply["steps"]:
        print(json.dumps(step) if args.output == "json" else in_words(step))
    if reply["lost"]:
        print(f"mvmp: {reply['lost']} steps were not fetched in time", file=sys.stderr)
    sys.stdout.flush()
    return int(reply["left"]), len(reply["steps"])


def in_words(step: dict[str, Any]) -> str:
    """One step, a line and what belongs to it below."""
    if step["step"] == "returned":
        over = f" over {step['over']}" if step["over"] else ""
        return f"#{step['packet']} {step['nf']} {step['what']} it{over}"
    seconds, rest = divmod(step["timestamp_ns"], 10**9)
    clock = time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{rest // 1000:06d}"
    way = f"{step['direction']} {step['port']}" if step["port"] else f"over {step['device']}"
    lines = [f"#{step['packet']} {clock} {way}, {step['length']} bytes: {' / '.join(step['layers'])}"]
    if step["port"]:
        asked = "wants it" if step["wanted"] else "does not want it"
        lines.append(f"  {step['device']} {asked}: {step['rule'] or 'nothing is received here'}")
    if step["jumped"]:
        lines.append(f"  the first {step['jumped']} bytes are jumped over")
    lines.extend(f"  {handle['nf']}: {handle['outcome']}" for handle in step["handles"])
    if step["bypassed"]:
        lines.append("  no NF is there to send: the worker sends it on")
    elif step["wanted"] and not step["handles"]:
        lines.append("  nobody has the device open")
    return "\n".join(lines)
