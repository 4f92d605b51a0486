"""Densities of deterministic policies: a Gaussian of one fixed spread is put around both policies' actions.

Actions are shares of half their range, and densities are taken in these units. That is a choice: a density has no
absolute value, and where episodes can end early its constant says how much it is worth to go on. With a spread of 0.1
an action in agreement is worth +1.4 nats a period and dimension, so it is worth to stay alive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..policy_distillation.objectives import LOG_PROBABILITY_FLOOR, Quantities
from ..training.objective import FollowedBatch


@dataclass(frozen=True)
class Gaussian:
    """Both policies' spread."""

    spread: float
    """Standard deviation, as a share of half the action range."""

    def log_density(self, difference: torch.Tensor) -> torch.Tensor:
        """log p(a) [nats] where a - mean = `difference` (..., actions).

        The part that falls with the distance ends at `LOG_PROBABILITY_FLOOR`.
        """
        distance = (difference * difference).sum(dim=-1) / (2.0 * self.spread**2)
        return self._peak(difference.shape[-1]) - distance.clamp_max(-LOG_PROBABILITY_FLOOR)

    def cross_entropy(self, difference: torch.Tensor) -> torch.Tensor:
        """Hx [nats] of two Gaussians whose means are `difference` (..., actions) apart, either way round."""
        return 0.5 * difference.shape[-1] - self.log_density(difference)

    def cross_entropy_gradient(self, difference: torch.Tensor) -> torch.Tensor:
        """Gradient (..., actions) of both cross entropies by the student's action, `difference` = student - teacher.

        Without the floor: an action far off must still be told where to go.
        """
        return difference / self.spread**2

    def _peak(self, actions: int) -> float:
        return -actions * math.log(self.spread * math.sqrt(2.0 * math.pi))


def quantities(
    gaussian: Gaussian,
    batch: FollowedBatch,
    action: torch.Tensor,
    next_action: torch.Tensor,
    *,
    gamma: float,
    reward_weight: float,
) -> Quantities:
    """What pseudo-rewards are made of, (batch,) each: for the executed action, then on by the student.

    `action` and `next_action` (batch, actions) are the student's own at both observations. What follows is an
    expectation over the student's Gaussian; it is 0 past the end of an episode, and discounted.
    """
    following = gamma * (1.0 - batch.terminated)
    cross_entropy = gaussian.cross_entropy(next_action - batch.next_teacher_actions)
    return Quantities(
        reward=reward_weight * batch.rewards,
        next_forward_cross_entropy=following * cross_entropy,
        forward_cross_entropy=gaussian.cross_entropy(action - batch.teacher_actions),
        reverse_cross_entropy=gaussian.cross_entropy(action - batch.teacher_actions),
        teacher_log_probability=gaussian.log_density(batch.executed_actions - batch.teacher_actions),
        next_teacher_log_probability=-following * cross_entropy,
        student_log_probability=gaussian.log_density(batch.executed_actions - action),
    )
