"""The boards that the firmware can be built for: compiler, memory, sources, and the machine that emulates them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hardware.errors import BuildError

BOARDS_FOLDER = Path(__file__).parent / "boards"
Variant = Literal["hil", "real"]
VARIANTS: dict[str, Variant] = {"hil": "hil", "real": "real"}
Emulator = Literal["qemu", "simavr"]
_KIB = 1024


@dataclass(frozen=True)
class Tools:
    """A cross compiler. `prefix` stands before the names of its tools; `packages` are what apt installs.

    `flags`, `link_flags`, `libraries` and the linker `script` below boards/ are those of every chip it is used for.
    """

    prefix: str
    title: str
    packages: str
    script: str
    flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    libraries: tuple[str, ...]


ARM = Tools(
    prefix="arm-none-eabi-",
    title="Arm",
    packages="gcc-arm-none-eabi libnewlib-arm-none-eabi",
    script="cortex_m.ld",
    flags=("-fno-math-errno",),
    link_flags=("-nostartfiles", "-nostdlib", "-Wl,--no-warn-rwx-segments"),
    libraries=("-lm", "-lc_nano", "-lgcc"),
)
# The start-up code is avr-libc's, which keeps its soft float in libm.
_AVR = Tools(
    prefix="avr-",
    title="AVR",
    packages="gcc-avr avr-libc",
    script="avr.ld",
    # double is float there: its fabsf promotes nothing, and says so all the same.
    flags=("-fno-math-errno", "-Wno-double-promotion"),
    link_flags=(),
    libraries=("-lm",),
)


@dataclass(frozen=True)
class ChipCode:
    """By which a chip is told from others before it is programmed: `value` at `address`, where `mask` has ones."""

    address: int
    mask: int
    value: int


@dataclass(frozen=True)
class Chip:
    """How images are made for one microcontroller. Sizes in bytes; `sources` are paths below boards/ without `.c`."""

    title: str
    tools: Tools
    flags: tuple[str, ...]
    flash_origin: int
    flash_bytes: int
    ram_origin: int
    ram_bytes: int
    stack_bytes: int
    sources: tuple[str, ...]
    clock_hz: int = 0
    """Where the emulator has to be told."""
    code: ChipCode | None = None
    """None where the programmer compares the chip's signature itself."""


@dataclass(frozen=True)
class Board:
    """One board. `variants` maps hil (emulated, plant on a serial port) and real to their `board_*` source.

    `machine` is the emulator's name of the board, None where nothing emulates it; `serial_ports` is how many its hil
    image uses: 2 for link and plant apart, 1 for both on one wire. `programmer` is OpenOCD's name of the chip's family,
    `interface` that of the probe on the board or commonly used with it. Board `host` has no chip: it is a process.
    """

    name: str
    chip: Chip | None
    variants: dict[Variant, str]
    sources: tuple[str, ...] = ()
    """Of this board beyond its chip's: the driver of its motor."""
    plant: str = ""
    """Name of the plant that its real image is wired to; a hil image drives any."""
    machine: str | None = None
    emulator: Emulator = "qemu"
    serial_ports: int = 0
    programmer: str = ""
    interface: str = ""

    @property
    def include_folders(self) -> tuple[Path, ...]:
        """Folders of the board's own headers and of its chip's, in the order in which they are searched."""
        if self.chip is None:
            return (BOARDS_FOLDER,)
        chips = sorted({source.partition("/")[0] for source in self.chip.sources if "/" in source})
        return (BOARDS_FOLDER / self.name, *(BOARDS_FOLDER / chip for chip in chips), BOARDS_FOLDER)


_CORTEX_M = ("cortex_m", "image_check")
_STM32F4 = (
    *_CORTEX_M,
    *("axis_reference", "speed_ramp"),
    *(f"stm32f4/{name}" for name in ("vectors", "uart", "stopwatch", "clock", "reset_cause", "tick", "encoder")),
    *("stm32f4/watchdog", "stm32f4/random"),
)
_CORTEX_M4F = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
_STM32_CODE, _STM32_DEVICE = 0xE004_2000, 0xFFF  # DBGMCU_IDCODE and its DEV_ID: reference manuals RM0090, RM0368
_STM32F405 = Chip(
    title="STM32F405RG, Cortex-M4F",
    tools=ARM,
    flags=_CORTEX_M4F,
    flash_origin=0x0800_0000,
    flash_bytes=1024 * _KIB,
    ram_origin=0x2000_0000,
    ram_bytes=128 * _KIB,
    stack_bytes=1 * _KIB,
    sources=_STM32F4,
    code=ChipCode(_STM32_CODE, _STM32_DEVICE, 0x413),
)
_STM32F401 = Chip(
    title="STM32F401RE, Cortex-M4F",
    tools=ARM,
    flags=_CORTEX_M4F,
    flash_origin=0x0800_0000,
    flash_bytes=512 * _KIB,
    ram_origin=0x2000_0000,
    ram_bytes=96 * _KIB,
    stack_bytes=1 * _KIB,
    sources=_STM32F4,
    code=ChipCode(_STM32_CODE, _STM32_DEVICE, 0x433),
)
_NRF51822 = Chip(
    title="nRF51822, Cortex-M0",
    tools=ARM,
    flags=("-mcpu=cortex-m0", "-mthumb"),
    flash_origin=0,
    flash_bytes=256 * _KIB,
    ram_origin=0x2000_0000,
    ram_bytes=16 * _KIB,
    stack_bytes=1 * _KIB,
    sources=(
        *_CORTEX_M,
        *("axis_reference", "speed_ramp"),
        *(f"nrf51/{name}" for name in ("vectors", "uart", "stopwatch", "clock", "reset_cause", "tick", "encoder")),
        *("nrf51/watchdog", "nrf51/random"),
    ),
    # FICR CODEPAGESIZE: 1024 bytes, an nRF52 has 4096. The series has no device code of its own.
    code=ChipCode(0x1000_0010, 0xFFFF_FFFF, 0x400),
)
_ATMEGA328P = Chip(
    title="ATmega328P, AVR",
    tools=_AVR,
    flags=("-mmcu=atmega328p",),
    flash_origin=0,
    flash_bytes=32 * _KIB,
    ram_origin=0x80_0100,
    ram_bytes=2 * _KIB,
    stack_bytes=640,
    sources=("image_check", "avr/uart", "avr/stopwatch"),
    clock_hz=16_000_000,
)

_ALL = (
    Board("host", None, {"hil": "host"}),
    Board(
        "netduinoplus2",
        _STM32F405,
        {"hil": "board_hil", "real": "board_real"},
        sources=("stm32f4/stepper",),
        plant="cart_rail",
        machine="netduinoplus2",
        serial_ports=2,
        programmer="stm32f4x",
        interface="stlink",
    ),
    Board(
        "nucleo_f401re",
        _STM32F401,
        {"hil": "board_hil", "real": "board_real"},
        sources=("stm32f4/l6474",),
        plant="edukit",
        serial_ports=1,
        programmer="stm32f4x",
        interface="stlink",
    ),
    Board(
        "nucleo_bridge",
        _STM32F401,
        {"hil": "board_hil", "real": "board_real"},
        sources=("stm32f4/h_bridge",),
        plant="edukit",
        serial_ports=1,
        programmer="stm32f4x",
        interface="stlink",
    ),
    Board(
        "microbit",
        _NRF51822,
        {"hil": "board_hil", "real": "board_real"},
        sources=("nrf51/stepper",),
        plant="cart_rail",
        machine="microbit",
        serial_ports=1,
        programmer="nrf51",
        interface="cmsis-dap",
    ),
    Board("atmega328p", _ATMEGA328P, {"hil": "board_hil"}, machine="atmega328p", emulator="simavr", serial_ports=1),
)
BOARDS = {board.name: board for board in _ALL}


def find_board(name: str) -> Board:
    """The board of this name. Raises BuildError that lists the known ones."""
    if name not in BOARDS:
        raise BuildError(f"unknown board: got {name!r}, expected one of {', '.join(BOARDS)}")
    return BOARDS[name]
