"""Reading and writing safetensors files: limits checked on the way in, the same bytes every time out."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import FileFormatError

SIZE_LIMIT_BYTES = 256 * 1024 * 1024
_DTYPE_NAMES = {
    "float32": "F32",
    **{f"{sign}int{bits}": f"{letter}{bits}" for sign, letter in (("", "I"), ("u", "U")) for bits in (8, 16, 32)},
}


def file_digest(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def encode_tensors(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a safetensors file; equal input gives equal bytes.

    The library's own writer orders the metadata by a random hash, so its digest changes from run to run.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    chunks: list[bytes] = []
    offset = 0
    # Wide types first keeps every tensor aligned without padding, which the format does not allow between tensors.
    for name in sorted(tensors, key=lambda key: (-tensors[key].dtype.itemsize, key)):
        array = np.ascontiguousarray(tensors[name])
        chunk = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        header[name] = {
            "dtype": _DTYPE_NAMES[array.dtype.name],
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, offset + len(chunk)],
        }
        offset += len(chunk)
        chunks.append(chunk)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(chunks)


class TensorFile:
    """An opened safetensors file whose accessors name the file and the tensor in every complaint."""

    def __init__(self, path: Path, file_format: str | None, written_by: str, only: tuple[str, ...] = ()) -> None:
        """Read and check `path`; `file_format` is the expected `format` entry (None: any), `written_by` the advice.

        `only` names the tensors to load; then the file may be of any size.
        """
        from safetensors import SafetensorError, safe_open

        self.path = path
        self._written_by = written_by
        if not path.is_file():
            state = "not a file" if path.exists() else "no such file"
            raise FileFormatError(f"{path}: {state}, expected a {file_format or 'safetensors'} file; {written_by}")
        size = path.stat().st_size
        if size > SIZE_LIMIT_BYTES and not only:
            raise FileFormatError(f"{path}: {size} bytes, expected at most {SIZE_LIMIT_BYTES}; {written_by}")
        try:
            with safe_open(path, framework="numpy") as opened:
                self.metadata: dict[str, str] = opened.metadata() or {}
                names = [name for name in opened.keys() if not only or name in only]  # noqa: SIM118 (no mapping)
                self.tensors: dict[str, NDArray[Any]] = {name: opened.get_tensor(name) for name in names}
        except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise FileFormatError(f"{path}: not a readable safetensors file ({reason}); {written_by}") from None
        if file_format is None:
            return
        found = self.metadata.get("format")
        if found != file_format:
            raise self.complain(f"metadata 'format' is {found!r}, expected {file_format!r}")
        version = self.metadata.get("format_version")
        if version != "1":
            raise self.complain(f"metadata 'format_version' is {version!r}, expected '1' (another package version?)")

    def complain(self, what: str) -> FileFormatError:
        """Return (not raise) an error about this file that ends with what to do."""
        return FileFormatError(f"{self.path}: {what}; {self._written_by}")

    def text(self, key: str) -> str:
        """Return a metadata string."""
        if key not in self.metadata:
            raise self.complain(f"metadata {key!r} is missing")
        return self.metadata[key]

    def number(self, key: str, low: float, high: float) -> float:
        """Return a metadata number within [low, high]."""
        try:
            value = float(self.text(key))
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise self.complain(
                f"metadata {key!r} is {self.metadata[key][:40]!r}, expected a number in [{low:g}, {high:g}]"
            )
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """Return a metadata integer within [low, high]."""
        value = self.number(key, low, high)
        if value != int(value):
            raise self.complain(f"metadata {key!r} is {self.metadata[key][:40]!r}, expected an integer")
        return int(value)

    def json(self, key: str, kind: type, default: str | None = None) -> Any:
        """Return a metadata entry that holds JSON of the given Python type."""
        text = self.metadata.get(key, default) if default is not None else self.text(key)
        try:
            value = json.loads(text or "")
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, kind):
            raise self.complain(f"metadata {key!r} is {str(text)[:40]!r}, expected a JSON {kind.__name__}")
        return value

    def names(self, key: str, count: int) -> tuple[str, ...]:
        """Return a JSON list of `count` strings."""
        values = self.json(key, list)
        if len(values) != count or not all(isinstance(value, str) for value in values):
            raise self.complain(f"metadata {key!r} holds {len(values)} entries, expected {count} strings")
        return tuple(values)

    def array(self, name: str, shape: tuple[int | None, ...], kinds: tuple[str, ...] = ("float32",)) -> NDArray[Any]:
        """Return a finite tensor of the given shape (None = any size of at least 1) and one of the given dtypes."""
        if name not in self.tensors:
            raise self.complain(f"tensor {name!r} is missing")
        array = self.tensors[name]
        if array.dtype.name not in kinds:
            raise self.complain(f"tensor {name!r} is {array.dtype.name}, expected {' or '.join(kinds)}")
        fits = array.ndim == len(shape) and all(
            size > 0 if wanted is None else size == wanted for size, wanted in zip(array.shape, shape, strict=True)
        )
        if not fits:
            wanted_text = "(" + ", ".join("n" if size is None else str(size) for size in shape) + ")"
            if 0 in array.shape:
                wanted_text += ", no side of length 0"
            raise self.complain(f"tensor {name!r} has shape {array.shape}, expected {wanted_text}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise self.complain(f"tensor {name!r} holds {array[index]} at index {index}, expected finite numbers")
        return array
