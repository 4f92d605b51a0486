"""The parts of a TorchScript archive: the pickled module, its tensors, and the program's text, never compiled."""

from __future__ import annotations

import ast
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .actor import member
from .inert_pickle import Inert, read_inert

EXPECTED = "a TorchScript archive (torch.jit.save) of linear layers with relu or tanh"
_STORAGES = {"torch.FloatStorage": "<f4", "torch.DoubleStorage": "<f8", "torch.HalfStorage": "<f2"}
_LARGEST_TEXT = 2**20  # bytes


class UnreadableError(Exception):
    """Why the program is no plain chain."""


class TorchArchive:
    """`module` is the saved object, `constants` the tensors that freezing moved into the program.

    Raises:
        Exception: of many kinds for an archive that is damaged; the caller words it.
    """

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self._archive, self._path = archive, path
        roots = [name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1 or f"{roots[0]}/constants.pkl" not in archive.namelist():
            raise UnreadableError(
                "it holds no program (a file of torch.save(model.state_dict()) lacks the architecture)"
            )
        self._root = roots[0]
        if f"{self._root}/byteorder" in archive.namelist() and self._bytes("byteorder").strip() != b"little":
            raise UnreadableError("its numbers are big-endian")
        self.module = self._unpickle("data")
        self.constants = self._unpickle("constants")
        self._texts: dict[str, ast.Module] = {}

    def _bytes(self, name: str) -> bytes:
        return member(self._archive, self._path, f"{self._root}/{name}", EXPECTED)

    def _unpickle(self, name: str) -> Any:
        def storage(reference: Any) -> NDArray[Any]:
            word, kind, key, _, count = reference
            if word != "storage" or not issubclass(kind, Inert) or kind.name not in _STORAGES:
                raise UnreadableError(f"a tensor of {getattr(kind, 'name', kind)!r}, expected {', '.join(_STORAGES)}")
            numbers = np.frombuffer(self._bytes(f"{name}/{key}"), dtype=_STORAGES[kind.name])
            if len(numbers) != count:
                raise UnreadableError(f"storage {key} holds {len(numbers)} numbers, expected {count}")
            return numbers

        def allowed(full: str) -> bool:
            return full.startswith("__torch__.") or full in _STORAGES or full == "torch._utils._rebuild_tensor_v2"

        return read_inert(self._bytes(f"{name}.pkl"), allowed, storage)

    def tensor(self, value: Any) -> Any:
        """A stored tensor's numbers; anything else as it is."""
        if not (isinstance(value, Inert) and value.name == "torch._utils._rebuild_tensor_v2"):
            return value
        numbers, offset, size, stride, *_ = value.arguments
        count = int(np.prod(size, dtype=np.int64))
        expected = tuple(int(np.prod(size[index + 1 :], dtype=np.int64)) for index in range(len(size)))
        if any(s != e for s, e, length in zip(stride, expected, size, strict=True) if length > 1):
            raise UnreadableError("a tensor that is not stored row by row")
        if offset < 0 or count < 0 or offset + count > len(numbers):
            raise UnreadableError("a tensor larger than its storage")
        return numbers[offset : offset + count].reshape(size)

    def definitions(self, dotted: str) -> dict[str, ast.stmt]:
        """Classes and functions of the text file that a dotted name lies in."""
        name = f"code/{dotted.replace('.', '/')}.py"
        if dotted not in self._texts:
            text = self._bytes(name)
            if len(text) > _LARGEST_TEXT:
                raise UnreadableError(f"{name} has {len(text)} bytes")
            self._texts[dotted] = ast.parse(text.decode("utf-8"))
        nodes = self._texts[dotted].body
        return {node.name: node for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}
