"""The documents: numbers are the measured ones, links lead somewhere, commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)


def test_tables_are_what_the_command_writes() -> None:
    command = [sys.executable, "-m", "benchmarks.results", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_and_verbs_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^ {4})make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name} names `make {target}`"
    for room, verb in re.findall(r"python -m (distill|export|hardware|firmware_bridge) ([a-z]+)", text):
        sources = [path.read_text(encoding="utf-8") for path in (ROOT / room).glob("*.py")]
        assert any(f'"{verb}"' in source for source in sources), f"{page.name} names `{room} {verb}`"


def test_options_exist() -> None:
    """A document or a message of `distill` that names an option: some verb, or another's tool, must have it."""
    rooms = {
        path: path.read_text(encoding="utf-8")
        for room in ("distill", "export", "firmware_bridge", "hardware", "benchmarks")
        for path in (ROOT / room).rglob("*.py")
    }
    known = {"help", "as", "untracked-files", "now", "kill-whom", "minimise", "strict"}
    for text in rooms.values():
        known |= set(re.findall(r'"--([a-z][a-z-]*)"', text))
        for field, kind in re.findall(r"^    ([a-z][a-z_0-9]*): ([^=\n]+?)(?: = .*)?$", text, re.MULTILINE):
            known.add(field.replace("_", "-"))
            if kind == "bool":  # only these have a flag that says no; `bool | None` takes a value
                known.add("no-" + field.replace("_", "-"))
    texts = {path: text for path, text in rooms.items() if path.is_relative_to(ROOT / "distill")}
    for path, text in (texts | {page: page.read_text(encoding="utf-8") for page in PAGES}).items():
        for option in re.findall(r"(?<![\w-])--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)", text):
            assert option in known, f"{path.relative_to(ROOT)} names --{option}"


def test_files_named_in_one_tick_exist() -> None:
    text = (ROOT / "docs" / "one_tick.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:[a-z_]+/)*[a-z_0-9]+\.(?:py|c|h))`", text))
    everything = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.[pch]*") if ".venv" not in path.parts]
    for name in names - {"policy.h"}:
        assert any(path.endswith(name) for path in everything), name


def test_functions_named_in_one_tick_exist() -> None:
    """A newcomer searches for these names: each must be defined somewhere."""
    text = (ROOT / "docs" / "one_tick.md").read_text(encoding="utf-8")
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for room in ("hardware", "firmware_bridge", "export")
        for path in (ROOT / room).rglob("*.[pch]*")
        if path.suffix in (".py", ".c", ".h")
    )
    for name in set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text)) - {"policy_state_t"}:
        assert re.search(rf"\b{name}\b", code), name


def test_help_lists_every_public_target() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    for target in ("demo", "test", "distill", "export-c", "bridge", "install", "check", "results"):
        assert f"make {target} " in done.stdout


def test_documents_call_one_python() -> None:
    """That of `make install`; a bare one has none of the packages."""
    for page in PAGES:
        if page.name != "results.md":  # written by a command
            bare = re.findall(r"(?<![\w/.])python -m .*", page.read_text(encoding="utf-8"))
            assert not bare, f"{page.name}: {bare[0]}"


def test_every_target_has_a_policy_folder_of_its_own() -> None:
    """An AVR must not get what was compiled for another processor before it."""
    said = {}
    for board in ("netduinoplus2", "microbit", "atmega328p"):
        command = ["make", "--dry-run", "--always-make", "emulate", f"BOARD={board}", "BUILD=nowhere"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
        compiled = re.search(r"export compile \S+ --out (\S+)(.*)", done.stdout)
        played = re.search(rf"emulate --board {board} --policy (\S+)", done.stdout)
        assert compiled
        assert played
        assert compiled[1] == played[1]
        assert ("--target avr" in compiled[2]) == (board == "atmega328p")
        said[board] = compiled[1]
    assert said["netduinoplus2"] == said["microbit"] != said["atmega328p"]
