"""The update of any objective in exact expectation: a small MDP, a student that is the softmax of its logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .finite_mdp import Array, FiniteMDP
from .objectives import LOG_PROBABILITY_FLOOR, Objective, Quantities


@dataclass(frozen=True)
class StateLosses:
    """What can stand for the cross entropies at every state, and their gradients in the student's logits."""

    forward: Array
    """(states,) Hx(pi||pi_th), or another loss in its place."""
    forward_gradient: Array
    """(states, actions)."""
    reverse: Array
    """(states,) Hx(pi_th||pi)."""
    reverse_gradient: Array
    """(states, actions)."""


def softmax(logits: Array) -> Array:
    """(..., actions) probabilities of logits of the same shape."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Array = powers / powers.sum(axis=-1, keepdims=True)
    return result


def log_teacher(teacher: Array) -> Array:
    """log pi of probabilities of any shape, in nats, not below the floor."""
    with np.errstate(divide="ignore"):
        result: Array = np.maximum(np.log(teacher), LOG_PROBABILITY_FLOOR)
    return result


def cross_entropies(student: Array, teacher: Array) -> StateLosses:
    """Both cross entropies (..., actions) -> (...), in nats; gradients in the logits of the student's softmax."""
    log_student, log_pi = np.log(student), log_teacher(teacher)
    reverse = -(student * log_pi).sum(axis=-1)
    return StateLosses(
        -(teacher * log_student).sum(axis=-1),
        student - teacher,
        reverse,
        -student * (log_pi + reverse[..., None]),
    )


def expected_update(
    mdp: FiniteMDP,
    objective: Objective,
    teacher: Array,
    logits: Array,
    *,
    discount: float = 1.0,
    losses: Callable[[Array], StateLosses] | None = None,
) -> Array:
    """What equation 1 of the paper gives on average; to be taken downhill. Visits at step t weigh discount**t.

    Args:
        mdp: of S states and A actions.
        objective: any row of the table.
        teacher: (S, A) probabilities.
        logits: (S, A) of the student.
        discount: gamma.
        losses: what stands for the cross entropies, given the student's probabilities (S, A); default: they themselves.

    Returns:
        (S, A), by logit.
    """
    student = softmax(logits)
    control = student if objective.control == "student" else teacher
    terms = losses(student) if losses else cross_entropies(student, teacher)
    teacher_values, student_values = mdp.values(teacher, discount), mdp.values(student, discount)

    def following(of_states: Array) -> Array:
        expected: Array = discount * mdp.transition @ of_states
        return expected

    # rows are linear in what depends on the next step, so its expectation may stand for it
    step = Quantities(
        reward=mdp.reward,
        forward_cross_entropy=terms.forward_gradient,
        next_forward_cross_entropy=following(terms.forward),
        reverse_cross_entropy=terms.reverse_gradient,
        teacher_log_probability=log_teacher(teacher),
        next_teacher_log_probability=following((control * log_teacher(teacher)).sum(axis=1)),
        student_log_probability=np.log(student),
        teacher_value=teacher_values[:, None],
        next_teacher_value=following(teacher_values),
        student_value=student_values[:, None],
    )
    update = np.zeros_like(logits) + objective.loss(step)
    if objective.has_pseudo_reward:
        reward = objective.reward(step)
        returns = reward if objective.one_step else mdp.action_values(control, reward, discount)
        weighted = control * returns
        # sum_a q(a) grad log pi_th(a) R(a), where grad log pi_th(a) = unit vector of a - pi_th
        update = update - (weighted - student * weighted.sum(axis=1, keepdims=True))
    result: Array = mdp.occupancy(control, discount)[:, None] * update
    return result
