"""What no dataset can hold if it is right: NaN, actions that the environment cannot take, a state that never moves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..environment import Array, EnvironmentFacts
from ..errors import DistillError

_NUMBERS = 2**21  # numbers checked at a time
_TOLERANCE = 1e-3  # of an action's range: rounding and rescaling reach a little beyond the bounds, other units far


def check_finite(what: str, array: NDArray[Any]) -> None:
    """Refuse NaN and infinities, block by block.

    Raises:
        DistillError: names the first bad number and its index.
    """
    if array.dtype.kind != "f":
        return
    block = max(1, _NUMBERS // max(1, array[:1].size))
    for start in range(0, len(array), block):
        good = np.isfinite(array[start : start + block])
        if not good.all():
            index = [int(number) for number in np.argwhere(~good)[0]]
            index[0] += start
            raise DistillError(
                f"{what} holds {array[tuple(index)]} at index {tuple(index)}, expected finite numbers; "
                "find out what wrote it, or collect anew"
            )


def check_bounds(what: str, actions: Array, facts: EnvironmentFacts) -> None:
    """Refuse actions (n, action), physical units, that lie out of bounds by more than a thousandth of the range.

    Raises:
        DistillError: names the first such action and where it is.
    """
    margin = _TOLERANCE * (facts.action_high - facts.action_low)
    low, high = facts.action_low - margin, facts.action_high + margin
    block = max(1, _NUMBERS // max(1, actions[:1].size))
    for start in range(0, len(actions), block):
        part = actions[start : start + block]
        beyond = (part < low) | (part > high)
        if beyond.any():
            row, column = (int(number) for number in np.argwhere(beyond)[0])
            raise DistillError(
                f"{what} holds {part[row, column]:g} at index {(start + row, column)}, expected "
                f"{facts.action_low[column]:g} to {facts.action_high[column]:g}, the environment's bounds; name the "
                "environment it was collected in, or collect it anew with clipped actions"
            )


def check_moving(what: str, observations: Array) -> None:
    """Refuse several observations (n, observation) that are all the same.

    Raises:
        DistillError: they are.
    """
    block = max(1, _NUMBERS // max(1, observations[:1].size))
    starts = range(0, len(observations), block)
    if len(observations) > 1 and all(
        (observations[start : start + block] == observations[0]).all() for start in starts
    ):
        raise DistillError(
            f"{what} are the same in all {len(observations)} rows, expected states that move; find out what wrote it, "
            "or collect anew"
        )
