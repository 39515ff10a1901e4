"""The pages are true: blocks run, configurations parse, commands exist, links lead somewhere, tables agree.

A block may be preceded by a comment that says how it is tested:

    <!-- test: refused "TEXT" -->      a configuration that must be refused, with TEXT in the message

Python blocks run in a process of their own, in a folder with `in.pcap` and `policies/`. One that makes no
platform of its own finds one under $MVMP_SOCKET that plays a capture once and lets everyone open `bridge0`
and `virt0`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("mvmp._mvmp", reason="the extension module is not built")

import mvmp
from mvmp import _mvmp, cli

if not hasattr(mvmp, "Platform"):
    pytest.skip("the extension module is built without the platform", allow_module_level=True)

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TRAFFIC = Path(str(files("mvmp") / "data" / "traffic.pcapng"))
FENCE = re.compile(
    r"(?:<!-- test: (?P<directive>[^\n]*?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
OTHER_PROGRAMS = {"docker", "cargo", "pip", ".venv/bin/pytest"}
ONE_CAPTURE: dict[str, Any] = {
    "platform": {"open": True},
    "ports": {"in": {"pcap": str(TRAFFIC)}},
    "devices": {"span0": {"mode": "direct", "ports": ["in"]}},
}


@dataclass(frozen=True)
class Block:
    """A fenced block and where it stands."""

    page: Path
    line: int
    language: str
    directive: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def all_blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start("language")) + 1
            yield Block(page, line, found["language"], found["directive"] or "", found["text"])


def blocks(*languages: str) -> list[Any]:
    """Parameters: the blocks of these languages."""
    chosen = [block for block in all_blocks() if block.language in languages]
    return [pytest.param(block, id=str(block)) for block in chosen]


def page_text(name: str) -> str:
    return (ROOT / name).read_text()


def first_cells(text: str) -> set[str]:
    """What stands as code in the first cell of the rows of all tables."""
    cells = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def bridge(out: Path) -> dict[str, Any]:
    """A configuration that plays the capture over a bridge to a file, and lets everyone open everything."""
    return {
        "platform": {"open": True},
        "ports": {"in": {"pcap": str(TRAFFIC)}, "out": {"out": str(out)}},
        "devices": {
            "bridge0": {"mode": "bridge", "ports": ["in", "out"]},
            "virt0": {"mode": "rootless"},
        },
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a block runs."""
    (tmp_path / "in.pcap").write_bytes(TRAFFIC.read_bytes())
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    return tmp_path


def run_python(block: Block, folder: Path, socket: str | None) -> subprocess.CompletedProcess[str]:
    script = folder / "block.py"
    script.write_text(block.text)
    environment = {name: value for name, value in os.environ.items() if name != "MVMP_SOCKET"}
    if socket is not None:
        environment["MVMP_SOCKET"] = socket
    command = [sys.executable, str(script)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("block", blocks("python"))
def test_a_python_block_runs(block: Block, folder: Path) -> None:
    if "mvmp.Nf(" not in block.text or "mvmp.Platform(" in block.text:
        finished = run_python(block, folder, None)
        assert finished.returncode == 0, finished.stderr
        return
    socket = str(folder / "mvmp.sock")
    with mvmp.Platform(bridge(folder / "out.pcap"), socket=socket) as platform:
        finished = run_python(block, folder, socket)
        assert finished.returncode == 0, finished.stderr
        platform.wait_drained(timeout=60)
        port = platform.stats()["ports"]["in"]
    assert port["ended"] and port["dispatched"] > 0, "the block has received the capture to its end"


def test_the_nf_of_the_readme_runs_on_a_capture_as_the_readme_says(folder: Path) -> None:
    nf = next(
        block for block in all_blocks() if block.page.name == "README.md" and block.language == "python"
    )
    (folder / "firewall.py").write_text(nf.text)
    command = [sys.executable, "-m", "mvmp.cli", "run", "firewall.py", "--pcap", "in.pcap", "-w", "out.pcap"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert re.match(r"\d+ packets dropped\n", finished.stdout)
    assert (folder / "out.pcap").stat().st_size > 24, "more than the file's header"


@pytest.mark.parametrize("block", blocks("toml"))
def test_a_configuration_can_be_used_or_is_refused_as_the_page_says(block: Block, tmp_path: Path) -> None:
    tomllib.loads(block.text)
    file = tmp_path / "page.toml"
    file.write_text(block.text)
    refused = re.fullmatch(r'refused "(.*)"', block.directive)
    if not refused:
        _mvmp.check_config(file)
        return
    with pytest.raises(mvmp.ConfigError, match=re.escape(refused[1])) as raised:
        _mvmp.check_config(file)
    assert raised.value.line and raised.value.column


def commands_in(text: str) -> list[str]:
    """The command lines of a block: those behind a prompt where there is one, without comments."""
    lines = [line.strip() for line in text.splitlines()]
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [line for line in lines if line and not line.startswith("#")]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", page_text("Makefile"), re.MULTILINE))


def check_command(words: list[str]) -> None:
    match words:
        case ["make", *targets]:
            assert set(targets) <= make_targets()
        case ["mvmp", *arguments]:
            cli.build_parser().parse_args(arguments)
        case ["python", "-m", module, *_]:
            assert (ROOT / "python" / (module.replace(".", "/") + ".py")).is_file()
        case ["python", script, *_]:
            assert (ROOT / script).is_file()
        case [program, *_]:
            assert program in OTHER_PROGRAMS


@pytest.mark.parametrize("block", blocks("sh", "console"))
def test_every_command_line_of_a_block_exists(block: Block) -> None:
    lines = commands_in(block.text)
    assert lines
    for line in lines:
        check_command(shlex.split(line, comments=True))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_named_in_a_sentence_exists(page: Path) -> None:
    prose = FENCE.sub("", page.read_text())
    for command in re.findall(r"`mvmp ([a-z]+)", prose):
        # The architecture and decisions may speak of what is to come, and say so.
        assert command in cli.COMMANDS or f"no `mvmp {command}`" in prose, command
    for target in re.findall(r"`make ([a-z-]+)", prose):
        assert target in make_targets(), target


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_reached_from_the_readme() -> None:
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s:]+)", page.read_text())
        todo += [(page.parent / link).resolve() for link in links]
    assert set(PAGES) - reached == set()


def test_every_key_of_the_schema_is_on_the_page_of_configuration() -> None:
    schema = json.loads(_mvmp.config_schema())
    text = page_text("docs/configuration.md")

    def keys(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, below in value.items():
                if name == "properties":
                    yield from below
                yield from keys(below)
        elif isinstance(value, list):
            for below in value:
                yield from keys(below)

    named = set(keys(schema))
    assert {"workers", "wait_for", "grants"} <= named
    # Words within quotes or code, or a section's own heading.
    missing = {key for key in named if not re.search(rf"[`\[{{ ]{key}[`\].: ]", text)}
    assert missing == set()


def test_every_drop_reason_is_on_the_page_of_statistics_and_no_other() -> None:
    source = page_text("crates/mvmp-core/src/counters.rs")
    table = source.split("reasons! {")[1].split("\n}")[0]
    reasons = set(re.findall(r'= "(\w+)"', table))
    documented = first_cells(page_text("docs/statistics.md").split("## Every way to lose a packet")[1])
    assert reasons and documented == reasons


def test_the_tree_of_statistics_is_as_the_page_draws_it(tmp_path: Path) -> None:
    drawing = next(b.text for b in all_blocks() if b.page.name == "statistics.md" and b.language == "text")
    with mvmp.Platform(ONE_CAPTURE, socket=str(tmp_path / "mvmp.sock")) as platform:
        with mvmp.Nf("any", socket=platform.socket) as nf:
            handle = nf.open("span0")
            for _ in handle.bursts(64):
                pass
            stats = platform.stats()
        platform.wait_drained(timeout=60)
        stats["closed_handles"] = platform.stats()["closed_handles"]
    words = set(re.findall(r"\w+", drawing))
    branches: dict[str, Any] = {
        "platform": stats["platform"],
        "worker": stats["workers"][0],
        "pool": stats["pools"][0],
        "port": stats["ports"]["in"],
        "port out": stats["ports"]["in"]["tx"],
        "device": stats["devices"]["span0"],
        "handle": stats["handles"][0],
        "handle out": stats["handles"][0]["out"],
        "nf": stats["nfs"]["any/0"],
        "closed": stats["closed_handles"][0],
        "reclaims": stats["reclaims"],
        "facts": stats["platform"]["facts"],
        "connections": stats["platform"]["connections"],
        "all": stats,
    }
    for name, branch in branches.items():
        assert set(branch) <= words, name


def test_the_columns_of_the_page_are_those_of_a_burst() -> None:
    section = page_text("docs/python.md").split("## Columns")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE))
    stub = page_text("python/mvmp/_mvmp.pyi").split("class Burst:")[1].split("\n@final")[0]
    columns = set(re.findall(r"def (\w+)\(self\) -> npt\.NDArray", stub))
    assert columns and set(documented) == columns
    with mvmp.offline(TRAFFIC) as handle:
        burst = handle.rx_burst(8, timeout=20)
        assert burst
        assert {name: str(getattr(burst, name).dtype) for name in columns} == documented


def test_every_file_with_unsafe_code_is_in_the_table_of_rooms() -> None:
    section = page_text("docs/safety.md").split("## Unsafe code")[1].split("\n## ")[0]
    rooms = re.findall(r"\]\(\.\./([^)]+)\)", section)
    folders = [str(Path(room).parent) for room in rooms if room.endswith(("mod.rs", "lib.rs"))]
    for file in sorted(ROOT.glob("crates/*/src/**/*.rs")):
        name = str(file.relative_to(ROOT))
        tested_only = "mvmp-testkit" in name
        if not re.search(r"\bunsafe (\{|fn|impl)", file.read_text()) or tested_only:
            continue
        assert name in rooms or any(name.startswith(f"{folder}/") for folder in folders), name


def test_the_words_of_the_rule_language_are_on_the_page_of_policies() -> None:
    source = page_text("crates/mvmp-policy/src/rule/names.rs")
    page = page_text("docs/policies.md")
    for table, least in (("WORDS", 30), ("REFUSED", 5), ("SHORT", 5), ("TCP_FLAGS", 9)):
        body = re.split(rf"\b{table}: [^=]*= &?\[", source)[1].split("\n];")[0]
        words = re.findall(r'(?:^|\()\s*"([\w-]+)",', body, re.MULTILINE)
        missing = {word for word in words if not re.search(rf"`[^`]*\b{word}\b[^`]*`", page)}
        assert len(words) >= least and missing == set()


def test_every_rule_among_the_examples_is_one() -> None:
    section = page_text("docs/policies.md").split("## Examples")[1].split("\n## ")[0]
    rules = re.findall(r"^\| [^|`]+ \| `([^`]+)` \|$", section, re.MULTILINE)
    assert len(rules) > 4
    for rule in rules:
        mvmp.Policy(rule)


def test_what_explain_prints_is_what_the_page_shows() -> None:
    shown = [
        block.text for block in all_blocks() if block.page.name == "policies.md" and block.language == "text"
    ]
    assert mvmp.Policy("tcp port 80 or https").explain() + "\n" in shown
