"""`mvmp status`: the counters of a running platform, as tables or as the tree of `Platform.stats()`."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from mvmp.commands import table1
from mvmp.commands.output import Table, add_output_option, drops_text, print_json, print_tables
from mvmp.commands.platform_socket import add_socket_option, ask, socket_of

CLEAR = "\x1b[H\x1b[2J"


def configure(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "status",
        help="show ports, handles, drops of a running platform",
        description="Shows what a running platform counts: ports, handles, pools, every drop by its name.",
    )
    add_socket_option(parser)
    parser.add_argument(
        "--policies",
        action="store_true",
        help="show the policies that hold, as a table of ports and devices, instead of the counters",
    )
    parser.add_argument("--watch", action="store_true", help="show it again and again, until Ctrl-C")
    parser.add_argument(
        "-n", "--interval", type=seconds, default=1.0, metavar="S", help="with --watch (default: 1 s)"
    )
    add_output_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Shows the counters once, or until Ctrl-C; or the policies."""
    socket = socket_of(args)
    if args.policies:
        config: dict[str, Any] = ask(socket, {"type": "config"})["config"]
        table1.show(config, args)
        return 0
    if not args.watch:
        show(fetch(socket), args)
        return 0
    try:
        while True:
            stats = fetch(socket)
            if args.output == "text" and sys.stdout.isatty():
                sys.stdout.write(CLEAR)
            show(stats, args)
            time.sleep(args.interval)
    except KeyboardInterrupt:
        return 0


def seconds(text: str) -> float:
    """A time between two snapshots."""
    number = float(text)
    if not 0.01 <= number <= 86400:
        raise argparse.ArgumentTypeError("0.01 to 86400 seconds")
    return number


def fetch(socket: str) -> dict[str, Any]:
    """The tree of counters."""
    reply = ask(socket, {"type": "status"})
    stats: dict[str, Any] = reply.get("stats", reply)
    return stats


def show(stats: dict[str, Any], args: argparse.Namespace) -> None:
    """Prints one snapshot."""
    if args.output == "json":
        print_json(stats, lines=args.watch)
        return
    print(headline(stats))
    print_tables(tables(stats))


def headline(stats: dict[str, Any]) -> str:
    """Version, uptime and pages in one line."""
    platform = stats["platform"]
    lossless = ", lossless" if platform.get("lossless") else ""
    return f"mvmp {platform['version']}, up {platform['uptime_s']:.0f} s, {platform['pages']} pages{lossless}"


def tables(stats: dict[str, Any]) -> list[Table]:
    """All tables of one snapshot."""
    return [
        ports_table(stats),
        waiting_table(stats),
        faults_table(stats),
        handles_table("handles", stats["handles"]),
        handles_table("closed handles", stats.get("closed_handles", [])),
        nfs_table(stats),
        Table(
            "pools",
            ("pool", "worker", "buffers", "free", "held", "in pmd"),
            [[p.get("name", p["pool"]), *(p[k] for k in ("worker", "buffers", "free", "held", "in_pmd"))]
             for p in stats["pools"]],
        ),
        Table(
            "workers",
            ("cpu", "loops", "busy", "naps"),
            [[w["cpu"], w["loops"], w["busy_loops"], w["naps"]] for w in stats["workers"]],
        ),
        reclaims_table(stats.get("reclaims", {})),
    ]  # fmt: skip


def ports_table(stats: dict[str, Any]) -> Table:
    """One row a port."""
    rows = [
        [
            name,
            port_state(port),
            port["received"],
            port["dispatched"],
            port["tx"]["transmitted"],
            drops_text(port["drops"]),
            drops_text(port["tx"]["drops"]),
        ]
        for name, port in stats["ports"].items()
    ]
    return Table(
        "ports",
        ("port", "state", "received", "dispatched", "transmitted", "drops in", "drops out"),
        rows,
    )


def waiting_table(stats: dict[str, Any]) -> Table:
    """One row a capture that is not played yet."""
    waiting = {name: port["waits_for"] for name, port in stats["ports"].items() if port["waits_for"]}
    return Table(
        "waiting", ("port", "for"), [[name, ", ".join(awaited)] for name, awaited in waiting.items()]
    )


def faults_table(stats: dict[str, Any]) -> Table:
    """One row for each file that could not be read to its end, or written."""
    faults = [[name, fault] for name, port in stats["ports"].items() for fault in port["faults"]]
    return Table("faults", ("port", "what"), faults)


def handles_table(title: str, handles: list[dict[str, Any]]) -> Table:
    """One row a handle."""
    rows = [
        [
            handle["nf"],
            handle["device"],
            handle["delivered"],
            handle.get("held", 0),
            *(handle.get("out", {}).get(key, 0) for key in ("forwarded", "mirrored", "released", "sent")),
            drops_text(handle["drops"]),
            drops_text(handle.get("out", {}).get("drops", {})),
        ]
        for handle in handles
    ]
    columns = (
        "nf",
        "device",
        "delivered",
        "held",
        "forwarded",
        "mirrored",
        "released",
        "sent",
        "drops in",
        "drops out",
    )
    return Table(title, columns, rows)


def nfs_table(stats: dict[str, Any]) -> Table:
    """One row an instance."""
    rows = [
        [name, str(nf["pid"]), nf["alive"], nf["stuck"], nf["refused"]]
        for name, nf in stats.get("nfs", {}).items()
    ]
    return Table("NFs", ("instance", "pid", "alive", "stuck", "refused descriptors"), rows)


def reclaims_table(reclaims: dict[str, Any]) -> Table:
    """One row, once there was something to take back."""
    rows = (
        [[reclaims[key] for key in ("count", "buffers", "last_us", "max_us")]]
        if reclaims.get("count")
        else []
    )
    return Table("reclaims", ("count", "buffers", "last µs", "longest µs"), rows)


def port_state(port: dict[str, Any]) -> str:
    """What a port is doing, in a word or two."""
    if not port["present"]:
        return "removed"
    if not port["link"]:
        return "no link"
    if port["waits_for"]:
        return "waiting"
    if port["started"]:
        return "ended" if port["ended"] else "playing"
    return "up"
