"""Interval analysis: the largest and smallest value that any observation can cause at every place of an integer network."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from export.errors import ExportError
from export.fixed_point.network import ACTIVATION_LIMIT, FixedNetwork
from export.fixed_point.tanh import RESULT_BITS, Integers

SUM_LIMIT = 2**31 - 1
"""Largest magnitude that the C code's sums may pass through."""


@dataclass(frozen=True)
class Interval:
    """low (n,) and high (n,), both reached at most."""

    low: Integers
    high: Integers


def row_interval(weights: sparse.csr_array, bias: Integers, inputs: Interval) -> Interval:
    """Return the interval of weights @ inputs + bias."""
    positive = weights.astype(np.int64).maximum(0)
    negative = weights.astype(np.int64).minimum(0)
    return Interval(
        positive @ inputs.low + negative @ inputs.high + bias, positive @ inputs.high + negative @ inputs.low + bias
    )


def largest_partial_sum(weights: sparse.csr_array, bias: Integers, inputs: Interval) -> Integers:
    """Return (out,): the largest magnitude of a sum in any order of its terms."""
    size = np.maximum(np.abs(inputs.low), np.abs(inputs.high))
    result: Integers = abs(weights.astype(np.int64)) @ size + np.abs(bias)
    return result


@dataclass(frozen=True)
class LayerBounds:
    """What one layer can reach: largest partial sum, the interval of its activations, and the share of int16 they use."""

    largest_sum: int
    largest_activation: int


def input_interval(network: FixedNetwork) -> Interval:
    """Return the interval of the stacked integer observation; it holds for every float there is."""
    limit = np.tile(network.input_limit, network.history)
    return Interval(-limit, limit)


def bounds(network: FixedNetwork) -> tuple[LayerBounds, ...]:
    """Return every layer's bounds.

    Raises:
        ExportError: a sum could leave int32, or an activation int16 (the integers were not chosen by `quantise`).
    """
    inputs = input_interval(network)
    result = []
    for index, layer in enumerate(network.layers):
        bias = layer.bias << layer.bias_shift
        largest = int(largest_partial_sum(layer.weights, bias, inputs).max(initial=0))
        sums = row_interval(layer.weights, bias, inputs)
        last = index + 1 == len(network.layers)
        if layer.multiplier is not None:
            # One more than the limit: shifting rounds down.
            largest = max(largest, (ACTIVATION_LIMIT + 1) * int(layer.multiplier.max(initial=0)))
        if last:
            reach = int((np.abs(network.middle) + network.half * 2**RESULT_BITS).max())
            largest, activation = max(largest, reach), 0
        elif layer.activation == "tanh":
            top = np.full(len(bias), ACTIVATION_LIMIT)
            inputs, activation = Interval(-top, top), ACTIVATION_LIMIT
        else:
            floor = 0 if layer.activation == "relu" else np.iinfo(np.int64).min
            inputs = Interval(
                np.maximum(sums.low, floor) >> layer.shift, np.maximum(sums.high, floor) >> layer.shift
            )
            activation = int(np.maximum(np.abs(inputs.low), np.abs(inputs.high)).max(initial=0))
        if largest > SUM_LIMIT or activation > ACTIVATION_LIMIT:
            raise ExportError(
                f"layer {index}: sums reach {largest} and activations {activation}, expected at most {SUM_LIMIT} and "
                f"{ACTIVATION_LIMIT}; compile the student again"
            )
        result.append(LayerBounds(largest, activation))
    return tuple(result)
