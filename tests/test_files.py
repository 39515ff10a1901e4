"""Files of ports: what one writes no other reads or writes, and nothing is destroyed by what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")
pytest.importorskip("scapy")

import mvmp
from command_line import call
from mvmp import _mvmp
from nf_processes import await_that
from stages import capture, frames, role, written

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)


def over(**ports: Any) -> dict[str, Any]:
    """A platform with these ports, and a device for each."""
    return {
        "ports": ports,
        "devices": {f"d{name}": {"mode": "direct", "ports": [name]} for name in ports},
        "nfs": {"nf": role(*(f"d{name}" for name in ports))},
    }


def test_no_port_writes_what_another_reads_or_writes(tmp_path: Path) -> None:
    source = Path(capture(tmp_path, "in", frames(10)))
    before = source.read_bytes()
    link, hard = tmp_path / "link.pcap", tmp_path / "hard.pcap"
    link.symlink_to(source)
    nowhere, further = tmp_path / "nowhere.pcap", tmp_path / "further.pcap"
    nowhere.symlink_to("new.pcap")
    further.symlink_to(nowhere)
    os.link(source, hard)
    new = str(tmp_path / "new.pcap")
    again = str(tmp_path / "." / ".." / tmp_path.name / "new.pcap")
    socket = str(tmp_path / "mvmp.sock")
    cases = [
        (
            over(a={"pcap": str(source), "out": str(source)}),
            "`a` would write .* over the capture that it reads",
        ),
        (
            over(a={"pcap": str(source)}, b={"out": str(link)}),
            "`b` would write .*link.pcap, which the port `a`",
        ),
        (
            over(a={"out": str(hard)}, b={"pcap": str(source)}),
            "`a` would write .*hard.pcap, which the port `b`",
        ),
        (over(a={"out": new}, b={"out": again}), "`a` and `b` would both write"),
        (over(a={"out": new}, b={"out": str(nowhere)}), "`a` and `b` would both write"),
        (over(a={"out": str(further)}, b={"out": str(nowhere)}), "`a` and `b` would both write"),
        (over(a={"out": "-"}, b={"out": "-"}), "`a` and `b` would both write -"),
    ]
    for config, message in cases:
        with pytest.raises(mvmp.Error, match=message):
            mvmp.Platform(config, socket=socket)
        assert source.read_bytes() == before
    assert not Path(new).exists()
    with mvmp.Platform(over(a={"out": "/dev/null"}, b={"out": "/dev/null"}), socket=socket):
        pass


def test_run_does_not_write_over_its_capture(tmp_path: Path) -> None:
    source = Path(capture(tmp_path, "in", frames(10)))
    before = source.read_bytes()
    nf = tmp_path / "nf.py"
    nf.write_text('import mvmp\nwith mvmp.Nf("n") as nf:\n    nf.open("d")\n')
    done = call("run", str(nf), "--pcap", str(source), "-w", str(source))
    assert done.returncode == 1 and "over the capture that it reads" in done.stderr
    assert source.read_bytes() == before


def test_a_start_that_fails_leaves_files_as_they_were(tmp_path: Path) -> None:
    precious = Path(capture(tmp_path, "precious", frames(10)))
    before = precious.read_bytes()
    config = over(a={"out": str(precious)}, b={"interface": "nope0"})
    with pytest.raises(mvmp.Error, match="nope0"):
        mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock"))
    assert precious.read_bytes() == before
    with mvmp.Platform(over(a={"out": str(precious)}), socket=str(tmp_path / "mvmp.sock")):
        pass
    assert written(precious) == [], "in service it begins anew, with or without packets"


def test_apply_refuses_such_files_and_what_is_not_there_before_it_touches_any(tmp_path: Path) -> None:
    precious = Path(capture(tmp_path, "precious", frames(10)))
    before = precious.read_bytes()
    socket = str(tmp_path / "mvmp.sock")
    running = {"out": str(tmp_path / "a.pcap")}
    with mvmp.Platform(over(a=running), socket=socket):
        for new, reason in (
            ({"c": {"out": str(precious)}, "e": {"interface": "nope0"}}, "nope0"),
            ({"c": {"out": str(tmp_path / "a.pcap")}}, "`a` and `c` would both write"),
            ({"c": {"pcap": str(tmp_path / "a.pcap")}}, "`a` would write"),
            ({"c": {"out": str(tmp_path / "no" / "c.pcap")}}, "No such file"),
        ):
            for dry_run in (True, False):
                config = over(a=running, **new)
                reply = _mvmp.operator(socket, {"type": "apply", "config": config, "dry_run": dry_run})
                refused = " ".join(item["refused"] or "" for item in reply["items"])
                assert reply["type"] == ("applied" if dry_run else "error") and reason in refused
            assert precious.read_bytes() == before


def test_a_file_goes_from_one_port_to_another_once_the_first_is_closed(tmp_path: Path) -> None:
    source, file, socket = capture(tmp_path, "in", frames(10)), tmp_path / "out.pcap", str(tmp_path / "s")
    old = over(a={"pcap": source}, b={"out": str(file)})

    def apply(config: dict[str, Any], **more: Any) -> dict[str, Any]:
        reply: dict[str, Any] = _mvmp.operator(socket, {"type": "apply", "config": config, **more})
        return reply

    def is_applied(config: dict[str, Any]) -> bool:
        return bool(apply(config)["type"] == "applied")

    with mvmp.Platform(old, socket=socket) as platform:
        await_that(file.exists, "it is begun")
        linked = tmp_path / "linked.pcap"
        os.link(file, linked)
        for new in {"out": str(file)}, {"out": str(linked)}, {"pcap": str(file)}:
            for dry_run in (True, False):
                reply = apply(over(a={"pcap": source}, c=new), dry_run=dry_run)
                assert reply["type"] == ("applied" if dry_run else "error")
                refused = {item["name"]: item["refused"] for item in reply["items"] if item["refused"]}
                message = "the port `b` still has that file: apply without `c`, then with it again"
                assert refused == {"c": message}
        assert list(platform.stats()["ports"]) == ["a", "b"]
        assert apply(over(a={"pcap": source}))["type"] == "applied"
        new = over(a={"pcap": source}, c={"out": str(file)})
        await_that(lambda: is_applied(new), "it is free")
    assert written(file) == []
