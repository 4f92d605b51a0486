"""From the last layer's output to an action in physical units, in double and in single precision."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def activate(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Apply `relu`, `tanh` or `identity` elementwise in the precision of `values`."""
    if name == "relu":
        # maximum() hands NaN on, as the C kernels do: a broken sensor must not look like a quiet one.
        positive: NDArray[Any] = np.maximum(values, values.dtype.type(0))
        return positive
    if name == "tanh":
        result: NDArray[Any] = np.tanh(values)
        return result
    return values


def squash(name: str, values: Float64, low: Float32, high: Float32) -> Float64:
    """Map last-layer outputs (n, action) to actions in [low, high] in float64; the reference."""
    low64, high64 = low.astype(np.float64), high.astype(np.float64)
    middle, half = (low64 + high64) / 2, (high64 - low64) / 2
    actions: Float64 = np.clip(middle + half * activate(name, values), low64, high64)
    return actions


def middle_and_half(low: Float32, high: Float32) -> tuple[Float32, Float32]:
    """Return float32 (middle, half) of each action's range, such that middle +- half never leaves [low, high].

    Firmware refuses actions outside the limits, so one unit in the last place too many would be a fault at saturation.
    """
    middle = ((low.astype(np.float64) + high.astype(np.float64)) / 2).astype(np.float32)
    half = ((high.astype(np.float64) - low.astype(np.float64)) / 2).astype(np.float32)
    for _ in range(8):
        outside = (middle + half > high) | (middle - half < low)
        half = np.where(outside, np.nextafter(half, np.float32(0)), half)
    return middle, half


def squash_float32(name: str, values: Float32, low: Float32, high: Float32) -> Float32:
    """Map last-layer outputs (n, action) to actions in float32, with the operations and their order of the C code."""
    middle, half = middle_and_half(low, high)
    actions: Float32 = middle + half * activate(name, values)
    if name == "identity":
        actions = np.minimum(np.maximum(actions, low), high)
    return actions
