"""Train a sparse network at a fixed mask by an objective that has a pseudo-reward."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Protocol

import torch

from ..datasets.replay import Replay
from ..policy_distillation.objectives import Objective, Quantities
from ..training.adam import Tracked, adam_step, corrections
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


class TeacherJudge(Protocol):
    """Q_pi of normalised observations (batch, observation) and actions as shares of half their range."""

    def values(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """(batch,)"""

    def by_action(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """dQ/da (batch, action)."""


def _column(values: torch.Tensor | None) -> torch.Tensor | None:
    return None if values is None else values[:, None]


class GuidedDescent:
    """`Descent` with the objective's loss, and its pseudo-reward through critics that outlive one descent."""

    def __init__(
        self,
        network: SparseNetwork,
        guidance: Guidance,
        critic: PseudoCritic,
        streams: Streams,
        *,
        iterations: int,
        learning_rate: float,
        newest: int | None,
    ) -> None:
        self.network = network
        self.iterations = iterations
        self.iteration = 0
        self.error = 0.0
        self._guidance = guidance
        self._critic = critic
        self._streams = streams
        self._learning_rate = learning_rate
        self._newest = newest
        self._tracked = Tracked.start(network.values)

    @torch.no_grad()
    def step(self, replay: Replay) -> None:
        """One minibatch; `error` keeps a running mean of the squared error (shares of half the action range)."""
        while self._critic.steps < _WARM_UP:
            self._learn_critic(replay)
        batch, action, known = self._learn_critic(replay)
        guidance, network = self._guidance, self.network
        blurred = batch.observations
        if guidance.observation_noise:
            blur = torch.randn(blurred.shape, generator=self._streams.generator)
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
        value = self._critic.by_action(torch.cat((batch.observations, hidden[-1]), dim=-1))
        if guidance.reward_by_judge and guidance.judge is not None:
            value = value + guidance.reward_weight * guidance.judge.by_action(batch.observations, hidden[-1])
        # times the variance, so that the loss of pure cloning is the squared error's half
        upstream = (loss - value) * (guidance.gaussian.spread**2 / len(value))
        gradient = masked_gradient(network.form, network.values, hidden, upstream, network.mask)
        share = 0.505 + 0.495 * math.cos(math.pi * self.iteration / self.iterations)
        rates = torch.tensor(corrections(self.iteration + 1, self._learning_rate * share))
        adam_step(self._tracked, gradient, rates)
        network.weight.mul_(network.mask)  # moments from before a weight was pruned would move it away from 0 again
        if self.iteration % 100 == 0:
            error = float(((action - batch.teacher_actions) ** 2).mean())
            self.error = error if self.error == 0.0 else 0.9 * self.error + 0.1 * error
        self.iteration += 1

    def _learn_critic(self, replay: Replay) -> tuple[FollowedBatch, torch.Tensor, Quantities]:
        """One step of the critics; the minibatch, the student's own actions on it, and what was computed of both."""
        guidance = self._guidance
        batch = replay.sample_followed(guidance.batch, self._streams.generator, newest=self._newest)
        action, next_action = self.network.act(batch.observations), self.network.act(batch.next_observations)
        numbers = {"gamma": guidance.gamma, "reward_weight": guidance.reward_weight}
        known = quantities(guidance.gaussian, batch, action, next_action, **numbers)
        if guidance.judge is not None:
            known = self._judged(known, guidance.judge, batch, action)
        rewards = guidance.objective.reward(known)
        # of an episode's last row it is not known what the teacher would have done next; past an end nothing is asked
        counts = torch.maximum(batch.known, batch.terminated)
        pairs = torch.cat((batch.observations, batch.executed_actions), dim=-1)
        next_pairs = torch.cat((batch.next_observations, next_action), dim=-1)
        self._critic.step(pairs, next_pairs, rewards, batch.terminated, counts)
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

    def state(self) -> dict[str, torch.Tensor]:
        """The tensors that `restore` needs, except the streams and the critics, which are the caller's."""
        return {**self.network.state(), "first": self._tracked.first, "second": self._tracked.second}

    def restore(self, state: dict[str, torch.Tensor], iteration: int, error: float) -> None:
        """Go back to a `state()` of a descent with the same numbers, taken at this iteration with this error."""
        self.iteration, self.error = iteration, error
        self.network.restore(state)
        self._tracked.first.copy_(state["first"])
        self._tracked.second.copy_(state["second"])
