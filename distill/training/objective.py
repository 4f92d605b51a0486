"""The gradients of Bayesian Policy Distillation's losses, divided by |D| (Kim et al. 2026, Eq. 12).

    L / |D| = -(h / mean|Q1|) E[Q1(s, pi_w(s))] + mean(c (pi_w(s) - a)^2) + (eta / |D|) KL(q || p)

|D| is the constant `data_weight`, a sparsity knob independent of the rows collected; actions are divided by half
their range, so the squared error does not depend on the plant's units (the published code takes them as they are).
c, the weight of each error, is this project's own (teachers/error_costs.py) and 1 in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..priors import Prior
from .critic import CriticForm, critic_backward, critic_forward, first_by_action
from .noise import normals
from .student import Form, backward, forward, prior_gradient


@dataclass(frozen=True)
class Batch:
    """One minibatch: observations normalised (batch, inputs), actions in [-1, 1] (batch, actions)."""

    observations: torch.Tensor
    executed_actions: torch.Tensor
    teacher_actions: torch.Tensor
    rewards: torch.Tensor  # (batch,)
    next_observations: torch.Tensor
    terminated: torch.Tensor  # (batch,) 1.0 where the episode truly ended; a time limit is no end
    error_weights: torch.Tensor  # (batch, actions) of the squared errors; 1 where errors are not weighed


@dataclass(frozen=True)
class FollowedBatch(Batch):
    """And what the teacher would do where each row led."""

    next_teacher_actions: torch.Tensor  # (batch, actions) 0 where not known
    known: torch.Tensor  # (batch,) 1.0 where they are: not at the end of an episode


@dataclass(frozen=True)
class Objective:
    """What is minimised, apart from the numbers: one object that the compiler can treat as constant."""

    student: Form
    prior: Prior
    critic: CriticForm | None = None
    value_weight: float = 0.0
    """h; 0 leaves the critics out of the student's loss."""
    gamma: float = 0.99
    observation_noise: float = 0.0
    """Standard deviation of noise on the student's normalised observations; critics see the states as they were."""
    middle: tuple[float, ...] | None = None
    """With `half`: loss and critics take raw actions, middle + half * share (the published code); else shares."""
    half: tuple[float, ...] | None = None

    def bits(self, batch: int) -> int:
        """Random 32-bit integers for one step of the student: weights' noise, then observations'; even."""
        count = batch * (self.student.units + (self.student.sizes[0] if self.observation_noise else 0))
        return count + count % 2

    def target_bits(self, batch: int) -> int:
        """Random 32-bit integers for one step of the critics; even."""
        count = batch * self.student.units
        return count + count % 2


def student_gradient(
    objective: Objective,
    values: torch.Tensor,
    observations: torch.Tensor,
    teacher_actions: torch.Tensor,
    error_weights: torch.Tensor,
    *,
    bits: torch.Tensor,
    kl_weight: torch.Tensor,
    critic_values: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient (..., 2 weights + units) of the student's loss on a minibatch, and its squared error (...,).

    `observations` (..., batch, inputs), `teacher_actions` and `error_weights` (..., batch, actions), `bits` (...,
    objective.bits(batch)), `kl_weight` is eta / |D|, `critic_values` are read only with h > 0. The squared error that
    is given back is not weighed.
    """
    form = objective.student
    noise = normals(bits)
    for_weights = observations.shape[-2] * form.units
    seen = observations
    if objective.observation_noise:
        blur = noise[..., for_weights : for_weights + observations.shape[-2] * form.sizes[0]]
        seen = observations + objective.observation_noise * blur.view(observations.shape)
    steps = forward(form, values, seen, noise[..., :for_weights])
    actions = steps[-1].output
    difference = actions - teacher_actions
    half = _row(objective.half, actions)
    if half is not None:
        difference = difference * half
    count = difference.shape[-1] * difference.shape[-2]
    error = (difference * difference).sum(dim=(-2, -1)) / count
    upstream = difference * error_weights * (2.0 / count)
    if objective.critic is not None and objective.value_weight > 0.0:
        assert critic_values is not None
        pairs = torch.cat((observations, _raw(objective, actions)), dim=-1)
        value, by_action = first_by_action(objective.critic, critic_values, pairs, actions.shape[-1])
        scale = objective.value_weight / value.abs().mean(dim=-1).clamp_min(1e-8) / value.shape[-1]
        upstream = upstream - by_action * scale[..., None, None]
    if half is not None:
        upstream = upstream * half
    by_mean, by_log_sigma, by_bias = backward(form, values, steps, upstream)
    prior_by_mean, prior_by_log_sigma = prior_gradient(form, objective.prior, values)
    by_mean.addcmul_(prior_by_mean, kl_weight)
    by_log_sigma.addcmul_(prior_by_log_sigma, kl_weight)
    return torch.cat((by_mean, by_log_sigma, by_bias), dim=-1), error


def critic_gradient(
    objective: Objective,
    values: torch.Tensor,
    target_values: torch.Tensor,
    student_target: torch.Tensor,
    batch: Batch,
    *,
    bits: torch.Tensor,
) -> torch.Tensor:
    """Gradient (..., count) of both critics' squared distance to y = r + (1 - d) gamma min_i Q_i'(s', pi'(s')).

    The critics learn from the executed actions; the target student's own weight noise smooths the target.
    """
    form = objective.critic
    assert form is not None
    both, rows = slice(0, 2), batch.observations.shape[-2]
    noise = normals(bits)[..., : rows * objective.student.units]
    next_actions = forward(objective.student, student_target, batch.next_observations, noise)[-1].output
    pairs = torch.cat((batch.next_observations, _raw(objective, next_actions)), dim=-1)
    next_values = critic_forward(form, target_values, pairs, both)[-1].squeeze(-1).amin(dim=-2)
    target = batch.rewards + objective.gamma * (1.0 - batch.terminated) * next_values
    pairs = torch.cat((batch.observations, _raw(objective, batch.executed_actions)), dim=-1)
    steps = critic_forward(form, values, pairs, both)
    upstream = (steps[-1] - target[..., None, :, None]) * (2.0 / rows)
    return critic_backward(form, values, steps, upstream)


def _row(numbers: tuple[float, ...] | None, like: torch.Tensor) -> torch.Tensor | None:
    if numbers is not None and like.is_cuda:  # a capture allows no copy from the host, but constants it does
        return torch.stack([torch.full((), number, dtype=like.dtype, device=like.device) for number in numbers])
    return None if numbers is None else torch.tensor(numbers, dtype=like.dtype, device=like.device)


def _raw(objective: Objective, actions: torch.Tensor) -> torch.Tensor:
    middle, half = _row(objective.middle, actions), _row(objective.half, actions)
    return actions if middle is None or half is None else middle + half * actions
