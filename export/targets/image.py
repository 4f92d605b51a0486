"""Compiling and linking a policy for a target, and reading what the linked image holds."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from export.errors import ToolError
from export.targets.target import Target
from export.toolchain import (
    STRICT_FLAGS,
    compiler_version,
    host_compiler,
    run_compiler,
    target_source,
)

ENTRY_POINTS = (
    "run_batch",
    "run_state_size",
    "run_base_size",
    "run_reset",
    "run_frames",
    "run_observe",
    "run_step",
    "run_step_fixed",
    "run_self_test",
)
"""Functions of harness.c that a core can call; run_step_fixed where the policy is one of integers."""

_MATHEMATICS = frozenset(
    name + suffix
    for name in (
        *("acos", "asin", "atan", "atan2", "cbrt", "cos", "cosh", "exp", "exp2", "fmod", "hypot"),
        *("log", "log10", "log2", "pow", "sin", "sinh", "sqrt", "tan", "tanh"),
    )
    for suffix in ("", "f")
)


def build_image(
    target: Target, include: Path, output: Path, source: str, extra: Sequence[str] = ("-O2",), *, compiler: str = ""
) -> None:
    """Compile and link `source` (harness.c or firmware.c) with the policy.h in `include`.

    The harness becomes something that `open_core` loads, the firmware something whose sections are weighed.
    compiler: another command than the target's own.

    Raises:
        ToolError: the compiler is missing (the message names its packages), refuses the code, or the policy needs libm.
    """
    harness = source == "harness.c"
    command = [*(compiler or compiler_command(target)).split(), *target.flags, *STRICT_FLAGS, *extra, f"-I{include}"]
    if target.family == "host" and harness:
        command += ["-fPIC", "-shared"]
    else:
        command += target.link_flags
        command += [f"-Wl,-u,{name}" for name in ENTRY_POINTS if harness]
        command.append(f"-Wl,-e,{ENTRY_POINTS[0] if harness else 'reset_handler'}")
    if target.family in ("arm", "riscv"):
        command.append(f"-T{target_source('memory.ld')}")
    run_compiler([*command, str(target_source(source)), "-o", str(output), *target.libraries], target.packages)
    # These C libraries are not divided: picolibc holds libm too, and avr-libc's libm holds the soft float.
    if target.family in ("riscv", "avr"):
        _refuse_mathematics(target, output)


def compiler_command(target: Target) -> str:
    """Return the compiler of a target; for the host what $CC says."""
    return host_compiler() if target.family == "host" else target.compiler


@lru_cache(maxsize=32)
def _version(compiler: str, packages: str) -> str:
    return compiler_version(compiler, packages)


def target_compiler_version(target: Target) -> str:
    """Return the first line of `compiler --version`. Raises ToolError when it is not installed."""
    return _version(compiler_command(target), target.packages)


def section_sizes(image: Path) -> dict[str, int]:
    """Return the size of every section of an ELF that occupies memory."""
    from elftools.elf.elffile import ELFFile

    with image.open("rb") as stream:
        sections: Any = ELFFile(stream).iter_sections()
        return {section.name: section["sh_size"] for section in sections if section["sh_flags"] & 2}


def symbol_sizes(image: Path) -> list[tuple[str, int]]:
    """Return (name, bytes) of every function and object of an ELF."""
    from elftools.elf.elffile import ELFFile

    with image.open("rb") as stream:
        symbols: Any = ELFFile(stream).get_section_by_name(".symtab").iter_symbols()
        wanted = ("STT_FUNC", "STT_OBJECT")
        return [(symbol.name, symbol["st_size"]) for symbol in symbols if symbol["st_info"]["type"] in wanted]


def _refuse_mathematics(target: Target, image: Path) -> None:
    from elftools.elf.elffile import ELFFile

    with image.open("rb") as stream:
        symbols: Any = ELFFile(stream).get_section_by_name(".symtab").iter_symbols()
        found = sorted({symbol.name for symbol in symbols} & _MATHEMATICS)
    if found:
        raise ToolError(
            f"the policy for {target.name} needs {', '.join(found)} of libm, expected a policy that brings its own "
            "mathematics; compile the student again"
        )
