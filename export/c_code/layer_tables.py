"""The numbers of one layer as its C code wants them, for floats and for integers alike."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.sparse_policy import SparsePolicy


@dataclass(frozen=True)
class LayerTables:
    """One layer: rows of (values, columns, bias).

    values, columns: one array a row; bias (rows,); kind, bias_kind: numpy types; activation: relu, tanh or identity;
    bias_shift, shift, multiplier, multiplier_shift: of an integer layer (fixed_point/network.py).
    """

    index: int
    columns_total: int
    values: tuple[NDArray[Any], ...]
    columns: tuple[NDArray[np.int64], ...]
    bias: NDArray[Any]
    kind: str
    bias_kind: str
    activation: str
    bias_shift: int = 0
    shift: int = 0
    multiplier: NDArray[np.int64] | None = None
    multiplier_shift: int = 0

    @property
    def fixed(self) -> bool:
        """True for integers."""
        return self.kind != "float32"

    @property
    def bias_first(self) -> bool:
        """Floats add it last: folded normalisers make it large, and a sum rounds at its own size until then."""
        return self.fixed

    @property
    def rows(self) -> int:
        """Number of outputs."""
        return len(self.values)

    @property
    def weights(self) -> int:
        """Number of stored weights."""
        return sum(len(row) for row in self.values)

    @property
    def full(self) -> bool:
        """True when every row has a weight for every column, in order: no index is needed."""
        return all(np.array_equal(row, np.arange(self.columns_total)) for row in self.columns)

    @property
    def column_kind(self) -> str:
        """Narrowest type of a column."""
        return "uint8" if self.columns_total <= 256 else "uint16"

    def runs(self) -> list[tuple[int, int]]:
        """Return (rows, weights of each) of every run of rows with equally many weights."""
        return [(len(list(run)), count) for count, run in groupby(len(row) for row in self.values)]

    def dense(self) -> NDArray[Any]:
        """Return (rows, columns) values, zeros included."""
        result = np.zeros((self.rows, self.columns_total), self.kind)
        for row, (values, columns) in enumerate(zip(self.values, self.columns, strict=True)):
            result[row, columns] = values
        return result


def layer_tables(policy: SparsePolicy) -> tuple[LayerTables, ...]:
    """Return the tables of every layer; a row without weights gets one 0, so that no kernel has to look."""
    result = []
    for index, layer in enumerate(policy.layers):
        fixed = None if policy.fixed is None else policy.fixed.layers[index]
        matrix = layer.matrix if fixed is None else fixed.weights
        kind = "float32" if fixed is None else f"int{fixed.value_bits}"
        bounds = list(zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True))
        values = [matrix.data[start:end].astype(kind) for start, end in bounds]
        columns = [matrix.indices[start:end].astype(np.int64) for start, end in bounds]
        columns_total = matrix.shape[1]
        if index == 0:
            columns, columns_total = _kept(policy, columns)
        empty = [len(row) == 0 for row in values]
        common: dict[str, Any] = {
            "index": index,
            "columns_total": columns_total,
            "values": tuple(np.zeros(1, kind) if none else row for row, none in zip(values, empty, strict=True)),
            "columns": tuple(np.zeros(1, np.int64) if none else row for row, none in zip(columns, empty, strict=True)),
            "kind": kind,
            "activation": layer.activation,
        }
        if fixed is None:
            result.append(LayerTables(bias=layer.bias, bias_kind="float32", **common))
        else:
            result.append(
                LayerTables(
                    bias=fixed.bias,
                    bias_kind=f"int{fixed.bias_bits}",
                    bias_shift=fixed.bias_shift,
                    shift=fixed.shift,
                    multiplier=fixed.multiplier,
                    multiplier_shift=fixed.multiplier_shift,
                    **common,
                )
            )
    return tuple(result)


def _kept(policy: SparsePolicy, columns: list[NDArray[np.int64]]) -> tuple[list[NDArray[np.int64]], int]:
    """Return layer 0's columns, and how many there are, in frames that hold the live inputs only."""
    base = policy.observation_size // policy.history
    live = live_inputs(policy)
    rank = np.zeros(base, np.int64)
    rank[live] = np.arange(len(live))
    return [row // base * len(live) + rank[row % base] for row in columns], policy.history * len(live)


def live_inputs(policy: SparsePolicy) -> NDArray[np.int64]:
    """Return the indices of the base observations that any weight of layer 0 reads; the first one if none is."""
    base = policy.observation_size // policy.history
    live = np.unique(policy.layers[0].matrix.indices % base).astype(np.int64)
    return live if len(live) else np.zeros(1, np.int64)
