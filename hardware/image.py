"""What an image's ELF file says: the board it is for, its variant, and the bytes that lie in flash."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from hardware.board import VARIANTS, Board, Variant, find_board
from hardware.errors import BuildError, ImageError

_BUILD = "build it with `python -m hardware build --policy DIR --out DIR`"
_SECTION = ".board"
_UNNAMED = "host hil cart_rail"  # a program of somebody else's that speaks the plant port
_GOOD = 0x2144DF1C  # CRC-32 over anything followed by its own CRC-32, little-endian


@dataclass(frozen=True)
class ImageIdentity:
    """The board an image is for, hil (for the simulator) or real (for flashing), and the name of the plant."""

    board: Board
    variant: Variant
    plant: str


def identify(image: Path) -> ImageIdentity:
    """Read the identity. What has none is taken for a program of this machine. Raises ImageError."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with image.open("rb") as opened:
            section = ELFFile(opened).get_section_by_name(_SECTION)
            text = _UNNAMED if section is None else bytes(section.data()).split(b"\0")[0].decode("ascii", "replace")
    except (ELFError, OSError):
        text = _UNNAMED
    words = text.split()
    if len(words) != 3 or words[1] not in VARIANTS:
        raise ImageError(f"{image} says {text!r} of itself, expected `BOARD hil PLANT` or `BOARD real PLANT`; {_BUILD}")
    try:
        return ImageIdentity(find_board(words[0]), VARIANTS[words[1]], words[2])
    except BuildError as error:
        raise ImageError(f"{image}: {error}") from error


def flash_contents(image: Path) -> bytes:
    """The bytes that lie in flash, from the ELF file's segments. Raises ImageError."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with image.open("rb") as opened:
            segments = [segment for segment in ELFFile(opened).iter_segments("PT_LOAD") if segment["p_filesz"]]
            pieces = sorted((segment["p_paddr"], bytes(segment.data())) for segment in segments)
    except (ELFError, OSError) as error:
        raise ImageError(f"{image} cannot be read as an ELF file ({error}); build it again") from error
    contents = bytearray()
    for address, data in pieces:
        gap = address - pieces[0][0] - len(contents)
        if not 0 <= gap < 1 << 20:
            raise ImageError(f"{image}: its segments overlap or lie far apart at {address:#x}; build it again")
        contents += bytes(gap) + data
    return bytes(contents)


def is_undamaged(contents: bytes) -> bool:
    """Whether the last four bytes are the CRC-32 of all others: the firmware's own check at every start."""
    return zlib.crc32(contents) == _GOOD
