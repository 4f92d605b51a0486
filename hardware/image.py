"""What an image says of itself: the board it is for and its variant, read from the ELF file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hardware.board import VARIANTS, Board, Variant, find_board
from hardware.errors import BuildError, SimulatorError

_BUILD = "build it with `python -m hardware build --policy DIR --out DIR`"
_SECTION = ".board"


@dataclass(frozen=True)
class ImageIdentity:
    """The board an image is for, and hil (for the simulator) or real (for flashing)."""

    board: Board
    variant: Variant


def identify(image: Path) -> ImageIdentity:
    """Read the identity. What has none is taken for a program of this machine. Raises SimulatorError."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with image.open("rb") as opened:
            section = ELFFile(opened).get_section_by_name(_SECTION)
            text = "host hil" if section is None else bytes(section.data()).split(b"\0")[0].decode("ascii", "replace")
    except (ELFError, OSError):
        text = "host hil"
    name, _, variant = text.partition(" ")
    if variant not in VARIANTS:
        raise SimulatorError(f"{image} names its board {text!r}, expected `BOARD hil` or `BOARD real`; {_BUILD}")
    try:
        return ImageIdentity(find_board(name), VARIANTS[variant])
    except BuildError as error:
        raise SimulatorError(f"{image}: {error}") from error
