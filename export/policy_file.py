"""policy.safetensors: written, and read back with every number checked."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from export.fixed_point.tensors import fixed_metadata, fixed_tensors, read_fixed
from export.interface import interface_metadata, read_interface
from export.quantisation import read_quantisation
from export.sparse_policy import SparseLayer, SparsePolicy, csr_arrays
from export.student_file import WIDTH_LIMIT, read_activations
from export.tensor_file import TensorFile, encode_tensors, file_digest

POLICY_FILE = "policy.safetensors"
_NEXT_STEP = "write it with `python -m export compile STUDENT --out DIR`"


def encode_policy(policy: SparsePolicy) -> bytes:
    """Return the bytes of policy.safetensors; the policy's digest is their sha256."""
    tensors: dict[str, NDArray[Any]] = {
        "observation_centre": policy.centre,
        "action_low": policy.action_low,
        "action_high": policy.action_high,
        "known_answers.observations": policy.known_observations,
        "known_answers.actions": policy.known_actions,
    }
    for index, layer in enumerate(policy.layers):
        names = ("values", "columns", "row_pointers")
        for name, array in zip(names, csr_arrays(layer.matrix), strict=True):
            tensors[f"layer{index}.{name}"] = array
        tensors[f"layer{index}.bias"] = layer.bias
    if policy.fixed is not None:
        tensors |= fixed_tensors(policy.fixed)
    metadata = {
        "format": "bpd-policy",
        "format_version": "1",
        "activations": json.dumps([layer.activation for layer in policy.layers]),
        **interface_metadata(policy),
        "layer_shapes": json.dumps([list(layer.matrix.shape) for layer in policy.layers]),
        "student_widths": json.dumps(list(policy.student_widths)),
        **({} if policy.fixed is None else fixed_metadata(policy.fixed)),
        **({} if policy.quantisation is None else {"quantisation": json.dumps(asdict(policy.quantisation))}),
    }
    return encode_tensors(tensors, metadata)


def policy_digest(path: Path | str) -> str:
    """Return the digest that ONNX, policy.h, firmware and logs carry: sha256 of policy.safetensors."""
    return file_digest(policy_path(path))


def policy_path(path: Path | str) -> Path:
    """Return the policy file for a path that names either the file or its folder."""
    path = Path(path)
    return path / POLICY_FILE if path.is_dir() else path


def read_policy(path: Path | str) -> SparsePolicy:
    """Read and check policy.safetensors; `path` is the file or the folder that `compile` wrote.

    Raises:
        FileFormatError: the file is missing, damaged, or inconsistent; the message names file, tensor and index.
    """
    file = TensorFile(policy_path(path), "bpd-policy", _NEXT_STEP)
    activations = read_activations(file)
    shapes = _read_shapes(file, len(activations))
    layers = tuple(
        SparseLayer(_read_matrix(file, index, shape), file.array(f"layer{index}.bias", (shape[0],)), activation)
        for index, (shape, activation) in enumerate(zip(shapes, activations, strict=True))
    )
    history = file.integer("history", 1, 255)
    inputs, actions = shapes[0][1], shapes[-1][0]
    if inputs % history:
        raise file.complain(f"layer 0 takes {inputs} inputs, expected a multiple of history = {history}")
    observations = file.array("known_answers.observations", (None, inputs))
    widths = file.json("student_widths", list)
    if len(widths) < 2 or not all(isinstance(width, int) and width > 0 for width in widths):
        raise file.complain("metadata 'student_widths' is no list of two or more positive integers")
    centre = file.array("observation_centre", (inputs // history,))
    fixed = read_fixed(file, layers, centre, actions)
    policy = SparsePolicy(
        centre=centre,
        layers=layers,
        known_observations=observations,
        known_actions=file.array("known_answers.actions", (observations.shape[0], actions)),
        student_widths=tuple(widths),
        fixed=fixed,
        quantisation=None if fixed is None else read_quantisation(file),
        **read_interface(file, inputs // history, actions).interface(),
    )
    if policy.fixed is not None and policy.evaluate_exact(observations).tobytes() != policy.known_actions.tobytes():
        raise file.complain("the integers do not give the known answers to the bit")
    return policy


def _read_shapes(file: TensorFile, count: int) -> list[tuple[int, int]]:
    shapes = file.json("layer_shapes", list)
    for index, shape in enumerate(shapes):
        if not (
            isinstance(shape, list)
            and len(shape) == 2
            and all(isinstance(n, int) and 1 <= n <= WIDTH_LIMIT for n in shape)
        ):
            raise file.complain(
                f"layer_shapes[{index}] is {str(shape)[:40]}, expected [out, in], each 1 to {WIDTH_LIMIT}"
            )
        if index and shape[1] != shapes[index - 1][0]:
            raise file.complain(
                f"layer {index} takes {shape[1]} inputs, expected the {shapes[index - 1][0]} of layer {index - 1}"
            )
    if len(shapes) != count:
        raise file.complain(f"metadata 'layer_shapes' has {len(shapes)} layers, expected {count} as in 'activations'")
    return [(shape[0], shape[1]) for shape in shapes]


def _read_matrix(file: TensorFile, index: int, shape: tuple[int, int]) -> sparse.csr_array:
    pointers = file.array(f"layer{index}.row_pointers", (shape[0] + 1,), ("uint16", "uint32")).astype(np.int64)
    count = int(pointers[-1])
    if pointers[0] != 0 or (np.diff(pointers) < 0).any():
        raise file.complain(f"tensor 'layer{index}.row_pointers' must start at 0 and never fall")
    values = file.array(f"layer{index}.values", (count,))
    columns = file.array(f"layer{index}.columns", (count,), ("uint8", "uint16")).astype(np.int32)
    if count and int(columns.max()) >= shape[1]:
        raise file.complain(f"tensor 'layer{index}.columns' holds {columns.max()}, expected below {shape[1]}")
    matrix = sparse.csr_array((values, columns, pointers.astype(np.int32)), shape=shape)
    if not matrix.sorted_indices().has_canonical_format:
        raise file.complain(f"layer {index} has a column twice in one row, expected each at most once")
    return matrix
