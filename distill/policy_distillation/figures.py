"""What the paper's figures 3 to 6 compare, and the verdict on each of their claims.

The paper leaves open, or this project could not read: the exploration and step size of the teachers, the students'
step size, how actions are added for figure 4, what exactly is imperfect about the teachers of figure 5, and the length
and rewards of figure 6's corridor. What stands here for them is this project's own, said in each figure's `ours`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arms import Arm, Measured
from .finite_mdp import Array
from .intervals import gained, iterations_needed, said, said_ratio, telling
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
class Claim:
    """A claim of the paper and what was found."""

    claim: str
    reproduced: bool | None
    """None: nothing to judge by (too few worlds)."""
    figures: dict[str, Any]


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
    judge: Callable[[Measured, Array], list[Claim]]
    """Of what was measured, and the checkpoints."""


def _above(figures: dict[str, Any], bound: float) -> bool | None:
    return None if figures["low"] is None else bool(figures["low"] > bound)


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


def _judge_drivers(measured: Measured, checkpoints: Array) -> list[Claim]:
    claims = []
    for panel, teacher_return in measured.teacher_return.items():
        needed, never = {}, {}
        for method in ("student-driven", "teacher-driven", "uniform"):
            share = gained(measured.curves[panel, method]["return"], teacher_return)
            needed[method], never[method] = iterations_needed(share, checkpoints)
        told = {
            "worlds": len(needed["uniform"]),
            "iterations": {method: said(np.asarray(value)) for method, value in needed.items()},
            "never_reached": never,
        }
        ratio = said_ratio(needed["teacher-driven"], needed["student-driven"])
        slowest = said_ratio(needed["uniform"], needed["teacher-driven"])
        three = None if ratio["low"] is None else bool(ratio["high"] >= 2.0 and ratio["low"] <= 4.0)
        claims += [
            Claim(
                f"{panel}: student-driven distillation needs fewer iterations than teacher-driven",
                _above(ratio, 1.0),
                {"teacher_over_student": ratio, **told},
            ),
            Claim(f"{panel}: about 3 times fewer (2 to 4)", three, {"teacher_over_student": ratio}),
            Claim(f"{panel}: driven by uniform actions it is slowest", _above(slowest, 1.0), {"over_teacher": slowest}),
        ]
    return claims


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


def _judge_actions(measured: Measured, checkpoints: Array) -> list[Claim]:
    del checkpoints
    shares = {
        (panel, method): gained(curves["return"], measured.teacher_return[panel])[:, -1]
        for (panel, method), curves in measured.curves.items()
    }
    claims = []
    few = f"{ACTIONS[0]} actions"
    for actions in ACTIONS[2:]:
        panel = f"{actions} actions"
        plain, expected = shares[panel, "entropy-regularised"], shares[panel, "expected-entropy"]
        lost = said(expected - plain)
        kept = said(expected - shares[few, "expected-entropy"])
        collapsed = said(0.5 * shares[few, "entropy-regularised"] - plain)
        claims += [
            Claim(
                f"{panel}: entropy regularised collapses (has less than half of the gain that it has with {few})",
                _above(collapsed, 0.0),
                {"share_of_gain": {few: said(shares[few, "entropy-regularised"]), panel: said(plain)}},
            ),
            Claim(
                f"{panel}: entropy regularised has less than half of the gain that expected entropy has",
                None if lost["low"] is None else bool(said(0.5 * expected - plain)["low"] > 0.0),
                {
                    "share_of_gain": {"entropy-regularised": said(plain), "expected-entropy": said(expected)},
                    "difference": lost,
                },
            ),
            Claim(
                f"{panel}: expected entropy keeps what it has with {few} (to a tenth of the teacher's gain)",
                _above(kept, -0.1),
                {"difference": kept},
            ),
        ]
    return claims


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


def _judge_imperfect(measured: Measured, checkpoints: Array) -> list[Claim]:
    claims = []
    for panel, teacher_return in measured.teacher_return.items():
        lost: dict[str, Any] = {}
        last: dict[str, Array] = {}
        for method in (*CLONING, *WITH_REWARD):
            curve = measured.curves[panel, method]["return"]
            best = int(curve.mean(axis=0).argmax())
            last[method] = curve[:, -1]
            lost[method] = {
                "peak_at": int(checkpoints[best]),
                "peak": said(curve[:, best]),
                "last": said(last[method]),
                "lost_since_peak": said(curve[:, best] - last[method]),
                "over_teacher": said(last[method] - teacher_return),
            }
        for method in CLONING:
            fell = lost[method]["lost_since_peak"]
            told = {"teacher": said(teacher_return), **lost} if method == CLONING[0] else {"lost_since_peak": fell}
            claims.append(Claim(f"{panel}: a clone ({method}) peaks and then degrades", _above(fell, 0.0), told))
        for method in ("on-policy+r", "expected-entropy+r", "teacher-v-reward"):
            ahead = said(last[method] - last["on-policy"])
            fell = lost[method]["lost_since_peak"]
            claims += [
                Claim(
                    f"{panel}: {method} does not degrade (what it lost since its peak may be below 0.1)",
                    None if fell["low"] is None else bool(fell["low"] <= 0.1),
                    {"lost_since_peak": fell},
                ),
                Claim(f"{panel}: {method} ends above the pure clone", _above(ahead, 0.0), {"difference": ahead}),
            ]
    return claims


# figure 6: optimal and adversarial teachers in a corridor


def _corridor(seeds: Sequence[int]) -> tuple[Worlds, list[Arm]]:
    worlds = corridors(len(seeds), _CELLS, _LEFT, _RIGHT)
    shape = worlds.shape
    arms = []
    for panel, direction in (("optimal teacher", 1), ("adversarial teacher", 0)):
        teacher = np.broadcast_to(np.eye(2)[direction], shape).copy()
        arms += [Arm(panel, method, method, "student", teacher) for method in (*CLONING, *WITH_REWARD)]
    return worlds, arms


def _judge_corridor(measured: Measured, checkpoints: Array) -> list[Claim]:
    good, bad = (measured.teacher_return[panel] for panel in ("optimal teacher", "adversarial teacher"))
    last = {key: curves["return"][:, -1] for key, curves in measured.curves.items()}
    needed = {}
    for method in (*CLONING, *WITH_REWARD):
        curve = measured.curves["optimal teacher", method]["return"]
        needed[method] = said(iterations_needed(gained(curve, good), checkpoints)[0])
    at_optimal = {method: said(last["optimal teacher", method]) for method in needed}
    at_adversarial = {method: said(last["adversarial teacher", method]) for method in needed}
    told = {"optimal": at_optimal, "adversarial": at_adversarial, "iterations_needed_with_optimal": needed}
    tells = bool(telling(measured.curves["optimal teacher", "on-policy"]["return"], good).all())

    def positive(method: str) -> bool | None:
        return _above(at_adversarial[method], 0.0)

    return [
        Claim(
            "optimal teacher: clones reach its return (to a twentieth)",
            tells and all(float(last["optimal teacher", name].mean()) > 0.95 * float(good.mean()) for name in CLONING),
            told,
        ),
        Claim(
            "adversarial teacher: clones learn its failure",
            all(float(last["adversarial teacher", name].mean()) < 0.0 for name in CLONING),
            {"teacher": said(bad)},
        ),
        *(
            Claim(f"adversarial teacher: {method} learns a positive return", positive(method), at_adversarial[method])
            for method in ("on-policy+r", "expected-entropy+r")
        ),
        Claim(
            "adversarial teacher: teacher-v-reward learns a positive return (summaries of the paper differ)",
            positive("teacher-v-reward"),
            at_adversarial["teacher-v-reward"],
        ),
    ]


_TEACHERS = "teachers: Q-learning, actions at random, step size 0.3; students: one episode an iteration"
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
        _judge_drivers,
    ),
    "fig4": Figure(
        "Number of actions",
        f"{_TEACHERS}; action a moves in direction a mod 4, the teacher (temperature 0.01) uses the first four alone",
        50,
        5,
        600,
        0.1,
        True,
        ("return",),
        _actions,
        _judge_actions,
    ),
    "fig5": Figure(
        "Imperfect teachers",
        f"{_TEACHERS}; teachers of temperature 0, every fourth action random, or wrong in a quarter of cells",
        100,
        25,
        3_000,
        0.1,
        True,
        ("return",),
        _imperfect,
        _judge_imperfect,
    ),
    "fig6": Figure(
        "A corridor, an optimal and an adversarial teacher",
        f"{_CELLS} cells, {_LEFT:g} at the left end, {_RIGHT:g} at the right one, start in the middle, no noise; what "
        "is compared is taken from summaries of the paper, the corridor's size and rewards are not",
        50,
        25,
        3_000,
        0.1,
        True,
        ("return",),
        _corridor,
        _judge_corridor,
    ),
}
assert all(name in OBJECTIVES for name in (*CLONING, *WITH_REWARD))
