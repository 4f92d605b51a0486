"""Roll the teacher out with exploration noise and keep what it saw, did and would have done."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .environment import EnvironmentSpec
from .errors import DistillError
from .rollout import Policy, Transitions, play


def episode_noise(count: int, generator: np.random.Generator, largest: float) -> list[float]:
    """Noise of each episode as a share of half the action range: a third clean, the rest uniform up to `largest`.

    Clean episodes show where the teacher goes; noisy ones show how it comes back.
    """
    return [0.0 if index % 3 == 0 else float(generator.uniform(0.0, largest)) for index in range(count)]


def collect(
    spec: EnvironmentSpec,
    teacher: Policy,
    *,
    episodes: int,
    first_seed: int,
    noise: float,
    on_step: Callable[[int], None] | None = None,
) -> Transitions:
    """Whole episodes driven by the teacher with noise, labelled by the teacher without.

    Raises:
        DistillError: no episodes asked for, or a teacher that always answers the same action.
    """
    if episodes < 1:
        raise DistillError(f"collect: got {episodes} episodes, expected at least 1")
    generator = np.random.default_rng(first_seed)
    seeds = range(first_seed, first_seed + episodes)
    levels = episode_noise(episodes, generator, noise)
    played = play(spec, teacher, seeds, label=teacher, noise=levels, on_step=on_step)
    assert played.transitions is not None
    if len(played.transitions) > 1 and np.all(np.ptp(played.transitions.teacher_actions, axis=0) == 0.0):
        raise DistillError(
            "teacher: gave the same action at every state, expected a policy that reacts; "
            "check --env and the observation's units"
        )
    return played.transitions
