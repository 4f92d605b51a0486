"""The two ends of an integer policy: how observations become integers, and integers actions."""

import numpy as np

from export.errors import ExportError
from export.fixed_point.network import ACTIVATION_LIMIT, READING_LIMIT
from export.fixed_point.tanh import RESULT_BITS, Integers
from export.squash import Float64

INPUT_EXPONENTS = (-100, 100)
ACTION_EXPONENTS = (-100, 126)
"""Powers of two that an observation and an action may be scaled by; 2**-126 is the least normal float32."""

_NARROWEST_HALF = 2**7


def input_scales(centre: Float64, reach: Float64) -> tuple[Integers, Integers, Integers]:
    """Return (exponent, offset, limit) of every base input (base,), as fine as int16 allows.

    Raises:
        ExportError: a reach that is no positive number, or an exponent out of range.
    """
    if not (np.isfinite(reach).all() and (reach > 0).all()):
        raise ExportError(
            f"observations reach {reach.min()} to {reach.max()} from their centre, expected finite numbers above 0; "
            "give --dataset or --observation-range"
        )
    # Reading and offset round apart by up to half a unit: nothing within reach may meet the limit.
    finest = np.floor(np.log2(ACTIVATION_LIMIT - 1) - np.log2(reach))
    # The offset too has to fit, with room for the reading around it.
    room = np.floor(np.log2(READING_LIMIT / 4) - np.log2(np.maximum(np.abs(centre), reach)))
    exponent = np.minimum(finest, room).astype(np.int64)
    _check_exponents("observations", exponent, INPUT_EXPONENTS, "give another --observation-range")
    offset = np.rint(np.ldexp(centre, exponent)).astype(np.int64)
    limit = np.minimum(ACTIVATION_LIMIT, np.ceil(np.ldexp(reach, exponent) + 0.5)).astype(np.int64)
    return exponent, offset, np.maximum(limit, 1)


def action_scales(low: Float64, high: Float64) -> tuple[Integers, Integers, Integers]:
    """Return (middle, half, exponent), (action,) each: (middle +- half 2**RESULT_BITS) 2**-exponent within limits.

    Raises:
        ExportError: a range too narrow for where it lies, or an exponent out of range.
    """
    middle, half = (low + high) / 2, (high - low) / 2
    exponent = np.floor(np.log2(2.0**30 / np.maximum(np.abs(low), np.abs(high)))).astype(np.int64)
    _check_exponents("actions", exponent, ACTION_EXPONENTS, "export this policy with --weights float32")
    whole = np.floor(np.ldexp(half, exponent - RESULT_BITS)).astype(np.int64)
    centre = np.rint(np.ldexp(middle, exponent)).astype(np.int64)
    outside = np.ones(len(low), bool)
    while outside.any() and (whole >= _NARROWEST_HALF).all():
        ends = [np.ldexp((centre + sign * whole * 2**RESULT_BITS).astype(np.float32), -exponent) for sign in (-1, 1)]
        outside = (ends[0] < low) | (ends[1] > high)
        whole = np.where(outside, whole - 1, whole)
    if (whole < _NARROWEST_HALF).any():
        raise ExportError(
            f"action limits {low.tolist()} to {high.tolist()} are too narrow for where they lie, expected a half range "
            "of at least 1/128 of the largest limit; export this policy with --weights float32"
        )
    return centre, whole, exponent


def _check_exponents(what: str, exponent: Integers, limits: tuple[int, int], remedy: str) -> None:
    if exponent.min() < limits[0] or exponent.max() > limits[1]:
        raise ExportError(
            f"{what} would be scaled by 2**{exponent.min()} to 2**{exponent.max()}, expected exponents of {limits[0]} "
            f"to {limits[1]}; {remedy}"
        )
