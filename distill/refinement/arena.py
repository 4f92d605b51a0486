"""Many small students play the same episodes at a time: what a search on the return itself spends its time on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from export.student_file import Student

from ..environment import EnvironmentSpec
from ..plant import Plant
from .variables import Float64, Variables


class Arena:
    """Environments that stay open from one call to the next."""

    def __init__(self, spec: EnvironmentSpec, student: Student) -> None:
        self._spec = spec
        self._variables = Variables(student)
        self._plants: list[Plant] = []

    def returns(self, values: Float64, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Undiscounted returns (students, episodes) of vectors (students, variables), all on the same `seeds`.

        What a student gets does not depend on the others.

        Raises:
            DistillError: as `Plant`.
        """
        students, episodes = len(values), len(seeds)
        while len(self._plants) < students * episodes:
            self._plants.append(Plant(self._spec))
        networks = self._variables.networks(values)
        returns = np.zeros((students, episodes))
        observations = np.zeros((students, episodes, self._variables.student.widths[0]), np.float32)
        playing = [(student, episode) for student in range(students) for episode in range(episodes)]
        for student, episode in playing:
            observations[student, episode] = self._plants[student * episodes + episode].reset(seeds[episode])
        while playing:
            actions = networks.act(observations)
            following = []
            for student, episode in playing:
                plant = self._plants[student * episodes + episode]
                observation, reward, terminated, truncated, _ = plant.step(actions[student, episode])
                returns[student, episode] += reward
                observations[student, episode] = observation
                if not (terminated or truncated):
                    following.append((student, episode))
            playing = following
        return returns

    def close(self) -> None:
        """Close the environments."""
        while self._plants:
            self._plants.pop().close()
