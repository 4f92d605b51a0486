"""That static analysis sees what it is there for; `make check` runs it over the firmware."""

import importlib.util
import sys
from pathlib import Path

import pytest

from hardware.board import BOARDS, BOARDS_FOLDER
from hardware.build import FIRMWARE_FOLDER

pytestmark = pytest.mark.analysis
SCRIPT = Path(__file__).parent.parent / "firmware" / "analyse.py"
ROOT = SCRIPT.parent.parent.parent

OUT_OF_BOUNDS = "int read_last(void) {\n    int values[4] = {1, 2, 3, 4};\n    return values[4];\n}\n"
NULL = "int read_value(int wanted) {\n    int *place = 0;\n    return wanted > 0 ? *place : 0;\n}\n"


@pytest.fixture(scope="module")
def analyse():
    spec = importlib.util.spec_from_file_location("analyse", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_every_source_of_every_image_is_looked_at(analyse):
    looked_at = {source for group in analyse.groups() for source in group.sources}
    assert looked_at >= set(FIRMWARE_FOLDER.glob("*.c"))
    assert looked_at >= set(BOARDS_FOLDER.rglob("*.c"))
    assert {group.name for group in analyse.groups()} == set(BOARDS)


@pytest.mark.cross
def test_clang_tidy_reads_the_sources_of_a_chip(analyse):
    for group in analyse.groups():
        if any(flag.startswith("-mcpu=cortex-m") for flag in group.flags):
            assert analyse.clang_flags(group) is not None, group.name


@pytest.mark.parametrize(
    ("code", "tool", "finding"),
    [(OUT_OF_BOUNDS, "cppcheck", "arrayIndexOutOfBounds"), (NULL, "clang-tidy", "core.NullDereference")],
    ids=["cppcheck", "clang-tidy"],
)
def test_a_planted_error_is_found(analyse, tmp_path, monkeypatch, code, tool, finding):
    source = tmp_path / "planted.c"
    source.write_text(code)
    group = analyse.Group("planted", (source,), (), (), "-DPLANTED")
    monkeypatch.setattr(analyse, "groups", lambda: [group])
    monkeypatch.chdir(ROOT)
    (tmp_path / ".clang-tidy").write_text((ROOT / ".clang-tidy").read_text())  # it looks beside the source
    commands = analyse.cppcheck_commands() if tool == "cppcheck" else analyse.tidy_commands()
    [report] = map(analyse.findings, commands)
    assert finding in report
    source.write_text("int read_last(void);\nint read_last(void) {\n    return 1;\n}\n")
    assert [analyse.findings(command) for command in commands] == [""]
