"""A float policy in numpy with every rounding where the C code has it: one operation after the other, in its order.

scipy's product adds the bias at another place, and its tanh is the library's; here the sums, the bias and tanh are what
`c_code/` writes, and without contraction (`-ffp-contract=off`) both give the same bits. The exception is a dense layer
written as `blocked` (`--optimise speed`), which goes by columns: there the last bits may differ. An integer policy
needs none of this: `fixed_point/network.py` is exact.
"""

import numpy as np
from numpy.typing import NDArray

from export.c_code.header import observation_limit
from export.c_code.layer_tables import layer_tables, live_inputs
from export.c_code.plan import can_fuse
from export.sparse_policy import SparseLayer, SparsePolicy
from export.squash import Float32, middle_and_half

_F = np.float32
# The numbers of kernels/tanh.h.
_NUMERATOR = tuple(map(_F, (1.60907874e-08, 2.25396816e-05, 0.00361156301, 0.134783551, 1.0)))
_DENOMINATOR = tuple(map(_F, (8.8822901e-07, 0.000347615161, 0.026317142, 0.468116969, 1.0)))
_BEYOND = _F(8.3)


def tanh_of_c(x: Float32) -> Float32:
    """Return `policy_tanh` of kernels/tanh.h, bit for bit, for numbers."""
    size = np.minimum(np.abs(x), _BEYOND)
    square = size * size
    p, q = (_horner(coefficients, square) for coefficients in (_NUMERATOR, _DENOMINATOR))
    result: Float32 = np.copysign(np.minimum(size * p / q, _F(1)), x)
    return result


class COrder:
    """The policy's arithmetic, prepared; `evaluate` takes stacked observations as `SparsePolicy.evaluate` does."""

    def __init__(self, policy: SparsePolicy) -> None:
        """Prepare. Raises ExportError where `policy` computes in integers: use `evaluate_exact`."""
        self._policy = policy
        self._layers = tuple(_Rows(layer) for layer in policy.layers)
        self._centre = np.tile(policy.centre, policy.history)
        self._limit = _F(observation_limit(policy))
        base = policy.observation_size // policy.history
        self._live = np.tile(np.isin(np.arange(base), live_inputs(policy)), policy.history)
        self._fused = can_fuse(layer_tables(policy))
        self._middle, self._half = middle_and_half(policy.action_low, policy.action_high)

    def evaluate(self, observations: Float32) -> Float32:
        """Return actions (n, action) for (n, history*base); NaN where an observation that is read is broken."""
        broken: NDArray[np.bool_] = np.any(~(np.abs(observations) <= self._limit) & self._live, axis=1, keepdims=True)
        values = np.where(broken, _F(0), observations) - self._centre
        values = np.where(self._live, values, _F(0))  # of what no weight reads, anything may come
        last = len(self._layers) - 1
        for index, layer in enumerate(self._layers):
            values = layer.sums(values, bias_first=self._fused and index == last)
            if index < last:
                values = _activated(layer.activation, values)
        actions = self._middle + self._half * _activated(self._layers[-1].activation, values)
        if self._layers[-1].activation == "identity":
            actions = np.clip(actions, self._policy.action_low, self._policy.action_high)
        result: Float32 = np.where(broken, _F(np.nan), actions)
        return result


class _Rows:
    """One layer's rows, filled up to the same length with zeros that read a zero: adding those rounds nothing."""

    def __init__(self, layer: SparseLayer) -> None:
        matrix = layer.matrix
        self.activation = layer.activation
        self._bias = layer.bias
        counts = np.diff(matrix.indptr)
        longest = int(counts.max(initial=0))
        self._weights = np.zeros((longest, matrix.shape[0]), np.float32)
        self._columns: NDArray[np.int64] = np.full((longest, matrix.shape[0]), matrix.shape[1], np.int64)
        rows = np.repeat(np.arange(matrix.shape[0]), counts)
        places = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], counts)
        self._weights[places, rows] = matrix.data
        self._columns[places, rows] = matrix.indices

    def sums(self, values: Float32, *, bias_first: bool) -> Float32:
        """Return (n, rows) sums of (n, columns), the terms of each row in the order in which they are stored."""
        padded = np.concatenate([values, np.zeros((len(values), 1), np.float32)], axis=1)
        total = np.zeros((len(values), len(self._bias)), np.float32)
        if bias_first:
            total += self._bias
        for weights, columns in zip(self._weights, self._columns, strict=True):
            total += weights * padded[:, columns]
        return total if bias_first else total + self._bias


def _activated(name: str, sums: Float32) -> Float32:
    if name == "relu":
        positive: Float32 = np.maximum(sums, _F(0))
        return positive
    return tanh_of_c(sums) if name == "tanh" else sums


def _horner(coefficients: tuple[np.float32, ...], x: Float32) -> Float32:
    result = np.full_like(x, coefficients[0])
    for each in coefficients[1:]:
        result = result * x + each
    return result
