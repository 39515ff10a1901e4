"""Which interfaces have a link: a bond in a network namespace whose `/sys` is another one's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from command_line import call
from mvmp.commands.status import port_state
from namespaces import Namespaces
from nf_processes import await_that
from stages import frames
from wires import platform, skip_without_namespaces, status

skip_without_namespaces()

CONFIGURATION = """
[ports]
one = { interface = "u1" }
two = { interface = "u2" }
[devices.bond]
mode = "bond"
ports = ["one", "two"]
send = { policy = "active-backup" }
[nfs.nf]
devices = ["bond:tx"]
"""


def test_a_bond_sends_where_there_is_a_link(tmp_path: Path) -> None:
    with Namespaces(1) as spaces:
        (inner,) = spaces.all
        ip: Callable[[str], Any] = lambda command: inner.run("ip", *command.split())  # noqa: E731
        for number in (1, 2):
            ip(f"link add u{number} type veth peer name p{number}")
            ip(f"link set p{number} up")

        with platform(inner, tmp_path, CONFIGURATION) as (_, socket), mvmp.Nf("nf", socket=tmp_path) as nf:
            bond = nf.open("bond")

            def await_states(one: str, two: str) -> None:
                states = lambda: [port_state(port) for port in status(socket)["ports"].values()]  # noqa: E731
                await_that(lambda: states() == [one, two], f"one {one}, two {two}")

            def sent_by(port: str) -> bool:
                count = lambda: status(socket)["ports"][port]["tx"]["transmitted"]  # noqa: E731
                before = count()
                assert bond.send(frames(10)) == 10
                await_that(lambda: count() == before + 10, f"what is sent leaves by {port}")
                return True

            await_states("up", "up")
            assert sent_by("one")
            ip("link set p1 down")
            await_states("no link", "up")
            assert sent_by("two")
            assert "no link" in call("status", "--socket", str(socket)).stdout
            ip("link set p1 up")
            await_states("up", "up")
            assert sent_by("one")
            # An interface of the same name is another one, and the port is not on it.
            ip("link del u1")
            ip("link add u1 type veth peer name p1")
            ip("link set p1 up")
            ip("link set u1 up")
            await_states("no link", "up")
            assert sent_by("two")
            ip("link set p2 down")
            await_states("no link", "no link")
            assert bond.send(frames(10)) == 10
            await_that(
                lambda: status(socket)["handles"][0]["out"]["drops"] == {"no_route": 10},
                "where there is no link, nothing is sent",
            )
