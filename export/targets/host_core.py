"""This machine as a core: the harness as a shared object, called by ctypes; it counts nothing."""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ToolError
from export.squash import Float32
from export.targets.open_core import Call, vector_bytes

_DATA_SIZE = 64 << 20


class HostCore:
    """A shared object and 64 MiB for test vectors."""

    data_bytes = _DATA_SIZE

    def __init__(self, image: Path) -> None:
        """Load the shared object.

        Raises:
            ToolError: it cannot be loaded.
        """
        try:
            self._library = ctypes.CDLL(str(image))
        except OSError as error:
            raise ToolError(f"cannot load {image.name}: {error}; check $CC") from None
        # Pages that nothing writes to are never taken.
        self._data = np.zeros(_DATA_SIZE // 8, np.uint64)

    def call(self, name: str, *arguments: int, count: bool = False) -> Call:
        """Call a function with integer or pointer arguments. `count` changes nothing: no counter is exact here."""
        function = getattr(self._library, name)
        function.restype = ctypes.c_uint32
        return Call(function(*(ctypes.c_uint64(argument) for argument in arguments)))

    def write(self, offset: int, values: NDArray[Any]) -> int:
        """Copy an array into the data memory at `offset` bytes and return its address."""
        data = vector_bytes(offset, values, _DATA_SIZE)
        address = int(self._data.ctypes.data) + offset
        ctypes.memmove(address, data, len(data))
        return address

    def read_float32(self, address: int, shape: tuple[int, ...]) -> Float32:
        """Copy a float32 array out of the data memory."""
        data = ctypes.string_at(address, 4 * int(np.prod(shape)))
        return np.frombuffer(data, np.float32).reshape(shape).copy()
