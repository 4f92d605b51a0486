"""Static analysis of all C that ends up in an image: cppcheck and clang-tidy, each source as its board compiles it.

`python tests/firmware/analyse.py`; `make check` runs it. Prints findings and ends with status 1 when there are any. A
tool that is missing is one line, and in CI (CI=true) a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hardware.board import BOARDS, BOARDS_FOLDER, Board
from hardware.build import FIRMWARE_FOLDER, LANGUAGE, MODULES
from hardware.plant_header import FIRMWARE_PLANTS, header_flag

POLICY_FOLDER = Path(__file__).parent / "policy"
SUPPRESSIONS = Path(__file__).parent / "cppcheck.txt"
CPPCHECK = (
    *("--quiet", "--std=c11", "--enable=warning,style,performance,portability", "--error-exitcode=1"),
    *("--inline-suppr", f"--suppressions-list={SUPPRESSIONS}"),
)
# Macros of arm-none-eabi-gcc that choose between lines of the sources.
CORTEX_M = ("-D__arm__", "-D__GNUC__=12")


@dataclass(frozen=True)
class Group:
    """Sources that are compiled alike."""

    name: str
    sources: tuple[Path, ...]
    includes: tuple[Path, ...]
    flags: tuple[str, ...]  # of the chip; none for this machine
    plant: str  # the flag that names its header
    hardware_float: bool = False


def groups() -> list[Group]:
    """The portable modules with board host, then what each chip adds to them."""
    portable = tuple(FIRMWARE_FOLDER / f"{name}.c" for name in MODULES)
    found = []
    for board in BOARDS.values():
        own = sorted({BOARDS_FOLDER / f"{name}.c" for name in _names(board)})
        sources = (*portable, *own) if board.chip is None else tuple(own)
        flags = board.chip.flags if board.chip else ()
        plant = next(plant for plant in FIRMWARE_PLANTS if board.plant in ("", plant.name))
        includes = (*board.include_folders, FIRMWARE_FOLDER, POLICY_FOLDER)
        found.append(Group(board.name, sources, includes, flags, header_flag(plant), "-mfloat-abi=hard" in flags))
    return found


def _names(board: Board) -> tuple[str, ...]:
    return (*(board.chip.sources if board.chip else ()), *board.sources, *board.variants.values())


def clang_flags(group: Group) -> list[str] | None:
    """Arguments behind `--` for clang-tidy; None where clang has no such chip or there are no headers for it."""
    includes = [f"-I{folder}" for folder in group.includes] + [group.plant]
    if not group.flags:
        return [*LANGUAGE, *includes]
    if not any(flag.startswith("-mcpu=cortex-m") for flag in group.flags):
        return None
    compiler = shutil.which("arm-none-eabi-gcc")
    if compiler is None:
        return None
    done = subprocess.run([compiler, "-print-sysroot"], capture_output=True, text=True, check=True, timeout=60)
    root = Path(done.stdout.strip() or "/usr/lib/arm-none-eabi")
    library = [folder for folder in (root / "include", Path("/usr/lib/arm-none-eabi/include")) if folder.is_dir()]
    systems = [f"-isystem{folder}" for folder in library[:1]]
    return ["--target=thumb-none-eabi", *group.flags, *LANGUAGE, "-ffreestanding", *systems, *includes]


def tidy_commands() -> list[list[str]]:
    """One command a source: they run side by side."""
    commands = []
    for group in groups():
        flags = clang_flags(group)
        if flags is None:
            print(f"left out: clang-tidy of {group.name} (no target or no headers for it)", file=sys.stderr)
            continue
        commands += [["clang-tidy", "--quiet", str(source), "--", *flags] for source in group.sources]
    return commands


def cppcheck_commands() -> list[list[str]]:
    """One command a group: cppcheck looks at calls between its files."""
    commands = []
    for group in groups():
        macros = list(CORTEX_M) if group.flags else ["--library=posix"]
        macros += ["-D__ARM_FP=4"] if group.hardware_float else []
        includes = [f"-I{folder}" for folder in group.includes]
        command = ["cppcheck", *CPPCHECK, group.plant, *macros, *includes]
        commands.append([*command, *map(str, group.sources)])
    return commands


def findings(command: list[str]) -> str:
    """What a tool has to say about its sources; empty when it is content."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip()


def main() -> int:
    """Run both tools. The exit code."""
    commands = []
    missing = [tool for tool in ("cppcheck", "clang-tidy") if shutil.which(tool) is None]
    if missing:
        print(f"left out: {' and '.join(missing)}; apt-get install {' '.join(missing)}", file=sys.stderr)
        if os.environ.get("CI") == "true":
            return 1
    if "cppcheck" not in missing:
        commands += cppcheck_commands()
    if "clang-tidy" not in missing:
        commands += tidy_commands()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = [text for text in pool.map(findings, commands) if text]
    print("\n".join(found) if found else f"{len(commands)} analyses of C, nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
