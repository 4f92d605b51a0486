"""The verdict on each claim of the paper's figures 3 to 6.

A claim says that a quantity lies above or below a bound. It is reproduced where the whole 95 % interval lies there, it
is not where the whole interval lies on the other side, and where the bound is inside nothing can be said (`None`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arms import Measured
from .figures import ACTIONS, CLONING, WITH_REWARD
from .finite_mdp import Array
from .intervals import gained, iterations_needed, said, said_ratio, telling

_DEGRADED = 0.1
"""Of return: a curve that lost more since its peak has degraded, one that lost less has not (this project's bound)."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what was found."""

    claim: str
    reproduced: bool | None
    """None: nothing to judge by (too few worlds)."""
    figures: dict[str, Any]


def _above(figures: dict[str, Any], bound: float) -> bool | None:
    if figures["low"] is None or figures["low"] <= bound <= figures["high"]:
        return None
    return bool(figures["low"] > bound)


def _below(figures: dict[str, Any], bound: float) -> bool | None:
    above = _above(figures, bound)
    return None if above is None else not above


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """One denial denies all; without one, all have to be shown."""
    found = set(verdicts)
    return False if False in found else None if None in found else True


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
        three = _all((_above(ratio, 2.0), _below(ratio, 4.0)))
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
                _above(said(0.5 * expected - plain), 0.0),
                {
                    "share_of_gain": {"entropy-regularised": said(plain), "expected-entropy": said(expected)},
                    "difference": said(expected - plain),
                },
            ),
            Claim(
                f"{panel}: expected entropy keeps what it has with {few} (to a tenth of the teacher's gain)",
                _above(kept, -0.1),
                {"difference": kept},
            ),
        ]
    return claims


def _peak(curve: Array) -> Array:
    """(W,) returns where the mean curve is highest: each half of the worlds at the other half's peak.

    The highest point of a mean lies too high by its luck where it is read from the curves that chose it.
    """
    halves = np.arange(len(curve)) % 2
    peak = curve[:, -1].copy()
    for half in range(min(2, len(curve))):
        others = curve[halves != half] if len(curve) > 1 else curve
        peak[halves == half] = curve[halves == half, int(others.mean(axis=0).argmax())]
    return peak


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
                "last": said(last[method]),
                "lost_since_peak": said(_peak(curve) - last[method]),
                "over_teacher": said(last[method] - teacher_return),
            }
        for method in CLONING:
            fell = lost[method]["lost_since_peak"]
            told = {"teacher": said(teacher_return), **lost} if method == CLONING[0] else {"lost_since_peak": fell}
            claim = f"{panel}: a clone ({method}) peaks and then degrades (loses more than {_DEGRADED:g})"
            claims.append(Claim(claim, _above(fell, _DEGRADED), told))
        for method in ("on-policy+r", "expected-entropy+r", "teacher-v-reward"):
            ahead = said(last[method] - last["on-policy"])
            fell = lost[method]["lost_since_peak"]
            claims += [
                Claim(
                    f"{panel}: {method} does not degrade (loses less than {_DEGRADED:g} since its peak)",
                    _below(fell, _DEGRADED),
                    {"lost_since_peak": fell},
                ),
                Claim(f"{panel}: {method} ends above the pure clone", _above(ahead, 0.0), {"difference": ahead}),
            ]
    return claims


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
    reach = _all(_above(said(last["optimal teacher", name] - 0.95 * good), 0.0) for name in CLONING)
    clones_at_adversarial = {name: at_adversarial[name] for name in CLONING}

    def positive(method: str) -> bool | None:
        return _above(at_adversarial[method], 0.0)

    return [
        Claim(
            "optimal teacher: clones reach its return (to a twentieth)",
            reach if tells else None,
            told,
        ),
        Claim(
            "adversarial teacher: clones learn its failure (a negative return)",
            _all(_below(figures, 0.0) for figures in clones_at_adversarial.values()),
            {"teacher": said(bad), **clones_at_adversarial},
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


JUDGES = {"fig3": _judge_drivers, "fig4": _judge_actions, "fig5": _judge_imperfect, "fig6": _judge_corridor}
"""Of what was measured, and the checkpoints, the claims."""
