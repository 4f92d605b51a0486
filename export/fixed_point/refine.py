"""Coordinate descent on the integers themselves: move a weight or a bias by one where that brings the actions closer.

Rounding decides every row by itself. Here the whole network counts: what one row lost another may give back. The exact
integer arithmetic is evaluated, so nothing is approximated.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.fixed_point.bounds import bounds
from export.fixed_point.network import FixedLayer, FixedNetwork
from export.fixed_point.tanh import RESULT_BITS, Integers
from export.squash import Float64

_POWER = 4  # of an error in the loss: the largest ones are what a stated bound is broken by
NUMBERS_LIMIT = 6000
"""Networks with more weights than this are left as rounding made them: a sweep would take minutes."""


class Refinement:
    """A network's integers as plain matrices, its activations on the calibration inputs, and its loss."""

    def __init__(self, network: FixedNetwork, inputs: Integers, targets: Float64) -> None:
        """`inputs` (n, in) integers; `targets` (n, action): what the last layer should give, -1 to 1."""
        self.network = network
        self.targets = targets
        self.weights = [layer.weights.toarray().astype(np.int64) for layer in network.layers]
        self.biases = [layer.bias.copy() for layer in network.layers]
        self.inputs = network.activations(inputs)
        self.sums = [layer.sums(values) for layer, values in zip(network.layers, self.inputs, strict=True)]
        self.losses = self._losses(self.sums[-1], np.arange(targets.shape[1]))

    @property
    def loss(self) -> float:
        """Mean of the fourth power of the actions' errors."""
        return float(self.losses.mean())

    def _losses(self, sums: Integers, actions: Integers) -> Float64:
        """Return the loss of some of the actions (k,) by their sums (n, k)."""
        last = _rows(self.network.layers[-1], actions)
        # Before rounding tanh to its table: a smooth loss, so that steps add up.
        arguments = last.arguments(sums) / 2.0**last.argument_bits
        outputs = np.tanh(arguments) if last.activation == "tanh" else np.clip(arguments, -1, 1)
        losses: Float64 = ((outputs - self.targets[:, actions]) ** _POWER).mean(axis=0)
        return losses

    def gradient(self, wanted: int) -> tuple[Float64, Float64]:
        """Return the loss's derivative by every weight and bias of one layer, floors taken as slopes."""
        layers = self.network.layers
        last = layers[-1]
        arguments = last.arguments(self.sums[-1]) / 2.0**last.argument_bits
        if last.activation == "tanh":
            outputs, slope = np.tanh(arguments), 1 - np.tanh(arguments) ** 2
        else:
            outputs, slope = np.clip(arguments, -1, 1), (np.abs(arguments) < 1).astype(np.float64)
        slopes: NDArray[Any] = (outputs - self.targets) ** (_POWER - 1) * slope * _unit(last)
        for index in reversed(range(wanted, len(layers) - 1)):
            before, sums = layers[index], self.sums[index]
            slopes = slopes @ self.weights[index + 1]
            if before.activation == "relu":
                slopes = np.where(sums > 0, slopes * 2.0**-before.shift, 0.0)
            elif before.activation == "tanh":
                inner = np.tanh(before.arguments(sums) / 2.0**before.argument_bits)
                slopes = slopes * (1 - inner**2) * 2.0**RESULT_BITS * _unit(before)
            else:
                slopes = slopes * 2.0**-before.shift
        return slopes.T @ self.inputs[wanted], slopes.sum(axis=0) * 2.0 ** layers[wanted].bias_shift

    def step(self, index: int, row: int, column: int | None, move: int) -> bool:
        """Move one weight (or the bias: column None) by `move`; keep it if the loss falls."""
        layer = self.network.layers[index]
        change = self.inputs[index][:, column] * move if column is not None else np.int64(move << layer.bias_shift)
        rows = np.array([row])
        changes: list[tuple[Integers, Integers]] = []
        sums = self.sums[index][:, rows] + np.reshape(change, (-1, 1))
        for depth in range(index, len(self.network.layers)):
            changes.append((rows, sums))
            if depth + 1 == len(self.network.layers):
                break
            part = _rows(self.network.layers[depth], rows)
            difference = part.hidden(sums) - self.inputs[depth + 1][:, rows]
            fed = self.weights[depth + 1][:, rows]
            following = np.flatnonzero(fed.any(axis=1))
            sums = self.sums[depth + 1][:, following] + difference @ fed[following].T
            rows = following
        touched, sums = changes[-1]
        losses = self._losses(sums, touched)
        if losses.sum() >= self.losses[touched].sum():
            return False
        self.losses[touched] = losses
        if column is None:
            self.biases[index][row] += move
        else:
            self.weights[index][row, column] += move
        for depth, (where, values) in enumerate(changes, start=index):
            self.sums[depth][:, where] = values
            if depth + 1 < len(self.network.layers):
                self.inputs[depth + 1][:, where] = _rows(self.network.layers[depth], where).hidden(values)
        return True

    def sweep(self) -> int:
        """Try every number once, in the direction that its derivative names; return how many moved."""
        moved = 0
        for index, layer in reversed(list(enumerate(self.network.layers))):
            by_weight, by_bias = self.gradient(index)
            top = 2 ** (layer.value_bits - 1) - 1
            bias_top = 2 ** (layer.bias_bits - 1) - 1
            rows, columns = np.nonzero(self.weights[index])
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
                move = -int(np.sign(by_weight[row, column]))
                wanted = self.weights[index][row, column] + move
                # A weight that became 0 would leave the sparse structure.
                if move and wanted and abs(wanted) <= top:
                    moved += self.step(index, row, column, move)
            for row in range(len(layer.bias)):
                move = -int(np.sign(by_bias[row]))
                if move and abs(self.biases[index][row] + move) <= bias_top:
                    moved += self.step(index, row, None, move)
        return moved

    def result(self) -> FixedNetwork:
        """Return the network with the integers as they are now."""
        layers = []
        for layer, weight, bias in zip(self.network.layers, self.weights, self.biases, strict=True):
            matrix = layer.weights.copy()
            rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
            matrix.data = weight[rows, matrix.indices]
            layers.append(replace(layer, weights=matrix, bias=bias))
        return replace(self.network, layers=tuple(layers))


def _unit(layer: FixedLayer) -> Float64:
    assert layer.multiplier is not None
    exponent = layer.shift + layer.multiplier_shift + layer.argument_bits
    return np.asarray(layer.multiplier * 2.0**-exponent, np.float64)


def _rows(layer: FixedLayer, rows: Integers) -> FixedLayer:
    """The layer's activation for some of its rows; their weights do not matter here."""
    if layer.multiplier is None:
        return layer
    return replace(layer, multiplier=layer.multiplier[rows])


def refine(network: FixedNetwork, inputs: Integers, targets: Float64, sweeps: int) -> FixedNetwork:
    """Return `network` after at most `sweeps` sweeps over all of its numbers; ends when little moves.

    A sweep after which the bounds no longer hold is not taken: moves are judged by the loss alone.
    """
    if sum(layer.weights.nnz for layer in network.layers) > NUMBERS_LIMIT:
        return network
    refinement = Refinement(network, inputs, targets)
    for _ in range(sweeps):
        before = refinement.loss
        refinement.sweep()
        moved = refinement.result()
        try:
            bounds(moved)
        except ExportError:
            break
        network = moved
        if refinement.loss > 0.98 * before:
            break
    return network
