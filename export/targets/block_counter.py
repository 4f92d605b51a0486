"""Counting the basic blocks that an emulated core runs.

Per block, not per instruction: Unicorn's instruction hook leaves out instructions whose IT condition fails.
"""

import ctypes
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from export.errors import TooLargeError, ToolError
from export.toolchain import HOST_FLAGS, HOST_PACKAGES, host_compiler, run_compiler, target_source

_SLOTS = 1 << 16


class BlockCounter(Protocol):
    """Blocks run since `reset`."""

    def reset(self) -> None:
        """Forget all visits."""

    def visits(self) -> tuple[dict[tuple[int, int], int], int]:
        """Return {(address, bytes): visits}, and how many blocks did not follow the one before."""


def attach_counter(emulator: Any, unicorn: Any, uncounted_page: int) -> BlockCounter:
    """Install a block hook in a Unicorn core; visits to the 4 KiB at `uncounted_page` are left out.

    The hook is C where this machine has a compiler, else Python, which counts the same some thirty times slower.
    """
    try:
        return NativeCounter(emulator, unicorn, uncounted_page)
    except ToolError:
        return PythonCounter(emulator, unicorn, uncounted_page)


class PythonCounter:
    """A hook in Python."""

    def __init__(self, emulator: Any, unicorn: Any, uncounted_page: int) -> None:
        self._page = uncounted_page
        self.reset()
        emulator.hook_add(unicorn.UC_HOOK_BLOCK, self._block)

    def reset(self) -> None:
        """Forget all visits."""
        self._visits: dict[tuple[int, int], int] = {}
        self._jumps = self._next = 0

    def visits(self) -> tuple[dict[tuple[int, int], int], int]:
        """Return {(address, bytes): visits}, and how many blocks did not follow the one before."""
        return self._visits, self._jumps

    def _block(self, _emulator: object, address: int, size: int, _data: object) -> None:
        if address & ~0xFFF == self._page:
            return
        self._jumps += address != self._next
        self._next = address + size
        self._visits[address, size] = self._visits.get((address, size), 0) + 1


class _State(ctypes.Structure):
    """block_counter_t of block_counter.c."""

    _fields_ = (
        ("keys", ctypes.c_void_p),
        ("block_visits", ctypes.c_void_p),
        ("used", ctypes.c_void_p),
        *((name, ctypes.c_uint64) for name in ("slots_used", "jumps", "next", "page", "overflow")),
    )


class NativeCounter:
    """A hook in C: block_counter.c, compiled once a process."""

    def __init__(self, emulator: Any, unicorn: Any, uncounted_page: int) -> None:
        """Install the hook.

        Raises:
            ToolError: there is no C compiler, or Unicorn refuses the hook.
        """
        self._library = ctypes.CDLL(str(_library()))
        self._keys, self._visits, self._used = (np.zeros(_SLOTS, np.uint64) for _ in range(3))
        tables = (int(table.ctypes.data) for table in (self._keys, self._visits, self._used))
        self._state: Any = _State(*tables, page=uncounted_page)
        # Unicorn's Python interface takes Python functions only.
        engine = getattr(emulator, "_uch", None)
        binding = getattr(sys.modules.get("unicorn.unicorn_py3.unicorn"), "uclib", None)
        if engine is None or binding is None:
            raise ToolError("this unicorn package shows no engine; pip install 'unicorn>=2.1,<3'")
        function = ctypes.cast(self._library.count_block, ctypes.c_void_p)
        everywhere = (ctypes.c_uint64(1), ctypes.c_uint64(0))
        self._hook = ctypes.c_size_t()
        status = binding.uc_hook_add(
            engine,
            ctypes.byref(self._hook),
            unicorn.UC_HOOK_BLOCK,
            function,
            ctypes.cast(ctypes.byref(self._state), ctypes.c_void_p),
            *everywhere,
        )
        if status != unicorn.UC_ERR_OK:
            raise ToolError(f"unicorn refuses the block hook with status {status}; pip install 'unicorn>=2.1,<3'")

    def reset(self) -> None:
        """Forget all visits."""
        self._visits[self._slots()] = 0
        self._state.jumps = self._state.next = 0

    def visits(self) -> tuple[dict[tuple[int, int], int], int]:
        """Return {(address, bytes): visits}, and how many blocks did not follow the one before.

        Raises:
            TooLargeError: more different blocks ran than there are slots.
        """
        if self._state.overflow:
            raise TooLargeError(f"the code has more than about {_SLOTS} basic blocks; choose a smaller policy")
        slots = self._slots()
        pairs = zip(self._keys[slots].tolist(), self._visits[slots].tolist(), strict=True)
        return {(key >> 16, key & 0xFFFF): visits for key, visits in pairs if visits}, self._state.jumps

    def _slots(self) -> Any:
        return self._used[: self._state.slots_used].astype(np.int64)


@lru_cache(maxsize=1)
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="block_counter-")


@lru_cache(maxsize=1)
def _library() -> Path:
    output = Path(_scratch().name, "block_counter.so")
    source = str(target_source("block_counter.c"))
    run_compiler([*host_compiler().split(), *HOST_FLAGS, source, "-o", str(output)], HOST_PACKAGES)
    return output
