"""The integers of a policy as tensors and metadata of policy.safetensors, and back, checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from export.errors import ExportError
from export.fixed_point.bounds import bounds
from export.fixed_point.ends import ACTION_EXPONENTS, INPUT_EXPONENTS
from export.fixed_point.network import FixedLayer, FixedNetwork, dequantised
from export.squash import Float32
from export.tensor_file import TensorFile

if TYPE_CHECKING:
    from export.sparse_policy import SparseLayer

_SCALARS = ("value_bits", "bias_bits", "bias_shift", "shift", "multiplier_shift")


def fixed_tensors(network: FixedNetwork) -> dict[str, NDArray[Any]]:
    """Return the tensors by name; weights in the order of the layers' CSR arrays."""
    tensors: dict[str, NDArray[Any]] = {
        "fixed.input_exponent": network.input_exponent.astype(np.int32),
        "fixed.input_offset": network.input_offset.astype(np.int32),
        "fixed.input_limit": network.input_limit.astype(np.int32),
        "fixed.action_middle": network.middle.astype(np.int32),
        "fixed.action_half": network.half.astype(np.int32),
        "fixed.action_exponent": network.action_exponent.astype(np.int32),
    }
    for index, layer in enumerate(network.layers):
        tensors[f"fixed.layer{index}.values"] = layer.weights.data.astype(f"int{layer.value_bits}")
        tensors[f"fixed.layer{index}.bias"] = layer.bias.astype(f"int{layer.bias_bits}")
        if layer.multiplier is not None:
            tensors[f"fixed.layer{index}.multiplier"] = layer.multiplier.astype(np.int16)
    return tensors


def fixed_metadata(network: FixedNetwork) -> dict[str, str]:
    """Return the metadata entries."""
    layers = [{name: getattr(layer, name) for name in _SCALARS} for layer in network.layers]
    return {
        "weights": json.dumps([f"int{layer.value_bits}" for layer in network.layers]),
        "fixed_layers": json.dumps(layers),
    }


def read_fixed(file: TensorFile, layers: tuple[SparseLayer, ...], centre: Float32, actions: int) -> FixedNetwork | None:
    """Read the integers of a policy whose float layers and centre (base,) are read already; None where it has none.

    Raises:
        FileFormatError: a tensor or an entry is missing, out of range, could overflow, or does not stand for the float
            layers beside it.
    """
    if "weights" not in file.metadata:
        if any(name.startswith("fixed.") for name in file.tensors) or "fixed_layers" in file.metadata:
            raise file.complain("it holds integers but metadata 'weights' is missing")
        return None
    base = len(centre)
    scalars = file.json("fixed_layers", list)
    if len(scalars) != len(layers):
        raise file.complain(f"metadata 'fixed_layers' has {len(scalars)} entries, expected {len(layers)}")

    def integers(name: str, shape: tuple[int | None, ...], kinds: tuple[str, ...] = ("int32",)) -> NDArray[np.int64]:
        return file.array(f"fixed.{name}", shape, kinds).astype(np.int64)

    fixed = [
        _read_layer(file, index, layer, scalars[index], integers, last=index + 1 == len(layers))
        for index, layer in enumerate(layers)
    ]
    network = FixedNetwork(
        input_exponent=integers("input_exponent", (base,)),
        input_offset=integers("input_offset", (base,)),
        input_limit=integers("input_limit", (base,)),
        layers=tuple(fixed),
        middle=integers("action_middle", (actions,)),
        half=integers("action_half", (actions,)),
        action_exponent=integers("action_exponent", (actions,)),
    )
    for name, low, high in (
        ("input_exponent", *INPUT_EXPONENTS),
        ("input_offset", -(2**28), 2**28),
        ("input_limit", 1, 32767),
        ("action_half", 1, 2**15),
        ("action_exponent", *ACTION_EXPONENTS),
    ):
        values = getattr(network, name.replace("action_half", "half"))
        if ((values < low) | (values > high)).any():
            raise file.complain(f"tensor 'fixed.{name}' holds {values.tolist()}, expected {low} to {high}")
    try:
        bounds(network)
    except ExportError as error:
        raise file.complain(str(error)) from None
    _check_floats(file, network, layers, centre)
    return network


def _check_floats(file: TensorFile, network: FixedNetwork, layers: tuple[SparseLayer, ...], centre: Float32) -> None:
    """Integers and the floats that they stand for are in one file: a number changed in either shows."""
    kinds = fixed_metadata(network)["weights"]
    if file.metadata["weights"] != kinds:
        raise file.complain(
            f"metadata 'weights' is {file.metadata['weights'][:40]!r}, expected {kinds!r} as the layers"
        )
    offset = np.ldexp(network.input_offset.astype(np.float64), -network.input_exponent).astype(np.float32)
    if not np.array_equal(offset, centre):
        raise file.complain(f"'fixed.input_offset' stands for {offset.tolist()}, expected the observation_centre")
    for index, ((values, bias), layer) in enumerate(zip(dequantised(network), layers, strict=True)):
        same = np.array_equal(values.astype(np.float32), layer.matrix.data)
        if not (same and np.array_equal(bias.astype(np.float32), layer.bias)):
            raise file.complain(f"the integers of layer {index} do not stand for its float values and bias")


def _read_layer(
    file: TensorFile, index: int, layer: SparseLayer, scalars: Any, integers: Any, *, last: bool
) -> FixedLayer:
    numbers = {}
    for name, low, high in (
        ("value_bits", 8, 16),
        ("bias_bits", 8, 16),
        ("bias_shift", 0, 30),
        ("shift", 0, 30),
        ("multiplier_shift", 0, 30),
    ):
        value = scalars.get(name) if isinstance(scalars, dict) else None
        # A bool is an int to isinstance.
        if type(value) is not int or not low <= value <= high or (name.endswith("bits") and value not in (8, 16)):
            raise file.complain(f"fixed_layers[{index}] has {name} = {value!r}, expected an integer {low} to {high}")
        numbers[name] = value
    matrix = layer.matrix
    values = integers(f"layer{index}.values", (matrix.nnz,), (f"int{numbers['value_bits']}",))
    scaled = layer.activation == "tanh" or last
    if not scaled and f"fixed.layer{index}.multiplier" in file.tensors:
        raise file.complain(f"tensor 'fixed.layer{index}.multiplier' is there, expected none for {layer.activation}")
    return FixedLayer(
        weights=sparse.csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape),
        bias=integers(f"layer{index}.bias", (matrix.shape[0],), (f"int{numbers['bias_bits']}",)),
        activation=layer.activation,
        multiplier=integers(f"layer{index}.multiplier", (matrix.shape[0],), ("int16",)) if scaled else None,
        **numbers,
    )
