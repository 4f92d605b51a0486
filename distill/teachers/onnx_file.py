"""Read the layers out of an ONNX file: from its output back to its input, operation by operation; it is never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..environment import EnvironmentFacts
from ..errors import DistillError
from .actor import Actor
from .steps import Activation, Affine, Limit, Linear, Step, chain_of

_OPERATIONS = "Gemm, MatMul, Add, Sub, Mul, Div, Relu, Tanh, Clip, Identity, Flatten, Cast, Constant"
_OUTPUTS = ("action", "actions", "mean", "mu")
_FLOATS = (1, 10, 11)  # TensorProto: float, float16, double
_LONGEST = 256  # operations in a row


def read_onnx(path: Path, data: bytes, facts: EnvironmentFacts) -> Actor:
    """The actor of an ONNX file.

    Raises:
        DistillError: damaged, external data, an operation outside the list, or more than one path to the output.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf raises its own kinds
        raise DistillError(
            f"teacher {path}: cannot be read ({' '.join(str(error).split())[:200]}), expected an ONNX file; "
            "export it again"
        ) from error
    graph = model.graph
    if not graph.node:
        raise DistillError(f"teacher {path}: holds no operations, expected {_OPERATIONS}; export it again")
    for tensor in (*graph.initializer, *(a.t for node in graph.node for a in node.attribute if a.HasField("t"))):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise DistillError(
                f"teacher {path}: {tensor.name[:60]!r} lies outside the file, expected weights inside it; "
                "save it again with "
                "onnx.save(onnx.load(FILE), NEW, save_as_external_data=False)"
            )
    if graph.sparse_initializer or any(function.domain in ("", "ai.onnx") for function in model.functions):
        raise DistillError(
            f"teacher {path}: holds sparse weights or its own functions, expected {_OPERATIONS}; export it again"
        )
    try:
        steps, stored = _Walk(path, graph).steps()
    except (ValueError, KeyError) as error:  # shapes that do not fit, an operation without its attribute
        raise DistillError(
            f"teacher {path}: its operations do not fit together ({' '.join(str(error).split())[:200]}), expected a "
            "perceptron; export it again"
        ) from error
    chain, notes = chain_of(path, steps, facts)
    return Actor(chain, "ONNX", stored, None, notes)


class _Walk:
    """From the graph's output to its input; every operation has one input that is not a constant."""

    def __init__(self, path: Path, graph: Any) -> None:
        import onnx

        self._path = path
        self._read = onnx.numpy_helper.to_array
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {output: node for node in graph.node for output in node.output}
        for node in graph.node:
            if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].HasField("t"):
                self._constants[node.output[0]] = node.attribute[0].t
        self._inputs = [entry.name for entry in graph.input if entry.name not in self._constants]
        self._outputs = [entry.name for entry in graph.output]
        self._stored = 0

    def steps(self) -> tuple[list[Step], int]:
        """The operations in the order they are computed, and the weights and biases among them."""
        named = [name for name in self._outputs if name.lower() in _OUTPUTS]
        if len(self._outputs) != 1 and len(named) != 1:
            raise self._refuse(
                f"has outputs {', '.join(self._outputs)[:100]}, expected one, or one called {' or '.join(_OUTPUTS)}"
            )
        name = named[0] if named else self._outputs[0]
        steps: list[Step] = []
        for _ in range(_LONGEST):
            if name in self._inputs:
                if len(self._inputs) != 1:
                    raise self._refuse(f"has inputs {', '.join(self._inputs)[:100]}, expected the observation alone")
                return steps[::-1], self._stored
            if name not in self._makers:
                raise self._refuse(f"nothing computes {name[:60]!r}, expected a path from the input to the output")
            name, step = self._step(self._makers[name])
            if step is not None:
                steps.append(step)
        raise self._refuse(f"more than {_LONGEST} operations in a row, expected a small perceptron")

    def _refuse(self, found: str) -> DistillError:
        return DistillError(f"teacher {self._path}: {found}; export the actor alone")

    def _constant(self, name: str) -> NDArray[Any]:
        tensor = self._constants[name]
        if tensor.data_type not in _FLOATS:
            raise self._refuse(f"constant {name[:60]!r} holds no floating-point numbers, expected weights")
        try:
            return np.asarray(self._read(tensor), dtype=np.float64)
        except Exception as error:  # a tensor whose bytes do not fill its shape
            raise self._refuse(f"constant {name[:60]!r} cannot be read, expected weights") from error

    def _step(self, node: Any) -> tuple[str, Step | None]:
        """The name that the operation takes, and what it does to it (None: nothing)."""
        kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        attributes = {entry.name: entry for entry in node.attribute}
        names = [name for name in node.input if name]
        varying = [name for name in names if name not in self._constants]
        if len(varying) != 1:
            raise self._refuse(
                f"operation {kind[:60]} has {len(varying)} computed inputs, expected one path from input to output"
            )
        source = varying[0]
        if kind in ("Relu", "Tanh"):
            return source, Activation(kind.lower())
        if kind == "Identity" or (kind == "Flatten" and ("axis" not in attributes or attributes["axis"].i == 1)):
            return source, None
        if kind == "Cast" and attributes["to"].i in _FLOATS:
            return source, None
        if kind == "Clip":
            return source, self._limit(node, attributes)
        if kind in ("Gemm", "MatMul") and names[0] == source and len(names) > 1:
            return source, self._linear(kind, names, attributes)
        if kind in ("Add", "Sub", "Mul", "Div") and len(names) == 2:
            return source, self._affine(kind, names, source)
        raise self._refuse(f"got operation {kind[:60]}, expected {_OPERATIONS}")

    def _linear(self, kind: str, names: list[str], attributes: dict[str, Any]) -> Linear:
        weight = self._constant(names[1])
        if weight.ndim != 2:
            raise self._refuse(f"operation {kind} has a constant of shape {weight.shape}, expected a matrix")
        transposed = "transB" in attributes and attributes["transB"].i
        if kind == "Gemm" and "transA" in attributes and attributes["transA"].i:
            raise self._refuse("operation Gemm transposes the observation, expected transA 0")
        weight = weight if transposed else weight.T
        bias = self._constant(names[2]) if len(names) > 2 else None
        self._stored += weight.size + (0 if bias is None else bias.size)
        if bias is not None:
            beta = attributes["beta"].f if "beta" in attributes else 1.0
            bias = np.broadcast_to(np.squeeze(bias), len(weight)) * beta
        return Linear(weight * (attributes["alpha"].f if "alpha" in attributes else 1.0), bias)

    def _affine(self, kind: str, names: list[str], source: str) -> Affine:
        other = names[1] if names[0] == source else names[0]
        value = self._constant(other)
        if value.ndim > 2 or (value.ndim == 2 and len(value) != 1):
            raise self._refuse(f"operation {kind} has a constant of shape {value.shape}, expected a vector")
        value = value.reshape(-1) if value.size > 1 else value.reshape(())
        self._stored += value.size if kind == "Add" else 0  # a bias; the others are a normaliser's or a scale
        one, zero = np.array(1.0), np.array(0.0)
        first = names[0] == source
        if kind == "Add":
            return Affine(one, value)
        if kind == "Sub":
            return Affine(one, -value) if first else Affine(-one, value)
        if kind == "Mul":
            return Affine(value, zero)
        if not first or np.any(value == 0.0):
            raise self._refuse("operation Div divides by the observation or by 0, expected a division by constants")
        return Affine(1.0 / value, zero)

    def _limit(self, node: Any, attributes: dict[str, Any]) -> Limit:
        ends = [-np.inf, np.inf]
        for position, name in enumerate(("min", "max")):
            if name in attributes:  # opset 6
                ends[position] = attributes[name].f
            elif len(node.input) > position + 1 and node.input[position + 1]:
                value = self._constant(node.input[position + 1])
                if value.size != 1:
                    raise self._refuse(f"operation Clip has {value.size} limits, expected one number")
                ends[position] = float(value.reshape(()))
        return Limit(ends[0], ends[1])
