"""The table of which room may import which, enforced by parsing (nothing is run)."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("distill", "export", "firmware_bridge", "hardware")
ALLOWED = {
    "export": set(),
    "distill": {"export"},
    "hardware": set(),
    "firmware_bridge": {"export", "hardware"},
}
# What a room may never pull in, whoever asks: the daemon starts fast and the exporter needs no training framework.
FORBIDDEN = {
    "export": {"torch", "gymnasium", "mujoco", "stable_baselines3", "serial"},
    "firmware_bridge": {"torch", "gymnasium", "mujoco", "stable_baselines3"},
    "hardware": {"torch", "stable_baselines3", "onnx", "onnxruntime"},
    "distill": {"serial", "mcap", "unicorn"},
}


def imported_packages(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it; relative imports stay inside the room."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_what_the_table_allows(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files, f"{room} holds no Python files"
    for path in files:
        packages = imported_packages(path)
        ours = packages & set(ROOMS) - {room}
        assert ours <= ALLOWED[room], f"{path.relative_to(ROOT)} imports {sorted(ours - ALLOWED[room])}"
        assert not packages & FORBIDDEN[room], f"{path.relative_to(ROOT)} imports {sorted(packages & FORBIDDEN[room])}"


def test_parser_sees_every_form_of_import(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text("import torch.nn as nn\nfrom mujoco import viewer\ndef f():\n    import serial\nfrom . import x\n")
    assert imported_packages(path) == {"torch", "mujoco", "serial"}


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_is_deeper_than_two_folders(room: str) -> None:
    for path in (ROOT / room).rglob("*"):
        if "__pycache__" not in path.parts and path.is_file():
            parts = path.relative_to(ROOT).parts
            # Each chip and each board has a folder of its own below hardware/boards.
            assert len(parts) <= (4 if parts[:2] == ("hardware", "boards") else 3), path


def test_nothing_is_called_a_drawer() -> None:
    names = {"utils", "util", "common", "core", "helpers", "manager", "misc"}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            assert path.stem not in names, path


@pytest.mark.parametrize("room", ["export", "firmware_bridge"])
def test_torch_never_loads(room: str) -> None:
    import subprocess

    program = f"import sys, {room}.command_line; sys.exit('torch' in sys.modules or 'mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False).returncode == 0
