"""Read the layers out of a TorchScript file without running it.

The file is a program: its text is parsed, never compiled, and followed symbolically, the observation being unknown.
Only linear, relu, tanh, hardtanh/clamp and element-wise arithmetic with constants may touch the observation, each
intermediate value exactly once; anything else is refused by name. Tensors come from a pickle read by `read_inert`.
"""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..environment import EnvironmentFacts
from ..errors import DistillError
from .actor import LARGEST_FILE, Actor, member
from .inert_pickle import Inert, read_inert
from .steps import Activation, Affine, Limit, Linear, Step, chain_of

_EXPECTED = "a TorchScript archive (torch.jit.save) of linear layers with relu or tanh"
_OPERATIONS = "linear, addmm, relu, tanh, hardtanh, clamp, add, sub, mul, div, flatten"
_STORAGES = {"torch.FloatStorage": "<f4", "torch.DoubleStorage": "<f8", "torch.HalfStorage": "<f2"}
_LARGEST_TEXT = 2**20  # bytes
_DEEPEST, _LONGEST = 32, 5_000  # calls inside calls; statements followed


class _UnreadableError(Exception):
    """Why the program is no plain chain."""


def read_torch_script(path: Path, data: bytes, facts: EnvironmentFacts) -> Actor:
    """The actor of a TorchScript file.

    Raises:
        DistillError: damaged, no TorchScript, or a program that is more than a chain of layers.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > LARGEST_FILE:
                raise _UnreadableError(f"it unpacks to more than {LARGEST_FILE} bytes")
            program = _Program(archive, path)
            steps, stored = program.follow()
    except DistillError:
        raise
    except Exception as error:  # zip, pickle, parser and program each fail in their own way; one case for the user
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise DistillError(
            f"teacher {path}: cannot be read ({found}), expected {_EXPECTED}; nothing in it was run, export "
            "the actor to "
            "ONNX or save its policy as a zip"
        ) from error
    chain, notes = chain_of(path, steps, facts)
    return Actor(chain, "TorchScript", stored, None, notes)


class _Flow:
    """The observation after some steps; `take` may be called once, so that the steps form one line."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self._steps: tuple[Step, ...] | None = steps

    def take(self) -> tuple[Step, ...]:
        if self._steps is None:
            raise _UnreadableError("the program uses an intermediate value twice")
        steps, self._steps = self._steps, None
        return steps


class _Path(str):
    """A dotted name of the program, such as torch.relu."""

    __slots__ = ()


class _Program:
    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self._archive, self._path = archive, path
        roots = [name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1 or f"{roots[0]}/constants.pkl" not in archive.namelist():
            raise _UnreadableError(
                "it holds no program (a file of torch.save(model.state_dict()) lacks the architecture)"
            )
        self._root = roots[0]
        if f"{self._root}/byteorder" in archive.namelist() and self._bytes("byteorder").strip() != b"little":
            raise _UnreadableError("its numbers are big-endian")
        self._module = self._unpickle("data")
        self._constants = self._unpickle("constants")
        self._texts: dict[str, ast.Module] = {}
        self._counted: set[int] = set()
        self._stored = 0
        self._statements = 0

    def _bytes(self, name: str) -> bytes:
        return member(self._archive, self._path, f"{self._root}/{name}", _EXPECTED)

    def _unpickle(self, name: str) -> Any:
        def storage(reference: Any) -> NDArray[Any]:
            word, kind, key, _, count = reference
            if word != "storage" or not issubclass(kind, Inert) or kind.name not in _STORAGES:
                raise _UnreadableError(f"a tensor of {getattr(kind, 'name', kind)!r}, expected {', '.join(_STORAGES)}")
            numbers = np.frombuffer(self._bytes(f"{name}/{key}"), dtype=_STORAGES[kind.name])
            if len(numbers) != count:
                raise _UnreadableError(f"storage {key} holds {len(numbers)} numbers, expected {count}")
            return numbers

        def allowed(full: str) -> bool:
            return full.startswith("__torch__.") or full in _STORAGES or full == "torch._utils._rebuild_tensor_v2"

        return read_inert(self._bytes(f"{name}.pkl"), allowed, storage)

    def follow(self) -> tuple[list[Step], int]:
        """The steps from observation to action, and the weights and biases among them."""
        if not isinstance(self._module, Inert) or not self._module.name.startswith("__torch__."):
            raise _UnreadableError("its data holds no module")
        result = self._method(self._module, [_Flow(())], 0)
        if not isinstance(result, _Flow):
            raise _UnreadableError("its forward gives more than one tensor")
        return list(result.take()), self._stored

    def _definitions(self, dotted: str) -> dict[str, ast.stmt]:
        """Classes and functions of the text file that a dotted name lies in."""
        name = f"code/{dotted.replace('.', '/')}.py"
        if dotted not in self._texts:
            text = self._bytes(name)
            if len(text) > _LARGEST_TEXT:
                raise _UnreadableError(f"{name} has {len(text)} bytes")
            self._texts[dotted] = ast.parse(text.decode("utf-8"))
        nodes = self._texts[dotted].body
        return {node.name: node for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}

    def _method(self, module: Inert, arguments: list[Any], depth: int) -> Any:
        file, _, name = module.name.rpartition(".")
        owner = self._definitions(file).get(name)
        if isinstance(owner, ast.ClassDef):
            for node in owner.body:
                if isinstance(node, ast.FunctionDef) and node.name == "forward":
                    return self._function(node, [module, *arguments], depth)
        raise _UnreadableError(f"{module.name} has no forward")

    def _function(self, node: ast.FunctionDef, arguments: list[Any], depth: int) -> Any:
        if depth > _DEEPEST:
            raise _UnreadableError("its calls nest too deeply")
        rules = node.args
        defaults = [self._value(value, {}, depth) for value in rules.defaults]
        missing = len(rules.args) - len(arguments)
        if rules.vararg or rules.kwarg or rules.kwonlyargs or not 0 <= missing <= len(defaults):
            raise _UnreadableError(f"{node.name} takes {len(rules.args)} arguments, got {len(arguments)}")
        values = [*arguments, *(defaults[len(defaults) - missing :] if missing else [])]
        return self._block(node.body, dict(zip((entry.arg for entry in rules.args), values, strict=True)), depth)[1]

    def _block(self, body: list[ast.stmt], names: dict[str, Any], depth: int) -> tuple[bool, Any]:
        """Whether the statements returned, and what."""
        for node in body:
            self._statements += 1
            if self._statements > _LONGEST:
                raise _UnreadableError("it is too long")
            if isinstance(node, ast.Return) and node.value is not None:
                return True, self._value(node.value, names, depth)
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                names[node.targets[0].id] = self._value(node.value, names, depth)
            elif isinstance(node, ast.If):
                condition = self._value(node.test, names, depth)
                if not isinstance(condition, bool):
                    raise _UnreadableError("it decides at run time")
                returned, value = self._block(node.body if condition else node.orelse, names, depth)
                if returned:
                    return True, value
            elif not isinstance(node, ast.Pass):
                raise _UnreadableError(f"got statement {ast.unparse(node)[:60]}")
        return False, None

    def _value(self, node: ast.expr, names: dict[str, Any], depth: int) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = self._value(node.operand, names, depth)
            if isinstance(number, int | float):
                return -number
        if isinstance(node, ast.Name):
            if node.id in names:
                return names[node.id]
            if node.id in ("torch", "__torch__", "CONSTANTS"):
                return _Path(node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(self._value(node.value, names, depth), node.attr)
        if isinstance(node, ast.Call) and not node.keywords:
            return self._call(node, names, depth)
        raise _UnreadableError(f"got expression {ast.unparse(node)[:60]}")

    def _attribute(self, owner: Any, name: str) -> Any:
        if isinstance(owner, _Path):
            if owner == "CONSTANTS":
                return self._tensor(self._constants[int(name.removeprefix("c"))])
            return _Path(f"{owner}.{name}")
        if isinstance(owner, Inert) and isinstance(owner.state, dict) and name in owner.state:
            return self._tensor(owner.state[name])
        raise _UnreadableError(f"got attribute {name[:40]!r} of nothing known")

    def _tensor(self, value: Any) -> Any:
        """A stored tensor's numbers; anything else as it is."""
        if not (isinstance(value, Inert) and value.name == "torch._utils._rebuild_tensor_v2"):
            return value
        numbers, offset, size, stride, *_ = value.arguments
        count = int(np.prod(size, dtype=np.int64))
        expected = tuple(int(np.prod(size[index + 1 :], dtype=np.int64)) for index in range(len(size)))
        if any(s != e for s, e, length in zip(stride, expected, size, strict=True) if length > 1):
            raise _UnreadableError("a tensor that is not stored row by row")
        if offset < 0 or count < 0 or offset + count > len(numbers):
            raise _UnreadableError("a tensor larger than its storage")
        return numbers[offset : offset + count].reshape(size)

    def _call(self, node: ast.Call, names: dict[str, Any], depth: int) -> Any:
        arguments = [self._value(value, names, depth) for value in node.args]
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(arguments) == 2:
            return self._attribute(arguments[0], str(arguments[1]))
        if isinstance(node.func, ast.Attribute) and node.func.attr == "forward":
            owner = self._value(node.func.value, names, depth)
            if isinstance(owner, Inert):
                return self._method(owner, arguments, depth + 1)
        target = self._value(node.func, names, depth)
        if isinstance(target, _Path) and target.startswith("__torch__."):
            file, _, name = target.rpartition(".")
            function = self._definitions(file).get(name)
            if isinstance(function, ast.FunctionDef):
                return self._function(function, arguments, depth + 1)
        if isinstance(target, _Path) and target.startswith("torch."):
            return self._operation(target.removeprefix("torch.").removesuffix("_"), arguments)
        raise _UnreadableError(f"got call {ast.unparse(node)[:60]}")

    def _operation(self, name: str, arguments: list[Any]) -> Any:
        match name, arguments:
            case (("gt" | "lt"), [int() | float() as left, int() | float() as right]):
                return left > right if name == "gt" else left < right
            case "t", [np.ndarray() as matrix]:
                return matrix.T
            case "linear", [_Flow() as flow, np.ndarray() as weight, *bias]:
                return self._linear(flow, weight, bias)
            case "addmm", [np.ndarray() as bias, _Flow() as flow, np.ndarray() as weight]:
                return self._linear(flow, weight.T, [bias])
            case (("relu" | "tanh"), [_Flow() as flow]):
                return _Flow((*flow.take(), Activation(name)))
            case (("hardtanh" | "clamp"), [_Flow() as flow, int() | float() as low, int() | float() as high]):
                return _Flow((*flow.take(), Limit(float(low), float(high))))
            case "flatten", [_Flow() as flow, 1] | [_Flow() as flow, 1, -1]:
                return flow
            case (("add" | "sub" | "mul" | "div"), [left, right, *rest]) if rest in ([], [1]):
                return _affine(name, left, right)
        raise _UnreadableError(f"got operation torch.{name[:40]}, expected {_OPERATIONS}")

    def _linear(self, flow: _Flow, weight: NDArray[Any], bias: list[Any]) -> _Flow:
        first = bias[0] if bias else None
        if len(bias) > 1 or not (first is None or isinstance(first, np.ndarray)):
            raise _UnreadableError("a linear layer whose bias is no tensor")
        for array in (weight, first):
            if array is None:
                continue
            place: int = array.__array_interface__["data"][0]
            if place not in self._counted:  # a layer that is called twice is stored once
                self._counted.add(place)
                self._stored += array.size
        return _Flow((*flow.take(), Linear(weight, first)))


def _affine(name: str, left: Any, right: Any) -> _Flow:
    flow, other = (left, right) if isinstance(left, _Flow) else (right, left)
    if not isinstance(flow, _Flow) or not isinstance(other, int | float | np.ndarray):
        raise _UnreadableError(f"torch.{name} of two values that depend on the observation")
    value = np.asarray(other, dtype=np.float64)
    value = value.reshape(-1) if value.ndim > 1 and value.shape[0] == 1 else value
    if value.ndim > 1:
        raise _UnreadableError(f"torch.{name} with a constant of shape {value.shape}")
    one, zero = np.array(1.0), np.array(0.0)
    forward = flow is left
    actions: dict[str, Callable[[], Affine]] = {
        "add": lambda: Affine(one, value),
        "sub": lambda: Affine(one, -value) if forward else Affine(-one, value),
        "mul": lambda: Affine(value, zero),
        "div": lambda: Affine(1.0 / value, zero),
    }
    if name == "div" and (not forward or np.any(value == 0.0)):
        raise _UnreadableError("a division by the observation or by 0")
    return _Flow((*flow.take(), actions[name]()))
