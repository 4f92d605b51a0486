"""What an image says: the board it is for, its variant and plant, and the bytes that lie in flash.

The identity of a microcontroller's image lies in flash just before its CRC-32, so that the CRC covers it. What is
flashed is judged by those bytes alone: everything else in an ELF file can be edited without anybody noticing.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from hardware.board import VARIANTS, Board, Variant, find_board
from hardware.errors import BuildError, ImageError

_BUILD = "build it with `python -m hardware build --policy DIR --out DIR`"
_SECTION = ".board"
_UNNAMED = "host hil cart_rail"  # a program of somebody else's that speaks the plant port
_IN_FLASH = re.compile(rb"\0([ -~]+)\0{1,4}.{4}\Z", re.DOTALL)  # a NUL, the text, NULs up to a word, the CRC
_LONGEST = 80
_HEADER = struct.Struct("<28xI10x2H")  # of a 32-bit little-endian ELF file: where its program headers are
_SEGMENT = struct.Struct("<8I")
_LOADED = 1  # PT_LOAD
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
            text = _UNNAMED if section is None else bytes(section.data()).strip(b"\0").decode("ascii", "replace")
    except (ELFError, OSError):
        text = _UNNAMED
    return _identity(image, text)


def identify_flash(image: Path, contents: bytes) -> ImageIdentity:
    """The identity that lies in flash, from the bytes themselves; `image` is for messages. Raises ImageError."""
    found = _IN_FLASH.search(contents[-_LONGEST:])
    return _identity(image, "nothing" if found is None else found[1].decode("ascii"))


def _identity(image: Path, text: str) -> ImageIdentity:
    words = text.split()
    if len(words) != 3 or words[1] not in VARIANTS:
        raise ImageError(f"{image} says {text!r} of itself, expected `BOARD hil PLANT` or `BOARD real PLANT`; {_BUILD}")
    try:
        return ImageIdentity(find_board(words[0]), VARIANTS[words[1]], words[2])
    except BuildError as error:
        raise ImageError(f"{image}: {error}") from error


def flash_contents(image: Path) -> bytes:
    """The bytes that lie in flash, from the ELF file's segments. Raises ImageError."""
    return read_flash(image)[1]


def read_flash(image: Path) -> tuple[int, bytes]:
    """Address and bytes of what lies in flash, from the ELF file's segments. Raises ImageError.

    By hand: a program header is eight words, and a file with edited ones must end in one line whatever they say.
    """
    try:
        data = image.read_bytes()
    except OSError as error:
        raise ImageError(f"{image} cannot be read ({error.strerror}); mend that, or {_BUILD}") from error
    if len(data) < _HEADER.size or data[:6] != b"\x7fELF\x01\x01":
        raise ImageError(
            f"{image} is no 32-bit ELF file, expected a microcontroller's, as firmware_real.elf and not the .bin "
            f"beside it; {_BUILD}"
        )
    start, size, count = _HEADER.unpack_from(data)
    if size != _SEGMENT.size or start + size * count > len(data):
        raise ImageError(f"{image}: its program headers are damaged or missing; {_BUILD}")
    segments = [_SEGMENT.unpack_from(data, start + size * index) for index in range(count)]
    pieces = []
    for kind, offset, _, address, length, *_ in segments:
        if kind != _LOADED or not length:
            continue
        if offset + length > len(data):
            raise ImageError(f"{image} ends after {len(data)} bytes, expected {offset + length}: it was cut; {_BUILD}")
        pieces.append((address, data[offset : offset + length]))
    pieces.sort()
    contents = bytearray()
    for address, piece in pieces:
        gap = address - pieces[0][0] - len(contents)
        if not 0 <= gap < 1 << 20:
            raise ImageError(f"{image}: its segments overlap or lie far apart at {address:#x}; build it again")
        contents += bytes(gap) + piece
    if not contents:
        raise ImageError(f"{image}: nothing in it is to be loaded, expected a firmware; {_BUILD}")
    return pieces[0][0], bytes(contents)


def is_undamaged(contents: bytes) -> bool:
    """Whether the last four bytes are the CRC-32 of all others: the firmware's own check at every start."""
    return zlib.crc32(contents) == _GOOD
