"""Student-driven rounds: the pruned student drives, the teacher labels the states it meets, the data grow.

The lever of "Distilling Policy Distillation" (Czarnecki et al. 2019) and of DAgger (Ross, Gordon, Bagnell 2011): a
student has to know what to do where *it* goes, not where its teacher goes.
"""

from __future__ import annotations

from export.student_file import Student

from .datasets.replay import Replay
from .environment import EnvironmentSpec
from .network import network_policy
from .rollout import Policy, Transitions, play

_NOISE = 0.1  # of every second episode, as a share of half the action range: shows how to come back


class Driver:
    """Plays rounds of whole episodes from seeds that nothing else uses."""

    def __init__(self, spec: EnvironmentSpec, teacher: Policy, first_seed: int, episodes: int) -> None:
        self.next_seed = first_seed
        self._spec = spec
        self._teacher = teacher
        self._episodes = episodes

    def round(self, student: Student, replay: Replay) -> tuple[float, Transitions]:
        """Play one round and append its rows; returns the mean return and the rows."""
        seeds = range(self.next_seed, self.next_seed + self._episodes)
        self.next_seed += self._episodes
        noise = [0.0 if index % 2 else _NOISE for index in range(self._episodes)]
        played = play(self._spec, network_policy(student), seeds, label=self._teacher, noise=noise)
        assert played.transitions is not None
        replay.extend(played.transitions)
        return float(played.returns.mean()), played.transitions
