"""Interval analysis: between which values every number in an integer network stays, whatever the observation."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from export.errors import ExportError
from export.fixed_point.network import ACTIVATION_LIMIT, FixedLayer, FixedNetwork
from export.fixed_point.tanh import RESULT_BITS, Integers

SUM_LIMIT = 2**31 - 1
"""Largest magnitude that the C code's sums may pass through."""


@dataclass(frozen=True)
class Interval:
    """low (n,) and high (n,), both reached at most."""

    low: Integers
    high: Integers


@dataclass(frozen=True)
class LayerBounds:
    """The largest magnitude of any partial sum of a layer, of any other number before its activations, and of those.

    largest_product: in the clamp and times the multiplier, or the action's; 0 where sums are only shifted.
    largest_activation: 0 for the last layer.
    """

    largest_sum: int
    largest_product: int
    largest_activation: int


def input_interval(network: FixedNetwork, history: int) -> Interval:
    """Return the interval of the stacked integer observation; it holds for every float there is."""
    limit = np.tile(network.input_limit, history)
    return Interval(-limit, limit)


def hidden_interval(layer: FixedLayer, inputs: Interval) -> Interval:
    """Return the interval of a hidden layer's activations."""
    if layer.activation == "tanh":
        top = np.full(len(layer.bias), ACTIVATION_LIMIT)
        return Interval(-top, top)
    positive, negative = layer.weights.maximum(0), layer.weights.minimum(0)
    bias = layer.bias << layer.bias_shift
    low = positive @ inputs.low + negative @ inputs.high + bias
    high = positive @ inputs.high + negative @ inputs.low + bias
    if layer.activation == "relu":
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    return Interval(low >> layer.shift, high >> layer.shift)


def _largest_partial_sum(weights: sparse.csr_array, bias: Integers, inputs: Interval) -> int:
    """Return the largest magnitude of a sum, its terms added in any order."""
    size = np.maximum(np.abs(inputs.low), np.abs(inputs.high))
    return int((abs(weights) @ size + np.abs(bias)).max(initial=0))


def bounds(network: FixedNetwork) -> tuple[LayerBounds, ...]:
    """Return every layer's bounds.

    Raises:
        ExportError: a sum could leave int32, or an activation int16 (`quantise` chooses no such integers).
    """
    inputs = input_interval(network, network.history)
    result = []
    for index, layer in enumerate(network.layers):
        largest = _largest_partial_sum(layer.weights, layer.bias << layer.bias_shift, inputs)
        product = activation = 0
        if layer.multiplier is not None:
            # The clamp takes differences of twice its limit; shifting rounds down, so one more than the limit is left.
            clamped = (largest >> layer.shift) + 2 * ACTIVATION_LIMIT + 2
            product = max(clamped, (ACTIVATION_LIMIT + 1) * int(np.abs(layer.multiplier).max(initial=0)))
        if index + 1 < len(network.layers):
            inputs = hidden_interval(layer, inputs)
            activation = int(np.abs(np.concatenate([inputs.low, inputs.high])).max(initial=0))
        else:
            product = max(product, int((np.abs(network.middle) + network.half * 2**RESULT_BITS).max()))
        if max(largest, product) > SUM_LIMIT or activation > ACTIVATION_LIMIT:
            raise ExportError(
                f"layer {index}: sums reach {largest}, products {product} and activations {activation}, expected at "
                f"most {SUM_LIMIT}, {SUM_LIMIT} and {ACTIVATION_LIMIT}; compile the student again"
            )
        result.append(LayerBounds(largest, product, activation))
    return tuple(result)
