"""The time limit that is in force: an environment without one may play for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium


def time_limit(environment: gymnasium.Env[Any, Any]) -> int | None:
    """Steps after which a TimeLimit among the wrappers cuts an episode; None where there is none.

    The registered limit says nothing: with max_episode_steps = -1 Gymnasium leaves the wrapper out.
    """
    from gymnasium.wrappers import TimeLimit

    limits = []
    layer: Any = environment
    while layer is not None:
        if isinstance(layer, TimeLimit):
            limits.append(int(layer._max_episode_steps))
        layer = getattr(layer, "env", None)
    return min(limits, default=None)
