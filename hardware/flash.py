"""Puts an image into a chip with the programmer that its board needs, verified by the programmer.

Only the real variant is taken: the hil one waits for a simulator that is not there. What is programmed are the bytes
that were checked, at the chip's own address, and the programmer first asks the chip which one it is. The digest of the
policy is read back over the link by `python -m firmware_bridge identify`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hardware.board import BOARDS, Board, Chip
from hardware.errors import FlashError, ImageError
from hardware.image import identify_flash, is_undamaged, read_flash
from hardware.scratch import ScratchFolder

_TIMEOUT_S = 180.0
_WRONG_CHIP = "the chip says of itself"
_PLAIN_NAME = re.compile(r"[\w.-]+")  # it becomes part of an OpenOCD script


@dataclass(frozen=True)
class Flashed:
    """The command that was run, or would be."""

    command: list[str]
    board: str
    bytes: int
    dry_run: bool


def flash(image: Path, board: str, interface: str | None, *, dry_run: bool) -> Flashed:
    """Check the image, program it and verify it. Raises ImageError, FlashError; KeyboardInterrupt with what that left.

    The command names a file beside the image; where it is run, that file lies in a folder of its own.
    """
    target, chip = _programmable(board)
    contents = _checked(image, target, chip)
    probe = target.interface if interface is None else interface
    command = _command(target, chip, f"{image.stem}.bin", probe)
    if not dry_run:
        with ScratchFolder("flash-") as folder:
            (folder / f"{image.stem}.bin").write_bytes(contents)
            _run(command, folder, target, chip, probe)
    return Flashed(command, board, len(contents), dry_run)


def _programmable(board: str) -> tuple[Board, Chip]:
    known = {name: other for name, other in BOARDS.items() if other.programmer and "real" in other.variants}
    target = known.get(board)
    if target is None or target.chip is None:
        raise ImageError(
            f"--board {board!r}: nothing here programs that, expected one of {', '.join(known)}; name the connected one"
        )
    return target, target.chip


def _checked(image: Path, target: Board, chip: Chip) -> bytes:
    how_to_build = (
        f"build it with `python -m hardware build --board {target.name} --variant real --policy DIR --out DIR`"
    )
    if not image.is_file():
        raise ImageError(f"no image at {image}: expected an ELF file; {how_to_build}")
    origin, contents = read_flash(image)
    if not is_undamaged(contents):
        raise ImageError(f"{image}: its CRC-32 is wrong, the firmware would refuse to arm; {how_to_build}")
    identity = identify_flash(image, contents)
    if identity.board is not target:
        raise ImageError(f"{image} is for board {identity.board.name}, got --board {target.name}; {how_to_build}")
    if identity.variant != "real":
        raise ImageError(
            f"{image} is the hil image, which waits for a simulated plant and moves no pin, expected the real one; "
            f"{how_to_build}"
        )
    if identity.plant != target.plant:
        raise ImageError(
            f"{image} is for the plant {identity.plant}, got a {target.name}, which is wired to {target.plant}; "
            f"{how_to_build}"
        )
    if origin != chip.flash_origin or len(contents) > chip.flash_bytes:
        raise ImageError(
            f"{image}: got {len(contents)} bytes for address {origin:#x}, expected {chip.flash_bytes} at most at "
            f"{chip.flash_origin:#x} ({chip.title}): its headers are not those that the build wrote; {how_to_build}"
        )
    return contents


def _command(board: Board, chip: Chip, name: str, interface: str) -> list[str]:
    if not _PLAIN_NAME.fullmatch(name) or not _PLAIN_NAME.fullmatch(interface):
        raise FlashError(
            f"{name!r} with interface {interface!r}: expected names of letters, digits, '.', '_' and '-'; rename"
        )
    script = f"program {name} {chip.flash_origin:#010x} verify reset exit"
    code = chip.code
    if code is not None:
        read = f"[mrw {code.address:#010x}]"
        wrong = f'echo "Error: {_WRONG_CHIP} [format 0x%08x {read}]"; shutdown error'
        test = f"({read} & {code.mask:#x}) != {code.value:#x}"
        script = f"source [find mem_helper.tcl]; init; if {{{test}}} {{{wrong}}} else {{{script}}}"
    return ["openocd", "-f", f"interface/{interface}.cfg", "-f", f"target/{board.programmer}.cfg", "-c", script]


def _run(command: list[str], folder: Path, board: Board, chip: Chip, interface: str) -> None:
    if shutil.which(command[0]) is None:
        raise FlashError(f"no {command[0]} on PATH, expected it; install it (`apt-get install {command[0]}`)")
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FlashError(
            f"{command[0]} did not end within {_TIMEOUT_S:g} s; unplug the probe, plug it in, try again"
        ) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"the {board.name} may hold half an image, which refuses to arm; flash it again"
        ) from None
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    failed = [line for line in lines if "Error:" in line or (line.startswith("**") and "Failed" in line)]
    if done.returncode == 0 and not failed:
        return
    said = failed[0] if failed else f"exit status {done.returncode}"
    if _WRONG_CHIP in said:
        raise FlashError(
            f"the connected chip is no {chip.title}: {said.partition(_WRONG_CHIP)[2].strip()}, expected "
            f"{_code_text(chip)}; connect a {board.name}, or name the board that is connected with --board"
        )
    if "Can't find interface/" in said:
        raise FlashError(
            f"{command[0]}: {said}; expected one of the names in its folder scripts/interface, got {interface!r}: pass "
            "another --interface"
        )
    raise FlashError(
        f"{command[0]}: {said}; expected a {interface} probe on USB with a powered {board.name} behind it: connect "
        "both, or name another probe with --interface"
    )


def _code_text(chip: Chip) -> str:
    assert chip.code is not None  # the script asked for it
    return f"{chip.code.value:#x} in the bits {chip.code.mask:#x} of {chip.code.address:#010x}"
