"""A simulated ATmega328P: simavr in a process of its own, which counts instructions and cycles exactly."""

import struct
import subprocess
import tempfile
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ToolError
from export.squash import Float32
from export.targets.open_core import Call, vector_bytes
from export.toolchain import host_compiler, run_compiler, target_source

RUNNER_PACKAGES = "gcc libsimavr-dev libelf-dev"
_DATA, _DATA_SIZE = 0x8000, 0x8000
_STACK_TOP = _DATA - 1
# The linker counts data memory from here.
_DATA_SPACE = 0x800000
_INSTRUCTION_LIMIT = 20_000_000_000


@lru_cache(maxsize=1)
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="avr_runner-")


@lru_cache(maxsize=1)
def avr_runner() -> Path:
    """Compile the simulator's front end, once a process, and return its path.

    Raises:
        ToolError: the compiler or libsimavr is missing.
    """
    program = Path(_scratch().name, "avr_runner")
    command = [*host_compiler().split(), "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
    source = str(target_source("avr_runner.c"))
    try:
        run_compiler([*command, source, "-o", str(program), "-lsimavr", "-lelf"], RUNNER_PACKAGES)
    except ToolError as error:
        raise ToolError(f"cannot build the AVR simulator: {error} (apt-get install {RUNNER_PACKAGES})") from None
    return program


class AvrCore:
    """One simulated part. Its data memory is 64 KiB: the lower half for the policy and stack, the upper for vectors."""

    data_bytes = _DATA_SIZE

    def __init__(self, image: Path) -> None:
        """Load a harness linked for the AVR.

        Raises:
            ToolError: the simulator cannot be built, or the policy's data leave no room for a stack.
        """
        from elftools.elf.elffile import ELFFile

        self._process = subprocess.Popen([avr_runner()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        weakref.finalize(self, _end, self._process)
        with image.open("rb") as stream:
            elf: Any = ELFFile(stream)
            for segment in elf.iter_segments("PT_LOAD"):
                if segment["p_filesz"]:
                    self._load(segment["p_vaddr"], segment["p_paddr"], segment.data())
            symbols = elf.get_section_by_name(".symtab").iter_symbols()
            self._symbols: dict[str, int] = {symbol.name: symbol["st_value"] for symbol in symbols}
        self._stack_end = self._symbols["_end"] - _DATA_SPACE
        if self._stack_end >= _STACK_TOP:
            raise ToolError(
                f"the policy takes {self._stack_end} bytes of the AVR's RAM, expected less than {_STACK_TOP}; "
                "choose a smaller student"
            )

    def _load(self, address: int, flash_address: int, data: bytes) -> None:
        self._send(struct.pack("<cII", b"F", flash_address, len(data)) + data)
        if address >= _DATA_SPACE:
            # No start-up code runs that would copy initialised data from flash.
            self._send(struct.pack("<cII", b"W", address - _DATA_SPACE, len(data)) + data)

    def call(self, name: str, *arguments: int, count: bool = False) -> Call:
        """Call a function with up to four 16-bit arguments; `count` also says what it costs, cycles included.

        Raises:
            ToolError: the code stops or does not return.
        """
        registers = bytearray(32)
        for index, argument in enumerate(arguments):
            # avr-gcc passes words from r24 downwards.
            struct.pack_into("<H", registers, 24 - 2 * index, argument)
        request = struct.pack("<cIH", b"C", self._symbols[name], _STACK_TOP)
        self._send(request + registers + struct.pack("<HQ", self._stack_end, _INSTRUCTION_LIMIT))
        state, values, instructions, cycles, stack_bytes = struct.unpack("<c32sQQI", self._receive(1 + 32 + 20))
        if state != b"D":
            reason = "stopped" if state == b"S" else f"did not return within {_INSTRUCTION_LIMIT:,} instructions"
            raise ToolError(f"simulated AVR {reason} in {name}; compile the policy again, then report this")
        (result,) = struct.unpack_from("<I", values, 22)
        return Call(result, instructions, cycles, stack_bytes) if count else Call(result)

    def write(self, offset: int, values: NDArray[Any]) -> int:
        """Copy an array into the data memory at `offset` bytes and return its address."""
        data = vector_bytes(offset, values, _DATA_SIZE)
        self._send(struct.pack("<cII", b"W", _DATA + offset, len(data)) + data)
        return _DATA + offset

    def read_float32(self, address: int, shape: tuple[int, ...]) -> Float32:
        """Copy a float32 array out of the core's memory."""
        size = 4 * int(np.prod(shape))
        self._send(struct.pack("<cII", b"R", address, size))
        return np.frombuffer(self._receive(size), "<f4").reshape(shape).astype(np.float32)

    def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(message)
            self._process.stdin.flush()
        except OSError:
            raise _ended() from None

    def _receive(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) != size:
            raise _ended()
        return data


def _ended() -> ToolError:
    return ToolError("the AVR simulator ended; compile the policy again, then report this")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
