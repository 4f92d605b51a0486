"""Figure 2 of the paper: on-policy distillation with a reward can go round for ever, N-distillation cannot.

Two logits decide three states: s0 has one, sL and sR share the other, so what is good at one of them is bad at the
other. A loss at sR alone, l(sR) = -4 pi_th(R|sR), stands for the cross entropy. Under on-policy + R the two logits then
move as x' = p(1 - p)(1 - 2 q), y' = q(1 - q)(2 p - 1), with p = p(R|s0) and q = p(R|sL) = p(R|sR): they circle (0, 0)
on closed orbits, from (-2, -2) that of cosh x + cosh y = 2 cosh 2, which reaches p = .072 and .928. The updates are
followed as a flow, by the midpoint rule: plain steps of any size leave such an orbit outwards, and the circling would
not be told apart from steps that are too long.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .expected_update import StateLosses, expected_update
from .finite_mdp import Array, figure_2_mdp
from .objectives import OBJECTIVES

VARIANTS = ("on-policy+r", "n-distill+r")
STEP = 0.5
ITERATIONS = 1_600  # about six rounds
ORBIT = 1.0 / (1.0 + math.exp(math.acosh(2.0 * math.cosh(2.0) - 1.0)))
"""Smallest p(R|s0) of the closed orbit from (-2, -2); the largest is 1 minus it."""
_START = (-2.0, -2.0)
_SHARED = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])  # (states, parameters): whose logit of R is which
_WEIGHT = 4.0  # of the loss at sR


def state_losses(student: Array) -> StateLosses:
    """-4 pi_th(R|sR) in the place of both cross entropies."""
    right = student[2, 1]
    loss, gradient = np.zeros(3), np.zeros((3, 2))
    loss[2] = -_WEIGHT * right
    gradient[2] = -_WEIGHT * right * (1.0 - right) * np.array([-1.0, 1.0])
    return StateLosses(loss, gradient, loss, gradient)


def parameter_update(variant: str, parameters: Array) -> Array:
    """(2,) expected update of the two logits of R, to be taken downhill."""
    logits = np.stack([np.zeros(3), _SHARED @ parameters], axis=1)
    update = expected_update(figure_2_mdp(), OBJECTIVES[variant], np.full((3, 2), 0.5), logits, losses=state_losses)
    result: Array = _SHARED.T @ update[:, 1]
    return result


def right_at_start(variant: str, iterations: int = ITERATIONS, step: float = STEP) -> Array:
    """(iterations + 1,) p(R|s0) while the expected updates of `variant` are followed."""
    parameters = np.array(_START)
    logits = [parameters[0]]
    for _ in range(iterations):
        middle = parameters - 0.5 * step * parameter_update(variant, parameters)
        parameters = parameters - step * parameter_update(variant, middle)
        logits.append(parameters[0])
    result: Array = 1.0 / (1.0 + np.exp(-np.array(logits)))
    return result


def summary(curve: Array) -> dict[str, Any]:
    """Smallest and largest p(R|s0) in the second half of a run, the last one, and how often it crosses 1/2 there."""
    half = curve[len(curve) // 2 :]
    crossings = int(np.count_nonzero(np.diff(half > 0.5)))
    return {"min": float(half.min()), "max": float(half.max()), "last": float(curve[-1]), "crossings": crossings}
