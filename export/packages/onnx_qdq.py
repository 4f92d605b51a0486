"""ONNX with QuantizeLinear and DequantizeLinear: the integers of an int8 or int16 policy for runtimes that take those.

Every scale is a power of two where the integers are shifted, so that float32 holds the same integers. Shifts round
down and QuantizeLinear rounds to the nearest: half a step, less what keeps ties out, is taken from what it rounds.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.c_code.layer_tables import live_inputs
from export.errors import ExportError, ToolError
from export.fixed_point.network import READING_LIMIT, FixedLayer, FixedNetwork
from export.fixed_point.tanh import ARGUMENT_BITS, RESULT_BITS, SEGMENT_BITS, SEGMENTS
from export.onnx_model import encode_graph
from export.sparse_policy import SparsePolicy

# The first opset whose QuantizeLinear takes int16, and the IR version that came with it.
OPSET = 21
IR_VERSION = 10
_TANH_STEP = 2.0**-RESULT_BITS
_TANH_LIMIT = (SEGMENTS * 2**SEGMENT_BITS - 1) / 2**ARGUMENT_BITS


def qdq_onnx(policy: SparsePolicy, digest: str) -> bytes:
    """Return the bytes of an ONNX model: `observation` (batch, history*base) -> `action` (batch, action).

    Inputs, broken observations included, and hidden relu and identity layers give the integers of
    `policy.evaluate_exact` as long as float32 holds the sums; tanh is ONNX's, which differs from the table by 1.6e-4.

    Raises:
        ExportError: the policy's weights are floats.
        ToolError: onnx is not installed, or its checker refuses the model.
    """
    if policy.fixed is None:
        raise ExportError(
            "onnx-qdq is for integer policies, this one is float32; compile with --weights int8 or int16, or give --as "
            "onnx-sparse"
        )
    try:
        from onnx import TensorProto, helper
    except ImportError as error:
        raise ToolError(f"cannot import {error.name}: pip install 'bayesian-policy-distillation[export]'") from None
    graph = _Graph()
    fixed = policy.fixed
    live = np.isin(np.arange(len(fixed.input_exponent)), live_inputs(policy))
    readings, readable = _readings(graph, fixed, live)
    value, step = graph.quantised(readings, "input"), 1.0
    for index, layer in enumerate(fixed.layers):
        value = _layer(graph, (value, step), layer, f"layer{index}", last=index + 1 == len(fixed.layers))
        step = _TANH_STEP if layer.activation == "tanh" else 1.0
    _action(graph, value, readable, fixed)
    return encode_graph(
        helper.make_graph(
            graph.nodes,
            "policy",
            [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", policy.observation_size])],
            [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", policy.widths[-1]])],
            graph.initializers,
        ),
        policy,
        digest,
        OPSET,
        IR_VERSION,
    )


class _Graph:
    """The nodes and initialisers so far."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def constant(self, name: str, values: NDArray[Any] | float, kind: type = np.float32) -> str:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: int) -> str:
        from onnx import helper

        name = f"{output}_{operator.lower()}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def quantised(self, value: str, name: str, step: float = 1.0, unit: NDArray[Any] | float | None = None) -> str:
        """Round `value` to int16 multiples of `step`, and hand them on in `unit`: one, or one a column; else `step`."""
        zero = self.constant(f"{name}.zero", 0, np.int16)
        scale = self.constant(f"{name}.step", step)
        integers = self.node("QuantizeLinear", [value, scale, zero], f"{name}.integers")
        if unit is None:
            return self.node("DequantizeLinear", [integers, scale, zero], f"{name}.values")
        units = np.asarray(unit)
        again = self.constant(f"{name}.unit", units)
        zeros = self.constant(f"{name}.zeros", np.zeros(units.shape), np.int16)
        attributes = {"axis": 1} if units.ndim else {}
        return self.node("DequantizeLinear", [integers, again, zeros], f"{name}.values", **attributes)


def _readings(graph: _Graph, fixed: FixedNetwork, live: NDArray[np.bool_]) -> tuple[str, str]:
    """Return (batch, inputs) whole numbers, and (batch, 1): 1 where all observations that are read (live, (base,)) were
    numbers in range, else 0."""

    def stacked(values: NDArray[Any]) -> NDArray[Any]:
        return np.tile(values, fixed.history)

    scaled = graph.node(
        "Mul",
        ["observation", graph.constant("observation_scale", np.ldexp(1.0, stacked(fixed.input_exponent)))],
        "scaled",
    )
    size = graph.node("Abs", [scaled], "size")
    near = graph.node("Less", [size, graph.constant("reading_limit", float(READING_LIMIT))], "near")
    counted = near
    if not live.all():
        counted = graph.node("Or", [near, graph.constant("unread", stacked(~live), np.bool_)], "near_or_unread")
    flags = graph.node("Where", [counted, graph.constant("one", 1.0), graph.constant("nought", 0.0)], "flags")
    readable = graph.node("ReduceMin", [flags, graph.constant("columns", np.ones(1), np.int64)], "readable", keepdims=1)
    # A NaN must not reach QuantizeLinear, whose result for it is undefined.
    clean = graph.node("Where", [near, scaled, "nought"], "clean")
    # Towards zero, as a cast to an integer goes.
    whole = graph.node(
        "Mul",
        [
            graph.node("Floor", [graph.node("Abs", [clean], "clean_size")], "whole_size"),
            graph.node("Sign", [clean], "sign"),
        ],
        "whole",
    )
    if fixed.input_offset.any():
        whole = graph.node("Sub", [whole, graph.constant("offset", stacked(fixed.input_offset))], "shifted")
    limit = stacked(fixed.input_limit)
    above = graph.node("Max", [whole, graph.constant("lowest", -limit)], "above")
    return graph.node("Min", [above, graph.constant("highest", limit)], "readings"), readable


def _layer(graph: _Graph, inputs: tuple[str, float], layer: FixedLayer, name: str, last: bool) -> str:
    """Return a layer's activations (of the last one, -1 to 1) of inputs, which are (name, step of their integers)."""
    value, step = inputs
    kind = np.int8 if layer.value_bits == 8 else np.int16
    unit = 2.0**-layer.shift
    scale = graph.constant(f"{name}.weight.scale", unit / step)
    integers = graph.constant(f"{name}.weight.integers", layer.weights.toarray(), kind)
    zero = graph.constant(f"{name}.weight.zero", 0, kind)
    weight = graph.node("DequantizeLinear", [integers, scale, zero], f"{name}.weight")
    relu = layer.activation == "relu" and not last
    # Whole products, as runtimes that add in integers want it; what is taken off below is no whole number of them.
    units = graph.constant(f"{name}.bias.integers", layer.bias << layer.bias_shift, np.int32)
    bias = graph.node("DequantizeLinear", [units, graph.constant(f"{name}.bias.scale", unit)], f"{name}.bias")
    sums = graph.node("Gemm", [value, weight, bias], f"{name}.sums", transB=1)
    sums = graph.node("Sub", [sums, graph.constant(f"{name}.half_step", _half(unit))], f"{name}.lowered")
    if layer.multiplier is None:
        return graph.quantised(graph.node("Relu", [sums], f"{name}.relu") if relu else sums, name)
    squashed = layer.activation == "tanh"
    bits = layer.argument_bits
    product = 2.0**-layer.multiplier_shift
    limited = graph.quantised(sums, f"{name}.limited", unit=layer.multiplier * product)
    lower = graph.constant(f"{name}.argument.half_step", _half(product))
    argument = graph.node("Sub", [limited, lower], f"{name}.argument.lowered")
    argument = graph.quantised(argument, f"{name}.argument", unit=2.0**-bits)
    limit = _TANH_LIMIT if squashed else 1.0
    ends = [graph.constant(f"{name}.low", -limit), graph.constant(f"{name}.high", limit)]
    clipped = graph.node("Clip", [argument, *ends], f"{name}.clipped")
    if not squashed:
        return clipped
    return graph.quantised(graph.node("Tanh", [clipped], f"{name}.tanh"), name, _TANH_STEP)


def _half(step: float) -> float:
    """Return what makes rounding to the nearest of multiples of `step` round down: ties would go either way."""
    return 0.5 - step / 2


def _action(graph: _Graph, value: str, readable: str, fixed: FixedNetwork) -> None:
    """End with actions in physical units, NaN where an observation was no number."""
    half = graph.constant(
        "action_half_range", np.ldexp(fixed.half.astype(np.float64), RESULT_BITS - fixed.action_exponent)
    )
    middle = graph.constant("action_middle", np.ldexp(fixed.middle.astype(np.float64), -fixed.action_exponent))
    physical = graph.node("Add", [graph.node("Mul", [value, half], "ranged"), middle], "physical")
    whether = graph.node("Greater", [readable, "nought"], "all_readable")
    graph.node("Where", [whether, physical, graph.constant("no_number", np.nan)], "action")
