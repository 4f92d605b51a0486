"""The processors that a policy can be compiled for, each with a chip whose memory it has to fit."""

from dataclasses import dataclass
from typing import Literal

from export.errors import ExportError

_KIB = 1024
_SECTIONS = ("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
# Libraries are named one by one, the C library for memcpy at most. libm is left out on purpose: a policy that needs it
# does not link; `build_image` sees to that where a library holds more.
_BARE = ("-nostdlib", *_SECTIONS, "-Wl,--no-warn-rwx-segments")

Family = Literal["arm", "riscv", "avr", "host"]


@dataclass(frozen=True)
class Target:
    """One processor and its reference chip.

    The chips: RP2040 on a board with 2 MiB of flash, STM32F103C8, STM32F405RG, STM32F746NG, ESP32-C3FH4, CH32V307VC,
    ATmega328P. compiler: command; flags: what selects the processor; link_flags, libraries: for a whole image;
    has_float_unit: single precision in hardware; chip: the part whose memory is the limit, flash_limit_bytes and
    ram_limit_bytes, None where there is none; packages: what apt installs; title: the processor's name in a table.
    """

    name: str
    title: str
    family: Family
    compiler: str
    packages: str
    flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    libraries: tuple[str, ...]
    has_float_unit: bool
    chip: str
    flash_limit_bytes: int | None
    ram_limit_bytes: int | None


def _arm(name: str, title: str, flags: tuple[str, ...], chip: str, memory_kib: tuple[int, int]) -> Target:
    return Target(
        name=name,
        title=title,
        family="arm",
        compiler="arm-none-eabi-gcc",
        packages="gcc-arm-none-eabi libnewlib-arm-none-eabi",
        flags=(f"-mcpu={name.removesuffix('f')}", "-mthumb", *flags),
        link_flags=_BARE,
        libraries=("-lc_nano", "-lgcc"),
        has_float_unit="-mfloat-abi=hard" in flags,
        chip=chip,
        flash_limit_bytes=memory_kib[0] * _KIB,
        ram_limit_bytes=memory_kib[1] * _KIB,
    )


def _riscv(name: str, abi: str, chip: str, memory_kib: tuple[int, int]) -> Target:
    return Target(
        name=name,
        title=name,
        family="riscv",
        compiler="riscv64-unknown-elf-gcc",
        packages="gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
        # -misa-spec=2.2: later ones want a _zicsr in the instruction set's name, and then no library matches.
        flags=(f"-march={name}", f"-mabi={abi}", "-misa-spec=2.2", "--specs=picolibc.specs"),
        link_flags=_BARE,
        libraries=("-lc", "-lgcc"),
        has_float_unit=abi == "ilp32f",
        chip=chip,
        flash_limit_bytes=memory_kib[0] * _KIB,
        ram_limit_bytes=memory_kib[1] * _KIB,
    )


_ALL = (
    _arm("cortex-m0plus", "Cortex-M0+", (), "RP2040 with 2 MiB of flash", (2048, 264)),
    _arm("cortex-m3", "Cortex-M3", (), "STM32F103C8", (64, 20)),
    _arm("cortex-m4f", "Cortex-M4F", ("-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"), "STM32F405RG", (1024, 192)),
    _arm("cortex-m7", "Cortex-M7", ("-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"), "STM32F746NG", (1024, 320)),
    _riscv("rv32imc", "ilp32", "ESP32-C3FH4", (4096, 400)),
    _riscv("rv32imafc", "ilp32f", "CH32V307VC", (256, 64)),
    Target(
        name="avr",
        title="AVR",
        family="avr",
        compiler="avr-gcc",
        packages="gcc-avr avr-libc",
        flags=("-mmcu=atmega328p",),
        # Clearing .bss is the start-up code's work on every chip; here libgcc would bring it and it would be counted.
        link_flags=("-nostdlib", *_SECTIONS, "-Wl,--defsym=__do_clear_bss=0"),
        # avr-libc keeps its soft float in libm, so libm is linked.
        libraries=("-lm", "-lc", "-lgcc"),
        has_float_unit=False,
        chip="ATmega328P",
        flash_limit_bytes=32 * _KIB,
        ram_limit_bytes=2 * _KIB,
    ),
    Target(
        name="host",
        title="this machine",
        family="host",
        compiler="cc",
        packages="gcc libc6-dev",
        flags=(),
        # Unwind tables are no part of a policy, and the cross compilers write none for C.
        link_flags=("-nostartfiles", "-no-pie", "-fno-asynchronous-unwind-tables", *_SECTIONS),
        libraries=(),
        has_float_unit=True,
        chip="this machine",
        flash_limit_bytes=None,
        ram_limit_bytes=None,
    ),
)

TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
"""Every target by name."""


def find_target(name: str) -> Target:
    """Return the target of that name.

    Raises:
        ExportError: there is none.
    """
    if name not in TARGETS:
        raise ExportError(f"unknown --target {name!r}, expected one of {', '.join(TARGETS)}")
    return TARGETS[name]
