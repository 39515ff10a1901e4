"""The command line with platforms: up, down, status, run, check."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp
from capture_files import write_pcap
from command_line import MVMP, call, error_line
from mvmp import cli

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

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


def test_the_schema_is_json() -> None:
    assert "properties" in json.loads(call("schema").stdout)


def test_check_accepts_a_good_configuration_and_refuses_a_bad_one(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(ROOTLESS)
    bad.write_text(ROOTLESS.replace("buffers", "bufers"))
    finished = call("check", str(good))
    assert finished.returncode == 0 and ": ok, " in finished.stdout, finished
    refused = call("check", str(bad))
    assert "bad.toml:3:" in error_line(refused) and "buffers" in error_line(refused)
    as_json = call("check", str(bad), "-o", "json")
    assert as_json.returncode == 1 and json.loads(as_json.stdout)["ok"] is False


def test_nobody_answers_where_no_platform_is(tmp_path: Path) -> None:
    for command in ("status", "down"):
        finished = call(command, "--socket", str(tmp_path / "mvmp.sock"))
        assert "no platform answers" in error_line(finished)


def test_a_detached_platform_shows_its_status_and_goes_down(tmp_path: Path) -> None:
    file, socket = tmp_path / "p.toml", str(tmp_path / "mvmp.sock")
    file.write_text(ROOTLESS)
    started = call("up", str(file), "-d", "--socket", socket, "-o", "json")
    assert started.returncode == 0, started.stderr
    ready = json.loads(started.stdout)
    try:
        assert ready["devices"] == ["virt0"]
        stats = json.loads(call("status", "--socket", socket, "-o", "json").stdout)
        assert stats["devices"]["virt0"]["mode"] == "rootless"
        assert "pools" in call("status", "--socket", socket).stdout
    finally:
        stopped = call("down", "--socket", socket)
    assert stopped.returncode == 0, stopped.stderr
    assert call("status", "--socket", socket).returncode == 1


def test_one_folder_serves_the_platform_its_commands_and_its_nfs(tmp_path: Path) -> None:
    file, script = tmp_path / "p.toml", tmp_path / "nf.py"
    file.write_text('[devices.virt0]\nmode = "rootless"\n[nfs.ids]\ndevices = ["virt0"]\n')
    script.write_text('import mvmp\nwith mvmp.Nf("ids") as nf:\n    print(nf.open("virt0").device)\n')
    environment = {**os.environ, "MVMP_SOCKET": str(tmp_path)}
    started = call("up", str(file), "-d", env=environment)
    assert started.returncode == 0, started.stderr
    try:
        assert call("run", str(script), env=environment).stdout == "virt0\n"
        assert "virt0" in call("status", "--policies", env=environment).stdout
    finally:
        assert call("down", env=environment).returncode == 0


@pytest.mark.parametrize(
    ("platform", "capture", "awaited"),
    [
        ({}, {}, "ids to open virt0, late"),
        ({}, {"wait_for": ["late"]}, "late"),
        ({}, {"wait_for": 3}, "handles on its devices (1 of 3 are open)"),
        ({"open": True}, {}, "a handle on other"),
    ],
)
def test_status_says_what_a_capture_waits_for(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    platform: dict[str, Any],
    capture: dict[str, Any],
    awaited: str,
) -> None:
    config = {
        "platform": platform,
        "ports": {"in": {"pcap": str(write_pcap(tmp_path / "in.pcap", [bytes(60)])), **capture}},
        "devices": {
            "tap": {"mode": "direct", "ports": ["in"]},
            "other": {"mode": "direct", "ports": ["in"]},
            "virt0": {"mode": "rootless"},
        },
        "nfs": {"ids": {"devices": ["tap:rx", "virt0:tx"]}, "late": {"devices": ["tap:rx"]}},
    }
    with (
        mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as running,
        mvmp.Nf("ids", socket=str(tmp_path)) as nf,
    ):
        nf.open("tap")
        assert cli.main(["status", "--socket", str(tmp_path)]) == 0
        lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
        assert ["in", awaited] in lines
        assert any(line[0] == "in" and line[1].startswith("waiting ") for line in lines if len(line) > 1)
        with pytest.raises(TimeoutError, match=re.escape(f"port in waits for {awaited}")):
            running.wait_drained(timeout=0)


def test_a_detached_platform_that_cannot_start_says_why(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text("[platform]\nnonsense = 1\n")
    finished = call("up", str(file), "-d", "--socket", str(tmp_path / "mvmp.sock"))
    assert "nonsense" in error_line(finished)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_platform_in_order(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "p.toml"
    file.write_text(ROOTLESS)
    command = [*MVMP, "up", str(file), "--socket", str(tmp_path / "mvmp.sock")]
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


def test_an_nf_runs_on_a_capture_and_writes_another(tmp_path: Path) -> None:
    script = tmp_path / "nf.py"
    script.write_text(COUNTING_NF)
    frames = [bytes(12) + b"\x08\x00" + bytes([i]) * 50 for i in range(37)]
    capture, out = write_pcap(tmp_path / "in.pcap", frames), tmp_path / "out.pcap"
    finished = call("run", str(script), "--pcap", str(capture), "-w", str(out), "--deep")
    assert finished.returncode == 0, finished.stderr
    assert "arguments ['--deep'] packets 37" in finished.stdout
    assert "37 packets in, 37 out" in finished.stderr
    from mvmp.demo.capture_file import frames as read_frames

    assert list(read_frames(out)) == frames


def test_up_until_drained_ends_by_itself(tmp_path: Path) -> None:
    frames = [bytes(12) + b"\x08\x00" + bytes(50)] * 5
    capture = write_pcap(tmp_path / "in.pcap", frames)
    file, socket = tmp_path / "p.toml", str(tmp_path / "mvmp.sock")
    file.write_text(
        '[platform]\nopen = true\n[ports]\nin = "net_null0"\n'
        '[devices.span0]\nmode = "direct"\nports = ["in"]\n'
    )
    script = tmp_path / "nf.py"
    script.write_text(COUNTING_NF)
    command = [*MVMP, "up", str(file), "--socket", socket, "--port", f"in={capture}"]
    with subprocess.Popen([*command, "--until-drained"], stdout=subprocess.PIPE, text=True) as platform:
        deadline = time.monotonic() + 20
        while not os.path.exists(socket) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert call("run", str(script), "--socket", socket).returncode == 0
        said, _ = platform.communicate(timeout=30)
    assert platform.returncode == 0
    assert "received 5, transmitted 5" in said
