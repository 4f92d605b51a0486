"""Which objectives' expected updates are gradients of anything, and where they end: the paper's table, re-derived.

An update g(theta) is the gradient of some function where its Jacobian is symmetric (on a space without holes). The
Jacobian is taken by central differences of the exact expected update at random students of random MDPs. Fixed points
are found by following the update, each state's divided by how often the state is visited (in a table that moves no
fixed point), for long, with soft teachers, so that "the teacher" and "deterministic" are told apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .expected_update import expected_update, softmax
from .finite_mdp import Array, FiniteMDP, best_values, random_mdp
from .objectives import OBJECTIVES, Objective

_DIFFERENCE = 1e-5  # of logits; the Jacobian is then right to about 1e-9
_SYMMETRIC = 1e-6
_STEP, _STEPS = 0.5, 20_000
_CLOSE = 1e-3  # of probabilities

TEACHER_V_REWARD_PRINTED = replace(
    OBJECTIVES["teacher-v-reward"],
    name="teacher-v-reward with V_th(s_i)",
    reward_term=lambda step: step.reward + step.next_teacher_value - step.student_value,
    reward_uses=frozenset({"reward", "next_teacher_value", "student_value"}),
)
"""The other reading of the paper's row, whose V(s_i) does not say whose it is."""


@dataclass(frozen=True)
class Finding:
    """What was found of an objective, over the MDPs tried."""

    asymmetry: float
    """Largest |J - J^T| over the largest |J|, the largest over MDPs."""
    is_field: bool
    """Whether all of it is numerical error."""
    teacher_distance: float
    """Largest |pi_th - pi| where the update ended, the largest over MDPs."""
    determinism: float
    """Smallest probability of a state's likeliest action there, the smallest over MDPs."""
    gain: float
    """Return of the student there minus the teacher's, the smallest over MDPs."""
    regret: float
    """Return of the best policy minus the student's there, the largest over MDPs."""
    left: float
    """Largest component of the update there (visits divided out), the largest over MDPs: 0 at a fixed point."""

    @property
    def fixed_point(self) -> str:
        """In words: the first that is true."""
        if self.teacher_distance < _CLOSE:
            return "the teacher"
        if self.regret < _CLOSE:
            return "optimal"
        if self.determinism > 0.99:
            return "deterministic"
        return "neither the teacher nor deterministic"


def jacobian(mdp: FiniteMDP, objective: Objective, teacher: Array, logits: Array, discount: float = 1.0) -> Array:
    """(S A, S A) derivatives of the expected update: row i is its component i, column j the logit it is moved by."""
    columns = []
    for index in range(logits.size):
        moved = np.zeros(logits.size)
        moved[index] = _DIFFERENCE
        up, down = (
            expected_update(mdp, objective, teacher, logits + sign * moved.reshape(logits.shape), discount=discount)
            for sign in (1.0, -1.0)
        )
        columns.append((up - down).ravel() / (2.0 * _DIFFERENCE))
    return np.stack(columns, axis=1)


def asymmetry(matrix: Array) -> float:
    """Largest |J - J^T| over the largest |J|."""
    return float(np.abs(matrix - matrix.T).max() / np.abs(matrix).max())


def fixed_point(mdp: FiniteMDP, objective: Objective, teacher: Array, logits: Array) -> tuple[Array, float]:
    """Where the update leads from `logits` (S, A): the student's probabilities, and the largest component left."""
    for _ in range(_STEPS):
        student = softmax(logits)
        control = student if objective.control == "student" else teacher
        update = expected_update(mdp, objective, teacher, logits) / mdp.occupancy(control)[:, None]
        if np.abs(update).max() < 1e-9:
            break
        # the natural gradient of a softmax: without it an action's last per cent take for ever
        scale = np.maximum(student, 1e-12) if objective.has_pseudo_reward else 1.0
        logits = logits - _STEP * update / scale
        logits = np.maximum(logits - logits.max(axis=1, keepdims=True), -30.0)
    return softmax(logits), float(np.abs(update).max())


def cases(mdps: int) -> Iterator[tuple[FiniteMDP, Array, Array]]:
    """(MDP, soft teacher, logits of a student), seeded."""
    for seed in range(mdps):
        mdp = random_mdp(seed)
        rng = np.random.default_rng([seed, 1])
        yield mdp, softmax(rng.normal(size=mdp.reward.shape)), rng.normal(size=mdp.reward.shape)


def find(objective: Objective, mdps: int = 3) -> Finding:
    """Try an objective on so many random MDPs."""
    rows = []
    for mdp, teacher, logits in cases(mdps):
        student, left = fixed_point(mdp, objective, teacher, logits)
        value = float(mdp.start @ mdp.values(student))
        rows.append(
            (
                asymmetry(jacobian(mdp, objective, teacher, logits)),
                float(np.abs(student - teacher).max()),
                -float(student.max(axis=1).min()),
                -(value - float(mdp.start @ mdp.values(teacher))),
                float(mdp.start @ best_values(mdp)) - value,
                left,
            )
        )
    uneven, distance, determinism, gain, regret, left = np.max(rows, axis=0).tolist()
    return Finding(uneven, uneven < _SYMMETRIC, distance, -determinism, -gain, regret, left)


def fields_table(mdps: int = 3) -> dict[str, Finding]:
    """What was found of every row of the table, by name; the other reading of Teacher V reward is the last."""
    return {row.name: find(row, mdps) for row in (*OBJECTIVES.values(), TEACHER_V_REWARD_PRINTED)}
