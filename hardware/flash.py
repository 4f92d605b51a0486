"""Puts an image into a chip with the programmer that its board needs, verified by the programmer.

Only the real variant is taken: the hil one waits for a simulator that is not there. The digest of the policy is read
back over the link by `python -m firmware_bridge identify`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hardware.board import Board
from hardware.errors import FlashError, ImageError
from hardware.image import flash_contents, identify, is_undamaged

_TIMEOUT_S = 180.0
_PLAIN_NAME = re.compile(r"[\w.-]+")  # it becomes part of an OpenOCD script


@dataclass(frozen=True)
class Flashed:
    """The command that was run, or would be."""

    command: list[str]
    board: str
    bytes: int
    dry_run: bool


def flash(image: Path, board: str, interface: str | None, *, dry_run: bool) -> Flashed:
    """Check the image, program it and verify it. Raises ImageError, FlashError."""
    target, contents = _checked(image, board)
    command = _command(target, image, interface or target.interface)
    if not dry_run:
        _run(command, image.parent, target, interface or target.interface)
    return Flashed(command, board, len(contents), dry_run)


def _checked(image: Path, board: str) -> tuple[Board, bytes]:
    if not image.is_file():
        raise ImageError(f"no image at {image}: expected an ELF file; {_how_to_build(board)}")
    identity = identify(image)
    if identity.board.name != board:
        raise ImageError(f"{image} is for board {identity.board.name}, got --board {board}; {_how_to_build(board)}")
    if identity.board.chip is not None and not identity.board.programmer:
        raise ImageError(f"nothing here programs a {board}: it has a hil image only; choose another --board")
    if identity.board.chip is None:
        raise ImageError(f"board {board} has no flash: expected a microcontroller's; choose another --board")
    if identity.variant != "real":
        raise ImageError(
            f"{image} is the hil image, which waits for a simulated plant and moves no pin, expected the real one; "
            f"{_how_to_build(board)}"
        )
    contents = flash_contents(image)
    if not is_undamaged(contents):
        raise ImageError(f"{image}: its CRC-32 is wrong, the firmware would refuse to arm; {_how_to_build(board)}")
    return identity.board, contents


def _command(board: Board, image: Path, interface: str) -> list[str]:
    if not _PLAIN_NAME.fullmatch(image.name) or not _PLAIN_NAME.fullmatch(interface):
        raise FlashError(
            f"{image.name!r} with interface {interface!r}: expected names of letters, digits, '.', '_' and '-'; rename"
        )
    script = f"program {image.name} verify reset exit"
    return ["openocd", "-f", f"interface/{interface}.cfg", "-f", f"target/{board.programmer}.cfg", "-c", script]


def _run(command: list[str], folder: Path, board: Board, interface: str) -> None:
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
    errors = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.startswith(("Error", "**"))]
    failed = [line for line in errors if "Error" in line or "Failed" in line]
    if done.returncode != 0 or failed:
        said = failed[0] if failed else f"exit status {done.returncode}"
        raise FlashError(
            f"{command[0]}: {said}; expected a {interface} probe on USB with a powered {board.name} behind it: connect "
            "both, or name another probe with --interface"
        )


def _how_to_build(board: str) -> str:
    return f"build it with `python -m hardware build --board {board} --variant real --policy DIR --out DIR`"
