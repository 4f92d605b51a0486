"""A teacher that does nothing teaches nothing: refuse one that answers every state with the same action."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import DistillError

if TYPE_CHECKING:
    from ..network import Array
    from ..rollout import Policy


def refuse_constant(lowest: Array, highest: Array, states: int) -> None:
    """Check the range (action,) of the actions given at `states` states.

    Raises:
        DistillError: more than one state, and every action the same at all of them.
    """
    if states > 1 and np.all(highest == lowest):
        action = np.array2string(lowest, precision=4, threshold=8)
        raise DistillError(
            f"teacher: gave the same action at every state ({action} at {states} states), expected a policy "
            "that reacts; "
            "check --env, the observation's units and --vecnormalize"
        )


class ActionRange:
    """Counts states and keeps the smallest and largest action of a policy while it plays."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._states = 0
        self._lowest: Array | None = None
        self._highest: Array | None = None

    def __call__(self, observations: Array) -> Array:
        """The policy's actions (n, action) at observations (n, observation)."""
        actions = self._policy(observations)
        low, high = actions.min(axis=0), actions.max(axis=0)
        self._lowest = low if self._lowest is None else np.minimum(self._lowest, low)
        self._highest = high if self._highest is None else np.maximum(self._highest, high)
        self._states += len(actions)
        return actions

    def refuse_constant(self) -> None:
        """Raise DistillError when every action so far was the same."""
        if self._lowest is not None and self._highest is not None:
            refuse_constant(self._lowest, self._highest, self._states)
