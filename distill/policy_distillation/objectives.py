"""The table of "Distilling Policy Distillation" (Czarnecki et al., AISTATS 2019, arXiv 1902.02186).

A row is an `Objective`.

All rows are one update of the student's parameters theta, taken downhill (equation 1 of the paper):

    E_q[ sum_t  -grad log pi_th(a_t|s_t) * Rhat_t + grad l(pi_th, s_t) ],   Rhat_t = sum_{i>=t} rhat_i

with the control policy q that chooses the actions, the per-step loss l and the pseudo-reward rhat. pi is the teacher,
pi_th the student, Hx(p||q) = -E_{a~p} log q(a) the cross entropy. A pseudo-reward is a constant: nothing is
differentiated through it.

A row's loss and pseudo-reward are plain arithmetic, so they serve numbers, numpy arrays and torch tensors alike, and
discrete and continuous actions. They are linear in everything but the two values that "+ V cond" compares. So a caller
who knows the gradients of the cross entropies may put them in the place of the cross entropies and gets the gradient of
the loss; one who knows expectations gets the expected pseudo-reward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import DistillError

Control = Literal["teacher", "student"]

LOG_PROBABILITY_FLOOR = math.log(1e-4)
"""Smallest log pi(a|s), in nats: a deterministic teacher gives actions a probability of 0, whose logarithm would make
one sampled action outweigh everything else. Callers clip the teacher's log probabilities at it."""


@dataclass(frozen=True)
class Quantities:
    """What rows are made of, at every step t of trajectories; all of one shape, or shapes that broadcast.

    None where not computed. `next_*` belongs to step t + 1 and is 0 past the end of an episode; a caller who discounts
    by gamma gives `next_*` multiplied by gamma (so that the row stays the gradient that it is without a discount).
    """

    reward: Any = None
    """r_t, the environment's own reward."""
    forward_cross_entropy: Any = None
    """Hx(pi||pi_th)(s_t), in nats: covers the teacher's modes."""
    next_forward_cross_entropy: Any = None
    """Hx(pi||pi_th)(s_{t+1})."""
    reverse_cross_entropy: Any = None
    """Hx(pi_th||pi)(s_t): seeks one mode; alone its minimum is the teacher's likeliest action."""
    teacher_log_probability: Any = None
    """log pi(a_t|s_t), not below LOG_PROBABILITY_FLOOR."""
    next_teacher_log_probability: Any = None
    """log pi(a_{t+1}|s_{t+1}), likewise."""
    student_log_probability: Any = None
    """log pi_th(a_t|s_t), of which no gradient is taken."""
    teacher_value: Any = None
    """V_pi(s_t)."""
    next_teacher_value: Any = None
    """V_pi(s_{t+1})."""
    student_value: Any = None
    """V_th(s_t)."""


Term = Callable[[Quantities], Any]


@dataclass(frozen=True)
class Objective:
    """A row of the table."""

    name: str
    """As the command line spells it."""
    control: Control
    """q: whose actions make the trajectories."""
    loss_term: Term | None = None
    """l of a step; None: 0."""
    loss_uses: frozenset[str] = frozenset()
    """Names of the `Quantities` that it reads."""
    reward_term: Term | None = None
    """rhat of a step; None: 0."""
    reward_uses: frozenset[str] = frozenset()
    """Names of the `Quantities` that it reads."""
    one_step: bool = False
    """Rhat_t is rhat_t alone, not the sum of all that follow."""

    @property
    def uses(self) -> frozenset[str]:
        """Names of all `Quantities` that the row reads."""
        return self.loss_uses | self.reward_uses

    @property
    def needs_environment(self) -> bool:
        """Whether the student has to act, so that a dataset of the teacher is not enough."""
        return self.control == "student"

    @property
    def needs_teacher_probabilities(self) -> bool:
        """Whether it reads pi(a|s)."""
        return bool(self.uses & _OF_TEACHER_PROBABILITIES)

    @property
    def needs_teacher_value(self) -> bool:
        """Whether it reads V_pi."""
        return bool(self.uses & {"teacher_value", "next_teacher_value"})

    @property
    def needs_student_value(self) -> bool:
        """Whether it reads V_th, which the caller has to learn beside the student."""
        return "student_value" in self.uses

    @property
    def uses_reward(self) -> bool:
        """Whether it reads the environment's own reward."""
        return "reward" in self.uses

    @property
    def has_pseudo_reward(self) -> bool:
        """Whether Rhat is ever other than 0, so that the log-probability term of the update is needed."""
        return self.reward_term is not None

    def loss(self, quantities: Quantities) -> Any:
        """l(pi_th, s_t), in nats; 0.0 where the row has none.

        Raises:
            DistillError: a quantity that it reads is None.
        """
        return self._of(self.loss_term, self.loss_uses, quantities)

    def reward(self, quantities: Quantities) -> Any:
        """rhat_t; 0.0 where the row has none.

        Raises:
            DistillError: a quantity that it reads is None.
        """
        return self._of(self.reward_term, self.reward_uses, quantities)

    def _of(self, term: Term | None, uses: frozenset[str], quantities: Quantities) -> Any:
        if term is None:
            return 0.0
        missing = sorted(name for name in uses if getattr(quantities, name) is None)
        if missing:
            raise DistillError(
                f"objective {self.name}: got no {', no '.join(missing)}, expected {', '.join(sorted(uses))}; "
                "compute what is missing, or take another objective"
            )
        return term(quantities)


_OF_TEACHER_PROBABILITIES = frozenset(
    {
        "forward_cross_entropy",
        "next_forward_cross_entropy",
        "reverse_cross_entropy",
        "teacher_log_probability",
        "next_teacher_log_probability",
    }
)


def _forward(step: Quantities) -> Any:
    return step.forward_cross_entropy


def _reverse(step: Quantities) -> Any:
    return step.reverse_cross_entropy


def _forward_where_teacher_is_better(step: Quantities) -> Any:
    return (step.teacher_value > step.student_value) * step.forward_cross_entropy


def _teacher_log_probability(step: Quantities) -> Any:
    return step.teacher_log_probability


def _reward(step: Quantities) -> Any:
    return step.reward


_FORWARD: dict[str, Any] = {"loss_term": _forward, "loss_uses": frozenset({"forward_cross_entropy"})}
_REVERSE: dict[str, Any] = {"loss_term": _reverse, "loss_uses": frozenset({"reverse_cross_entropy"})}


def _row(name: str, control: Control, reads: str = "", reward: Term | None = None, **rest: Any) -> Objective:
    return Objective(name, control, reward_term=reward, reward_uses=frozenset(reads.split()), **rest)


_ROWS = (
    _row("teacher", "teacher", **_FORWARD),
    _row("on-policy", "student", **_FORWARD),
    _row("entropy-regularised", "student", "teacher_log_probability", _teacher_log_probability),
    _row(
        "n-distill",
        "student",
        "next_forward_cross_entropy",
        lambda step: -step.next_forward_cross_entropy,
        **_FORWARD,
    ),
    _row(
        "expected-entropy",
        "student",
        "next_teacher_log_probability",
        lambda step: step.next_teacher_log_probability,
        **_REVERSE,
    ),
    # the paper prints V(s_i) without saying whose; with the student's it would be no gradient (`fields.py`)
    _row(
        "teacher-v-reward",
        "student",
        "reward teacher_value next_teacher_value",
        lambda step: step.reward + step.next_teacher_value - step.teacher_value,
    ),
    _row("on-policy+r", "student", "reward", _reward, **_FORWARD),
    _row(
        "n-distill+r",
        "student",
        "reward next_forward_cross_entropy",
        lambda step: step.reward - step.next_forward_cross_entropy,
        **_FORWARD,
    ),
    _row(
        "expected-entropy+r",
        "student",
        "reward next_teacher_log_probability",
        lambda step: step.reward + step.next_teacher_log_probability,
        **_REVERSE,
    ),
    _row(
        "on-policy+r+v-cond",
        "student",
        "reward",
        _reward,
        loss_term=_forward_where_teacher_is_better,
        loss_uses=frozenset({"forward_cross_entropy", "teacher_value", "student_value"}),
    ),
    _row(
        "kl-regularised",
        "student",
        "teacher_log_probability student_log_probability",
        lambda step: step.teacher_log_probability - step.student_log_probability,
    ),
    _row(
        "td+v",
        "student",
        "reward next_teacher_value",
        lambda step: step.reward + step.next_teacher_value,
        one_step=True,
    ),
)

OBJECTIVES: dict[str, Objective] = {row.name: row for row in _ROWS}


def objective_named(name: str) -> Objective:
    """The row of this name.

    Raises:
        DistillError: there is none.
    """
    if name not in OBJECTIVES:
        raise DistillError(f"--objective: got {name!r}, expected one of {', '.join(OBJECTIVES)}; choose one of them")
    return OBJECTIVES[name]


def check(
    objective: Objective,
    *,
    teacher_has_probabilities: bool,
    teacher_has_value: bool,
    environment: bool,
) -> None:
    """Refuse an objective that reads what is not there.

    Args:
        objective: a row.
        teacher_has_probabilities: the teacher says pi(a|s), or a Gaussian is put around its action.
        teacher_has_value: the teacher brings V_pi, or one was learned.
        environment: the student can act.

    Raises:
        DistillError: names the first thing that is missing and the objectives that do without it.
    """

    def rows(without: Callable[[Objective], bool]) -> str:
        return ", ".join(row.name for row in _ROWS if not without(row))

    if objective.needs_environment and not environment:
        raise DistillError(
            f"objective {objective.name}: got a dataset alone, expected an environment that the student acts in; name "
            f"one, or take {rows(lambda row: row.needs_environment)}"
        )
    if objective.needs_teacher_probabilities and not teacher_has_probabilities:
        raise DistillError(
            f"objective {objective.name}: got a teacher without action probabilities, expected pi(a|s); put a Gaussian "
            f"around its actions, or take {rows(lambda row: row.needs_teacher_probabilities)}"
        )
    if objective.needs_teacher_value and not teacher_has_value:
        raise DistillError(
            f"objective {objective.name}: got a teacher without a value function, expected V_pi; take a teacher file "
            f"with a critic, or one of {rows(lambda row: row.needs_teacher_value)}"
        )
