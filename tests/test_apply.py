"""`mvmp apply`, `mvmp status --policies`, `mvmp check --policies`: with a platform that runs, and without."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp
from mvmp import _mvmp, cli
from mvmp.commands import table1

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

RUNNING = """
[platform]
buffers = 4096

[ports]
a = "net_null0"
b = "net_null1"

[devices.bridge0]
mode = "bridge"
ports = ["a", "b"]
receive = { a = "tcp" }

[devices.virt0]
mode = "rootless"

[nfs.ids]
devices = ["bridge0:rx", "virt0"]
"""


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[str]:
    """The socket of a platform that runs `running.toml`."""
    file = tmp_path / "running.toml"
    file.write_text(RUNNING)
    with mvmp.Platform(file, socket=str(tmp_path / "mvmp.sock")) as platform:
        yield platform.socket


def apply(socket: str, tmp_path: Path, text: str, *options: str) -> int:
    file = tmp_path / "new.toml"
    file.write_text(text)
    return cli.main(["apply", str(file), "--socket", socket, *options])


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    socket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = RUNNING.replace('"tcp"', '"tcp port 80"').replace('"virt0"]', '"virt0:tx"]')
    assert apply(socket, tmp_path, new, "--dry-run") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        '~ devices.bridge0: receive.a.match: "tcp" → "tcp port 80"',
        '~ nfs.ids: devices: ["bridge0:rx", "virt0"] → ["bridge0:rx", "virt0:tx"]',
    ]
    assert said[2].endswith("new.toml: 2 changes")
    held = _mvmp.operator(socket, {"type": "config"})["config"]
    assert held["devices"]["bridge0"]["receive"]["a"]["match"] == "tcp"


def test_the_file_that_runs_changes_nothing(
    socket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply(socket, tmp_path, RUNNING) == 0
    assert capsys.readouterr().out.endswith("new.toml: nothing to change\n")


def test_what_cannot_be_done_is_said_and_nothing_is_changed(
    socket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = RUNNING.replace("4096", "8192\nstall_s = 7").replace(
        'b = "net_null1"', 'b = { devargs = "net_null1", max_frame = 9600 }'
    )
    assert apply(socket, tmp_path, new) == 1
    said = capsys.readouterr()
    assert "! platform.buffers: not while the platform runs: pools are made once" in said.out
    assert "! ports.b: not while the platform runs: frames of 9600 bytes do not fit" in said.out
    assert said.err == ("mvmp: error: 2 changes cannot be made while the platform runs; nothing is changed\n")
    assert _mvmp.operator(socket, {"type": "config"})["config"]["platform"]["stall_s"] == 5
    assert apply(socket, tmp_path, new, "--dry-run", "-o", "json") == 1
    reply = json.loads(capsys.readouterr().out)
    refused = {item["name"]: bool(item["refused"]) for item in reply["items"]}
    assert refused == {"buffers": True, "stall_s": False, "b": True}


def test_what_is_read_where_it_is_used_holds_at_once(
    socket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply(socket, tmp_path, RUNNING.replace("4096", "4096\nstall_s = 7\nopen = true")) == 0
    assert capsys.readouterr().out.endswith("new.toml: applied, 2 changes\n")
    with mvmp.Nf("stranger", socket=socket) as nf:
        assert nf.open("virt0") is not None
    assert _mvmp.operator(socket, {"type": "config"})["config"]["platform"]["stall_s"] == 7


def test_a_wrong_file_is_told_with_line_column_and_hint(
    socket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply(socket, tmp_path, RUNNING.replace('"tcp"', '"tpc"')) == 1
    said = capsys.readouterr().err
    assert "new.toml:12:18: devices.bridge0.receive.a: " in said and "did you mean `tcp`?" in said
    assert apply(socket, tmp_path, RUNNING.replace("[ports]", "[prots]"), "-o", "json") == 1
    reply = json.loads(capsys.readouterr().out)
    assert (reply["line"], reply["column"], reply["key"]) == (5, 2, "prots")


def test_a_file_longer_than_a_datagram_is_read_whole(
    socket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = " or ".join(f"tcp port {port}" for port in range(1, 2500))
    devices = "".join(
        f'[devices.d{number}]\nmode = "direct"\nports = ["a"]\nreceive.a = "{rule}"\n' for number in range(4)
    )
    assert apply(socket, tmp_path, devices + RUNNING, "--dry-run", "-o", "json") == 0
    reply = json.loads(capsys.readouterr().out)
    assert [item["summary"] for item in reply["items"]] == ["direct over a"] * 4


def test_ports_that_were_replaced_at_the_start_are_replaced_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "running.toml"
    file.write_text(RUNNING)
    replaced = {"a": "net_null2"}
    with mvmp.Platform(file, socket=str(tmp_path / "mvmp.sock"), ports=replaced) as platform:
        assert apply(platform.socket, tmp_path, RUNNING, "--port", "a=net_null2") == 0
        assert "nothing to change" in capsys.readouterr().out
        assert apply(platform.socket, tmp_path, RUNNING, "--dry-run") == 1
        said = capsys.readouterr().out
        assert 'ports.a: devargs: "net_null2" → "net_null0"' in said
        assert "a port in use cannot change" in said


def test_nobody_answers_where_no_platform_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert apply(str(tmp_path / "mvmp.sock"), tmp_path, RUNNING) == 1
    assert "no platform answers" in capsys.readouterr().err


def test_the_policies_of_a_platform_are_those_of_its_file(
    socket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", "--policies", "--socket", socket]) == 0
    running = capsys.readouterr().out
    assert cli.main(["check", "--policies", str(tmp_path / "running.toml")]) == 0
    assert capsys.readouterr().out == running
    assert running.splitlines()[:8] == [
        "policies",
        "  port       bridge0              virt0",
        "             bridge               rootless",
        "  a          tcp                  -",
        "  net_null0",
        "  b          nothing is received  -",
        "  net_null1",
        "  (sending)  opposite             -",
    ]


def test_a_cell_shows_everything_that_it_says(tmp_path: Path) -> None:
    config = _mvmp.read_config(
        {
            "ports": {"in": {"pcap": "a.pcap", "out": "b.pcap"}, "up": {"interface": "eth1"}},
            "devices": {
                "d": {
                    "mode": "bond",
                    "ports": ["in", "up"],
                    "receive": {
                        "in": {
                            "match": "udp",
                            "decap": ["vlan", "vxlan"],
                            "strip": ["mpls"],
                            "direction": "out",
                        },
                        "up": {"decap": "auto"},
                    },
                    "send": {
                        "policy": "hash",
                        "up": {
                            "encap": [
                                {"vlan": {"id": 3, "pcp": 1, "tpid": 0x88A8}},
                                {"vxlan": {"vni": 42, "local": "192.0.2.1", "remote": "192.0.2.7"}},
                            ],
                            "ethernet": {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"},
                        },
                    },
                    "absent": "bypass",
                }
            },
        }
    )
    shown = table1.policies(config)
    assert shown.columns == ("port", "d\nbond")
    assert shown.rows == [
        ["in\na.pcap → b.pcap", "udp\ndecap vlan, vxlan\nstrip mpls\ndirection out"],
        [
            "up\ninterface eth1",
            "all\ndecap auto\nencap vlan id 3 pcp 1 tpid 0x88a8\n"
            "encap vxlan vni 42 192.0.2.1 → 192.0.2.7\nethernet 02:00:00:00:00:01 → 02:00:00:00:00:02",
        ],
        ["(sending)", "hash\nbypass without an NF"],
    ]


def test_policies_as_json_are_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.toml"
    file.write_text(RUNNING)
    table1.show(_mvmp.read_config(file), argparse.Namespace(output="json"))
    shown = json.loads(capsys.readouterr().out)
    assert _mvmp.read_config(shown) == shown
    assert shown["nfs"]["ids"]["devices"] == ["bridge0:rx", "virt0"]
