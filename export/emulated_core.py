"""A Cortex-M4F in Unicorn that runs functions of a linked ELF and counts what they cost."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.cycle_model import BRANCH_REFILL_CYCLES, BlockCost, block_cost
from export.errors import ToolError

_FLASH, _FLASH_SIZE = 0x08000000, 64 << 20
_RAM, _RAM_SIZE = 0x20000000, 1 << 20
_DATA, _DATA_SIZE = 0x60000000, 64 << 20
_RETURN = 0x1FF00000
_PAINT = 0xA5
_TIMEOUT_US = 300_000_000


@dataclass(frozen=True)
class Call:
    """What one call cost. `cycles` is an estimate (see `cycle_model`), the rest is exact; 0 when not counted."""

    result: int
    instructions: int
    cycles: int
    stack_bytes: int


def _load(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise ToolError(
            f"cannot import {name}: pip install 'bayesian-policy-distillation[export]' to use the emulated core"
        ) from None


class EmulatedCore:
    """One emulated core with an image in flash, 1 MiB of RAM, and 64 MiB of data memory for test vectors."""

    def __init__(self, image: Path) -> None:
        """Load an ELF linked with kernels/cortex_m4f.ld.

        Raises:
            ToolError: unicorn or pyelftools is not installed.
        """
        unicorn, arm = _load("unicorn"), _load("unicorn.arm_const")
        elffile = _load("elftools.elf.elffile")
        self._unicorn, self._arm = unicorn, arm
        self._core: Any = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self._core.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M4)
        for start, size in ((_FLASH, _FLASH_SIZE), (_RAM, _RAM_SIZE), (_DATA, _DATA_SIZE), (_RETURN, 4096)):
            self._core.mem_map(start, size)
        with image.open("rb") as stream:
            elf = elffile.ELFFile(stream)
            for segment in elf.iter_segments("PT_LOAD"):
                self._core.mem_write(segment["p_paddr"], segment.data())
            symbols = elf.get_section_by_name(".symtab").iter_symbols()
            self._symbols: dict[str, int] = {symbol.name: symbol["st_value"] for symbol in symbols}
        self._costs: dict[tuple[int, int], BlockCost] = {}

    def call(self, name: str, *arguments: int, count: bool = False) -> Call:
        """Call a function with up to four integer or pointer arguments; `count` also measures what it costs.

        Raises:
            ToolError: the code faults or does not return.
        """
        arm, core = self._arm, self._core
        stack_top = _RAM + _RAM_SIZE
        stack_words = 64 << 10
        registers = (arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3)
        for register, argument in zip(registers, arguments, strict=False):
            core.reg_write(register, argument)
        core.reg_write(arm.UC_ARM_REG_SP, stack_top)
        core.reg_write(arm.UC_ARM_REG_LR, _RETURN | 1)
        counter = _Counter(self)
        hook = None
        if count:
            core.mem_write(stack_top - stack_words, bytes([_PAINT]) * stack_words)
            hook = core.hook_add(self._unicorn.UC_HOOK_BLOCK, counter.block)
        try:
            core.emu_start(self._symbols[name] | 1, _RETURN, timeout=_TIMEOUT_US)
        except self._unicorn.UcError as error:
            raise ToolError(
                f"emulated core stopped in {name}: {error}; compile the policy again, then report this"
            ) from None
        finally:
            if hook is not None:
                core.hook_del(hook)
        if core.reg_read(arm.UC_ARM_REG_PC) & ~1 != _RETURN:
            raise ToolError(
                f"emulated {name} did not return within {_TIMEOUT_US // 10**6} s; verify fewer vectors with --count"
            )
        used = 0
        if count:
            stack = np.frombuffer(core.mem_read(stack_top - stack_words, stack_words), np.uint8)
            touched = np.flatnonzero(stack != _PAINT)
            used = stack_words - int(touched[0]) if touched.size else 0
        return Call(core.reg_read(arm.UC_ARM_REG_R0), counter.instructions, counter.cycles, used)

    def cost(self, address: int, size: int) -> BlockCost:
        """Return the cost of the basic block at `address`."""
        key = (address, size)
        if key not in self._costs:
            self._costs[key] = block_cost(bytes(self._core.mem_read(address, size)))
        return self._costs[key]

    def write(self, offset: int, values: NDArray[Any]) -> int:
        """Copy an array into the data memory at `offset` bytes and return its address."""
        data = np.ascontiguousarray(values).tobytes()
        if offset + len(data) > _DATA_SIZE:
            raise ToolError(
                f"{offset + len(data)} bytes of test vectors, expected at most {_DATA_SIZE}; use a smaller --count"
            )
        if data:
            self._core.mem_write(_DATA + offset, data)
        return _DATA + offset

    def read_float32(self, address: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Copy a float32 array out of the core's memory."""
        size = 4 * int(np.prod(shape))
        return np.frombuffer(bytes(self._core.mem_read(address, size)), "<f4").reshape(shape).astype(np.float32)


class _Counter:
    """Adds up the basic blocks that run. A per-instruction hook would miss instructions whose IT condition fails."""

    def __init__(self, core: EmulatedCore) -> None:
        self.instructions = 0
        self.cycles = 0
        self._core = core
        self._next = 0

    def block(self, _uc: object, address: int, size: int, _data: object) -> None:
        if address & ~0xFFF == _RETURN:
            return
        cost = self._core.cost(address, size)
        self.instructions += cost.instructions
        self.cycles += cost.cycles + (BRANCH_REFILL_CYCLES if address != self._next else 0)
        self._next = address + size
