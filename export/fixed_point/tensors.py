"""The integers of a policy as tensors and metadata of policy.safetensors, and back, checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from export.errors import ExportError
from export.fixed_point.bounds import bounds
from export.fixed_point.network import FixedLayer, FixedNetwork
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


def read_fixed(file: TensorFile, layers: tuple[SparseLayer, ...], base: int, actions: int) -> FixedNetwork:
    """Read the integers of a policy whose float layers are read already.

    Raises:
        FileFormatError: a tensor or an entry is missing, out of range, or could overflow.
    """
    scalars = file.json("fixed_layers", list)
    if len(scalars) != len(layers):
        raise file.complain(f"metadata 'fixed_layers' has {len(scalars)} entries, expected {len(layers)}")

    def integers(name: str, shape: tuple[int | None, ...], kinds: tuple[str, ...] = ("int32",)) -> NDArray[np.int64]:
        return file.array(f"fixed.{name}", shape, kinds).astype(np.int64)

    fixed = [_read_layer(file, index, layer, scalars[index], integers) for index, layer in enumerate(layers)]
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
        ("input_exponent", -100, 100),
        ("input_offset", -(2**28), 2**28),
        ("input_limit", 1, 32767),
        ("half", 1, 2**15),
        ("action_exponent", -100, 126),
    ):
        values = getattr(network, name)
        if ((values < low) | (values > high)).any():
            raise file.complain(f"tensor 'fixed.{name}' holds {values.tolist()}, expected {low} to {high}")
    try:
        bounds(network)
    except ExportError as error:
        raise file.complain(str(error)) from None
    return network


def _read_layer(file: TensorFile, index: int, layer: SparseLayer, scalars: Any, integers: Any) -> FixedLayer:
    numbers = {}
    for name, low, high in (
        ("value_bits", 8, 16),
        ("bias_bits", 8, 16),
        ("bias_shift", 0, 30),
        ("shift", 0, 30),
        ("multiplier_shift", 0, 30),
    ):
        value = scalars.get(name) if isinstance(scalars, dict) else None
        if not isinstance(value, int) or not low <= value <= high or (name.endswith("bits") and value not in (8, 16)):
            raise file.complain(f"fixed_layers[{index}] has {name} = {value!r}, expected an integer {low} to {high}")
        numbers[name] = value
    matrix = layer.matrix
    values = integers(f"layer{index}.values", (matrix.nnz,), (f"int{numbers['value_bits']}",))
    scaled = f"fixed.layer{index}.multiplier" in file.tensors
    return FixedLayer(
        weights=sparse.csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape),
        bias=integers(f"layer{index}.bias", (matrix.shape[0],), (f"int{numbers['bias_bits']}",)),
        activation=layer.activation,
        multiplier=integers(f"layer{index}.multiplier", (matrix.shape[0],), ("int16",)) if scaled else None,
        **numbers,
    )
