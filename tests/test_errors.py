"""What a user does wrong is answered by a sentence that says what, where, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from capture_files import NO_CAPTURES, captures_folder, write_pcap
from command_line import call, error_line

NULL = '[ports]\nnic = "net_null0"\n'
DIRECT = NULL + '[devices.span0]\nmode = "direct"\nports = ["nic"]\n'

# (configuration, line:column, words that must be in the message)
WRONG_CONFIGURATIONS = {
    "no-toml": ("[platform\n", "1:10", ["unclosed table"]),
    "unknown-key": ("[platform]\nbufers = 9\n", "2:1", ["platform.bufers", "did you mean `buffers`"]),
    "too-few-buffers": ("[platform]\nbuffers = 1\n", "2:11", ["out of range: 256 to"]),
    "cpu-twice": ("[platform]\nworkers = [0, 0]\n", "2:15", ["CPU 0 is listed twice"]),
    "unknown-mode": ('[devices.d]\nmode = "brige"\n', "2:8", ["did you mean `bridge`"]),
    "bond-without-ports": ('[devices.d]\nmode = "bond"\n', "1:10", ["two ports or more"]),
    "one-legged-bridge": (
        NULL + '[devices.d]\nmode = "bridge"\nports = ["nic"]\n',
        "5:9",
        ["a bridge has two ports or more"],
    ),
    "unknown-port": (
        NULL + '[devices.d]\nmode = "direct"\nports = ["nik"]\n',
        "5:10",
        ["did you mean `nic`"],
    ),
    "wrong-rule": (DIRECT + 'receive = { nic = "tcp prt 80" }\n', "6:24", ["`prt`", "did you mean `port`"]),
    "layer-of-none": (
        DIRECT + 'receive = { nic = { match = "tcp", decap = ["vlam"] } }\n',
        "",
        ["vlam", "vlan"],
    ),
    "both-jumped-and-stripped": (
        DIRECT + 'receive = { nic = { decap = ["vlan"], strip = ["vlan"] } }\n',
        "",
        ["vlan"],
    ),
    "no-network": (
        DIRECT + 'receive = { nic = "net 192.168.0.0/8" }\n',
        "6:24",
        ["not a network", "192.0.0.0/8"],
    ),
    "unknown-device": (DIRECT + '[nfs.ids]\ndevices = ["span1:rx"]\n', "7:12", ["unknown device `span1`"]),
    "unknown-right": (DIRECT + '[nfs.ids]\ndevices = ["span0:rw"]\n', "7:12", ["`:rw` is not a right"]),
    "long-interface": (
        '[ports]\na = { interface = "toolonginterfacename0" }\n',
        "2:19",
        ["not the name of a kernel interface"],
    ),
    "unknown-rate": (
        '[ports]\nf = { pcap = "x", rate = "fast" }\n',
        "2:26",
        ['"recorded", "max", "lossless"'],
    ),
    "frames-too-long": ('[ports]\nf = { pcap = "x", max_frame = 70000 }\n', "2:31", ["64 to 9600"]),
    "two-kinds-of-port": ('[ports]\nf = { pcap = "x", interface = "eth0" }\n', "", ["exclude each other"]),
}

# (rule, line, column, words of the message, a word of the hint)
WRONG_RULES = [
    ("", 1, 1, "empty", "`all`"),
    ("tcp prt 80", 1, 5, "`prt`", "`port`"),
    (" tcp\n and prt 80", 2, 6, "`prt`", "`port`"),
    ("(tcp", 1, 1, "never closed", None),
    ("tcp)", 1, 4, "without a `(`", None),
    ("tcp and", 1, 8, "expected a condition", None),
    ("port 70000", 1, 6, "0 to 65535", None),
    ("vlan 5000", 1, 6, "0 to 4095", None),
    ("portrange 5-2", 1, 11, "empty", "`2-5`"),
    ("host 300.1.1.1", 1, 6, "not an IP address", "names are not resolved"),
    ("host ::1/64", 1, 6, "not an IP address", "`net ::1/64`"),
    ("net 10.0.0.1/8", 1, 5, "bits are set behind", "10.0.0.0/8"),
    ("ether host 1:2", 1, 12, "not a MAC address", "00:11"),
    ("outer(tcp", 1, 6, "never closed", None),
    ("pcap:tcp prt", 1, 6, "syntax error", "pcap-filter(7)"),
    ("(" * 1000, 1, 65, "more than 64 deep", None),
    ("x" * 10_000, 1, 1, "unknown word", None),
]


@pytest.mark.parametrize("text, place, words", WRONG_CONFIGURATIONS.values(), ids=WRONG_CONFIGURATIONS)
def test_a_wrong_configuration_is_refused_with_its_place(
    tmp_path: Path, text: str, place: str, words: list[str]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(mvmp.ConfigError) as caught:
        mvmp.Platform(file, socket=tmp_path / "mvmp.sock")
    said = str(caught.value)
    assert said.startswith(f"{file}:{place}")
    assert said.startswith(f"{file}:{caught.value.line}:{caught.value.column}: ")
    assert all(word in said for word in words), said
    assert not (tmp_path / "mvmp.sock").exists()


def test_a_configuration_that_cannot_be_read_is_pythons_own_error_with_its_name(tmp_path: Path) -> None:
    missing, binary = tmp_path / "none.toml", tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path, error in [(missing, FileNotFoundError), (tmp_path, IsADirectoryError)]:
        with pytest.raises(error) as caught:
            mvmp.Platform(path, socket=tmp_path / "mvmp.sock")
        assert caught.value.filename == str(path)
    with pytest.raises(mvmp.ConfigError, match=r"binary\.toml: .*UTF-8"):
        mvmp.Platform(binary, socket=tmp_path / "mvmp.sock")


def test_check_and_up_say_the_same_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    said = {error_line(call(command, "none.toml", cwd=tmp_path), 1) for command in ("check", "up")}
    assert said == {"none.toml: No such file or directory"}
    verdict = call("check", "none.toml", "-o", "json", cwd=tmp_path)
    assert (verdict.returncode, json.loads(verdict.stdout)) == (
        1,
        {"file": "none.toml", "ok": False, "error": "No such file or directory", "warnings": []},
    )


def test_check_and_up_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[platform]\nbufers = 9\n")
    said = {error_line(call(command, "mine.toml", cwd=tmp_path)) for command in ("check", "up")}
    assert said == {"mine.toml:2:1: platform.bufers: unknown key `bufers` (hint: did you mean `buffers`?)"}


# (ports table's entry, words of the message): allowed by the schema, impossible on this machine
IMPOSSIBLE_PORTS = {
    "no-capture": ({"pcap": "/nonexistent/in.pcap"}, "cannot open /nonexistent/in.pcap: No such file"),
    "no-folder": ({"out": "/nonexistent/out.pcap"}, "cannot create /nonexistent/out.pcap: No such file"),
    "no-interface": ({"interface": "nope9"}, "interface nope9: there is no such interface"),
    "no-driver": ("net_nul0", "`net_nul0`: no such device, or its arguments are wrong"),
}


def on_a_port(port: Any) -> dict[str, Any]:
    """A configuration with one port."""
    device = {"mode": "direct", "ports": ["mine"]}
    return {"platform": {"open": True}, "ports": {"mine": port}, "devices": {"d": device}}


@pytest.mark.parametrize("port, words", IMPOSSIBLE_PORTS.values(), ids=IMPOSSIBLE_PORTS)
def test_a_port_that_cannot_be_opened_is_named_and_the_next_start_works(
    tmp_path: Path, port: Any, words: str
) -> None:
    socket = tmp_path / "mvmp.sock"
    with pytest.raises(mvmp.ConfigError, match=r"^port mine: ") as caught:
        mvmp.Platform(on_a_port(port), socket=socket)
    assert words in str(caught.value)
    assert not socket.exists()
    with mvmp.Platform(on_a_port("net_null0"), socket=socket) as platform:
        assert list(platform.stats()["ports"]) == ["mine"]


def test_what_is_no_capture_of_ethernet_or_ip_is_refused_by_name(tmp_path: Path) -> None:
    text = tmp_path / "text.pcap"
    text.write_text("hello")
    with pytest.raises(mvmp.Error, match=r"text\.pcap is not a pcap or pcapng file"):
        mvmp.Platform(on_a_port({"pcap": str(text)}), socket=tmp_path / "mvmp.sock")
    radio = bytearray(write_pcap(tmp_path / "radio.pcap", [b"x"]).read_bytes())
    radio[20] = 127  # 802.11 with radiotap
    (tmp_path / "radio.pcap").write_bytes(radio)
    with pytest.raises(mvmp.Error, match=r"radio\.pcap.*802\.11 with radiotap"):
        mvmp.Platform(on_a_port({"pcap": str(tmp_path / "radio.pcap")}), socket=tmp_path / "mvmp.sock")


@pytest.mark.skipif(captures_folder() is None, reason=NO_CAPTURES)
def test_a_capture_of_another_link_is_refused_whole(tmp_path: Path) -> None:
    folder = captures_folder()
    assert folder is not None
    file = folder / "libpcap" / "filter_ISIS_p2p_adjacency.pcap"
    with pytest.raises(mvmp.Error, match="Cisco HDLC"):
        mvmp.Platform(on_a_port({"pcap": str(file)}), socket=tmp_path / "mvmp.sock")


def test_the_command_line_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text(DIRECT)
    (tmp_path / "nf.py").write_text('import mvmp\nmvmp.Nf("x").open("d")\n')
    for arguments, code, words in [
        (["up", "none.toml"], 1, "none.toml: No such file"),
        (["up", "good.toml", "--port", "nic"], 2, "expected NAME=FILE"),
        (["up", "good.toml", "--port", "nik=in.pcap"], 1, "unknown port `nik` (hint: did you mean `nic`?)"),
        (["up", "good.toml", "--socket", "/proc/x/mvmp.sock"], 1, "/proc/x: No such file"),
        (["up", "good.toml", "--socket", "s" * 120], 1, "File name too long"),
        (["run", "none.py"], 1, "none.py: no such file"),
        (["run", "nf.py", "--pcap", "none.pcap"], 1, "none.pcap: no such file"),
        (["status", "--socket", "s"], 1, "no platform answers at s"),
        (["down", "--socket", "s"], 1, "start one with `mvmp up FILE`"),
        (["status", "-o", "xml"], 2, "invalid choice: 'xml'"),
    ]:
        assert words in error_line(call(*arguments, cwd=tmp_path), code), arguments


def test_a_script_whose_capture_is_none_says_which(tmp_path: Path) -> None:
    (tmp_path / "nf.py").write_text('import mvmp\nmvmp.Nf("x").open("d")\n')
    (tmp_path / "text.pcap").write_text("hello")
    said = error_line(call("run", "nf.py", "--pcap", "text.pcap", cwd=tmp_path))
    assert "text.pcap is not a pcap or pcapng file" in said


@pytest.mark.parametrize("rule, line, column, words, hint", WRONG_RULES, ids=lambda value: str(value)[:16])
def test_a_wrong_rule_is_refused_with_its_place(
    rule: str, line: int, column: int, words: str, hint: str | None
) -> None:
    with pytest.raises(mvmp.PolicyError) as caught:
        mvmp.Policy(rule)
    assert words in str(caught.value)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert hint is None if caught.value.hint is None else (hint or "") in caught.value.hint


ROLES = {
    "ports": {"nic": "net_null0"},
    "devices": {"span0": {"mode": "direct", "ports": ["nic"]}, "virt0": {"mode": "rootless"}},
    "nfs": {"ids": {"devices": ["span0:rx"]}, "guard": {"devices": ["span0"], "memory": "64K"}},
}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mvmp.Platform]:
    """A platform with two roles and no open door."""
    with mvmp.Platform(ROLES, socket=tmp_path_factory.mktemp("errors") / "mvmp.sock") as started:
        yield started


def test_ports_at_run_time_are_checked(platform: mvmp.Platform) -> None:
    def refused(words: str, call: Callable[..., None], *arguments: Any) -> None:
        with pytest.raises(mvmp.ConfigError) as caught:
            call(*arguments)
        assert words in str(caught.value)

    refused("`nic` is there already; remove it first", platform.add_port, "nic", "net_null1")
    refused("no device names a port `eth`; the configuration has nic", platform.add_port, "eth", "net_null1")
    refused("there is no port `eth`; there is nic", platform.remove_port, "eth")
    platform.remove_port("nic")
    refused("`nic` is not there now", platform.remove_port, "nic")
    refused("`net_nul1`: no such device", platform.add_port, "nic", "net_nul1")
    refused("no such interface", platform.add_port, "nic", {"interface": "nope9"})
    refused("unknown key `foo`", platform.add_port, "nic", {"foo": 1})
    refused(
        "cannot create /nonexistent/x.pcap: No such file",
        platform.add_port,
        "nic",
        {"out": "/nonexistent/x.pcap"},
    )
    refused(
        "cannot open /nonexistent/x.pcap: No such file",
        platform.add_port,
        "nic",
        {"pcap": "/nonexistent/x.pcap"},
    )
    refused("do not fit this domain's buffers", platform.add_port, "nic", {"out": "/dev/null"})
    platform.add_port("nic", "net_null1")
    assert platform.stats()["ports"]["nic"]["present"] is True


def own_socket(platform: mvmp.Platform, role: str) -> Path:
    """The socket whose possession makes an NF this role."""
    return Path(platform.socket).parent / "nf" / role / "mvmp.sock"


def test_who_may_not_connect_is_told_why(platform: mvmp.Platform, tmp_path: Path) -> None:
    with pytest.raises(mvmp.ConnectError, match=r"no such socket: is the platform running"):
        mvmp.Nf("ids", socket=tmp_path / "mvmp.sock")
    with pytest.raises(mvmp.NotAuthorized, match=r"may not speak for the role `other`.*\n.*\[nfs\.other\]"):
        mvmp.Nf("other", socket=platform.socket)
    with pytest.raises(mvmp.NotAuthorized, match=r"connect to nf/ids/mvmp\.sock beside it \(the folder"):
        mvmp.Nf("ids", socket=platform.socket)
    with pytest.raises(mvmp.NotAuthorized, match=r"belongs to the role `ids`, not to `guard`"):
        mvmp.Nf("guard", socket=own_socket(platform, "ids"))
    with (
        mvmp.Nf("ids", socket=own_socket(platform, "ids")),
        pytest.raises(mvmp.NameInUse, match=r"all 1 instances of `ids` are connected\n.*raise `instances`"),
    ):
        mvmp.Nf("ids", socket=own_socket(platform, "ids"))


def test_who_may_not_open_is_told_why(platform: mvmp.Platform) -> None:
    with mvmp.Nf("ids", socket=own_socket(platform, "ids")) as nf:
        with pytest.raises(mvmp.ConfigError, match="no device `span1`") as no_device:
            nf.open("span1")
        assert no_device.value.hint == "there is: span0, virt0"
        with pytest.raises(mvmp.NotAuthorized, match=r'(?s)may not open the device `virt0`.*add "virt0"'):
            nf.open("virt0")
        with pytest.raises(mvmp.NotAuthorized, match=r"may not send to the device `span0`"):
            nf.open("span0", tx=True)
        with pytest.raises(mvmp.ConfigError, match=r"neither for receiving nor for sending"):
            nf.open("span0", rx=False)
        with pytest.raises(mvmp.ConfigError, match=r"ring of 100 slots is not possible: a power of two"):
            nf.open("span0", ring=100)
        with pytest.raises(mvmp.PolicyError, match="`prt`") as wrong_rule:
            nf.open("span0", match="tcp prt 80")
        assert (wrong_rule.value.line, wrong_rule.value.column) == (1, 5)
        handle = nf.open("span0")
        burst = handle.rx_burst(8, timeout=20)
        with pytest.raises(mvmp.NotAuthorized, match=r"not open for sending"):
            handle.tx_burst(burst)
        assert burst.held == len(burst) > 0, "nothing has left"
    with pytest.raises(mvmp.Closed, match="closed"):
        handle.rx_burst(1)


def test_wrong_arguments_of_calls_are_refused_before_anything_moves(platform: mvmp.Platform) -> None:
    with mvmp.Nf("guard", socket=own_socket(platform, "guard")) as nf:
        handle = nf.open("span0")
        burst = handle.rx_burst(8, timeout=20)
        held = burst.held
        calls: list[tuple[type[Exception], str, Callable[[], object]]] = [
            (mvmp.ConfigError, "no port eth", lambda: handle.tx_burst(burst, in_port="eth")),
            (IndexError, "packet 99", lambda: handle.tx_burst(burst, [99])),
            (mvmp.ConfigError, "too long", lambda: handle.send([bytes(100_000)])),
            (TypeError, "bytes-like", lambda: handle.send([5])),  # type: ignore[list-item]
            (ValueError, r"link=5: give 1 \(Ethernet\), 4", lambda: handle.send([b"x"], link=5)),
            (ValueError, "0 packets", lambda: handle.rx_burst(0)),
            (OverflowError, "negative", lambda: handle.rx_burst(-1)),
            (ValueError, "-1 s", lambda: handle.rx_burst(1, timeout=-1)),
            (ValueError, "payload", lambda: burst.headers(4, at="end")),  # type: ignore[arg-type]
            (TypeError, "a burst takes", lambda: burst[1.5]),  # type: ignore[call-overload]
        ]
        for kind, words, call in calls:
            with pytest.raises(kind, match=words):
                call()
        assert burst.held == held > 0


def test_a_second_platform_in_one_process_is_refused(platform: mvmp.Platform, tmp_path: Path) -> None:
    with pytest.raises(mvmp.Error, match="runs in this process already; stop it first") as caught:
        mvmp.Platform(ROLES, socket=tmp_path / "mvmp.sock")
    assert caught.type is mvmp.Error, "nothing is wrong with the configuration"


def test_a_second_platform_on_one_socket_is_refused(platform: mvmp.Platform, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(DIRECT)
    finished = call("up", "mine.toml", "--socket", platform.socket, cwd=tmp_path)
    assert "another platform listens there" in error_line(finished)
    assert platform.stats()["ports"], "the first one lives on"
