"""`mvmp policy test`: the policies of a configuration and a capture, without a platform."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

from mvmp import _mvmp, cli

if not hasattr(_mvmp, "rehearse_capture"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

POLICIES = Path(__file__).parent.parent / "policies"

CONFIG = """
[ports]
span = { pcap = "unused.pcap", max_frame = 200 }
up = "net_null0"

[devices.inside]
mode = "direct"
ports = ["span"]
receive = { span = { match = "tcp port 80", decap = ["vlan", "vxlan"] } }

[devices.outside]
mode = "direct"
ports = ["span"]
receive = { span = "udp dst port 4789" }

[devices.back]
mode = "direct"
ports = ["span"]
receive = { span = { direction = "out" } }

[devices.empty]
mode = "bridge"
ports = ["span", "up"]
receive = {}
"""

MACS = bytes(12)


def ipv4(protocol: int, payload: bytes) -> bytes:
    return (
        struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
        + bytes([192, 0, 2, 1, 192, 0, 2, 2])
        + payload
    )


def tcp(port: int) -> bytes:
    return struct.pack(">HHIIBBHHH", 40000, port, 0, 0, 0x50, 2, 0, 0, 0)


def udp(port: int, payload: bytes) -> bytes:
    return struct.pack(">HHHH", 40000, port, 8 + len(payload), 0) + payload


def vxlan(vni: int, frame: bytes) -> bytes:
    return struct.pack(">II", 0x08000000, vni << 8) + frame


WEB = MACS + b"\x08\x00" + ipv4(6, tcp(80))
IN_TUNNEL = MACS + b"\x81\x00\x00\x07\x08\x00" + ipv4(17, udp(4789, vxlan(42, WEB)))
PACKETS = [WEB, IN_TUNNEL, MACS + b"\x08\x00" + ipv4(6, tcp(22)), MACS + b"\x08\x00" + bytes(300)]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A configuration and a capture."""
    config, capture = tmp_path / "c.toml", tmp_path / "in.pcap"
    config.write_text(CONFIG)
    records = b"".join(struct.pack("<IIII", 1, 0, len(p), len(p)) + p for p in PACKETS)
    capture.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + records)
    return [str(config), str(capture)]


def test_the_sums_say_who_would_be_handed_what(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["policy", "test", *files, "--port", "span"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "packets that came in by span",
        "  device   packets  bytes  jumped  rule",
        "  inside         2    108       1  tcp port 80",
        "  outside        1    108       0  udp dst port 4789",
        "  back           0      0       0  all (of what leaves)",
        "4 packets, 1 that no device wants, 1 too long",
    ]


def test_packet_by_packet_it_says_what_is_jumped_over_and_what_the_rule_is_asked_of(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["policy", "test", *files, "--port", "span", "-v"]) == 0
    said = capsys.readouterr().out
    assert (
        "packet 2, 108 bytes\n"
        "  + inside: ethernet/ipv4/tcp behind ethernet/vlan 7/ipv4/udp/vxlan 42 matches `tcp port 80`\n"
        "  + outside: ethernet/vlan 7/ipv4/udp/vxlan 42/ethernet/ipv4/tcp matches `udp dst port 4789`\n"
    ) in said
    assert "  - inside: ethernet/ipv4/tcp does not match `tcp port 80`\n" in said
    assert "  - back: receives what leaves, not what comes in\n" in said
    assert "packet 4, 314 bytes: longer than the port's max_frame\n" in said


def test_it_says_why_no_more_is_seen_of_a_packet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = MACS + b"\x08\x00" + ipv4(47, b"\0\0\x08\0" + ipv4(17, udp(99, b"")))
    first = whole[:20] + b"\x20\x00" + whole[22:]
    tags = MACS + b"\x81\x00\x00\x07" * 30 + whole[12:]
    config, capture = tmp_path / "c.toml", tmp_path / "in.pcap"
    config.write_text(
        CONFIG.replace('match = "tcp port 80", decap = ["vlan", "vxlan"]', 'match = "udp", decap = "auto"')
    )
    records = b"".join(
        struct.pack("<IIII", 1, 0, len(p), len(p)) + p for p in (whole, first, whole[:50], tags)
    )
    capture.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + records)
    assert cli.main(["policy", "test", str(config), str(capture), "--port", "span", "-v"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if " inside: " in line]
    assert said == [
        "  + inside: ipv4/udp behind ethernet/ipv4/gre matches `udp`",
        "  - inside: ethernet/ipv4/(a fragment: not looked into) does not match `udp`",
        "  - inside: ethernet/ipv4/gre/(cut short) does not match `udp`",
        f"  - inside: ethernet/{'/'.join(['vlan 7'] * 23)}/(deeper than is looked) does not match `udp`",
    ]


def test_as_json_only_so_many_packets_are_told(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["policy", "test", *files, "--port", "span", "-v", "-n", "2", "-o", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [packet["packet"] for packet in report["told"]] == [1, 2]
    assert (report["packets"], report["unmatched"], report["too_long"]) == (4, 1, 1)
    assert report["told"][1]["devices"][0]["jumped"] == ["ethernet", "vlan 7", "ipv4", "udp", "vxlan 42"]


def test_mistakes_are_one_line(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [
        ([*files], 2, "name the port with --port NAME; its ports: span, up"),
        ([*files, "--port", "spam"], 2, "unknown port `spam`; ports are `span`, `up`"),
        ([files[0], files[0], "--port", "span"], 1, "c.toml"),
        ([files[0], "no-such.pcap", "--port", "span"], 1, "no-such.pcap"),
        ([*files, "--port", "span", "-n", "-1"], 2, "a number of packets"),
    ]
    for arguments, code, text in wrong:
        assert cli.main(["policy", "test", *arguments]) == code
        error = capsys.readouterr().err
        assert error.startswith("mvmp: error: ") and text in error and error.count("\n") == 1


def test_the_only_port_needs_no_name(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["policy", "test", str(POLICIES / "ids-in-vxlan.toml"), files[1]]) == 0
    said = capsys.readouterr().out
    assert "tenant42        1     54       1  vxlan 42" in said
    assert "inside          3" in said and "outside         4" in said
    assert cli.main(["policy", "test", str(POLICIES / "demo.toml"), files[1]]) == 0
    assert "packets that came in by in\n" in capsys.readouterr().out, "by `out` nothing comes in"
