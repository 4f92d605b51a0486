"""Read the data out of a pickle without running anything that it names.

Every class in the stream becomes an empty class made here that keeps its arguments and its state; nothing is imported
and no function outside this file is called. Names beyond the caller's list end the reading.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Inert:
    """Stands in for an object of the pickle; `name` is the class as the stream calls it."""

    name = ""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __new__(cls, *_: Any) -> Inert:
        """Also called alone, by pickle's NEWOBJ."""
        made = super().__new__(cls)
        made.arguments, made.state = (), None
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle._Unpickler):
    # the pure-Python reader: the C one reserves memory for whatever memo index the stream asks for
    def __init__(self, data: bytes, allowed: Callable[[str], bool], storage: Callable[[Any], Any] | None) -> None:
        super().__init__(io.BytesIO(data))
        self._allowed = allowed
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Never imports: an empty class that carries the name."""
        full = f"{module}.{name}"
        if full == "collections.OrderedDict":
            return dict
        if not self._allowed(full):
            raise pickle.UnpicklingError(f"it names {full[:80]!r}")
        return type("Inert", (Inert,), {"name": full})

    def persistent_load(self, reference: Any) -> Any:
        """A tensor's storage, for the files that keep them outside the stream."""
        if self._storage is None:
            raise pickle.UnpicklingError("it refers to data outside the file")
        return self._storage(reference)


def read_inert(data: bytes, allowed: Callable[[str], bool], storage: Callable[[Any], Any] | None = None) -> Any:
    """The object in the stream, made of dicts, lists, numbers, text and `Inert`.

    Args:
        data: the pickle.
        allowed: says whether the stream may name this "module.class".
        storage: answers the stream's references to data outside of it.

    Raises:
        Exception: of many kinds for a stream that is damaged or names anything else; the caller words it.
    """
    for _ in pickletools.genops(data):  # checks every stated length against the bytes there are
        pass
    return _Reader(data, allowed, storage).load()


_ITEMS = {"f8": np.float64, "f4": np.float32, "f2": np.float16, "i8": np.int64, "i4": np.int32, "b1": np.bool_}


def _element(description: Any) -> np.dtype[Any]:
    if not (isinstance(description, Inert) and description.name == "numpy.dtype" and description.arguments):
        raise ValueError("an array without a numpy type")
    code = description.arguments[0]
    if not isinstance(code, str) or code not in _ITEMS:
        raise ValueError(f"an array of {str(code)[:20]!r}, expected numbers")
    state = description.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "="
    return np.dtype(_ITEMS[code]).newbyteorder(">" if order == ">" else "<" if order == "<" else "=")


def inert_array(value: Any) -> NDArray[Any]:
    """The numbers of a pickled numpy array or scalar, or of a plain number.

    Raises:
        ValueError: anything else, or bytes that do not fill the shape.
    """
    if isinstance(value, int | float):
        return np.array(value)
    if not isinstance(value, Inert):
        raise ValueError(f"got {type(value).__name__}, expected an array")
    kind = value.name.rpartition(".")[2]
    if kind == "scalar":
        description, data = value.arguments
        shape: Any = ()
    elif kind == "_reconstruct":
        _, shape, description, fortran, data = value.state
        if fortran and len(shape) > 1:
            raise ValueError("an array in Fortran order, expected C order")
    elif kind == "_frombuffer":  # how numpy 2 writes arrays in protocol 5
        data, description, shape, order = value.arguments
        if order != "C" and len(shape) > 1:
            raise ValueError("an array in Fortran order, expected C order")
    else:
        raise ValueError(f"got {value.name}, expected an array")
    if not isinstance(data, bytes | bytearray):
        raise ValueError(f"an array made of {type(data).__name__}, expected bytes")
    return np.frombuffer(data, dtype=_element(description)).reshape(shape)
