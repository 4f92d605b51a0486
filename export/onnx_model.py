"""policy.onnx: Gemm, Relu, Tanh and the action scale in float32; free batch dimension, policy's digest."""

import json
from typing import Any

import numpy as np

from export.errors import ToolError
from export.sparse_policy import SparsePolicy
from export.squash import Float32, middle_and_half

# The oldest opset with everything used here that current runtimes and converters still test against.
OPSET = 17
IR_VERSION = 8


def onnx_model(policy: SparsePolicy, digest: str) -> bytes:
    """Return the bytes of an ONNX model: `observation` (batch, history*base) -> `action` (batch, action).

    Raises:
        ToolError: the package onnx is not installed, or its checker refuses the model.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise ToolError(f"cannot import {error.name}: pip install 'bayesian-policy-distillation[export]'") from None

    initializers, nodes = [], []

    def constant(name: str, values: Float32) -> str:
        initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(operator: str, inputs: list[str], output: str, **attributes: int) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], name=f"{output}_{operator.lower()}", **attributes))
        return output

    value = "observation"
    if policy.centre.any():
        value = node("Sub", [value, constant("observation_centre", np.tile(policy.centre, policy.history))], "centred")
    for index, layer in enumerate(policy.layers):
        weight = constant(f"layer{index}.weight", layer.matrix.toarray())
        bias = constant(f"layer{index}.bias", layer.bias)
        value = node("Gemm", [value, weight, bias], f"layer{index}", transB=1)
        if layer.activation != "identity":
            value = node(layer.activation.capitalize(), [value], f"layer{index}_{layer.activation}")
    middle, half = middle_and_half(policy.action_low, policy.action_high)
    clipped = policy.layers[-1].activation == "identity"
    value = node("Mul", [value, constant("action_half_range", half)], "scaled")
    value = node("Add", [value, constant("action_middle", middle)], "shifted" if clipped else "action")
    if clipped:
        value = node("Max", [value, constant("action_low", policy.action_low)], "bounded_below")
        node("Min", [value, constant("action_high", policy.action_high)], "action")
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", policy.observation_size])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", policy.widths[-1]])],
        initializers,
    )
    return encode_graph(graph, policy, digest, OPSET, IR_VERSION)


def encode_graph(graph: Any, policy: SparsePolicy, digest: str, opset: int, ir_version: int) -> bytes:
    """Return the bytes of a model around an onnx graph, with the policy's metadata.

    Raises:
        ToolError: the checker of onnx refuses the model.
    """
    from onnx import helper

    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="bayesian-policy-distillation"
    )
    model.ir_version = ir_version
    helper.set_model_props(model, _properties(policy, digest))
    return encode_model(model)


def encode_model(model: Any, types: bool = True) -> bytes:
    """Return the bytes of an onnx model, always the same for the same model; types: infer and check them as well.

    Raises:
        ToolError: the checker of onnx refuses the model.
    """
    import onnx

    try:
        onnx.checker.check_model(model, full_check=types)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ToolError(
            f"onnx checker refuses the model: {str(error).splitlines()[0]}; please report this policy"
        ) from None
    encoded: bytes = model.SerializeToString(deterministic=True)
    return encoded


def _properties(policy: SparsePolicy, digest: str) -> dict[str, str]:
    frames = [f"frame {index - policy.history + 1}" for index in range(policy.history)]
    return {
        "policy_digest": digest,
        "environment": policy.environment,
        "history": str(policy.history),
        "control_period_s": repr(float(policy.control_period_s)),
        "observation_names": json.dumps(list(policy.observation_names)),
        "observation_order": json.dumps([f"{name}, {frame}" for frame in frames for name in policy.observation_names]),
        "action_names": json.dumps(list(policy.action_names)),
        "action_low": json.dumps([float(value) for value in policy.action_low]),
        "action_high": json.dumps([float(value) for value in policy.action_high]),
    }
