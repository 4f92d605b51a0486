"""One step of a sparse network by an objective that has a pseudo-reward."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol

import torch

from ..datasets.replay import Replay
from ..policy_distillation.objectives import Objective, Quantities
from ..training.adam import Tracked, adam_step
from ..training.descent import Streams
from ..training.objective import FollowedBatch
from ..training.sparse_network import SparseNetwork, forward, masked_gradient
from .gaussian import Gaussian, quantities
from .pseudo_critic import PseudoCritic

_WARM_UP = 2_000  # steps of the critics alone: until then their gradient is noise


@dataclass(frozen=True)
class Guidance:
    """What is minimised, and with which numbers."""

    objective: Objective
    gaussian: Gaussian
    gamma: float
    reward_weight: float
    """Nats that one unit of the environment's reward is worth."""
    batch: int
    observation_noise: float
    judge: TeacherJudge | None = None
    """The teacher's own critics, for objectives that ask for its value."""
    reward_by_judge: bool = False
    """Whether the environment's reward reaches the student through them alone, not through learned ones."""

    @property
    def critic_is_idle(self) -> bool:
        """Whether the pseudo-reward that learned critics would see is 0 everywhere."""
        return self.reward_by_judge and self.objective.reward_uses <= {"reward"}


class TeacherJudge(Protocol):
    """Q_pi of normalised observations (batch, observation) and actions as shares of half their range."""

    def values(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """(batch,)"""

    def by_action(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """dQ/da (batch, action)."""


def _column(values: torch.Tensor | None) -> torch.Tensor | None:
    return None if values is None else values[:, None]


class GuidedStep:
    """Steps down the objective's loss, and up its pseudo-reward through critics that outlive one descent."""

    def __init__(self, guidance: Guidance, critic: PseudoCritic) -> None:
        self._guidance = guidance
        self._critic = critic

    @torch.no_grad()
    def __call__(
        self,
        network: SparseNetwork,
        tracked: Tracked,
        replay: Replay,
        streams: Streams,
        *,
        rates: tuple[float, float, float],
        newest: int | None = None,
    ) -> torch.Tensor:
        """One step on one minibatch; the squared error (), shares of half the action range."""
        guidance = self._guidance
        look = self._look if guidance.critic_is_idle else self._learn_critic
        while self._critic.steps < _WARM_UP and not guidance.critic_is_idle:
            self._learn_critic(network, replay, streams, newest)
        batch, action, known = look(network, replay, streams, newest)
        blurred = batch.observations
        if guidance.observation_noise:
            blur = torch.randn(blurred.shape, generator=streams.generator)
            blurred = blurred + guidance.observation_noise * blur
        hidden = forward(network.form, network.values, blurred)
        # rows of the table are linear in the cross entropies: with gradients in their place they give the loss's
        by_action = guidance.gaussian.cross_entropy_gradient(hidden[-1] - batch.teacher_actions)
        in_place = dataclasses.replace(
            known,
            forward_cross_entropy=by_action,
            reverse_cross_entropy=by_action,
            teacher_value=_column(known.teacher_value),
            student_value=_column(known.student_value),
        )
        loss = guidance.objective.loss(in_place)
        value = torch.zeros_like(action)
        if not guidance.critic_is_idle:
            value = self._critic.by_action(torch.cat((batch.observations, hidden[-1]), dim=-1))
        if guidance.reward_by_judge and guidance.judge is not None:
            value = value + guidance.reward_weight * guidance.judge.by_action(batch.observations, hidden[-1])
        # times the variance, so that the loss of pure cloning is the squared error's half
        upstream = (loss - value) * (guidance.gaussian.spread**2 / len(value))
        gradient = masked_gradient(network.form, network.values, hidden, upstream, network.mask)
        adam_step(tracked, gradient, torch.tensor(rates[:2]))
        network.weight.mul_(network.mask)  # moments from before a weight was pruned would move it away from 0 again
        return ((action - batch.teacher_actions) ** 2).mean()

    def _learn_critic(
        self, network: SparseNetwork, replay: Replay, streams: Streams, newest: int | None
    ) -> tuple[FollowedBatch, torch.Tensor, Quantities]:
        """One step of the critics; returns what `_look` does."""
        batch, action, known = self._look(network, replay, streams, newest)
        next_action = network.act(batch.next_observations)
        rewards = self._guidance.objective.reward(known)
        # of an episode's last row it is not known what the teacher would have done next; past an end nothing is asked
        counts = torch.maximum(batch.known, batch.terminated)
        pairs = torch.cat((batch.observations, batch.executed_actions), dim=-1)
        next_pairs = torch.cat((batch.next_observations, next_action), dim=-1)
        self._critic.step(pairs, next_pairs, rewards, batch.terminated, counts)
        return batch, action, known

    def _look(
        self, network: SparseNetwork, replay: Replay, streams: Streams, newest: int | None
    ) -> tuple[FollowedBatch, torch.Tensor, Quantities]:
        """A minibatch, the student's own actions on it, and what is computed of both."""
        guidance = self._guidance
        batch = replay.sample_followed(guidance.batch, streams.generator, newest=newest)
        action, next_action = network.act(batch.observations), network.act(batch.next_observations)
        numbers = {"gamma": guidance.gamma, "reward_weight": guidance.reward_weight}
        known = quantities(guidance.gaussian, batch, action, next_action, **numbers)
        if guidance.judge is not None:
            known = self._judged(known, guidance.judge, batch, action)
        return batch, action, known

    def _judged(self, known: Quantities, judge: TeacherJudge, batch: FollowedBatch, action: torch.Tensor) -> Quantities:
        """With both values, in nats; the student's is what its learned critics say, those of the reward."""
        weight, following = self._guidance.reward_weight, self._guidance.gamma * (1.0 - batch.terminated)
        after = judge.values(batch.next_observations, batch.next_teacher_actions)
        pairs = torch.cat((batch.observations, action), dim=-1)
        return dataclasses.replace(
            known,
            reward=0.0 * known.reward if self._guidance.reward_by_judge else known.reward,
            teacher_value=weight * judge.values(batch.observations, batch.teacher_actions),
            next_teacher_value=weight * following * after,
            student_value=self._critic.values(pairs),
        )
