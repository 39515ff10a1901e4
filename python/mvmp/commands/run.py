"""`mvmp run NF.py`: runs an NF; with `--pcap` on a capture file: the loop in which NFs are written."""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from mvmp.commands.output import CommandError, drops_text
from mvmp.commands.parser import Parser
from mvmp.commands.platform_socket import add_socket_option

DESCRIPTION = """\
Runs an NF with this Python. With --pcap a private platform plays a capture to it, once and without loss.

The script is then read for the names that it opens (string literals in ….open("…"), in order): the first
is a direct device on the capture, further ones are rootless. The script runs in a process of its own, as it
will later. Options may stand before or after NF.py; what follows --, and what is not an option of ours,
goes to the script."""

DRAIN_S = 10.0  # after the NF has ended: for outputs to be flushed


def configure(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "run",
        help="run an NF, on a capture file if you like",
        usage="mvmp run [-h] [--pcap IN [-w OUT]] [--socket PATH] NF.py [ARG ...]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_options(parser)
    parser.add_argument("script", metavar="NF.py", help="the NF")
    parser.add_argument("arguments", metavar="ARG", nargs=argparse.REMAINDER, help="arguments of the script")
    parser.set_defaults(run=run)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options that may stand on both sides of the script's name."""
    parser.add_argument("--pcap", metavar="IN", help="play this capture on a private platform")
    parser.add_argument(
        "-w", "--write", metavar="OUT", help="with --pcap: write what the NF sends to this file"
    )
    add_socket_option(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the script, and its platform if one was asked for."""
    arguments = split_arguments(args)
    script = Path(args.script)
    if not script.is_file():
        raise CommandError(f"{script}: no such file")
    if args.pcap is None:
        if args.write:
            raise CommandError("-w OUT needs --pcap IN", 2)
        return run_script(script, arguments, args.socket)
    if args.socket:
        raise CommandError("--socket and --pcap exclude each other: with --pcap the platform is private", 2)
    names = opened_names(script.read_text(), str(script))
    if not names:
        raise CommandError(
            f'{script}: found no device to put the capture on; write its name as a literal, nf.open("span0")'
        )
    return run_on_capture(script, arguments, private_configuration(names, args.pcap, args.write))


def split_arguments(args: argparse.Namespace) -> list[str]:
    """Takes our options out of what follows the script (into `args`); returns the script's arguments."""
    rest: list[str] = args.arguments
    end = rest.index("--") if "--" in rest else len(rest)
    ours = Parser(prog="mvmp run", add_help=False, allow_abbrev=False)
    add_run_options(ours)
    found, theirs = ours.parse_known_args(rest[:end])
    for option in ("pcap", "write", "socket"):
        if getattr(found, option) is not None:
            setattr(args, option, getattr(found, option))
    return theirs + rest[end + 1 :]


def opened_names(source: str, file: str) -> list[str]:
    """The device names that a script opens: literals in `….open("…")`, in the order of the text, each once.

    Raises:
        CommandError: The script is not Python.
    """
    try:
        tree = ast.parse(source, file)
    except SyntaxError as error:
        raise CommandError(f"{file}:{error.lineno}:{error.offset}: {error.msg}") from None
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "open"
    ]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    names = []
    for call in calls:
        given = call.args[:1] + [word.value for word in call.keywords if word.arg == "device"]
        if given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
            names.append(given[0].value)
    return list(dict.fromkeys(names))


def private_configuration(names: list[str], pcap: str, out: str | None) -> dict[str, Any]:
    """The platform of `--pcap`: the first device on the capture, played once and without loss."""
    capture: dict[str, Any] = {"pcap": os.path.abspath(pcap), "loop": 1, "rate": "lossless"}
    if out:
        capture["out"] = os.path.abspath(out)
    devices: dict[str, Any] = {names[0]: {"mode": "direct", "ports": ["capture"]}}
    devices.update({name: {"mode": "rootless"} for name in names[1:]})
    return {"platform": {"open": True}, "ports": {"capture": capture}, "devices": devices}


def run_on_capture(script: Path, arguments: list[str], configuration: dict[str, Any]) -> int:
    """Plays the capture to the script and says on stderr what became of it."""
    if not os.path.isfile(configuration["ports"]["capture"]["pcap"]):
        raise CommandError(f"{configuration['ports']['capture']['pcap']}: no such file")
    import mvmp

    with tempfile.TemporaryDirectory(prefix="mvmp-run-") as folder:
        socket = os.path.join(folder, "mvmp.sock")
        with mvmp.Platform(configuration, socket=socket) as platform:
            code = run_script(script, arguments, socket)
            if code == 0:
                platform.wait_drained(DRAIN_S)
            stats = platform.stats()
    port = stats["ports"]["capture"]
    out, seconds = port["tx"]["transmitted"], stats["platform"]["uptime_s"]
    lost = drops_text(Counter(port["drops"]) + Counter(port["tx"]["drops"]))
    drops = f", drops: {lost}" if lost else ""
    print(f"mvmp: {port['received']:,} packets in, {out:,} out{drops}, {seconds:.1f} s", file=sys.stderr)
    for fault in port["faults"]:
        print(f"mvmp: error: {fault}", file=sys.stderr)
        code = 1
    return code


def run_script(script: Path, arguments: list[str], socket: str | None) -> int:
    """Runs the script with this Python; its exit code becomes ours, as 0 or 1."""
    environment = dict(os.environ)
    if socket:
        environment["MVMP_SOCKET"] = socket
    child = subprocess.Popen([sys.executable, str(script), *arguments], env=environment)
    try:
        code = child.wait()
    except KeyboardInterrupt:  # the script had it too, and ends in order
        code = child.wait()
    if code != 0:
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        print(f"mvmp: error: {script} ended with {how}", file=sys.stderr)
    return 1 if code else 0
