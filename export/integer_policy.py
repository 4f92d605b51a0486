"""A float policy turned into one of integers."""

import re
from dataclasses import replace

import numpy as np
from scipy import sparse

from export.calibration import Calibration
from export.errors import ExportError
from export.fixed_point.network import dequantised
from export.fixed_point.quantise import FloatLayer, quantise
from export.fixed_point.refine import refine
from export.quantisation import quantisation
from export.simplify import SimpleLayer, without_weights
from export.sparse_policy import SparseLayer, SparsePolicy, ordered

FLOAT = "float32"
_SWEEPS = 4


def weight_bits(weights: str, layers: int) -> tuple[int, ...]:
    """Return the bits of every layer's integers for `int8`, `int16`, or one of them for each layer (`int8,int16,int8`).

    Raises:
        ExportError: another word, or another number of them.
    """
    names = [name.strip() for name in weights.split(",")]
    if not all(re.fullmatch("int8|int16", name) for name in names) or len(names) not in (1, layers):
        raise ExportError(
            f"--weights is {weights!r}, expected float32, int8, int16, or int8 and int16 with commas, one for each of "
            f"{layers} layers (what simplification left); give one word for all of them"
        )
    bits = tuple(int(name.removeprefix("int")) for name in names)
    return bits * layers if len(bits) == 1 else bits


def integer_policy(
    policy: SparsePolicy, simple: tuple[SimpleLayer, ...], weights: str, given: Calibration
) -> SparsePolicy:
    """Return `policy` (made of `simple`, in its order) in integers, fitted to what is given for that.

    A weight that rounds to 0 is removed and the rest simplified and fitted again. Known answers stay empty.

    Raises:
        ExportError: unknown `weights`, or numbers that integers cannot represent.
    """
    layers, observations, reach = simple, given.fitted, given.reach
    low, high = policy.action_low.astype(np.float64), policy.action_high.astype(np.float64)
    centre = policy.centre.astype(np.float64)
    # Every round but the last removes a weight, so this ends.
    while True:
        bits = weight_bits(weights, len(simple))[-len(layers) :]
        network = quantise(_floats(layers), observations, centre=centre, reach=reach, low=low, high=high, bits=bits)
        gone = tuple(layer.weights.toarray() == 0 for layer in network.layers)
        if not any((mask & (layer.weight != 0)).any() for mask, layer in zip(gone, layers, strict=True)):
            break
        layers = ordered(without_weights(layers, gone))
    # What saturates cannot be mended, and its errors would outweigh all others.
    inside = observations[~np.any(network.beyond(observations), axis=1)]
    if len(inside):
        targets = (policy.evaluate(inside) - (low + high) / 2) / ((high - low) / 2)
        network = refine(network, network.read(inside), targets, _SWEEPS)
    beyond = np.any(network.beyond(given.held_out), axis=1)
    actions = network.evaluate(given.held_out)
    return replace(
        policy,
        quantisation=quantisation(actions, policy.evaluate(given.held_out), high - low, beyond),
        centre=np.ldexp(network.input_offset.astype(np.float64), -network.input_exponent).astype(np.float32),
        layers=tuple(
            SparseLayer(
                sparse.csr_array(
                    (values.astype(np.float32), fixed.weights.indices, fixed.weights.indptr), fixed.weights.shape
                ),
                bias.astype(np.float32),
                fixed.activation,
            )
            for (values, bias), fixed in zip(dequantised(network), network.layers, strict=True)
        ),
        fixed=network,
    )


def _floats(layers: tuple[SimpleLayer, ...]) -> tuple[FloatLayer, ...]:
    return tuple(
        FloatLayer(layer.weight.astype(np.float64), layer.bias.astype(np.float64), layer.activation) for layer in layers
    )
