"""Follow the text of a TorchScript program symbolically: which steps does it take from the observation to the action?

Only linear, relu, tanh, hardtanh/clamp and element-wise arithmetic with constants may touch the observation, each
intermediate value exactly once; anything else is refused by name.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .inert_pickle import Inert
from .steps import Activation, Affine, Limit, Linear, Step
from .torch_archive import TorchArchive, UnreadableError

_OPERATIONS = "linear, addmm, relu, tanh, hardtanh, clamp, add, sub, mul, div, flatten"
_DEEPEST, _LONGEST = 32, 5_000  # calls inside calls; statements followed


class _Flow:
    """The observation after some steps; `take` may be called once, so that the steps form one line."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self._steps: tuple[Step, ...] | None = steps

    def take(self) -> tuple[Step, ...]:
        if self._steps is None:
            raise UnreadableError("the program uses an intermediate value twice")
        steps, self._steps = self._steps, None
        return steps


class _Path(str):
    """A dotted name of the program, such as torch.relu."""

    __slots__ = ()


class TorchProgram:
    """The program of an archive; every method raises `UnreadableError` with what it met."""

    def __init__(self, archive: TorchArchive) -> None:
        self._archive = archive
        self._counted: set[int] = set()
        self._stored = 0
        self._statements = 0

    def follow(self) -> tuple[list[Step], int]:
        """The steps from observation to action, and the weights and biases among them."""
        if not isinstance(self._archive.module, Inert) or not self._archive.module.name.startswith("__torch__."):
            raise UnreadableError("its data holds no module")
        result = self._method(self._archive.module, [_Flow(())], 0)
        if not isinstance(result, _Flow):
            raise UnreadableError("its forward gives more than one tensor")
        return list(result.take()), self._stored

    def _method(self, module: Inert, arguments: list[Any], depth: int) -> Any:
        file, _, name = module.name.rpartition(".")
        owner = self._archive.definitions(file).get(name)
        if isinstance(owner, ast.ClassDef):
            for node in owner.body:
                if isinstance(node, ast.FunctionDef) and node.name == "forward":
                    return self._function(node, [module, *arguments], depth)
        raise UnreadableError(f"{module.name} has no forward")

    def _function(self, node: ast.FunctionDef, arguments: list[Any], depth: int) -> Any:
        if depth > _DEEPEST:
            raise UnreadableError("its calls nest too deeply")
        rules = node.args
        defaults = [self._value(value, {}, depth) for value in rules.defaults]
        missing = len(rules.args) - len(arguments)
        if rules.vararg or rules.kwarg or rules.kwonlyargs or not 0 <= missing <= len(defaults):
            raise UnreadableError(f"{node.name} takes {len(rules.args)} arguments, got {len(arguments)}")
        values = [*arguments, *(defaults[len(defaults) - missing :] if missing else [])]
        return self._block(node.body, dict(zip((entry.arg for entry in rules.args), values, strict=True)), depth)[1]

    def _block(self, body: list[ast.stmt], names: dict[str, Any], depth: int) -> tuple[bool, Any]:
        """Whether the statements returned, and what."""
        for node in body:
            self._statements += 1
            if self._statements > _LONGEST:
                raise UnreadableError("it is too long")
            if isinstance(node, ast.Return) and node.value is not None:
                return True, self._value(node.value, names, depth)
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                names[node.targets[0].id] = self._value(node.value, names, depth)
            elif isinstance(node, ast.If):
                condition = self._value(node.test, names, depth)
                if not isinstance(condition, bool):
                    raise UnreadableError("it decides at run time")
                returned, value = self._block(node.body if condition else node.orelse, names, depth)
                if returned:
                    return True, value
            elif not isinstance(node, ast.Pass):
                raise UnreadableError(f"got statement {ast.unparse(node)[:60]}")
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
        raise UnreadableError(f"got expression {ast.unparse(node)[:60]}")

    def _attribute(self, owner: Any, name: str) -> Any:
        if isinstance(owner, _Path):
            if owner == "CONSTANTS":
                return self._archive.tensor(self._archive.constants[int(name.removeprefix("c"))])
            return _Path(f"{owner}.{name}")
        if isinstance(owner, Inert) and isinstance(owner.state, dict) and name in owner.state:
            return self._archive.tensor(owner.state[name])
        raise UnreadableError(f"got attribute {name[:40]!r} of nothing known")

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
            function = self._archive.definitions(file).get(name)
            if isinstance(function, ast.FunctionDef):
                return self._function(function, arguments, depth + 1)
        if isinstance(target, _Path) and target.startswith("torch."):
            return self._operation(target.removeprefix("torch.").removesuffix("_"), arguments)
        raise UnreadableError(f"got call {ast.unparse(node)[:60]}")

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
        raise UnreadableError(f"got operation torch.{name[:40]}, expected {_OPERATIONS}")

    def _linear(self, flow: _Flow, weight: NDArray[Any], bias: list[Any]) -> _Flow:
        first = bias[0] if bias else None
        if len(bias) > 1 or not (first is None or isinstance(first, np.ndarray)):
            raise UnreadableError("a linear layer whose bias is no tensor")
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
        raise UnreadableError(f"torch.{name} of two values that depend on the observation")
    value = np.asarray(other, dtype=np.float64)
    value = value.reshape(-1) if value.ndim > 1 and value.shape[0] == 1 else value
    if value.ndim > 1:
        raise UnreadableError(f"torch.{name} with a constant of shape {value.shape}")
    one, zero = np.array(1.0), np.array(0.0)
    forward = flow is left
    actions: dict[str, Callable[[], Affine]] = {
        "add": lambda: Affine(one, value),
        "sub": lambda: Affine(one, -value) if forward else Affine(-one, value),
        "mul": lambda: Affine(value, zero),
        "div": lambda: Affine(1.0 / value, zero),
    }
    if name == "div" and (not forward or np.any(value == 0.0)):
        raise UnreadableError("a division by the observation or by 0")
    return _Flow((*flow.take(), actions[name]()))
