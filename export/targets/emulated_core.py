"""An Arm or RISC-V core in Unicorn that runs functions of a linked ELF and counts what they cost."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ToolError
from export.squash import Float32
from export.targets.block_counter import BlockCounter, attach_counter
from export.targets.cycle_model import BlockCost, CycleModel, block_cost, cycle_model
from export.targets.open_core import Call, vector_bytes
from export.targets.target import Target
from export.targets.watchdog import Watchdog

_FLASH, _FLASH_SIZE = 0x08000000, 64 << 20
_RAM, _RAM_SIZE = 0x20000000, 1 << 20
_DATA, _DATA_SIZE = 0x60000000, 64 << 20
_RETURN = 0x1FF00000
_STACK_TOP, _STACK_BYTES = _RAM + _RAM_SIZE, 64 << 10
_PAINT = 0xA5
_TIMEOUT_S = 300.0
# FS = dirty: the floating-point unit is on.
_RISCV_FLOATS_ON = 3 << 13


@dataclass(frozen=True)
class _Machine:
    """What differs between cores: Unicorn's names of registers, and the bit that marks an address as Thumb."""

    architecture: int
    mode: int
    model: int | None
    arguments: tuple[int, ...]
    stack_pointer: int
    link: int
    program_counter: int
    thumb: int


def load_package(name: str) -> ModuleType:
    """Import an optional package. Raises ToolError: it is not installed."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise ToolError(
            f"cannot import {name}: pip install 'bayesian-policy-distillation[export]' to use the emulated core"
        ) from None


def _machine(target: Target) -> _Machine:
    unicorn = load_package("unicorn")
    if target.family == "riscv":
        riscv = load_package("unicorn.riscv_const")
        arguments = tuple(getattr(riscv, f"UC_RISCV_REG_A{index}") for index in range(4))
        registers = (riscv.UC_RISCV_REG_SP, riscv.UC_RISCV_REG_RA, riscv.UC_RISCV_REG_PC)
        return _Machine(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32, None, arguments, *registers, thumb=0)
    arm = load_package("unicorn.arm_const")
    models = {
        "cortex-m0plus": arm.UC_CPU_ARM_CORTEX_M0,
        "cortex-m3": arm.UC_CPU_ARM_CORTEX_M3,
        "cortex-m4f": arm.UC_CPU_ARM_CORTEX_M4,
        "cortex-m7": arm.UC_CPU_ARM_CORTEX_M7,
    }
    arguments = tuple(getattr(arm, f"UC_ARM_REG_R{index}") for index in range(4))
    registers = (arm.UC_ARM_REG_SP, arm.UC_ARM_REG_LR, arm.UC_ARM_REG_PC)
    mode = unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
    return _Machine(unicorn.UC_ARCH_ARM, mode, models[target.name], arguments, *registers, thumb=1)


class EmulatedCore:
    """One emulated core with an image in flash, 1 MiB of RAM, and 64 MiB of data memory for test vectors."""

    data_bytes = _DATA_SIZE

    def __init__(self, image: Path, target: Target) -> None:
        """Load an ELF linked with memory.ld.

        Raises:
            ToolError: unicorn or pyelftools is not installed.
        """
        unicorn, elffile = load_package("unicorn"), load_package("elftools.elf.elffile")
        self._unicorn, self._machine = unicorn, _machine(target)
        self._core: Any = unicorn.Uc(self._machine.architecture, self._machine.mode)
        if self._machine.model is not None:
            self._core.ctl_set_cpu_model(self._machine.model)
        for start, size in ((_FLASH, _FLASH_SIZE), (_RAM, _RAM_SIZE), (_DATA, _DATA_SIZE), (_RETURN, 4096)):
            self._core.mem_map(start, size)
        if target.family == "riscv" and target.has_float_unit:
            self._core.reg_write(load_package("unicorn.riscv_const").UC_RISCV_REG_MSTATUS, _RISCV_FLOATS_ON)
        with image.open("rb") as stream:
            elf = elffile.ELFFile(stream)
            for segment in elf.iter_segments("PT_LOAD"):
                # Both addresses: no start-up code runs that would copy initialised data from flash.
                for address in {segment["p_paddr"], segment["p_vaddr"]} if segment["p_filesz"] else ():
                    self._core.mem_write(address, segment.data())
            symbols = elf.get_section_by_name(".symtab").iter_symbols()
            self._symbols: dict[str, int] = {symbol.name: symbol["st_value"] for symbol in symbols}
        self._watchdog = Watchdog(self._core.emu_stop, _TIMEOUT_S)
        self._name = target.title
        self._model: CycleModel | None = cycle_model(target.name)
        self._thumb = target.family == "arm"
        self._counter: BlockCounter | None = None
        self._costs: dict[tuple[int, int], BlockCost] = {}

    def call(self, name: str, *arguments: int, count: bool = False) -> Call:
        """Call a function with up to four integer or pointer arguments; `count` also measures what it costs.

        Raises:
            ToolError: the code faults or does not return.
        """
        machine, core = self._machine, self._core
        for register, argument in zip(machine.arguments, arguments, strict=False):
            core.reg_write(register, argument)
        core.reg_write(machine.stack_pointer, _STACK_TOP)
        core.reg_write(machine.link, _RETURN | machine.thumb)
        if count:
            core.mem_write(_STACK_TOP - _STACK_BYTES, bytes([_PAINT]) * _STACK_BYTES)
            if self._counter is None:
                self._counter = attach_counter(core, self._unicorn, _RETURN)
                # Blocks that earlier calls translated know nothing of the hook and would not be counted.
                core.ctl_flush_tb()
            self._counter.reset()
        self._watchdog.start()
        try:
            core.emu_start(self._symbols[name] | machine.thumb, _RETURN)
        except self._unicorn.UcError as error:
            raise ToolError(
                f"emulated {self._name} stopped in {name}: {error}; compile the policy again, then report this"
            ) from None
        finally:
            self._watchdog.end()
        if core.reg_read(machine.program_counter) & ~machine.thumb != _RETURN:
            raise ToolError(
                f"emulated {name} did not return within {_TIMEOUT_S:g} s; verify fewer vectors with --count"
            )
        result = core.reg_read(machine.arguments[0])
        if not count or self._counter is None:
            return Call(result)
        visits, jumps = self._counter.visits()
        costs = [(self._cost(*block), times) for block, times in visits.items()]
        instructions = sum(cost.instructions * times for cost, times in costs)
        cycles = None
        if self._model is not None:
            cycles = sum(cost.cycles * times for cost, times in costs) + jumps * self._model.refill_cycles
        stack = np.frombuffer(core.mem_read(_STACK_TOP - _STACK_BYTES, _STACK_BYTES), np.uint8)
        touched = np.flatnonzero(stack != _PAINT)
        used = _STACK_BYTES - int(touched[0]) if touched.size else 0
        return Call(result, instructions, cycles, used)

    def _cost(self, address: int, size: int) -> BlockCost:
        key = (address, size)
        if key not in self._costs:
            self._costs[key] = block_cost(bytes(self._core.mem_read(address, size)), self._thumb, self._model)
        return self._costs[key]

    def write(self, offset: int, values: NDArray[Any]) -> int:
        """Copy an array into the data memory at `offset` bytes and return its address."""
        data = vector_bytes(offset, values, _DATA_SIZE)
        if data:
            self._core.mem_write(_DATA + offset, data)
        return _DATA + offset

    def read_float32(self, address: int, shape: tuple[int, ...]) -> Float32:
        """Copy a float32 array out of the core's memory."""
        size = 4 * int(np.prod(shape))
        return np.frombuffer(bytes(self._core.mem_read(address, size)), "<f4").reshape(shape).astype(np.float32)
