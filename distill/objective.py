"""The losses of Bayesian Policy Distillation, divided by |D| (Kim et al. 2026, Eq. 12).

    L / |D| = -(h / mean|Q1|) E[Q1(s, pi_w(s))] + mean((pi_w(s) - a)^2) + (eta / |D|) KL(q || p)

|D| is the constant `data_weight`, a sparsity knob independent of the rows collected; actions are divided by half
their range, so the squared error does not depend on the plant's units.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .critic import TwinCritic
from .student import BayesianStudent


@dataclass(frozen=True)
class Batch:
    """One minibatch: observations normalised (batch, inputs), actions in [-1, 1] (batch, actions)."""

    observations: torch.Tensor
    executed_actions: torch.Tensor
    teacher_actions: torch.Tensor
    rewards: torch.Tensor  # (batch,)
    next_observations: torch.Tensor
    terminated: torch.Tensor  # (batch,) 1.0 where the episode truly ended; a time limit is no end


def annealed(iteration: int, iterations: int) -> float:
    """KL weight eta = min(2, 4 t / T): zero at first so that the student learns before it forgets."""
    return min(2.0, 4.0 * iteration / iterations)


def student_step(
    student: BayesianStudent,
    batch: Batch,
    generator: torch.Generator,
    *,
    kl_weight: float,
    critic: TwinCritic | None = None,
    value_weight: float = 0.0,
) -> float:
    """Fill the student's gradients from one minibatch; returns the squared error.

    `kl_weight` is eta / |D|, `value_weight` is h (ignored without a critic). The critic's weights get no gradient.
    """
    actions = student.act(batch.observations, generator)
    difference = actions - batch.teacher_actions
    gradient = difference * (2.0 / difference.numel())
    if critic is not None and value_weight > 0.0:
        probed = actions.clone().requires_grad_()
        values = critic.first(batch.observations, probed)
        scale = value_weight / float(values.detach().abs().mean().clamp_min(1e-8))
        (by_action,) = torch.autograd.grad(values.mean(), probed)
        gradient -= scale * by_action
    student.backward(gradient, kl_weight)
    return float(torch.dot(difference.view(-1), difference.view(-1))) / difference.numel()


def critic_loss(
    critic: TwinCritic,
    critic_target: TwinCritic,
    student_target: BayesianStudent,
    batch: Batch,
    generator: torch.Generator,
    *,
    gamma: float,
) -> torch.Tensor:
    """Temporal-difference loss of both critics towards y = r + (1 - d) gamma min_i Q_i'(s', pi'(s')); scalar.

    The critics learn from the executed actions; the target student's own weight noise smooths the target.
    """
    with torch.no_grad():
        next_actions = student_target.act(batch.next_observations, generator)
        next_values = critic_target(batch.next_observations, next_actions).min(dim=0).values
        target = batch.rewards + gamma * (1.0 - batch.terminated) * next_values
    values = critic(batch.observations, batch.executed_actions)
    return torch.mean((values - target) ** 2) * 2.0
