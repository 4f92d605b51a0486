"""safetensors files of any size: written row by row and read by mapping, so that neither needs as much memory."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from export.replace_files import regular_target

from ..errors import DistillError

Layout = dict[str, tuple[tuple[int, ...], str]]  # tensor -> shape, numpy's name of its kind of number
_NAMES = {"float32": "F32", "uint32": "U32", "uint8": "U8"}
_KINDS = {name: np.dtype(kind).newbyteorder("<") for kind, name in _NAMES.items()}
_LARGEST_HEADER = 2**20  # bytes; a dataset's is below one kilobyte


class TensorWriter:
    """Context manager: writes under a temporary name and renames at the end; the same rows give the same bytes.

    Raises:
        DistillError: the folder cannot be written or is full; an earlier file of that name is unchanged.
    """

    def __init__(self, path: Path, layout: Layout, metadata: Mapping[str, str]) -> None:
        self._path, self._temporary = path, path.with_name(f".{path.name}.{os.getpid()}.part")
        header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
        self._offsets: dict[str, int] = {}
        self._layout = layout
        offset = 0
        # wide kinds first: every tensor is aligned without padding, which the format does not allow between tensors
        for name in sorted(layout, key=lambda key: (-np.dtype(layout[key][1]).itemsize, key)):
            shape, kind = layout[name]
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
            header[name] = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [offset, offset + size]}
            self._offsets[name] = offset
            offset += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._start, self._size = 8 + len(text), offset
        self._prologue = len(text).to_bytes(8, "little") + text

    def __enter__(self) -> TensorWriter:
        with self._named():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            target = regular_target(self._path)
            self._temporary = target.with_name(self._temporary.name)
            self._stream: BinaryIO = self._temporary.open("wb")
            self._stream.write(self._prologue)
            self._stream.truncate(self._start + self._size)
        return self

    def put(self, name: str, row: int, array: NDArray[Any]) -> None:
        """Write `array` at row `row` of the tensor `name`."""
        shape, kind = self._layout[name]
        if array.shape[1:] != shape[1:] or row + len(array) > shape[0]:
            raise ValueError(
                f"{name}: got rows {row} to {row + len(array)} of {array.shape[1:]}, the tensor is {shape}"
            )
        data = np.ascontiguousarray(array, np.dtype(kind).newbyteorder("<"))
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * data.itemsize
        with self._named():
            self._stream.seek(self._start + self._offsets[name] + row * row_bytes)
            self._stream.write(data.data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with self._named():
                    self._stream.flush()
                    os.fsync(self._stream.fileno())
                    self._stream.close()
                    self._temporary.replace(regular_target(self._path))
        finally:
            with contextlib.suppress(OSError):
                self._stream.close()
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _named(self) -> Any:
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            raise DistillError(
                f"cannot write {self._path}: {error.strerror or error}; an earlier file there is unchanged, free it or "
                "choose another folder, then try again"
            ) from error


def map_tensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and tensors of a safetensors file; the tensors are read-only views of the file, nothing is loaded.

    Raises:
        DistillError: not such a file, truncated, or with a header that does not fit its size.
    """

    def refused(reason: str) -> DistillError:
        return DistillError(
            f"dataset {path}: not a readable safetensors file ({reason}); make one with: "
            "python -m distill collect --flat"
        )

    try:
        size = path.stat().st_size
        if size < 8:
            raise refused(f"{size} bytes")
        data = np.asarray(np.memmap(path, np.uint8, "r"))
    except OSError as error:
        raise refused(error.strerror or str(error)) from error
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > min(_LARGEST_HEADER, size - 8):
        raise refused(f"a header of {length} bytes, expected at most {min(_LARGEST_HEADER, size - 8)}")
    try:
        header = json.loads(data[8 : 8 + length].tobytes())
        metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
        entries = sorted(
            (entry["data_offsets"], name, entry["dtype"], entry["shape"]) for name, entry in header.items()
        )
        tensors: dict[str, NDArray[Any]] = {}
        expected = 0
        for (begin, end), name, kind, shape in entries:
            if kind not in _KINDS or not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
                raise refused(f"tensor {name!r} is {kind} {shape}, expected {', '.join(_KINDS)}")
            count = 1
            for number in shape:
                count *= number
            if begin != expected or end - begin != count * _KINDS[kind].itemsize or end > size - 8 - length:
                raise refused(f"tensor {name!r} lies at {begin} to {end}, which does not fit its shape or the file")
            expected = end
            start = 8 + length
            tensors[name] = data[start + begin : start + end].view(_KINDS[kind]).reshape(shape)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise refused(f"a damaged header: {str(error).splitlines()[0] if str(error) else 'nesting'}") from error
    if expected != size - 8 - length:
        raise refused(f"{size - 8 - length} bytes of tensors, expected {expected}")
    return metadata, tensors
