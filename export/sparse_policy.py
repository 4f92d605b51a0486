"""policy.safetensors: the pruned, simplified network as CSR arrays, with known answers. All else renders it."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from export.errors import ExportError
from export.fixed_point.network import FixedNetwork
from export.fixed_point.tensors import fixed_metadata, fixed_tensors, read_fixed
from export.interface import Interface, interface_metadata, read_interface
from export.quantisation import Quantisation, read_quantisation
from export.simplify import SimpleLayer
from export.squash import Float32, Float64, activate, squash, squash_float32
from export.student_file import WIDTH_LIMIT, read_activations
from export.tensor_file import TensorFile, encode_tensors, file_digest

POLICY_FILE = "policy.safetensors"
_NEXT_STEP = "write it with `python -m export compile STUDENT --out DIR`"


@dataclass(frozen=True)
class SparseLayer:
    """One layer: `activation(matrix @ x + bias)`; matrix (out, in) float32 CSR without stored zeros, bias (out,)."""

    matrix: sparse.csr_array
    bias: Float32
    activation: str


@dataclass(frozen=True)
class ByteCount:
    """Bytes of a policy's numbers, without code."""

    values: int
    columns: int
    row_pointers: int
    biases: int
    normaliser: int

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return self.values + self.columns + self.row_pointers + self.biases + self.normaliser


@dataclass(frozen=True)
class SparsePolicy(Interface):
    """A policy right of pruning; takes stacked observations in physical units, oldest frame first.

    centre (base,): subtracted from every frame before layer 0; known_observations (k, history*base), known_actions
    (k, action): answers of the float64 reference before folding; student_widths: layer widths of the student as
    configured; fixed: the integers that are executed, or None. Then `layers` are the float network that these integers
    stand for, and the known answers are the integers' own, exact; quantisation: what they cost.
    """

    centre: Float32
    layers: tuple[SparseLayer, ...]
    known_observations: Float32
    known_actions: Float32
    student_widths: tuple[int, ...]
    fixed: FixedNetwork | None = None
    quantisation: Quantisation | None = None

    @property
    def weight_format(self) -> str:
        """`float32`, or what the layers' integers are, such as `int8` or `int8, int16`."""
        if self.fixed is None:
            return "float32"
        kinds = [f"int{layer.value_bits}" for layer in self.fixed.layers]
        return kinds[0] if len(set(kinds)) == 1 else ", ".join(kinds)

    @property
    def widths(self) -> tuple[int, ...]:
        """Input size, then every layer's output size."""
        return (self.layers[0].matrix.shape[1], *(layer.matrix.shape[0] for layer in self.layers))

    @property
    def observation_size(self) -> int:
        """Length of the stacked observation, history * base."""
        return self.widths[0]

    @property
    def kept_weights(self) -> int:
        """Nonzero weights."""
        return sum(layer.matrix.nnz for layer in self.layers)

    @property
    def kept_parameters(self) -> int:
        """Nonzero weights and nonzero biases."""
        return self.kept_weights + sum(int(np.count_nonzero(layer.bias)) for layer in self.layers)

    @property
    def density(self) -> float:
        """Kept weights divided by the weights of the dense student at its configured widths."""
        return self.kept_weights / sum(
            a * b for a, b in zip(self.student_widths, self.student_widths[1:], strict=False)
        )

    @property
    def byte_count(self) -> ByteCount:
        """Bytes of values, columns, row pointers and biases in their narrowest types."""
        arrays = [csr_arrays(layer.matrix) for layer in self.layers]
        columns = sum(columns.nbytes for _, columns, _ in arrays)
        row_pointers = sum(pointers.nbytes for _, _, pointers in arrays)
        if self.fixed is not None:
            layers = self.fixed.layers
            return ByteCount(
                values=sum(layer.weights.nnz * layer.value_bits // 8 for layer in layers),
                columns=columns,
                row_pointers=row_pointers,
                biases=sum(
                    len(layer.bias) * (layer.bias_bits // 8 + (0 if layer.multiplier is None else 2))
                    for layer in layers
                ),
                normaliser=len(self.centre) * (3 + (4 if self.fixed.input_offset.any() else 0)),
            )
        return ByteCount(
            values=sum(values.nbytes for values, _, _ in arrays),
            columns=columns,
            row_pointers=row_pointers,
            biases=sum(layer.bias.nbytes for layer in self.layers),
            normaliser=self.centre.nbytes if self.centre.any() else 0,
        )

    def evaluate(self, observations: NDArray[Any]) -> Float64:
        """Return actions (n, action) for stacked observations (n, history*base), in float64: the reference."""
        values = self._checked(observations).astype(np.float64) - np.tile(self.centre, self.history)
        for layer in self.layers[:-1]:
            values = activate(layer.activation, values @ layer.matrix.astype(np.float64).T + layer.bias)
        last = self.layers[-1]
        outputs: Float64 = values @ last.matrix.astype(np.float64).T + last.bias
        return squash(last.activation, outputs, self.action_low, self.action_high)

    def evaluate_float32(self, observations: NDArray[Any]) -> Float32:
        """Return actions (n, action) as `evaluate`, computed in float32 by scipy's CSR product."""
        values = self._checked(observations).astype(np.float32) - np.tile(self.centre, self.history)
        for layer in self.layers[:-1]:
            values = activate(layer.activation, values @ layer.matrix.T + layer.bias)
        last = self.layers[-1]
        return squash_float32(last.activation, values @ last.matrix.T + last.bias, self.action_low, self.action_high)

    def evaluate_exact(self, observations: NDArray[Any]) -> Float32:
        """Return actions (n, action) of the integers, bit for bit what the C code gives.

        Raises:
            ExportError: this policy's weights are floats.
        """
        if self.fixed is None:
            raise ExportError("this policy has no integers; compile the student with --weights int8 or int16")
        return self.fixed.evaluate(self._checked(observations).astype(np.float32))

    def _checked(self, observations: NDArray[Any]) -> NDArray[Any]:
        array = np.atleast_2d(np.asarray(observations))
        if array.ndim != 2 or array.shape[1] != self.observation_size:
            raise ExportError(
                f"observations have shape {np.shape(observations)}, expected (n, {self.observation_size}) = "
                f"{self.history} stacked frames, oldest first; check the environment and its history length"
            )
        return array


def sparse_layers(layers: tuple[SimpleLayer, ...], history: int) -> tuple[SparseLayer, ...]:
    """Turn simplified dense layers into CSR; layer 0's rows are summed quantity by quantity, each oldest frame first.

    The weights of one quantity in neighbouring frames largely cancel. Summed next to each other they leave small
    partial sums, and float32 rounds at the size of the partial sum.
    """
    matrices = [sparse.csr_array(layer.weight) for layer in layers]
    matrices[0] = _by_quantity(matrices[0], matrices[0].shape[1] // history)
    return tuple(
        SparseLayer(matrix, layer.bias, layer.activation) for matrix, layer in zip(matrices, layers, strict=True)
    )


def ordered(layers: tuple[SimpleLayer, ...]) -> tuple[SimpleLayer, ...]:
    """Return `layers` with every hidden layer's units sorted by how many weights they have.

    Then runs of equally long rows take the place of a count for each.
    """
    result = list(layers)
    for index in range(len(layers) - 1):
        current, following = result[index], result[index + 1]
        order = np.argsort(np.count_nonzero(current.weight, axis=1), kind="stable")
        result[index] = replace(current, weight=current.weight[order], bias=current.bias[order])
        result[index + 1] = replace(following, weight=following.weight[:, order])
    return tuple(result)


def _by_quantity(matrix: sparse.csr_array, base: int) -> sparse.csr_array:
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, matrix.indices % base, rows))
    return sparse.csr_array((matrix.data[order], matrix.indices[order], matrix.indptr), shape=matrix.shape)


def csr_arrays(matrix: sparse.csr_array) -> tuple[Float32, NDArray[Any], NDArray[Any]]:
    """Return (values float32, columns u8 or u16, row pointers u16 or u32), indices in the narrowest type that fits."""
    column_type = np.uint8 if matrix.shape[1] <= 256 else np.uint16
    pointer_type = np.uint16 if matrix.nnz <= 65535 else np.uint32
    return matrix.data.astype(np.float32), matrix.indices.astype(column_type), matrix.indptr.astype(pointer_type)


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
