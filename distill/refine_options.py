"""Checks of `distill refine`'s options."""

from __future__ import annotations

from .config import in_range, refuse_inside
from .errors import DistillError
from .policy_distillation.objectives import OBJECTIVES, objective_named
from .refine_config import RefineConfig

LARGEST_SEARCH = 500_000  # episodes: the last of the million that a seed has


def check_refine_config(config: RefineConfig) -> None:
    """Refuse impossible numbers and options that contradict each other before anything is computed.

    Raises:
        DistillError: names the option, what it got and what is possible.
    """
    refuse_inside(config.out, student=config.student)
    in_range("--spread", config.spread, 1e-3, 10.0)
    in_range("--reward-weight", config.reward_weight, 0.0, 1e6)
    if config.critic == "teacher" and not objective_named(config.objective).uses_reward:
        raise DistillError(
            f"--critic teacher: got objective {config.objective}, which does not follow the reward, expected one of "
            f"{', '.join(name for name, row in OBJECTIVES.items() if row.uses_reward)}; leave one of the two out"
        )
    if config.critic == "teacher" and objective_named(config.objective).needs_teacher_value:
        raise DistillError(
            f"--critic teacher: got objective {config.objective}, whose reward is followed step by step, expected "
            "on-policy+r, n-distill+r or expected-entropy+r; leave --critic out"
        )
    in_range("--search-episodes", config.search_episodes, 1, LARGEST_SEARCH)
    in_range("--search-episodes-each", config.search_episodes_each, 1, 10_000)
    in_range("--search-step", config.search_step, 1e-6, 10.0)
    if config.mask == "fixed" and config.kept_weights:
        raise DistillError(
            "--mask fixed: got --kept-weights as well, expected one of the two; leave --kept-weights out to keep all"
        )
    if config.ranking == "posterior":
        raise DistillError(
            "--ranking: got posterior, which refining makes stale at once, expected saliency or magnitude"
        )
