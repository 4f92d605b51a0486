"""Means over worlds with 95 % intervals, and how many iterations a curve needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from .finite_mdp import Array

REACHED = 0.9
"""A student has learned once it has this share of what its teacher gains over the untrained student."""
LEAST_GAIN = 1.0
"""Worlds in which the teacher gains less return than this say nothing about who learns it, and are left out."""


def mean_interval(samples: Array) -> tuple[Array, Array, Array]:
    """Mean over the first axis and its 95 % interval (Student's t); three arrays of the other axes."""
    count = len(samples)
    mean = samples.mean(axis=0)
    if count < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = student_t.ppf(0.975, count - 1) * samples.std(axis=0, ddof=1) / np.sqrt(count)
    return mean, mean - half, mean + half


def said(samples: Array) -> dict[str, Any]:
    """Mean and interval of one quantity (worlds,) for a JSON file; None where one world gives no interval."""
    mean, low, high = (float(value) for value in mean_interval(samples))
    return {"mean": mean, "low": None if np.isnan(low) else low, "high": None if np.isnan(high) else high}


def said_ratio(numerator: Array, denominator: Array) -> dict[str, Any]:
    """Geometric mean over worlds of numerator / denominator (worlds,), and its 95 % interval."""
    logs = said(np.log(numerator / denominator))
    return {name: None if value is None else float(np.exp(value)) for name, value in logs.items()}


def gained(curve: Array, teacher_return: Array) -> Array:
    """Share of the teacher's gain over the untrained student.

    Args:
        curve: (W, checkpoints) returns, the first those of the untrained student.
        teacher_return: (W,).

    Returns:
        (worlds that tell, checkpoints).
    """
    tells = telling(curve, teacher_return)
    first = curve[tells, :1]
    share: Array = (curve[tells] - first) / (teacher_return[tells, None] - first)
    return share


def telling(curve: Array, teacher_return: Array) -> NDArray[np.bool_]:
    """(W,) whether the teacher gains enough over the untrained student; arguments as in `gained`."""
    result: NDArray[np.bool_] = teacher_return - curve[:, 0] >= LEAST_GAIN
    return result


def iterations_needed(share: Array, checkpoints: Array) -> tuple[Array, int]:
    """When each world's share of the gain first is REACHED, between checkpoints by a straight line.

    Args:
        share: (W, checkpoints).
        checkpoints: (checkpoints,) iterations.

    Returns:
        (W,) iterations, the last checkpoint where it never is; and in how many worlds it never is.
    """
    reached = share >= REACHED
    never = ~reached.any(axis=1)
    after = np.where(never, 0, reached.argmax(axis=1))
    before = np.maximum(after - 1, 0)
    each = np.arange(len(share))
    low, high = share[each, before], share[each, after]
    part = np.where(high > low, (REACHED - low) / np.where(high > low, high - low, 1.0), 1.0)
    needed = checkpoints[before] + part * (checkpoints[after] - checkpoints[before])
    return np.where(never, checkpoints[-1], needed).astype(np.float64), int(never.sum())
