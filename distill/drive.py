"""Student-driven rounds: the pruned student drives, the teacher labels the states it meets, the data grow.

The lever of "Distilling Policy Distillation" (Czarnecki et al. 2019) and of DAgger (Ross, Gordon, Bagnell 2011): a
student has to know what to do where *it* goes, not where its teacher goes.
"""

from __future__ import annotations

import math

import numpy as np

from export.student_file import Student

from .datasets.replay import Replay
from .datasets.transitions import Transitions, join
from .environment import EnvironmentSpec
from .network import network_policy
from .rollout import Policy, play

_NOISE = 0.1  # of every second episode, as a share of half the action range: shows how to come back


class Driver:
    """Plays rounds of whole episodes from seeds that nothing else uses."""

    def __init__(
        self, spec: EnvironmentSpec, teacher: Policy, first_seed: int, *, steps: int, episode_steps: int
    ) -> None:
        """A round takes at least `steps` control periods; an episode takes at most `episode_steps`."""
        self.next_seed = first_seed
        self._spec = spec
        self._teacher = teacher
        self._steps = steps
        self._episodes = max(2, math.ceil(steps / episode_steps))  # at a time, every second one with noise

    def round(self, student: Student, replay: Replay) -> tuple[float, Transitions]:
        """Play one round and append its rows; returns the mean return of the episodes without noise, and the rows.

        A student that falls early plays as many more episodes: what precedes a fall is what it has to learn.
        """
        returns: list[float] = []
        parts: list[Transitions] = []
        rows = 0
        while rows < self._steps:
            seeds = range(self.next_seed, self.next_seed + self._episodes)
            self.next_seed += self._episodes
            noise = [_NOISE if index % 2 else 0.0 for index in range(self._episodes)]
            played = play(self._spec, network_policy(student), seeds, label=self._teacher, noise=noise)
            assert played.transitions is not None
            returns += played.returns[::2].tolist()
            parts.append(played.transitions)
            rows += len(played.transitions)
        joined = join(parts)
        replay.extend(joined)
        return float(np.mean(returns)), joined
