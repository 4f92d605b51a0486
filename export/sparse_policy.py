"""The pruned, simplified network as CSR arrays, with known answers. All else renders it (its file: policy_file.py)."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from export.errors import ExportError
from export.fixed_point.network import FixedNetwork
from export.interface import Interface
from export.quantisation import Quantisation
from export.simplify import SimpleLayer
from export.squash import Float32, Float64, activate, squash, squash_float32


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
