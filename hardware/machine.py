"""How an emulator is started for a board, with its serial ports and its control socket on inherited descriptors."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware.board import Board
from hardware.build import find_compiler
from hardware.errors import BuildError, SimulatorError
from hardware.image import flash_contents
from hardware.scratch import ScratchFolder

_RUNNER = Path(__file__).parent / "simavr_runner.c"
_RUNNER_PACKAGES = "gcc libsimavr-dev libelf-dev"


@dataclass(frozen=True)
class Machine:
    """An emulator: `command` starts it, `contents` is what it reads on standard input, `reset` resets the chip."""

    command: list[str]
    contents: bytes
    reset: bytes


def machine_for(board: Board, image: Path, serial: Sequence[int], control: int) -> Machine:
    """The emulator of `board` with `image`; descriptors of its serial ports and of its control socket.

    Raises SimulatorError when the emulator is not installed.
    """
    if board.emulator == "simavr":
        return _simavr(board, image, serial[0], control)
    return _qemu(board, image, serial, control)


def _qemu(board: Board, image: Path, serial: Sequence[int], control: int) -> Machine:
    emulator = shutil.which("qemu-system-arm")
    if emulator is None:
        raise SimulatorError(
            "no qemu-system-arm on PATH, expected the emulator of this board; "
            "install it (`apt-get install qemu-system-arm`)"
        )
    command = [emulator, "-machine", str(board.machine), "-kernel", str(image), "-nographic", "-monitor", "none"]
    for number, descriptor in enumerate((*serial, control)):
        command += ["-chardev", f"socket,id=port{number},fd={descriptor}"]
    for number in range(len(serial)):
        command += ["-serial", f"chardev:port{number}"]
    command += ["-mon", f"chardev=port{len(serial)},mode=control"]
    words = [json.dumps({"execute": word}).encode() + b"\n" for word in ("qmp_capabilities", "system_reset")]
    return Machine(command, b"", b"".join(words))


def _simavr(board: Board, image: Path, serial: int, control: int) -> Machine:
    assert board.chip is not None
    command = [simavr_runner(), str(board.machine), str(board.chip.clock_hz), str(serial), str(control)]
    return Machine(command, flash_contents(image), b"r")


@functools.cache
def _scratch() -> ScratchFolder:
    folder = ScratchFolder("simavr_runner-")
    atexit.register(folder.cleanup)
    return folder


@functools.cache
def simavr_runner() -> str:
    """Compile, once in a process, the program that runs an AVR. Raises SimulatorError."""
    program = str(Path(_scratch().path, "simavr_runner"))
    try:
        command = [find_compiler(), "-std=c11", "-O2", str(_RUNNER), "-o", program, "-lsimavr", "-lelf"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except (BuildError, OSError) as error:
        raise SimulatorError(f"cannot build the AVR emulator: {error} (`apt-get install {_RUNNER_PACKAGES}`)") from None
    if done.returncode != 0:
        said = next((line.strip() for line in done.stderr.splitlines() if "error" in line), "it said nothing")
        raise SimulatorError(
            f"cannot build the AVR emulator: the compiler said {said!r}; install what it needs "
            f"(`apt-get install {_RUNNER_PACKAGES}`)"
        )
    return program
