"""What the paper's figures 3 to 6 compare.

The paper leaves open, or this project could not read: the exploration and step size of the teachers, the students'
step size, how actions are added for figure 4, what exactly is imperfect about the teachers of figure 5, and the length
and rewards of figure 6's corridor. What stands here for them is this project's own, said in each figure's `ours`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .arms import Arm
from .finite_mdp import Array
from .objectives import OBJECTIVES
from .q_learning import learn, policy_of, with_faulty_cells, with_noisy_actions
from .worlds import Worlds, corridors, grid_worlds

DISCOUNT = 0.99
TEMPERATURES = (0.0, 0.01, 0.1)
ACTIONS = (4, 40, 400, 1_000)
_IMPERFECT = 0.25
_CELLS, _LEFT, _RIGHT = 11, -10.0, 10.0
CLONING = ("on-policy", "n-distill", "entropy-regularised", "expected-entropy")
WITH_REWARD = ("on-policy+r", "n-distill+r", "expected-entropy+r", "on-policy+r+v-cond", "teacher-v-reward", "td+v")


@dataclass(frozen=True)
class Figure:
    """How one figure is made."""

    title: str
    ours: str
    worlds: int
    """How many, unless asked otherwise."""
    worlds_per_unit: int
    """How many are run, and kept, at a time."""
    iterations: int
    learning_rate: float
    """Step size in the logits."""
    critic: bool
    """See `Descent.critic`."""
    measures: tuple[str, ...]
    """Those that are drawn."""
    arms: Callable[[Sequence[int]], tuple[Worlds, list[Arm]]]
    """Worlds and arms for these seeds."""


def _teachers(seeds: Sequence[int]) -> tuple[Worlds, Array]:
    worlds = grid_worlds(seeds)
    return worlds, learn(worlds, DISCOUNT, seeds[0])


# figure 3: who drives


def _drivers(seeds: Sequence[int]) -> tuple[Worlds, list[Arm]]:
    worlds, q = _teachers(seeds)
    arms = []
    for temperature in TEMPERATURES:
        panel, teacher = f"temperature {temperature:g}", policy_of(q, temperature)
        arms += [
            Arm(panel, "student-driven", "on-policy", "student", teacher),
            Arm(panel, "teacher-driven", "teacher", "teacher", teacher),
            Arm(panel, "uniform", "on-policy", "uniform", teacher),
        ]
    return worlds, arms


# figure 4: how many actions


def _actions(seeds: Sequence[int]) -> tuple[Worlds, list[Arm]]:
    worlds, q = _teachers(seeds)
    chosen = policy_of(q, 0.01)
    arms = []
    for actions in ACTIONS:
        teacher: Array = np.zeros((*chosen.shape[:2], actions))
        teacher[..., : chosen.shape[2]] = chosen
        for method in ("on-policy", "entropy-regularised", "expected-entropy"):
            arms.append(Arm(f"{actions} actions", method, method, "student", teacher))
    return worlds, arms


# figure 5: imperfect teachers


def _imperfect(seeds: Sequence[int]) -> tuple[Worlds, list[Arm]]:
    worlds, q = _teachers(seeds)
    good = policy_of(q, 0.0)
    panels = {
        "a random action every fourth time": with_noisy_actions(good, _IMPERFECT),
        "a wrong action in every fourth cell": with_faulty_cells(good, _IMPERFECT, seeds[0]),
    }
    return worlds, [
        Arm(panel, method, method, "student", teacher)
        for panel, teacher in panels.items()
        for method in (*CLONING, *WITH_REWARD)
    ]


# figure 6: optimal and adversarial teachers in a corridor


def _corridor(seeds: Sequence[int]) -> tuple[Worlds, list[Arm]]:
    worlds = corridors(len(seeds), _CELLS, _LEFT, _RIGHT)
    shape = worlds.shape
    arms = []
    for panel, direction in (("optimal teacher", 1), ("adversarial teacher", 0)):
        teacher = np.broadcast_to(np.eye(2)[direction], shape).copy()
        arms += [Arm(panel, method, method, "student", teacher) for method in (*CLONING, *WITH_REWARD)]
    return worlds, arms


_TEACHERS = "teachers: Q-learning, actions at random, step size 0.3; students: one episode an iteration"
_CRITIC = "pseudo-rewards reach the student through a critic (one-step temporal differences)"
FIGURES = {
    "fig3": Figure(
        "Who drives: student, teacher, or uniform actions",
        _TEACHERS,
        100,
        25,
        3_000,
        0.1,
        False,
        ("return", "student_kl", "teacher_kl"),
        _drivers,
    ),
    "fig4": Figure(
        "Number of actions",
        f"{_TEACHERS}; action a moves in direction a mod 4, the teacher (temperature 0.01) uses the first four alone; "
        "the step size grows with the root of the number of actions, 16 times as large at 1,000 as at 4; "
        f"{_CRITIC}",
        50,
        5,
        600,
        0.1,
        True,
        ("return",),
        _actions,
    ),
    "fig5": Figure(
        "Imperfect teachers",
        f"{_TEACHERS}; teachers of temperature 0, every fourth action random, or wrong in a quarter of cells; "
        f"{_CRITIC}",
        100,
        25,
        3_000,
        0.1,
        True,
        ("return",),
        _imperfect,
    ),
    "fig6": Figure(
        "A corridor, an optimal and an adversarial teacher",
        f"{_CELLS} cells, {_LEFT:g} at the left end, {_RIGHT:g} at the right one, start in the middle, no noise; what "
        f"is compared is taken from summaries of the paper, the corridor's size and rewards are not; {_CRITIC}",
        50,
        25,
        3_000,
        0.1,
        True,
        ("return",),
        _corridor,
    ),
}
assert all(name in OBJECTIVES for name in (*CLONING, *WITH_REWARD))
