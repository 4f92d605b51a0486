"""The last stage of a tiny student: a search on the return itself, at its mask (CMA-ES or ARS).

What a student of a hundred numbers cannot copy it may do in its own way; only the return says so. Every generation
plays training episodes of its own, all its students the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from export.student_file import Student

from ..environment import EnvironmentSpec
from ..processes import Crew
from .arena import Arena
from .strategies import AugmentedRandomSearch, CovarianceMatrixAdaptation, Strategy
from .variables import Float64, Variables

SearchName = Literal["none", "cma-es", "ars"]  # policy_gradient.py has a way of its own
SMALLEST_SEARCH = 2  # variables: CMA-ES has no use for fewer
SNAPSHOTS = 4  # of the search's mean, evenly spread; every look costs selection episodes, and a little honesty


@dataclass(frozen=True)
class SearchNumbers:
    """How long and how wide."""

    strategy: SearchName
    episodes: int
    """Training episodes in all, at most."""
    episodes_each: int
    """Episodes of each student of a generation."""
    step: float
    """First standard deviation, as a share of the typical weight or bias of a layer."""

    def population(self, variables: int) -> int:
        """Students of a generation: CMA-ES's own 4 + 3 ln n, made even for pairs."""
        return 2 * ((4 + int(3.0 * math.log(max(variables, SMALLEST_SEARCH))) + 1) // 2)

    def generation_episodes(self, variables: int) -> int:
        """What one generation plays."""
        return self.population(variables) * self.episodes_each


class ReturnSearch:
    """One search; goes on from the returns of the generations that it has already played."""

    def __init__(
        self, spec: EnvironmentSpec, student: Student, numbers: SearchNumbers, *, seed: int, first_seed: int
    ) -> None:
        """Episodes are seeded `first_seed`, `first_seed` + 1, ..."""
        self.returns: list[list[float]] = []  # of each generation's students
        self._spec, self._student, self._numbers = spec, student, numbers
        self._variables = Variables(student)
        self._population = numbers.population(len(self._variables))
        self.generations = numbers.episodes // numbers.generation_episodes(len(self._variables))
        self._first_seed = first_seed
        kind = AugmentedRandomSearch if numbers.strategy == "ars" else CovarianceMatrixAdaptation
        start, scales = self._variables.values, self._variables.scales
        self._strategy: Strategy = kind(start, scales, step=numbers.step, population=self._population, seed=seed)

    def run(self, jobs: int, on_generation: Callable[[], None], played: list[list[float]]) -> Iterator[Student]:
        """Play; yields the search's mean as a student at every snapshot.

        `played`: returns of earlier generations of this very search, which are told again and not played.

        Raises:
            DistillError: as `Arena.returns`.
        """
        due = {self.generations * part // SNAPSHOTS for part in range(1, SNAPSHOTS + 1)} - {0}
        with Crew(partial(_player, self._spec, self._student), jobs) as crew:
            for generation in range(self.generations):
                values = self._strategy.ask()
                if generation < len(played):
                    returns = played[generation]
                else:
                    returns = self._play(crew, values, generation, jobs)
                self.returns.append(returns)
                self._strategy.tell(values, np.array(returns))
                on_generation()
                if generation + 1 in due:
                    yield self._variables.with_values(self._strategy.mean)

    def _play(self, crew: Crew, values: Float64, generation: int, jobs: int) -> list[float]:
        each = self._numbers.episodes_each
        seeds = range(self._first_seed + generation * each, self._first_seed + (generation + 1) * each)
        parts = [part for part in np.array_split(values, jobs) if len(part)]
        played = crew.share([(part, seeds) for part in parts])
        return [float(value) for value in np.concatenate(played)]


class _Player:
    """A worker: an arena that stays open."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena

    def __call__(self, item: tuple[Float64, range]) -> Float64:
        """Mean returns (students,)."""
        values, seeds = item
        means: Float64 = self._arena.returns(values, seeds).mean(axis=1)
        return means

    def close(self) -> None:
        """Close the environments."""
        self._arena.close()


def _player(spec: EnvironmentSpec, student: Student) -> _Player:
    return _Player(Arena(spec, student))
