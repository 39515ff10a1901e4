"""The command line: what needs no platform runs anywhere; the rest skips visibly without the extension."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
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

ROOTLESS = """
[platform]
buffers = 4096
open = true
[devices.virt0]
mode = "rootless"
"""

COUNTING_NF = """
import sys
import mvmp
with mvmp.Nf("any", wait=5.0) as nf:
    device = nf.open("span0")
    count = 0
    for burst in device.bursts(64):
        count += len(burst)
        device.tx_burst(burst)
print("arguments", sys.argv[1:], "packets", count)
"""

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
            "started": False,
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


def mvmp(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    command = [sys.executable, "-m", "mvmp.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def error_line(finished: subprocess.CompletedProcess[str]) -> str:
    """The one line that an error is."""
    lines = finished.stderr.strip().splitlines()
    assert len(lines) == 1, finished.stderr
    assert lines[0].startswith("mvmp: error: ")
    return lines[0]


def small_capture(path: Path, frames: list[bytes]) -> Path:
    """Writes a pcap file."""
    header = bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 ffff0000 01000000")
    records = b"".join(
        (1_700_000_000 + i).to_bytes(4, "little") + bytes(4) + len(frame).to_bytes(4, "little") * 2 + frame
        for i, frame in enumerate(frames)
    )
    path.write_bytes(header + records)
    return path


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    finished = mvmp(command, "--help")
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
        ("run", "x", "-w"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    finished = mvmp(*arguments)
    assert finished.returncode == 2
    error_line(finished)


def test_a_script_that_is_not_there_is_one_line_and_exit_code_1() -> None:
    finished = mvmp("run", "no-such-file.py")
    assert finished.returncode == 1
    assert error_line(finished) == "mvmp: error: no-such-file.py: no such file"


def test_run_refuses_to_write_without_a_capture(tmp_path: Path) -> None:
    script = tmp_path / "nf.py"
    script.write_text("")
    assert mvmp("run", str(script), "-w", "out.pcap").returncode == 2


def test_run_without_a_capture_runs_the_script_with_its_arguments_and_socket(
    tmp_path: Path,
) -> None:
    script = tmp_path / "nf.py"
    script.write_text("import os, sys; print(sys.argv[1:], os.environ['MVMP_SOCKET'])")
    finished = mvmp("run", str(script), "--socket", "/x/y.sock", "--depth", "3", "--", "--socket", "mine")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "['--depth', '3', '--socket', 'mine'] /x/y.sock"


def test_run_reports_a_script_that_fails(tmp_path: Path) -> None:
    script = tmp_path / "nf.py"
    script.write_text("raise SystemExit(7)")
    finished = mvmp("run", str(script))
    assert finished.returncode == 1
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
    finished = mvmp("run", str(script), "--pcap", "in.pcap")
    assert finished.returncode == 1
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
    finished = mvmp("doctor", "-o", "json")
    report = json.loads(finished.stdout)
    assert finished.returncode == 0 and report["usable"], report
    assert {"DPDK", "seals"} <= {finding["subject"] for finding in report["findings"]}


@needs_platform
def test_the_schema_is_json() -> None:
    assert "properties" in json.loads(mvmp("schema").stdout)


@needs_platform
def test_check_accepts_a_good_configuration_and_refuses_a_bad_one(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(ROOTLESS)
    bad.write_text(ROOTLESS.replace("buffers", "bufers"))
    finished = mvmp("check", str(good))
    assert finished.returncode == 0 and ": ok, " in finished.stdout, finished
    refused = mvmp("check", str(bad))
    assert refused.returncode == 1
    assert "bad.toml:3:" in error_line(refused) and "buffers" in error_line(refused)
    as_json = mvmp("check", str(bad), "-o", "json")
    assert as_json.returncode == 1 and json.loads(as_json.stdout)["ok"] is False


@needs_platform
def test_nobody_answers_where_no_platform_is(tmp_path: Path) -> None:
    for command in ("status", "down"):
        finished = mvmp(command, "--socket", str(tmp_path / "mvmp.sock"))
        assert finished.returncode == 1
        assert "no platform answers" in error_line(finished)


@needs_platform
def test_a_detached_platform_shows_its_status_and_goes_down(tmp_path: Path) -> None:
    file, socket = tmp_path / "p.toml", str(tmp_path / "mvmp.sock")
    file.write_text(ROOTLESS)
    started = mvmp("up", str(file), "-d", "--socket", socket, "-o", "json")
    assert started.returncode == 0, started.stderr
    ready = json.loads(started.stdout)
    try:
        assert ready["devices"] == ["virt0"]
        stats = json.loads(mvmp("status", "--socket", socket, "-o", "json").stdout)
        assert stats["devices"]["virt0"]["mode"] == "rootless"
        assert "pools" in mvmp("status", "--socket", socket).stdout
    finally:
        stopped = mvmp("down", "--socket", socket)
    assert stopped.returncode == 0, stopped.stderr
    assert mvmp("status", "--socket", socket).returncode == 1


@needs_platform
def test_a_detached_platform_that_cannot_start_says_why(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text("[platform]\nnonsense = 1\n")
    finished = mvmp("up", str(file), "-d", "--socket", str(tmp_path / "mvmp.sock"))
    assert finished.returncode == 1
    assert "nonsense" in error_line(finished)


@needs_platform
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_platform_in_order(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "p.toml"
    file.write_text(ROOTLESS)
    command = [
        sys.executable,
        "-m",
        "mvmp.cli",
        "up",
        str(file),
        "--socket",
        str(tmp_path / "mvmp.sock"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as platform:
        try:
            assert platform.stdout is not None
            assert platform.stdout.readline()  # who and where
            assert platform.stdout.readline().startswith("ready: ")
            platform.send_signal(number)
            said, _ = platform.communicate(timeout=30)
        finally:
            platform.kill()
    assert platform.returncode == 0
    assert said.startswith("stopped after ")


@needs_platform
def test_an_nf_runs_on_a_capture_and_writes_another(tmp_path: Path) -> None:
    script = tmp_path / "nf.py"
    script.write_text(COUNTING_NF)
    frames = [bytes(12) + b"\x08\x00" + bytes([i]) * 50 for i in range(37)]
    capture, out = small_capture(tmp_path / "in.pcap", frames), tmp_path / "out.pcap"
    finished = mvmp("run", str(script), "--pcap", str(capture), "-w", str(out), "--deep")
    assert finished.returncode == 0, finished.stderr
    assert "arguments ['--deep'] packets 37" in finished.stdout
    assert "37 packets in, 37 out" in finished.stderr
    from mvmp.demo.capture_file import frames as read_frames

    assert list(read_frames(out)) == frames


@needs_platform
def test_up_until_drained_ends_by_itself(tmp_path: Path) -> None:
    frames = [bytes(12) + b"\x08\x00" + bytes(50)] * 5
    capture = small_capture(tmp_path / "in.pcap", frames)
    file, socket = tmp_path / "p.toml", str(tmp_path / "mvmp.sock")
    file.write_text(
        '[platform]\nopen = true\n[ports]\nin = "net_null0"\n'
        '[devices.span0]\nmode = "direct"\nports = ["in"]\n'
    )
    script = tmp_path / "nf.py"
    script.write_text(COUNTING_NF)
    command = [
        sys.executable,
        "-m",
        "mvmp.cli",
        "up",
        str(file),
        "--socket",
        socket,
        "--port",
        f"in={capture}",
    ]
    with subprocess.Popen([*command, "--until-drained"], stdout=subprocess.PIPE, text=True) as platform:
        deadline = time.monotonic() + 20
        while not os.path.exists(socket) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert mvmp("run", str(script), "--socket", socket).returncode == 0
        said, _ = platform.communicate(timeout=30)
    assert platform.returncode == 0
    assert "received 5, transmitted 5" in said
