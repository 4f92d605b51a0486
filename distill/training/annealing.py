"""How the weight eta of the KL term grows from the first iteration to the last; every schedule ends at 2."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

from ..config import AnnealingName
from ..errors import DistillError


def linear(progress: float) -> float:
    """min(2, 4 t / T): the published one; zero at first so that the student learns before it forgets."""
    return min(2.0, 4.0 * progress)


def constant(progress: float) -> float:
    """2 from the start."""
    del progress
    return 2.0


def cosine(progress: float) -> float:
    """1 - cos(pi min(1, 2 t / T)): as `linear`, with soft ends."""
    return 1.0 - math.cos(math.pi * min(1.0, 2.0 * progress))


def late(progress: float) -> float:
    """min(2, max(0, 8 (t / T - 1/2))): nothing in the first half, whole after three quarters."""
    return min(2.0, max(0.0, 8.0 * (progress - 0.5)))


_SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": linear,
    "constant": constant,
    "cosine": cosine,
    "late": late,
}


def annealed(iteration: int, iterations: int, name: AnnealingName = "linear") -> float:
    """eta at `iteration` of `iterations`.

    Raises:
        DistillError: unknown name.
    """
    if name not in _SCHEDULES:
        raise DistillError(f"annealing: got {name!r}, expected one of {', '.join(get_args(AnnealingName))}")
    return _SCHEDULES[name](iteration / iterations)
