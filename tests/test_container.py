"""NFs in containers of Docker Engine, with no right but one mounted folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

from capture_files import records
from nf_processes import FORWARDER, await_that, check_books, forwarder

pytestmark = pytest.mark.timeout(1200)  # the image is built with the first test

PROJECT = Path(__file__).resolve().parent.parent
TRAFFIC = Path(str(files("mvmp") / "data" / "traffic.pcapng"))
IMAGE = f"mvmp-test-nf-{os.getpid()}"
NOBODY = 65534
PROGRAMS = ("nf_forward", "nf_intruder")
UNPRIVILEGED = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", f"{NOBODY}:{NOBODY}"]
POWERFUL = [
    "--cap-add",
    "SYS_ADMIN",
    "--cap-add",
    "SYS_PTRACE",
    "--security-opt",
    "seccomp=unconfined",
    "--user",
    "0:0",
]
GLUTTON = """
import sys, mvmp
hoard = []
with mvmp.Nf(sys.argv[1], socket=sys.argv[2], wait=20) as nf:
    device = nf.open(sys.argv[3], tx=False)
    print("open", flush=True)
    for burst in device.bursts(64):
        hoard.append(b"x" * 65536 * len(burst))
"""
MEMORY_MIB = 96  # of a container with a Python NF that eats
REFUSALS = {"EPERM", "EACCES", "EBADF"}


def docker(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Runs Docker's command line; its legacy builder needs no plugin."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=timeout, env=environment, check=True
    )


def why_not() -> str | None:
    """Why there are no containers here, or `None`."""
    for tool, what in (("docker", "no Docker"), ("cargo", "no Rust to build a static NF with")):
        if shutil.which(tool) is None:
            return what
    try:
        docker("version", timeout=30)
    except (subprocess.SubprocessError, OSError) as error:
        return f"no Docker Engine answers: {(getattr(error, 'stderr', '') or str(error)).strip()}"
    return None


if (reason := why_not()) is not None:
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with nothing in it but the static NFs, built as `containers/README.md` says."""
    context = tmp_path_factory.mktemp("image")
    for program in PROGRAMS:
        build = ["cargo", "rustc", "-p", "mvmp-nf", "--example", program, "--message-format", "json"]
        built = subprocess.run(
            [*build, "--", "-C", "target-feature=+crt-static"],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
            timeout=900,
            check=True,
        )
        messages = [json.loads(line) for line in built.stdout.splitlines()]
        artifacts = [message["executable"] for message in messages if message.get("executable")]
        shutil.copy(artifacts[-1], context / program)
    docker("build", "-t", IMAGE, "-f", str(PROJECT / "containers" / "rust-nf.Dockerfile"), str(context))
    yield IMAGE
    docker("rmi", "-f", IMAGE)


def python_here() -> list[str]:
    """Docker's words that give a container this Python and this mvmp, read-only, and nothing else."""
    package = Path(mvmp.__file__).resolve().parent.parent
    folders = {Path(folder) for folder in ("/usr", "/lib", "/lib64", sys.prefix, sys.base_prefix, package)}
    words = ["-e", "PYTHONDONTWRITEBYTECODE=1"]
    for folder in sorted(folders):
        if folder.exists():
            words += ["-v", f"{folder.resolve()}:{folder}:ro"]
    return words


@contextmanager
def container(image: str, name: str, folder: Path, *command: str, rights: list[str]) -> Iterator[str]:
    """A container under way, with one folder and no network; gone at the end."""
    full_name = f"{IMAGE}-{name}"
    entry = ["--entrypoint", f"/{command[0].lstrip('/')}"]
    mounts = ["-v", f"{folder}:/mvmp", "-e", "MVMP_SOCKET=/mvmp"]
    options = ["--name", full_name, "--network", "none", "--read-only", *rights, *mounts, *entry]
    try:
        docker("run", "-d", *options, image, *command[1:])
        yield full_name
    finally:
        docker("rm", "-f", full_name)


def outcome(name: str) -> tuple[int, str]:
    """The exit code of a container, once it has ended, and what it printed."""
    code = int(docker("wait", name).stdout)
    logs = docker("logs", name)
    return code, logs.stdout if code == 0 else logs.stdout + logs.stderr


def configuration(out: Path, **capture: Any) -> dict[str, Any]:
    """A capture through a bridge to a file; two roles."""
    role = {"devices": ["bridge0"], "uid": NOBODY}
    return {
        "platform": {"buffers": 8192},
        "ports": {
            "in": {"pcap": str(TRAFFIC), "wait_for": ["forwarder"], **capture},
            "out": {"out": str(out)},
        },
        "devices": {"bridge0": {"mode": "bridge", "ports": ["in", "out"]}},
        "nfs": {"forwarder": role, "intruder": role},
    }


def test_a_container_without_rights_forwards_a_whole_capture(image: str, tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    setup = configuration(out, rate="lossless")
    with mvmp.Platform(setup, socket=tmp_path / "mvmp.sock") as platform:
        command = ("nf_forward", "forwarder", "bridge0")
        with container(image, "forward", tmp_path / "nf/forwarder", *command, rights=UNPRIVILEGED) as name:
            code, said = outcome(name)
            assert code == 0, said
        platform.wait_drained(timeout=60)
        stats = platform.stats()
    played = records(TRAFFIC)
    assert json.loads(said)["sent"] == len(played)
    assert records(out) == played
    check_books(stats)


@pytest.mark.parametrize("rights", [UNPRIVILEGED, POWERFUL], ids=["unprivileged", "root-with-capabilities"])
def test_a_container_cannot_write_packet_memory(image: str, tmp_path: Path, rights: list[str]) -> None:
    setup = configuration(tmp_path / "out.pcapng", rate="lossless")
    with mvmp.Platform(setup, socket=tmp_path / "mvmp.sock"):
        command = ("nf_intruder", "intruder", "bridge0")
        with container(image, "intruder", tmp_path / "nf/intruder", *command, rights=rights) as name:
            code, said = outcome(name)
            assert code == 0, said
    report = json.loads(said)
    assert report["unchanged"] is True
    for region in ("memory", "records"):
        attempts = report["attempts"][region]
        assert len(attempts) == 6 and set(attempts.values()) <= REFUSALS, (region, attempts)


def test_a_killed_container_is_reclaimed_and_its_name_is_free(image: str, tmp_path: Path) -> None:
    setup = configuration(tmp_path / "out.pcapng", rate=20000, loop=0)
    command = ("nf_forward", "forwarder", "bridge0")
    with mvmp.Platform(setup, socket=tmp_path / "mvmp.sock") as platform:
        for number in (1, 2):

            def delivered() -> int:
                return sum(handle["delivered"] for handle in platform.stats()["handles"])

            with container(
                image, f"kill{number}", tmp_path / "nf/forwarder", *command, rights=UNPRIVILEGED
            ) as name:
                await_that(lambda: delivered() > 1000, "a stream through the container", 60)
                assert list(platform.stats()["nfs"]) == ["forwarder/0"]
                docker("kill", name)
                await_that(lambda: not platform.stats()["nfs"], "the name is free")
                assert platform.stats()["reclaims"]["count"] == number
        platform.remove_port("in")
        await_that(lambda: platform.stats()["ports"]["out"]["tx"]["accepted"] > 2000, "both have forwarded")
        check_books(platform.stats())


def test_a_python_nf_in_a_container_without_rights_forwards_a_whole_capture(
    image: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.pcapng"
    with mvmp.Platform(configuration(out, rate="lossless"), socket=tmp_path / "mvmp.sock") as platform:
        command = (sys.executable, "-c", FORWARDER, "forwarder", "/mvmp", "bridge0")
        rights = [*UNPRIVILEGED, *python_here()]
        with container(image, "python", tmp_path / "nf/forwarder", *command, rights=rights) as name:
            assert outcome(name) == (0, "open\n")
        platform.wait_drained(timeout=60)
        stats = platform.stats()
    assert records(out) == records(TRAFFIC)
    check_books(stats)


def test_an_nf_that_exceeds_its_memory_cgroup_dies_alone(image: str, tmp_path: Path) -> None:
    setup = configuration(tmp_path / "out.pcapng", rate="lossless", loop=0)
    setup["nfs"]["glutton"] = {"devices": ["bridge0:rx"], "uid": NOBODY}
    setup["platform"]["buffers"] = 16384
    limit = ["--memory", f"{MEMORY_MIB}m", "--memory-swap", f"{MEMORY_MIB}m"]
    command = (sys.executable, "-c", GLUTTON, "glutton", "/mvmp", "bridge0")
    with mvmp.Platform(setup, socket=tmp_path / "mvmp.sock") as platform:
        with forwarder("forwarder", tmp_path / "nf/forwarder/mvmp.sock", "bridge0"):

            def dispatched() -> int:
                return int(platform.stats()["ports"]["in"]["dispatched"])

            await_that(lambda: dispatched() > 1000, "a stream")
            rights = [*UNPRIVILEGED, *python_here(), *limit]
            with container(image, "glutton", tmp_path / "nf/glutton", *command, rights=rights) as name:
                code, said = outcome(name)
                state = json.loads(docker("inspect", "--format", "{{json .State}}", name).stdout)
            assert (code, state["OOMKilled"]) == (137, True), said
            assert said.startswith("open\n"), "the platform's own memory is not on the NF's account"
            await_that(lambda: list(platform.stats()["nfs"]) == ["forwarder/0"], "it is reclaimed")
            before = dispatched()
            await_that(lambda: dispatched() > before + 10_000, "the stream goes on")
            platform.remove_port("in")
            platform.wait_drained(timeout=60)
            stats = platform.stats()
        check_books(stats)
        [survivor] = stats["handles"]
        assert survivor["delivered"] == survivor["out"]["sent"] == stats["ports"]["in"]["dispatched"]
        assert stats["reclaims"]["count"] == 1
