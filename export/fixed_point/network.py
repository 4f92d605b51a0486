"""A policy in integers: int16 activations, int8 or int16 weights, int32 sums; the same bits on every machine.

Everything here is computed in int64; `bounds.py` proves that the int32 of the C code is wide enough for it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from export.fixed_point.tanh import ARGUMENT_BITS, RESULT_BITS, Integers, tanh_fixed
from export.squash import Float32, Float64

ACTIVATION_LIMIT = 32767
"""Largest magnitude of an input or an activation."""
READING_LIMIT = 2**30
"""An input whose integer would reach this is no observation but a fault: 2**15 times beyond the declared range."""
CLIP_BITS = 14
"""Fraction bits of the last layer's output where it is clipped, not squashed: 16384 is the action limit."""


def argument_bits(activation: str) -> int:
    """Return the fraction bits of what goes into tanh, or else into the clip."""
    return ARGUMENT_BITS if activation == "tanh" else CLIP_BITS


@dataclass(frozen=True)
class FixedLayer:
    """One layer: sums = weights @ inputs + (bias << bias_shift), then what `activation` says.

    weights (out, in): integers in CSR, magnitude below 2**(value_bits - 1); bias (out,): magnitude below
    2**(bias_bits - 1). Hidden relu and identity: (sums, negative ones 0 for relu) >> shift. Hidden tanh and the last
    layer: (limited * multiplier) >> multiplier_shift is the argument of tanh or the clip, where limited is
    sums >> shift within +-ACTIVATION_LIMIT: far enough out that tanh or the clip is flat there.
    """

    weights: sparse.csr_array
    value_bits: int
    bias: Integers
    bias_bits: int
    bias_shift: int
    shift: int
    activation: str
    multiplier: Integers | None = None
    multiplier_shift: int = 0

    @property
    def argument_bits(self) -> int:
        """Fraction bits of what goes into tanh or the clip."""
        return argument_bits(self.activation)

    def sums(self, inputs: Integers) -> Integers:
        """Return (n, out) sums for (n, in) inputs."""
        result: Integers = inputs @ self.weights.astype(np.int64).T + (self.bias << self.bias_shift)
        return result

    def arguments(self, sums: Integers) -> Integers:
        """Return what goes into tanh or the clip; needs a multiplier."""
        limited = np.clip(sums >> self.shift, -ACTIVATION_LIMIT, ACTIVATION_LIMIT)
        result: Integers = (limited * self.multiplier) >> self.multiplier_shift
        return result

    def hidden(self, sums: Integers) -> Integers:
        """Return (n, out) activations of a hidden layer."""
        if self.activation == "tanh":
            return tanh_fixed(self.arguments(sums))
        return (np.maximum(sums, 0) if self.activation == "relu" else sums) >> self.shift


@dataclass(frozen=True)
class FixedNetwork:
    """A policy's arithmetic in integers.

    An observation x becomes trunc(x 2**input_exponent) - input_offset, limited to +-input_limit; all three (base,),
    tied over the stacked frames. The action is (middle + half * output) 2**-action_exponent; all three (action,).
    """

    input_exponent: Integers
    input_offset: Integers
    input_limit: Integers
    layers: tuple[FixedLayer, ...]
    middle: Integers
    half: Integers
    action_exponent: Integers

    @property
    def history(self) -> int:
        """Stacked frames."""
        return int(self.layers[0].weights.shape[1]) // len(self.input_exponent)

    def _tiled(self, values: Integers, inputs: int) -> Integers:
        return np.tile(values, inputs // len(values))

    def read(self, observations: NDArray[np.floating]) -> Integers:
        """Return (n, history*base) integers for observations in physical units (float32), none of them broken."""
        limit = self._tiled(self.input_limit, observations.shape[1])
        readings = np.trunc(self._scaled(observations)).astype(np.int64)
        integers: Integers = np.clip(readings - self._tiled(self.input_offset, observations.shape[1]), -limit, limit)
        return integers

    def beyond(self, observations: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return (n, history*base): which observations that a weight reads saturate."""
        low, high = (np.tile(end, self.history) for end in self.range().T)
        outside: NDArray[np.bool_] = ((observations < low) | (observations > high)) & np.tile(
            self._live(), self.history
        )
        return outside

    def _live(self) -> NDArray[np.bool_]:
        """Return (base,): which base observations layer 0 reads; the first one where it reads none, as the C code."""
        base = len(self.input_exponent)
        columns = self.layers[0].weights.indices
        return np.isin(np.arange(base), columns % base if len(columns) else [0])

    def _scaled(self, observations: NDArray[np.floating]) -> Float64:
        # A product with a power of two is exact in float64 for every float32.
        scaled: Float64 = np.ldexp(
            observations.astype(np.float32).astype(np.float64), self._tiled(self.input_exponent, observations.shape[1])
        )
        return scaled

    def broken(self, observations: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return (n, 1): whether one of the numbers that layer 0 reads is NaN, infinite, or reaches READING_LIMIT.

        Of a base observation that is read at all, every frame counts: it is kept as it comes.
        """
        unreadable = ~(np.abs(self._scaled(observations)) < READING_LIMIT)
        return np.logical_or.reduce(unreadable & np.tile(self._live(), self.history), axis=1, keepdims=True)

    def range(self) -> Float64:
        """Return (base, 2): the observations between which nothing saturates, physical units."""
        ends = np.stack([self.input_offset - self.input_limit, self.input_offset + self.input_limit], axis=1)
        result: Float64 = np.ldexp(ends.astype(np.float64), -self.input_exponent[:, None])
        return result

    def activations(self, inputs: Integers) -> list[Integers]:
        """Return the inputs of every layer, (n, in) each."""
        values = [inputs]
        for layer in self.layers[:-1]:
            values.append(layer.hidden(layer.sums(values[-1])))
        return values

    def output(self, inputs: Integers) -> Integers:
        """Return (n, action) integer actions, in units of 2**-action_exponent."""
        last = self.layers[-1]
        arguments = last.arguments(last.sums(self.activations(inputs)[-1]))
        if last.activation == "tanh":
            squashed = tanh_fixed(arguments)
        else:
            squashed = np.clip(arguments, -(2**CLIP_BITS), 2**CLIP_BITS) << (RESULT_BITS - CLIP_BITS)
        return self.middle + self.half * squashed

    def evaluate(self, observations: NDArray[np.floating]) -> Float32:
        """Return (n, action) float32 actions, bit for bit what the C code gives; NaN where an observation is broken."""
        broken = self.broken(observations)
        # In an observation that is not broken this concerns only what no weight reads.
        readable = np.abs(self._scaled(observations)) < READING_LIMIT
        actions = self.actions(self.output(self.read(np.where(readable, observations, 0))))
        return np.where(broken, np.float32(np.nan), actions)

    def actions(self, output: Integers) -> Float32:
        """Return float32 actions of integer ones: rounded to float32, then scaled by a power of two, which is exact."""
        return np.ldexp(output.astype(np.float32), -self.action_exponent).astype(np.float32)


def dequantised(network: FixedNetwork) -> list[tuple[Float64, Float64]]:
    """Return (values, bias) of every layer of the float network that the integers stand for.

    values: where the layer's CSR array has its integers, in its order: a hostile file's dense matrix may fit nowhere.
    It takes observations minus the offset in physical units; hidden tanh units give -1 to 1 and the last layer what
    tanh or the clip takes; hidden relu and identity units are in units of their integers.
    """
    result = []
    # What an input of 1 is in integers.
    scale = np.ldexp(1.0, np.tile(network.input_exponent, network.history))
    for layer in network.layers:
        values = layer.weights.data * scale[layer.weights.indices]
        bias = (layer.bias << layer.bias_shift).astype(np.float64)
        if layer.multiplier is None:
            unit = np.full(len(bias), 2.0**-layer.shift)
            scale = np.ones(len(bias))
        else:
            unit = layer.multiplier * 2.0 ** -(layer.shift + layer.multiplier_shift + layer.argument_bits)
            scale = np.full(len(bias), 2.0**RESULT_BITS)
        result.append((values * np.repeat(unit, np.diff(layer.weights.indptr)), bias * unit))
    return result
