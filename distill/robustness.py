"""Success of teacher and students on plants that are not the nominal one."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.compile import build_policy
from export.student_file import read_student, student_digest

from .config import in_range
from .errors import DistillError
from .evaluate import LARGEST_EPISODES, REPORT_SEED, interquartile_mean
from .processes import Crew
from .progress import TrainingProgress
from .robustness_config import RobustnessConfig
from .rollout import Policy, play
from .source import check_fits, load_policy, read_source

_PLANTS = "hardware:"
_LONGEST_DELAY = 10  # control periods that these plants can hold an action back
_QUANTILE = 1.959964  # of the normal distribution, for 95 %


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
    interval: 95 % for these students and plants: only starts are drawn, and one start counts once, whoever has it.
    range: the lowest and the highest student's rate; what other students of the recipe would reach only this tells.

    Raises:
        DistillError: bad options, an environment that is no plant of `hardware` or does not say when the rod is
            upright, students of another one.
        FileFormatError: a file is unusable.
    """
    grid = _grid(config)
    spec, facts, teacher = read_source(config)
    for path in config.students:
        check_fits(path, read_student(path), config.env, facts)
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
        if len(held) < len(played):
            raise DistillError(
                f'environment {spec.environment!r}: got no "upright" in the info of its steps, expected it, which says '
                "what succeeds; leave out the --wrapper that drops it"
            )
        return _Played([episodes.returns for episodes in played], held)

    def close(self) -> None:
        """Nothing stays open."""


def _summary(played: list[_Played]) -> dict[str, Any]:
    def of(policies: slice) -> dict[str, Any]:
        held = np.stack([plant.held[policies] for plant in played])  # (plants, policies, starts)
        success = float(held.mean())
        by_policy = held.mean(axis=(0, 2))
        returns = np.concatenate([each for plant in played for each in plant.returns[policies]])
        return {
            "success": success,
            "interval": _wilson(success, held.shape[2]),
            "range": [float(by_policy.min()), float(by_policy.max())],
            "return_iqm": interquartile_mean(returns),
            "worst": float(returns.min()),
            "episodes": held.size,
        }

    return {"teacher": of(slice(0, 1)), "students": of(slice(1, None))}


def _wilson(rate: float, count: int) -> list[float]:
    """Wilson's 95 % interval of a rate that is the mean of `count` independent numbers from 0 to 1.

    Numbers in between scatter less than the zeros and ones that it is made for: it is rather too wide than too narrow.
    """
    square = _QUANTILE**2 / count
    half = _QUANTILE * math.sqrt(rate * (1.0 - rate) / count + square / (4 * count))
    return [max(0.0, (rate + square / 2 - half) / (1 + square)), min(1.0, (rate + square / 2 + half) / (1 + square))]


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
    for delay in config.extra_delay_periods:
        in_range("--extra-delay-periods", delay, 0, _LONGEST_DELAY)
    for name in varied:
        values = getattr(config, name)
        if len(set(values)) < len(values):  # an episode that is played twice is no more evidence
            raise DistillError(f"{_option(name)}: got {values}, expected different ones; name each once")
    for name in varied[:3]:
        for factor in getattr(config, name):
            in_range(_option(name), factor, 0.01, 100.0)
    given = set(config.spec().arguments) & {"randomise", *Condition(1, 1, 1, 0).arguments()}
    if given:
        raise DistillError(
            f"--env-kwargs: got {', '.join(sorted(given))}, which the grid sets, expected others; leave them out"
        )
    named: dict[str, Path] = {}
    for path in config.students:
        digest = student_digest(path)
        if digest in named:
            raise DistillError(
                f"students: got {path}, which is the same as {named[digest]}, expected different ones; name each once"
            )
        named[digest] = path
    return [Condition(*values) for values in itertools.product(*(getattr(config, name) for name in varied))]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
