"""Success of teacher and students on plants that are not the nominal one."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from export.compile import build_policy
from export.student_file import read_student

from .config import in_range
from .errors import DistillError
from .evaluate import LARGEST_EPISODES, REPORT_SEED, interquartile_mean
from .processes import Crew
from .progress import TrainingProgress
from .robustness_config import RobustnessConfig
from .rollout import Policy, play
from .source import check_fits, load_policy, read_source

_PLANTS = "hardware:"


@dataclass(frozen=True)
class Condition:
    """One plant of the grid."""

    mass_factor: float
    length_factor: float
    friction_factor: float
    extra_delay_periods: int

    @property
    def nominal(self) -> bool:
        """Whether nothing differs from what the policies were made for."""
        return self == Condition(1.0, 1.0, 1.0, 0)

    def arguments(self) -> dict[str, Any]:
        """What makes it, as keyword arguments of the plants of `hardware`."""
        factors = {
            "rod_mass_factor": self.mass_factor,
            "rod_length_factor": self.length_factor,
            "rod_damping_factor": self.friction_factor,
            "axis_friction_factor": self.friction_factor,
        }
        return {"parameters": factors, "extra_delay_periods": self.extra_delay_periods}


def robustness(config: RobustnessConfig) -> dict[str, Any]:
    """Play every policy on every plant; successes in all, nominally, without and with the extra delay, by plant.

    at_least_teacher: whether the students' rate of successes is nowhere below the teacher's in these summaries.

    Raises:
        DistillError: bad options, an environment that is no plant of `hardware`, students of another one.
        FileFormatError: a file is unusable.
    """
    grid = _grid(config)
    spec, facts, teacher = read_source(config)
    for path in config.students:
        check_fits(path, read_student(path), facts)
    with Crew(partial(_Players, config, teacher.sha256), config.jobs) as crew, TrainingProgress() as progress:
        progress.stage("plants", len(grid))
        played: list[_Played] = []
        for first in range(0, len(grid), config.jobs):
            played += crew.share(grid[first : first + config.jobs])
            progress.advance(len(played) - first)
    subsets = {
        "all": grid,
        "nominal": [condition for condition in grid if condition.nominal],
        **{
            f"extra delay {delay}": [condition for condition in grid if condition.extra_delay_periods == delay]
            for delay in sorted(set(config.extra_delay_periods))
        },
    }
    found = dict(zip(grid, played, strict=True))
    summary = {name: _summary([found[condition] for condition in subset]) for name, subset in subsets.items() if subset}
    return {
        "environment": spec.record(),
        "teacher": str(config.teacher),
        "students": [str(path) for path in config.students],
        "episodes": config.episodes,
        "at_least_teacher": all(each["students"]["success"] >= each["teacher"]["success"] for each in summary.values()),
        "summary": summary,
        "plants": [{**dataclasses.asdict(condition), **_summary([found[condition]])} for condition in grid],
    }


@dataclass(frozen=True)
class _Played:
    """Of the teacher and each student: returns and successes (episodes,)."""

    returns: list[NDArray[np.float64]]
    held: list[NDArray[np.bool_]]


class _Players:
    """In a worker: the teacher and the students, on one plant after the other."""

    def __init__(self, config: RobustnessConfig, teacher_sha256: str) -> None:
        self._spec = config.spec()
        self._seeds = range(REPORT_SEED, REPORT_SEED + config.episodes)
        self._policies: list[Policy] = [load_policy(config, teacher_sha256)]
        self._policies += [build_policy(read_student(path)).evaluate_float32 for path in config.students]

    def __call__(self, condition: Condition) -> _Played:
        """Every policy on one plant."""
        spec = dataclasses.replace(self._spec, arguments=self._spec.arguments | condition.arguments())
        played = [play(spec, policy, self._seeds) for policy in self._policies]
        held = [episodes.held for episodes in played if episodes.held is not None]
        return _Played([episodes.returns for episodes in played], held)

    def close(self) -> None:
        """Nothing stays open."""


def _summary(played: list[_Played]) -> dict[str, Any]:
    def of(policies: slice) -> dict[str, Any]:
        held = np.concatenate([each for plant in played for each in plant.held[policies]])
        interval = binomtest(int(held.sum()), len(held)).proportion_ci(method="wilson")
        returns = np.concatenate([each for plant in played for each in plant.returns[policies]])
        return {
            "success": float(held.mean()),
            "interval": [float(interval.low), float(interval.high)],
            "return_iqm": interquartile_mean(returns),
            "worst": float(returns.min()),
            "episodes": len(held),
        }

    return {"teacher": of(slice(0, 1)), "students": of(slice(1, None))}


def _grid(config: RobustnessConfig) -> list[Condition]:
    in_range("--episodes", config.episodes, 1, LARGEST_EPISODES)
    in_range("--jobs", config.jobs, 1, 1_024)
    if not config.env.startswith(_PLANTS):
        raise DistillError(
            f"--env: got {config.env!r}, expected a plant of `hardware`, whose mass, length, friction and delay can be "
            "set, such as hardware:CartRail-v0"
        )
    varied = ("mass_factors", "length_factors", "friction_factors", "extra_delay_periods")
    for name in (*varied, "students"):
        if not getattr(config, name):
            raise DistillError(f"{_option(name)}: got none, expected at least one; name some")
    for name in varied[:3]:
        for factor in getattr(config, name):
            in_range(_option(name), factor, 0.01, 100.0)
    given = set(config.spec().arguments) & {"randomise", *Condition(1, 1, 1, 0).arguments()}
    if given:
        raise DistillError(
            f"--env-kwargs: got {', '.join(sorted(given))}, which the grid sets, expected others; leave them out"
        )
    return [Condition(*values) for values in itertools.product(*(getattr(config, name) for name in varied))]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
