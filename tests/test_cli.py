"""The command line: what needs no platform runs anywhere; the rest skips visibly without the extension."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import call, error_line
from mvmp import cli
from mvmp.commands import doctor, machine, output, run, status, up
from mvmp.commands.output import CommandError, Table
from mvmp.commands.platform_socket import default_socket

try:
    from mvmp import _mvmp

    HAS_PLATFORM = hasattr(_mvmp, "Platform") and hasattr(_mvmp, "check_config")
except ImportError:
    HAS_PLATFORM = False

needs_platform = pytest.mark.skipif(
    not HAS_PLATFORM, reason="the extension module is not built with the platform"
)

STATS: dict[str, Any] = {
    "platform": {"uptime_s": 3.25, "version": "0.1.0", "pages": "4 KiB", "lossless": True},
    "workers": [{"cpu": 1, "loops": 1000, "busy_loops": 10, "naps": 990}],
    "pools": [
        {
            "pool": 0,
            "name": "in",
            "worker": 0,
            "buffers": 4096,
            "free": 4095,
            "held": 1,
            "in_pmd": 0,
        }
    ],
    "ports": {
        "in": {
            "number": 0,
            "received": 12345,
            "bytes": 1,
            "dispatched": 12340,
            "drops": {"no_nf": 5},
            "tx": {"accepted": 3, "transmitted": 2, "drops": {"tx_full": 1}},
            "ended": True,
            "present": True,
            "link": True,
            "started": True,
            "waits_for": [],
            "faults": ["in.pcap is cut short"],
        }
    },
    "devices": {"bridge0": {"mode": "bridge", "ports": ["in"]}},
    "handles": [
        {
            "nf": "ids/0",
            "device": "bridge0",
            "offered": 12340,
            "delivered": 12338,
            "drops": {"ring_full": 2},
            "held": 1,
            "out": {"sent": 3, "forwarded": 0, "mirrored": 0, "released": 12334, "drops": {}},
        }
    ],
    "nfs": {"ids/0": {"role": "ids", "pid": 4711, "alive": True, "stuck": False, "refused": 0}},
    "closed_handles": [],
    "reclaims": {"count": 0, "buffers": 0, "last_us": 0, "max_us": 0},
}


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    finished = call(command, "--help")
    assert finished.returncode == 0
    assert f"mvmp {command}" in finished.stdout


def test_help_names_every_command_and_loads_no_numpy() -> None:
    program = (
        "import sys; from mvmp.cli import build_parser; print(build_parser().format_help()); "
        "print('loaded:', [m for m in ('numpy', 'rich') if m in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for command in cli.COMMANDS:
        assert f"    {command} " in finished.stdout
    assert "loaded: []" in finished.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("up",),
        ("up", "f.toml", "--port", "NIC1"),
        ("status", "-o", "xml"),
        ("status", "--watch", "-n", "0"),
        ("run", "x", "-w"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    finished = call(*arguments)
    error_line(finished, 2)


def test_a_script_that_is_not_there_is_one_line_and_exit_code_1() -> None:
    finished = call("run", "no-such-file.py")
    assert error_line(finished) == "no-such-file.py: no such file"


def test_run_refuses_to_write_without_a_capture(tmp_path: Path) -> None:
    script = tmp_path / "nf.py"
    script.write_text("")
    assert call("run", str(script), "-w", "out.pcap").returncode == 2


def test_run_without_a_capture_runs_the_script_with_its_arguments_and_socket(
    tmp_path: Path,
) -> None:
    script = tmp_path / "nf.py"
    script.write_text("import os, sys; print(sys.argv[1:], os.environ['MVMP_SOCKET'])")
    finished = call("run", str(script), "--socket", "/x/y.sock", "--depth", "3", "--", "--socket", "mine")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "['--depth', '3', '--socket', 'mine'] /x/y.sock"


def test_run_reports_a_script_that_fails(tmp_path: Path) -> None:
    script = tmp_path / "nf.py"
    script.write_text("raise SystemExit(7)")
    finished = call("run", str(script))
    assert "exit code 7" in error_line(finished)


def test_run_finds_the_devices_that_a_script_opens_in_the_order_of_its_text() -> None:
    source = """
def late(nf): return nf.open("virt9")
with mvmp.Nf("x") as nf:
    a = nf.open(device="bridge0"); b = nf.open("virt0", rx=False)
    c = nf.open("bridge0"); d = nf.open(name); e = open("file.txt")
"""
    assert run.opened_names(source, "nf.py") == ["virt9", "bridge0", "virt0"]


def test_run_says_so_when_a_script_opens_no_device_by_name(tmp_path: Path) -> None:
    script = tmp_path / "nf.py"
    script.write_text("import mvmp\nnf.open(name)\n")
    finished = call("run", str(script), "--pcap", "in.pcap")
    assert "found no device" in error_line(finished)


def test_run_says_where_a_script_is_not_python() -> None:
    with pytest.raises(CommandError, match=r"nf\.py:2:"):
        run.opened_names("x = 1\nwith with\n", "nf.py")


def test_the_private_platform_puts_the_first_name_on_the_capture() -> None:
    configuration = run.private_configuration(["span0", "virt0"], "in.pcap", "out.pcap")
    assert configuration["devices"] == {
        "span0": {"mode": "direct", "ports": ["capture"]},
        "virt0": {"mode": "rootless"},
    }
    capture = configuration["ports"]["capture"]
    assert (capture["loop"], capture["rate"]) == (1, "lossless")
    assert os.path.isabs(capture["pcap"]) and os.path.isabs(capture["out"])


def test_ports_are_replaced_by_name() -> None:
    assert up.replaced_ports(["NIC1=in.pcap,out=o.pcap", "NIC2=net_null0"]) == {
        "NIC1": "in.pcap,out=o.pcap",
        "NIC2": "net_null0",
    }
    assert up.replaced_ports([]) is None


def test_the_summary_names_what_was_dropped() -> None:
    assert up.summary(STATS) == (
        "stopped after 3.2 s: received 12,345, transmitted 2; drops: no_nf 5, ring_full 2, tx_full 1"
    )


def test_the_default_socket_follows_environment_and_user() -> None:
    assert default_socket({"MVMP_SOCKET": "/s"}, 0) == "/s"
    assert default_socket({}, 0) == "/run/mvmp/mvmp.sock"
    assert default_socket({"XDG_RUNTIME_DIR": "/run/user/7"}, 7) == "/run/user/7/mvmp/mvmp.sock"
    assert default_socket({}, 7) == "/tmp/mvmp-7/mvmp.sock"


def test_a_plain_table_is_aligned_and_numbers_are_to_the_right() -> None:
    table = Table("ports", ("port", "received"), [["in", 12345], ["a-longer-name", 7]])
    assert output.plain_table(table).splitlines() == [
        "ports",
        "  port           received",
        "  in               12,345",
        "  a-longer-name         7",
    ]


def test_status_shows_ports_handles_and_drops(capsys: pytest.CaptureFixture[str]) -> None:
    status.show(STATS, argparse.Namespace(output="text", watch=False))
    shown = capsys.readouterr().out
    for expected in (
        "up 3 s",
        "lossless",
        "12,345",
        "ended",
        "no_nf 5",
        "tx_full 1",
        "ring_full 2",
        "ids/0",
        "4711",
        "in.pcap is cut short",
    ):
        assert expected in shown
    assert "reclaims" not in shown, "a table without rows is not shown"


def test_status_as_json_is_the_tree(capsys: pytest.CaptureFixture[str]) -> None:
    status.show(STATS, argparse.Namespace(output="json", watch=True))
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1, "one line for each snapshot that is watched"
    assert json.loads(shown) == STATS


def test_doctor_finds_seals_on_a_kernel_that_has_them() -> None:
    if machine.probe_seals() is not None:
        pytest.skip("this kernel has no F_SEAL_FUTURE_WRITE")
    assert machine.seals(None).state == "ok"
    assert machine.seals("Invalid argument").state == "missing"


def test_doctor_reads_capabilities() -> None:
    assert machine.effective_capabilities("Name:\tx\nCapEff:\t0000000000003000\n") == {
        "NET_ADMIN",
        "NET_RAW",
    }
    assert machine.effective_capabilities("") == set()


def test_doctor_writes_cpus_as_ranges() -> None:
    assert machine.ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"


def test_doctor_never_claims_to_know_physical_nics() -> None:
    assert "no physical NIC was used in any test of this release" in machine.nics().found


def test_every_finding_about_this_machine_says_something() -> None:
    findings = [
        machine.huge_pages(),
        machine.cpus(),
        machine.rights(),
        machine.locked_memory(),
        *machine.offloads(),
    ]
    for finding in findings:
        assert finding.found
        assert finding.state in doctor.MARKS


def test_doctor_without_the_extension_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mvmp._mvmp", None)
    monkeypatch.delattr("mvmp._mvmp", raising=False)
    states = {finding.subject: finding.state for finding in doctor.extension()}
    assert states["extension"] == "missing"


@needs_platform
def test_doctor_says_that_the_platform_can_run_here() -> None:
    finished = call("doctor", "-o", "json")
    report = json.loads(finished.stdout)
    assert finished.returncode == 0 and report["usable"], report
    assert {"DPDK", "seals"} <= {finding["subject"] for finding in report["findings"]}
