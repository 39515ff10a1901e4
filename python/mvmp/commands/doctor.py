"""`mvmp doctor`: what this machine offers, what is missing, and the command that mends it.

It reads /proc and /sys and asks the extension, and initialises no EAL. Exit code 1 only if the platform
cannot run here.
"""

from __future__ import annotations

import argparse
from typing import Any

from mvmp.commands import machine
from mvmp.commands.machine import Finding
from mvmp.commands.output import add_output_option, print_json

MARKS = {"ok": "ok", "note": "note", "missing": "MISSING"}


def configure(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "doctor",
        help="what this machine offers, and how to mend what is missing",
        description="Looks at kernel, huge pages, CPUs, rights and NICs, and names the command that mends "
        "what is missing. Exit code 1: the platform cannot run here.",
    )
    add_output_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the findings."""
    findings = [
        *extension(),
        machine.huge_pages(),
        machine.cpus(),
        machine.rights(),
        machine.locked_memory(),
        machine.nics(),
        *machine.offloads(),
    ]
    usable = all(finding.state != "missing" for finding in findings)
    if args.output == "json":
        print_json({"usable": usable, "findings": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            print(f"{MARKS[finding.state]:8}{finding.subject:16}{finding.found}")
            if finding.mend:
                print(f"{'':24}mend: {finding.mend}")
        print("the platform can run here" if usable else "the platform cannot run here")
    return 0 if usable else 1


def extension() -> list[Finding]:
    """What the extension knows: seals, DPDK and its drivers."""
    try:
        from mvmp import _mvmp

        facts: dict[str, Any] = _mvmp.doctor_facts()
    except (ImportError, AttributeError) as error:
        what = f"the extension has no platform inside: {error}"
        return [
            Finding("extension", "missing", what, "pip install --force-reinstall mvmp"),
            machine.seals(None),
        ]
    drivers = ", ".join(facts.get("drivers", [])) or "none"
    dpdk = Finding("DPDK", "ok", f"{facts.get('dpdk_version', 'unknown')}; drivers: {drivers}")
    return [dpdk, machine.seals(facts.get("seals"))]
