"""Builds a firmware image: portable C (`firmware/`), one board (`boards/`) and the policy's header from export.

A microcontroller's image comes in two variants from the same objects except one, `board_hil.o` or `board_real.o`. Its
last four bytes are the CRC-32 of everything before them, which the firmware checks at every start.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from hardware.board import BOARDS_FOLDER, Board, Chip, Tools, Variant, find_board
from hardware.errors import BuildError
from hardware.plant_header import header_flag, plant_of
from hardware.plants.cart_rail import CART_RAIL
from hardware.plants.pendulum import AcceleratedPendulum
from hardware.replace import regular_target
from hardware.scratch import ScratchFolder

FIRMWARE_FOLDER = Path(__file__).parent / "firmware"
MODULES = ("main", "link", "safety", "safety_period", "homing", "counts", "drive", "observe", "framing")
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")
LANGUAGE = ("-std=c11", "-ffp-contract=off", *WARNINGS)
FLAGS = (*LANGUAGE, "-O2")
_ENVIRONMENT_LINE = re.compile(r"^ \* environment  (\S+),", re.MULTILINE)
_CROSS_FLAGS = (*LANGUAGE, "-Os", "-ffunction-sections", "-fdata-sections")
_CROSS_LINK = ("-Wl,--gc-sections,--fatal-warnings",)


@dataclass(frozen=True)
class Image:
    """A built image: where it lies, the policy inside, the board it is for, and what it takes of the chip.

    `flash_bytes` is everything that is flashed; `ram_bytes` variables and the reserved stack. None for board host.
    `objects` maps each object file to the CRC-32 of its bytes.
    """

    path: Path
    policy_digest: str
    board: str
    variant: Variant
    flash_bytes: int | None
    ram_bytes: int | None
    objects: dict[str, int]


def read_policy_digest(header: Path) -> str:
    """The digest that a generated `policy.h` carries (64 hex digits). Raises BuildError."""
    try:
        text = header.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise BuildError(
            f"no policy header at {header}: expected policy.h in the folder given by --policy; "
            "write it with `python -m export compile STUDENT --out DIR`"
        ) from None
    found = re.search(r'#define\s+POLICY_DIGEST_HEX\s+"([0-9a-f]{64})"', text)
    if found is None:
        raise BuildError(
            f"{header} has no POLICY_DIGEST_HEX of 64 hex digits: expected a header written by "
            "`python -m export compile`; write it again"
        )
    return found.group(1)


def read_plant(header: Path) -> AcceleratedPendulum:
    """The plant that a generated `policy.h` is for, by the environment in its first comment; the cart where it names
    none. Raises HardwareError for one that the firmware does not drive."""
    found = _ENVIRONMENT_LINE.search(header.read_text(encoding="utf-8"))
    return CART_RAIL if found is None else plant_of(found.group(1))


def _checked_plant(header: Path, board: Board, variant: Variant) -> AcceleratedPendulum:
    plant = read_plant(header)
    if variant == "real" and board.plant != plant.name:
        raise BuildError(
            f"the real {board.name} is wired to the plant {board.plant}, got a policy for {plant.environment}; compile "
            "one for this board's plant, or choose another --board"
        )
    return plant


def find_compiler() -> str:
    """The host's C compiler: $CC, cc, gcc or clang. Raises BuildError."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and (path := shutil.which(name)):
            return path
    raise BuildError("no C compiler: looked for $CC, cc, gcc and clang on PATH; install one (`apt-get install gcc`)")


def find_cross(tools: Tools, tool: str) -> str:
    """A tool of a cross compiler's family: gcc, objcopy or size. Raises BuildError."""
    if path := shutil.which(tools.prefix + tool):
        return path
    raise BuildError(
        f"no {tools.prefix}{tool} on PATH, expected the {tools.title} cross compiler; "
        f"install it (`apt-get install {tools.packages}`)"
    )


def build(
    policy: Path, out: Path, board: str = "host", variant: Variant = "hil", extra_flags: tuple[str, ...] = ()
) -> Image:
    """Compile the firmware for `board` with `policy`/policy.h inside.

    Writes `out`/firmware for board host; for a chip `out`/firmware_VARIANT.elf, .bin (what lies in flash) and .map.

    Raises BuildError when the board or its variant is unknown, the header is missing or unusable, the folder cannot be
    written, or the compiler refuses; an image that was there before stays.
    """
    target = find_board(board)
    if variant not in target.variants:
        raise BuildError(f"board {board} has no variant {variant!r}, expected {' or '.join(target.variants)}")
    digest = read_policy_digest(policy / "policy.h")
    plant = header_flag(_checked_plant(policy / "policy.h", target, variant))
    try:
        out.mkdir(parents=True, exist_ok=True)
        with ScratchFolder(".build-", out) as scratch:
            includes = [f"-I{folder}" for folder in (*target.include_folders, FIRMWARE_FOLDER, policy)]
            if target.chip is None:
                flags = (*FLAGS, *extra_flags, *includes, plant)
                image = _link_host(_sources(target, variant), flags, scratch / "firmware")
                flash, ram = None, None
            else:
                chip = target.chip
                flags = (*_CROSS_FLAGS, *chip.tools.flags, *chip.flags, *extra_flags, *includes, plant)
                compiled = [_compile(source, chip.tools, flags, scratch) for source in _sources(target, variant)]
                image = _link(compiled, chip, scratch / f"firmware_{variant}.elf")
                flash, ram = _sizes(image, chip.tools)
                for suffix in (".bin", ".map"):
                    os.replace(image.with_suffix(suffix), regular_target(out / f"{image.stem}{suffix}"))
            os.replace(image, regular_target(out / image.name))
            objects = {path.name: zlib.crc32(path.read_bytes()) for path in sorted(scratch.glob("*.o"))}
    except OSError as error:
        raise BuildError(
            f"cannot build into {out}: got {error.strerror or error}, expected a writable folder with free space; "
            "mend that or choose another --out"
        ) from error
    return Image(out / image.name, digest, board, variant, flash, ram, objects)


def _sources(board: Board, variant: Variant) -> list[Path]:
    chip = board.chip.sources if board.chip else ()
    names = (*chip, *board.sources, board.variants[variant])
    return [FIRMWARE_FOLDER / f"{name}.c" for name in MODULES] + [BOARDS_FOLDER / f"{name}.c" for name in names]


def _link_host(sources: list[Path], flags: tuple[str, ...], image: Path) -> Path:
    _run([find_compiler(), *flags, *map(str, sources), "-o", str(image), "-lm"])
    return image


def _compile(source: Path, tools: Tools, flags: tuple[str, ...], folder: Path) -> Path:
    """One object, named after the source alone: the same one has the same bytes wherever it was built."""
    compiled = folder / f"{source.stem}.o"
    where = f"-fdebug-prefix-map={source.parent}=."  # -ffile-prefix-map is younger than avr-gcc
    _run([find_cross(tools, "gcc"), *flags, where, "-c", str(source), "-o", str(compiled)])
    return compiled


def _link(objects: list[Path], chip: Chip, image: Path) -> Path:
    memory = {
        "FLASH_ORIGIN": chip.flash_origin,
        "FLASH_SIZE": chip.flash_bytes,
        "RAM_ORIGIN": chip.ram_origin,
        "RAM_SIZE": chip.ram_bytes,
        "STACK_SIZE": chip.stack_bytes,
    }
    symbols = [f"-Wl,--defsym={name}={value:#x}" for name, value in memory.items()]
    symbols += ["-Xlinker", f"-Map={image.with_suffix('.map')}"]  # -Wl, would split the path at a comma
    tools = chip.tools
    flags = (*chip.flags, *_CROSS_LINK, *tools.link_flags, *symbols, "-T", str(BOARDS_FOLDER / tools.script))
    _run([find_cross(tools, "gcc"), *flags, *map(str, objects), *tools.libraries, "-o", str(image)])
    _sign(image, tools)
    return image


def _sign(image: Path, tools: Tools) -> None:
    """Put the CRC-32 of the image into its last four bytes; write what lies in flash beside it as .bin."""
    objcopy = find_cross(tools, "objcopy")
    binary, check = image.with_suffix(".bin"), image.with_suffix(".crc")
    to_binary = [objcopy, "--output-target=binary", str(image), str(binary)]
    _run(to_binary)
    check.write_bytes(zlib.crc32(binary.read_bytes()[:-4]).to_bytes(4, "little"))
    _run([objcopy, "--update-section", f".image_check={check}", str(image)])
    _run(to_binary)


def _sizes(image: Path, tools: Tools) -> tuple[int, int]:
    """Bytes of flash and RAM."""
    flash = image.with_suffix(".bin").stat().st_size
    listed = _run([find_cross(tools, "size"), "-A", str(image)])
    rows = [line.split() for line in listed.splitlines()]
    return flash, sum(int(row[1]) for row in rows if row and row[0] in (".stack", ".data", ".bss"))


def _run(command: list[str]) -> str:
    """Run a tool; what it printed. Raises BuildError with the line of its log that says what is wrong."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    tool = Path(command[0]).name
    if "No space left on device" in done.stderr:
        folder = Path(command[command.index("-o") + 1]).parent.parent if "-o" in command else "the folder"
        raise BuildError(
            f"cannot build into {folder}: {tool} got 'No space left on device', expected room for some megabytes "
            f"there and in {tempfile.gettempdir()}; free space or choose another --out"
        )
    said = _first_error(done.stderr)
    if "overflowed" in said and tool.startswith("avr-"):
        said += (
            "; a policy from `python -m export compile STUDENT --out DIR --weights int8 --target avr` takes least RAM"
        )
    raise BuildError(f"{tool} refused the firmware: {said}")


def _first_error(log: str) -> str:
    """The line of a compiler's log that says what is wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("collect2:")]
    for line in lines:
        if "error:" in line:
            return line
    return lines[-1] if lines else "it said nothing"
