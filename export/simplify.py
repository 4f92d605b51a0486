"""From a pruned student to the smallest network that computes the same: fold the normaliser, remove what is dead.

All arithmetic is float64; every number is rounded to float32 once, at the end.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.squash import Float32, Float64, activate
from export.student_file import Student


@dataclass(frozen=True)
class SimpleLayer:
    """A dense float32 layer after simplification: weight (out, in), bias (out,)."""

    weight: Float32
    bias: Float32
    activation: str


@dataclass
class _Working:
    weight: Float64
    bias: Float64
    activation: str


def simplify(student: Student) -> tuple[SimpleLayer, ...]:
    """Return layers that take the stacked observation minus `centre`, in physical units, and give the last output.

    Removed, until nothing changes: units that reach no output, units without inputs (their constant output moves into
    the next bias), relu units that no input can switch on, and all but one of units that compute the same (what they
    feed is added up). Inputs keep their columns. A network with nothing left becomes one layer of zeros and a bias.

    Raises:
        ExportError: a folded number does not fit float32.
    """
    layers = [
        _Working(layer.weight.astype(np.float64), layer.bias.astype(np.float64), layer.activation)
        for layer in student.layers
    ]
    _fold_normaliser(layers[0], student)
    return _reduced(layers)


def without_weights(layers: tuple[SimpleLayer, ...], gone: tuple[NDArray[np.bool_], ...]) -> tuple[SimpleLayer, ...]:
    """Return `layers` without the weights marked in `gone` (out, in), simplified again."""
    return _reduced(
        [
            _Working(
                np.where(mask, 0.0, layer.weight.astype(np.float64)), layer.bias.astype(np.float64), layer.activation
            )
            for layer, mask in zip(layers, gone, strict=True)
        ]
    )


def _reduced(layers: list[_Working]) -> tuple[SimpleLayer, ...]:
    while (
        _fold_constant_units(layers)
        | _drop_silent_units(layers)
        | _merge_equal_units(layers)
        | _drop_unused_units(layers)
    ):
        pass
    if any(layer.weight.shape[0] == 0 for layer in layers):
        inputs = layers[0].weight.shape[1]
        layers = [_Working(np.zeros((layers[-1].weight.shape[0], inputs)), layers[-1].bias, layers[-1].activation)]
    return tuple(_rounded(index, layer) for index, layer in enumerate(layers))


def centre(student: Student) -> Float32:
    """Return what is subtracted from every frame (base,) before layer 0; the rest of the normaliser is folded.

    Folding all of it would be the same function, but not in float32: an input that stays near a value much larger than
    its spread (the cosine of a rod that stands) makes large products that cancel against a large bias, and what is left
    is rounding. So where |mean| exceeds the scale, the mean is subtracted first, rounded to two significant bits: then
    the difference is exact near it. Elsewhere a subtraction would cost more rounding than it saves.
    """
    mean = student.observation_mean.astype(np.float64)
    step = np.exp2(np.floor(np.log2(np.maximum(np.abs(mean), np.finfo(np.float32).tiny))) - 1.0)
    rounded = np.round(mean / step) * step
    with np.errstate(over="ignore"):  # refused where it is folded
        return np.where(np.abs(mean) > student.observation_scale, rounded, 0.0).astype(np.float32)


def _fold_normaliser(layer: _Working, student: Student) -> None:
    """W (x - mean) / scale + b  =  (W / scale) (x - c) + (b - (W / scale) (mean - c)), over all stacked columns."""
    mean = np.tile((student.observation_mean.astype(np.float64) - centre(student)), student.history)
    scale = np.tile(student.observation_scale.astype(np.float64), student.history)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        # Rounded now: a weight too small for float32 counts as pruned, and a bias made from the rounded weights leaves
        # an error proportional to x - mean, not to x.
        layer.weight = (layer.weight / scale).astype(np.float32).astype(np.float64)
        layer.bias = layer.bias - layer.weight @ mean


def _fold_constant_units(layers: list[_Working]) -> bool:
    changed = False
    for current, following in pairwise(layers):
        constant = np.all(current.weight == 0, axis=1)
        if constant.any():
            values = activate(current.activation, current.bias[constant])
            following.bias = following.bias + following.weight[:, constant] @ values
            _keep_units(current, following, ~constant)
            changed = True
    return changed


def _drop_silent_units(layers: list[_Working]) -> bool:
    """Remove relu units that are 0 whatever comes: only negative weights on inputs that never are, and bias <= 0."""
    changed = False
    for before, current, following in zip(layers, layers[1:], layers[2:], strict=False):
        if before.activation == "relu" and current.activation == "relu":
            silent = np.all(current.weight <= 0, axis=1) & (current.bias <= 0)
            if silent.any():
                _keep_units(current, following, ~silent)
                changed = True
    return changed


def _merge_equal_units(layers: list[_Working]) -> bool:
    changed = False
    for current, following in pairwise(layers):
        rows = np.column_stack([current.weight, current.bias])
        _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        if len(first) < len(rows):
            merged = np.zeros((following.weight.shape[0], len(first)))
            np.add.at(merged.T, group.ravel(), following.weight.T)
            order = np.argsort(first)
            following.weight = merged[:, order]
            current.weight, current.bias = current.weight[first[order]], current.bias[first[order]]
            changed = True
    return changed


def _drop_unused_units(layers: list[_Working]) -> bool:
    changed = False
    for current, following in reversed(list(pairwise(layers))):
        used = np.any(following.weight != 0, axis=0)
        if not used.all():
            _keep_units(current, following, used)
            changed = True
    return changed


def _keep_units(current: _Working, following: _Working, keep: NDArray[np.bool_]) -> None:
    current.weight = current.weight[keep]
    current.bias = current.bias[keep]
    following.weight = following.weight[:, keep]


def _rounded(index: int, layer: _Working) -> SimpleLayer:
    with np.errstate(over="ignore"):
        weight, bias = layer.weight.astype(np.float32), layer.bias.astype(np.float32)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ExportError(
            f"layer {index}: folding the normaliser gives numbers beyond float32, expected magnitudes below 3.4e38; "
            "check observation_mean and observation_scale of the student"
        )
    return SimpleLayer(weight, bias, layer.activation)
