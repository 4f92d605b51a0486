"""What each module takes of flash and RAM, from the map that the linker writes beside an image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hardware.board import Chip

# `.text.name  0xADDRESS  0xSIZE  FILE`, where a long name stands on a line of its own; ` COMMON` for variables without
# initial value; ` *fill*` for alignment.
_PIECE = re.compile(
    r"^ (?P<section>\.[\w.$*-]+|COMMON|\*fill\*)\s+0x(?P<address>[0-9a-f]+)\s+0x(?P<size>[0-9a-f]+)(?P<file>.*)$",
    re.MULTILINE,
)
_BEGIN = "Linker script and memory map"
_LOADED = (".vectors", ".chip_vectors", ".init", ".progmem", ".text", ".rodata", ".data", ".board", ".image_check")
_VARIABLES = (".data", ".bss", "COMMON")


@dataclass(frozen=True)
class ModuleSize:
    """Bytes of one module; initial values of variables count in both."""

    flash_bytes: int
    ram_bytes: int


def module_sizes(link_map: Path, chip: Chip) -> dict[str, ModuleSize]:
    """Sizes by module, largest flash first: the objects' names, `policy` for what main.c includes and the compiler did
    not inline, libraries as libgcc, libc and libm, `stack` as reserved, `alignment`."""
    sizes: dict[str, list[int]] = {"stack": [0, chip.stack_bytes]}
    for section, address, size, file in _pieces(link_map.read_text(encoding="utf-8")):
        in_ram = chip.ram_origin <= address < chip.ram_origin + chip.ram_bytes
        in_flash = chip.flash_origin <= address < chip.flash_origin + chip.flash_bytes and not in_ram
        if section == "*fill*" and in_ram and size == chip.stack_bytes:
            continue  # the stack's own place, which the linker calls a fill
        if section == "*fill*":
            module, flash, ram = "alignment", size if in_flash else 0, size if in_ram else 0
        else:
            module = "policy" if ".policy" in section and file.endswith("main.o") else _module(file)
            flash = size if section.startswith(_LOADED) else 0
            ram = size if in_ram else 0  # on an AVR constants, too
        entry = sizes.setdefault(module, [0, 0])
        entry[0] += flash
        entry[1] += ram
    found = {name: ModuleSize(*entry) for name, entry in sizes.items() if any(entry)}
    return dict(sorted(found.items(), key=lambda item: (-item[1].flash_bytes, -item[1].ram_bytes, item[0])))


def _pieces(text: str) -> Iterator[tuple[str, int, int, str]]:
    _, _, text = text.partition(_BEGIN)  # before it: what was thrown away
    for found in _PIECE.finditer(re.sub(r"^( \.\S+)\n +0x", r"\1 0x", text, flags=re.MULTILINE)):
        size = int(found["size"], 16)
        if size and (found["section"] == "*fill*" or found["section"].startswith((*_LOADED, *_VARIABLES))):
            yield found["section"], int(found["address"], 16), size, found["file"].strip()


def _module(file: str) -> str:
    archive = re.search(r"lib(gcc|c|m)(_nano)?\.a\(", file)
    return f"lib{archive.group(1)}" if archive else Path(file).stem
