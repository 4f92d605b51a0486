"""Starts whatever an image needs to run: a process of this machine, or an emulated microcontroller."""

from __future__ import annotations

from pathlib import Path

from hardware.emulator import EmulatedFirmware
from hardware.errors import SimulatorError
from hardware.image import identify
from hardware.process import FirmwareProcess

Firmware = FirmwareProcess | EmulatedFirmware


def open_firmware(image: Path, link: Path, lockstep: bool) -> Firmware:
    """The context manager that runs `image` with its link behind the symlink `link`. Raises SimulatorError."""
    identity = identify(image)
    board = identity.board
    if board.chip is None:
        return FirmwareProcess(image, link, lockstep)
    if identity.variant != "hil":
        raise SimulatorError(
            f"{image} is the image that drives real pins of a {board.name}, expected the hil one; "
            f"build it with `python -m hardware build --board {board.name} --variant hil`"
        )
    if board.machine is None:
        raise SimulatorError(f"nothing here emulates a {board.name}: expected an image for a board with an emulator")
    return EmulatedFirmware(image, board, link)
