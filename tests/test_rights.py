"""Rights: what `apply` takes away is gone at once, and no NF's own device gives any to others."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from mvmp import _mvmp
from nf_processes import await_that, process
from stages import capture, frames, role

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
OLD, NEW = 1000, 2000
# Speaks the protocol by hand, and becomes another user, who may be unable to read this package.
INTRUDER = """
import json, os, socket, sys
path, role, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
HELLO = json.dumps({"type": "hello", "protocol": 1, "role": role, "library": "by hand"}).encode()

def connect(path):
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.settimeout(10)
    one.connect(path)
    return one

def answer(one):
    return json.loads(one.recv(65536) or '{"type": "hung up"}')["type"]

def attempt(call):
    try:
        one = call()
        one.send(HELLO)
        return answer(one)
    except OSError as error:
        return type(error).__name__

def tell(**said):
    print(json.dumps(said), flush=True)

first = connect(path)
first.send(HELLO)
tell(hello=answer(first))
kept = os.open(path, os.O_PATH)
silent = connect(path)
tell(ready=True)
sys.stdin.readline()
tell(
    first=answer(first),
    silent=attempt(lambda: silent),
    again=attempt(lambda: connect(path)),
    kept=attempt(lambda: connect(f"/proc/self/fd/{kept}")),
)
"""
# Opens a device, and tells which pools it can read.
MAPPED = """
import json, mvmp, re, sys
with mvmp.Nf(sys.argv[1], socket=sys.argv[2]) as nf:
    nf.open("v")
    pools = re.findall("mvmp pool mvmp-pool-([0-9]+)", open("/proc/self/maps").read())
    print(json.dumps(sorted(set(map(int, pools)))), flush=True)
"""
HELLO = INTRUDER.partition("first =")[0] + "tell(hello=attempt(lambda: connect(path)))\n"
# A user in its folder: leaves something there that is to stand in the way of its next owner.
OBSTACLES = """
import os, socket, sys
folder, uid = sys.argv[1], int(sys.argv[2])
os.chdir(folder)
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
kept = []

def listens(backlog):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind("mvmp.sock")
    listener.listen(backlog)
    kept.append(listener)

def listens_and_takes_nobody_in():
    listens(0)
    while True:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one.setblocking(False)
        try:
            one.connect("mvmp.sock")
        except BlockingIOError:
            return
        kept.append(one)

for what in map(str.strip, sys.stdin):
    open("mine", "w").close()
    if os.path.exists("mvmp.sock"):
        os.unlink("mvmp.sock")
    match what:
        case "a crowd":
            listens_and_takes_nobody_in()
        case "a listener":
            listens(64)
        case "a folder":
            os.makedirs("mvmp.sock/full")
        case "a link":
            os.symlink("../../mvmp.sock", "mvmp.sock")
        case "another role's":
            os.rename("../y/mvmp.sock", "mvmp.sock")
    print("there", flush=True)
"""
# A platform in a process of its own.
PLATFORM = """
import json, mvmp, sys, time
with mvmp.Platform(json.loads(sys.argv[1]), socket=sys.argv[2]):
    print("up", flush=True)
    time.sleep(600)
"""


def apply(platform: mvmp.Platform, config: dict[str, Any]) -> dict[str, Any]:
    """Makes another configuration hold."""
    reply: dict[str, Any] = _mvmp.operator(str(platform.socket), {"type": "apply", "config": config})
    assert reply["type"] == "applied", reply
    return reply


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def intruder(path: Path, uid: int) -> Iterator[subprocess.Popen[str]]:
    """A user's process that is connected, and has kept what may be of use later."""
    with process(INTRUDER, str(path), "x", str(uid), stdin=subprocess.PIPE) as child:
        assert heard(child) == {"hello": "welcome"}
        assert heard(child) == {"ready": True}
        yield child


def heard(child: subprocess.Popen[str]) -> Any:
    """A line that a process has said."""
    assert child.stdout is not None
    return json.loads(child.stdout.readline())


def says_hello(path: Path, uid: int) -> str:
    """What a user hears who says hello there."""
    with process(HELLO, str(path), "x", str(uid)) as child:
        return str(heard(child)["hello"])


@needs_root
@pytest.mark.parametrize("uid", [NEW, None])
def test_a_uid_that_is_taken_away_is_out_at_once(reachable: Path, uid: int | None) -> None:
    config = {"devices": {"v": {"mode": "rootless"}}, "nfs": {"x": role("v", uid=OLD, instances=8)}}
    own = reachable / "nf" / "x"
    with mvmp.Platform(config, socket=str(reachable / "mvmp.sock")) as platform:
        with intruder(own / "mvmp.sock", OLD) as one, intruder(reachable / "mvmp.sock", OLD) as other:
            config["nfs"]["x"] = role("v", instances=8, **({"uid": uid} if uid else {}))
            apply(platform, config)
            assert own.stat().st_uid == (uid or 0)
            for child in one, other:
                assert child.stdin is not None
                child.stdin.write("go on\n")
                child.stdin.flush()
            refused = "PermissionError"
            assert heard(one) == {
                "first": "detached",
                "silent": "BrokenPipeError",
                "again": refused,
                "kept": "ConnectionRefusedError",
            }
            # The shared socket is everybody's: there it is the platform that says no.
            shared = dict.fromkeys(("silent", "again", "kept"), "error")
            assert heard(other) == {"first": "detached", **shared}
        await_that(lambda: not platform.stats()["nfs"], "they are gone")
        if uid:
            assert says_hello(own / "mvmp.sock", uid) == "welcome"
            assert says_hello(reachable / "mvmp.sock", uid) == "welcome"
        with mvmp.Nf("x", socket=own) as nf:
            nf.open("v")


@needs_root
def test_a_folder_stays_whose_it_was_where_something_else_cannot_be_done(reachable: Path) -> None:
    config: dict[str, Any] = {
        "ports": {"a": "net_null0"},
        "devices": {"v": {"mode": "rootless"}},
        "nfs": {"x": role("v", uid=OLD)},
    }
    own = reachable / "nf" / "x"
    with mvmp.Platform(config, socket=str(reachable / "mvmp.sock")) as platform:
        new = copy.deepcopy(config)
        new["ports"]["b"] = {"pcap": str(reachable / "none.pcap")}
        (reachable / "none.pcap").write_bytes(b"no capture")
        (own / "mine").touch()
        before = own.stat()
        new["nfs"]["x"]["uid"] = NEW
        reply = _mvmp.operator(str(platform.socket), {"type": "apply", "config": new})
        assert reply["type"] == "error" and "none.pcap" in reply["message"]
        assert (own.stat().st_uid, own.stat().st_ino) == (OLD, before.st_ino)
        assert {own / "mine", own / "mvmp.sock"} == set(own.iterdir())
        assert not list(own.parent.glob(".x.[0-9]*")), "the folder that was to be the next is gone"
        with mvmp.Nf("x", socket=own) as nf:
            nf.open("v")


def test_a_folder_that_another_platform_left_is_given_to_nobody_else(tmp_path: Path) -> None:
    own = tmp_path / "nf" / "x"
    own.mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(own, OLD, -1)
    own.chmod(0o777)
    config = {"devices": {"v": {"mode": "rootless"}}, "nfs": {"x": role("v")}}
    with mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")):
        assert (own.stat().st_uid, own.stat().st_mode & 0o777) == (os.geteuid(), 0o700)


def roles(**uids: int) -> dict[str, Any]:
    """A configuration of roles that are users'."""
    own = {name: role("v", uid=uid, instances=8) for name, uid in uids.items()}
    return {"devices": {"v": {"mode": "rootless"}}, "nfs": own}


@contextmanager
def obstacle(folder: Path, what: str) -> Iterator[None]:
    """The old user's process, once it has left this in its folder."""
    with process(OBSTACLES, str(folder), str(OLD), stdin=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(what + "\n")
        child.stdin.flush()
        assert child.stdout.readline() == "there\n"
        yield


@needs_root
@pytest.mark.parametrize("what", ["a crowd", "a listener", "a folder", "a link", "another role's"])
def test_nothing_that_a_user_leaves_keeps_the_next_one_out(reachable: Path, what: str) -> None:
    own = reachable / "nf" / "x"
    with mvmp.Platform(roles(x=OLD, y=OLD), socket=str(reachable / "mvmp.sock")) as platform:
        with obstacle(own, what):
            apply(platform, roles(x=NEW, y=OLD))
            assert says_hello(own / "mvmp.sock", NEW) == "welcome"
            assert sorted(own.iterdir()) == [own / "mvmp.sock"]
        # While nobody has the role, the folder is its last user's still.
        apply(platform, roles(y=OLD))
        assert not own.exists()
        apply(platform, roles(x=OLD, y=NEW))
        (own / "left").touch()
        apply(platform, roles(y=OLD))
        with obstacle(own, what):
            apply(platform, roles(x=NEW, y=OLD))
            assert says_hello(own / "mvmp.sock", NEW) == "welcome"
            assert sorted(own.iterdir()) == [own / "mvmp.sock"]


@needs_root
@pytest.mark.parametrize("what", ["a crowd", "a folder"])
def test_nothing_that_a_user_leaves_keeps_a_platform_from_starting(reachable: Path, what: str) -> None:
    own, socket = reachable / "nf" / "x", str(reachable / "mvmp.sock")
    with process(PLATFORM, json.dumps(roles(x=OLD)), socket) as child:
        assert child.stdout is not None and child.stdout.readline() == "up\n"
    assert own.stat().st_uid == OLD, "it was killed"
    with obstacle(own, what):
        for uid in OLD, NEW:
            with process(PLATFORM, json.dumps(roles(x=uid)), socket) as child:
                assert child.stdout is not None and child.stdout.readline() == "up\n"
                assert says_hello(own / "mvmp.sock", uid) == "welcome"


def test_a_folder_outlives_a_platform_for_those_who_have_it_mounted(tmp_path: Path) -> None:
    own, socket = tmp_path / "nf" / "x", str(tmp_path / "mvmp.sock")
    config = {"devices": {"v": {"mode": "rootless"}}, "nfs": {"x": role("v")}}
    with process(PLATFORM, json.dumps(config), socket) as child:
        assert child.stdout is not None and child.stdout.readline() == "up\n"
        (own / "mine").touch()
        mounted = os.open(own, os.O_PATH)
    try:
        with mvmp.Platform(config, socket=socket):
            assert sorted(os.listdir(f"/proc/self/fd/{mounted}")) == ["mine", "mvmp.sock"]
            with mvmp.Nf("x", socket=f"/proc/self/fd/{mounted}") as nf:
                nf.open("v")
    finally:
        os.close(mounted)
    assert list((tmp_path / "nf").iterdir()) == [own] and list(own.iterdir()) == [own / "mine"]


def test_two_platforms_beside_each_other_share_no_role(tmp_path: Path) -> None:
    def config(name: str) -> dict[str, Any]:
        return {"devices": {"v": {"mode": "rootless"}}, "nfs": {name: role("v")}}

    with mvmp.Platform(config("x"), socket=str(tmp_path / "mvmp.sock")):
        with process(
            PLATFORM, json.dumps(config("x")), str(tmp_path / "b.sock"), stderr=subprocess.PIPE
        ) as child:
            assert child.stderr is not None
            assert "another platform has this role's folder" in child.stderr.read()
        with process(PLATFORM, json.dumps(config("y")), str(tmp_path / "b.sock")) as child:
            assert child.stdout is not None and child.stdout.readline() == "up\n"
            with mvmp.Nf("y", socket=tmp_path / "nf" / "y") as nf:
                nf.open("v")
        with mvmp.Nf("x", socket=tmp_path / "nf" / "x") as nf:
            nf.open("v")


def test_users_get_through_to_their_folders_whatever_the_mask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        config = {"devices": {"v": {"mode": "rootless"}}, "nfs": {"x": role("v")}}
        with mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")):
            modes = [(tmp_path / path).stat().st_mode & 0o777 for path in ("nf", "nf/x", "nf/x/mvmp.sock")]
            assert modes == [0o755, 0o700, 0o666]
    finally:
        os.umask(before)


def test_who_is_removed_hears_so_and_not_that_the_platform_is_lost(tmp_path: Path) -> None:
    config = {"devices": {"v": {"mode": "rootless"}}, "nfs": {"x": role("v"), "y": role("v")}}
    with (
        mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as platform,
        mvmp.Nf("x", socket=tmp_path) as nf,
    ):
        handle = nf.open("v")
        apply(platform, {**config, "nfs": {"y": role("v")}})
        with pytest.raises(mvmp.Detached, match="the configuration names no role `x`"):
            handle.rx_burst(8, timeout=20)
        await_that(lambda: not platform.stats()["nfs"], "it is out")
        for ask in (lambda: handle.rx_burst(8), lambda: next(nf.bursts()), lambda: nf.open("v")):
            with pytest.raises(mvmp.Detached, match="the configuration names no role `x`"):
                ask()


def endless(folder: Path, **more: Any) -> dict[str, Any]:
    """A configuration over a capture without end and a file that is written."""
    played = {"pcap": capture(folder, "in", frames(64)), "rate": 2000, "loop": 0, "wait_for": 0}
    return {
        "platform": {"buffers": 4096, **more.pop("platform", {})},
        "ports": {"a": played, "o": {"out": str(folder / "out.pcap")}},
        "devices": {"v": {"mode": "rootless"}},
        **more,
    }


def open_own(nf: mvmp.Nf) -> list[mvmp.NfHandle]:
    """Devices of its own over both ports; packets come."""
    handles = [nf.open({"name": port, "mode": "direct", "ports": [port]}) for port in ("a", "o")]
    assert handles[0].rx_burst(8, timeout=20)
    return handles


def check_detached(handles: list[mvmp.NfHandle]) -> None:
    """The platform has taken them away, and says why."""
    for handle in handles:
        await_that(lambda handle=handle: handle.closed, "it is taken away")  # type: ignore[misc]
        with pytest.raises(mvmp.Detached, match="may not define a device over the port"):
            handle.rx_burst(8)


def test_own_devices_end_with_the_right_to_define_them(tmp_path: Path) -> None:
    config = endless(tmp_path, nfs={"x": role("v", may_define=["a", "o"]), "y": role("v")})
    with (
        mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as platform,
        mvmp.Nf("x", socket=tmp_path) as nf,
    ):
        over_a, over_o = open_own(nf)
        narrowed = {**config, "nfs": {**config["nfs"], "x": role("v", may_define=["a"])}}
        apply(platform, narrowed)
        check_detached([over_o])
        assert over_a.rx_burst(8, timeout=20), "what it may still define stays"
        apply(platform, {**config, "nfs": {**config["nfs"], "x": role("v")}})
        check_detached([over_a])
        await_that(lambda: list(platform.stats()["devices"]) == ["v"], "the devices are gone")


def test_what_only_an_open_platform_grants_ends_with_that(tmp_path: Path) -> None:
    config = endless(tmp_path, platform={"open": True}, nfs={"x": role("v", instances=2)})
    with (
        mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as platform,
        mvmp.Nf("x", socket=tmp_path) as by_its_door,
        mvmp.Nf("x", socket=tmp_path / "mvmp.sock") as by_the_shared_one,
        mvmp.Nf("stranger", socket=tmp_path) as stranger,
    ):
        own, listed = open_own(by_its_door), by_its_door.open("v")
        others = by_the_shared_one.open("v"), stranger.open("v")
        config["platform"]["open"] = False
        apply(platform, config)
        check_detached(own)
        await_that(lambda: list(platform.stats()["nfs"]) == ["x/0"], "the others are out")
        assert not listed.closed
        for handle in others:
            await_that(lambda handle=handle: handle.closed, "it is taken away")  # type: ignore[misc]
            with pytest.raises(mvmp.Detached, match="may not speak for the role"):
                handle.rx_burst(8)
        with pytest.raises(mvmp.Detached, match="may not speak for the role"):
            stranger.open("v")
        with pytest.raises(mvmp.NotAuthorized):
            stranger.reconnect()


def test_a_device_that_one_nf_defines_opens_no_pool_to_others(tmp_path: Path) -> None:
    config = endless(
        tmp_path, nfs={"x": role(may_define=["a", "b"]), "z": role("eb:rx", "v:tx"), "y": role("v:rx")}
    )
    config["ports"]["b"] = config["ports"]["a"]
    config["devices"]["eb"] = {"mode": "direct", "ports": ["b"]}
    order = list(config["ports"])

    def mapped() -> list[str]:
        with process(MAPPED, "y", str(tmp_path)) as child:
            return [order[pool] for pool in heard(child)]

    with mvmp.Platform(config, socket=str(tmp_path / "mvmp.sock")) as platform:
        assert mapped() == ["b"]
        with mvmp.Nf("x", socket=tmp_path) as nf:
            handle = nf.open({"mode": "bridge", "ports": ["a", "b"]})
            ports = {int(port) for _ in range(20) for port in handle.rx_burst(32, timeout=20).in_port}
            assert ports == {0, 2}, "it gets what both ports receive"
            assert mapped() == ["b"]
            # A port that comes joins those that the file joins it to, not those that an NF has.
            config["ports"]["c"] = {"out": str(tmp_path / "c.pcap")}
            config["devices"]["eb"] = {"mode": "bridge", "ports": ["b", "c"]}
            apply(platform, config)
            assert len(platform.stats()["pools"]) == 3
            assert not handle.closed and mapped() == ["b"]
