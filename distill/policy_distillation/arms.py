"""Arms of a figure: one objective, one kind of teacher, in many worlds, measured at checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .expected_update import softmax
from .finite_mdp import Array
from .objectives import OBJECTIVES
from .sampled_update import STUDENT, Descent, Lanes, distil
from .worlds import Worlds, expected_reward, expected_sums, values

_SMALLEST = 1e-300  # of a probability whose logarithm is taken
Driver = Literal["student", "teacher", "uniform"]
MEASURES = ("return", "student_kl", "teacher_kl")
"""Discounted return of the student; KL(pi||pi_th) in nats, the mean over (discounted) steps of the student's episodes,
and of the teacher's. All are exact for the student's policy, not estimated from episodes."""


@dataclass(frozen=True)
class Arm:
    """What is run in every world."""

    panel: str
    """What the figure calls its teacher or setting."""
    method: str
    """What the figure calls it."""
    objective: str
    """Name of a row."""
    driver: Driver
    """Who chooses the actions."""
    teacher: Array
    """(W, S, A) probabilities."""


@dataclass(frozen=True)
class Measured:
    """Of every arm, by (panel, method)."""

    curves: dict[tuple[str, str], dict[str, Array]]
    """Measure -> (W, checkpoints)."""
    teacher_return: dict[str, Array]
    """Panel -> (W,)."""


def checkpoints_up_to(iterations: int) -> list[int]:
    """0, and about eight a decade up to and with the last."""
    steps = {round(10.0 ** (power / 8)) for power in range(8 * 7)}
    return sorted({0, iterations} | {step for step in steps if step < iterations})


def by_direction(policy: Array, directions: int) -> Array:
    """(S, D) probabilities of the directions of a policy (S, A) whose action a moves in direction a mod D."""
    summed: Array = policy.reshape(len(policy), -1, directions).sum(axis=1)
    return summed


def run_arms(worlds: Worlds, arms: Sequence[Arm], descent: Descent, checkpoints: Sequence[int]) -> Measured:
    """Run all arms; those of one objective and number of actions side by side.

    The step size grows with the root of the number of actions a direction: the gradient in each logit falls with the
    action's probability, its noise does not.
    """
    found = Measured(
        {
            (arm.panel, arm.method): {name: np.zeros((len(worlds.start), len(checkpoints))) for name in MEASURES}
            for arm in arms
        },
        {arm.panel: _returns(worlds, arm.teacher, descent.discount) for arm in arms},
    )
    groups: dict[tuple[str, int], list[Arm]] = {}
    for arm in arms:
        groups.setdefault((arm.objective, arm.teacher.shape[2]), []).append(arm)
    for number, ((objective, actions), group) in enumerate(groups.items()):
        lanes = _lanes(worlds, group, descent.discount)
        rate = descent.learning_rate * math.sqrt(actions / worlds.shape[2])
        own = replace(descent, seed=descent.seed * 100 + number, learning_rate=rate)
        distil(lanes, OBJECTIVES[objective], own, checkpoints, _measure(worlds, group, descent, checkpoints, found))
    return found


def _measure(
    worlds: Worlds, group: Sequence[Arm], descent: Descent, checkpoints: Sequence[int], found: Measured
) -> Callable[[int, int, Array], None]:
    """What to call with a lane of the group (arm * W + world), its iterations and logits (S, A), to fill the curves."""
    directions, gamma = worlds.shape[2], descent.discount
    column = {iterations: index for index, iterations in enumerate(checkpoints)}

    def measure(lane: int, iterations: int, logits: Array) -> None:
        place, world = divmod(lane, len(worlds.start))
        arm = group[place]
        student, teacher = softmax(logits), arm.teacher[world]
        with np.errstate(divide="ignore", invalid="ignore"):
            log_ratio = np.log(teacher) - np.log(np.maximum(student, _SMALLEST))
            divergence = np.where(teacher > 0.0, teacher * log_ratio, 0.0).sum(axis=1)
        moves, taught = by_direction(student, directions), by_direction(teacher, directions)
        reward, one = expected_reward(worlds, world, moves), np.ones(len(moves))
        sums = expected_sums(worlds, world, moves, np.stack([reward, divergence, one], axis=1), gamma)
        gain, along, steps = sums[worlds.start[world]]
        sums = expected_sums(worlds, world, taught, np.stack([divergence, one], axis=1), gamma)
        off, off_steps = sums[worlds.start[world]]
        curves = found.curves[arm.panel, arm.method]
        for name, value in zip(MEASURES, (gain, along / steps, off / off_steps), strict=True):
            curves[name][world, column[iterations]] = value

    return measure


def _lanes(worlds: Worlds, group: Sequence[Arm], discount: float) -> Lanes:
    """Every arm of the group in every world: lane = arm * W + world."""
    count = len(worlds.start)
    distinct: list[Array] = []
    places: list[int] = []
    for arm in group:  # arms that share a teacher share its table
        place = next((index for index, teacher in enumerate(distinct) if teacher is arm.teacher), len(distinct))
        if place == len(distinct):
            distinct.append(arm.teacher)
        places.append(place)
    _, cells, actions = distinct[0].shape
    each = np.arange(count)
    tables = np.concatenate([*distinct, np.full((1, cells, actions), 1.0 / actions)])
    teacher = np.concatenate([place * count + each for place in places])
    drivers = {"student": np.full(count, STUDENT), "uniform": np.full(count, len(tables) - 1)}
    driver = np.concatenate(
        [drivers.get(arm.driver, place * count + each) for arm, place in zip(group, places, strict=True)]
    )
    taught = np.zeros(tables.shape[:2])
    if OBJECTIVES[group[0].objective].needs_teacher_value:
        for index in range(len(tables) - 1):
            moves = by_direction(tables[index], worlds.shape[2])
            taught[index] = values(worlds, index % count, moves, discount)
    return Lanes(worlds, np.tile(each, len(group)), tables, teacher, taught, driver)


def _returns(worlds: Worlds, policies: NDArray[np.float64], discount: float) -> Array:
    """(W,) returns of policies (W, S, A)."""
    return np.array(
        [
            values(worlds, world, by_direction(policy, worlds.shape[2]), discount)[worlds.start[world]]
            for world, policy in enumerate(policies)
        ]
    )
