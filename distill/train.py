"""Train a student: Bayesian Policy Distillation, student-driven labels, pruning, fine-tuning at the mask.

`replay.Replay` holds transitions, `objective` gives the losses, `BayesianTraining` runs iterations, `fine_tune` trains
the survivors; `distillation.py` says in which order, `select.py` picks what is shipped.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .critic import TwinCritic, follow
from .objective import Batch, annealed, critic_loss, student_step
from .replay import Replay
from .student import BayesianStudent, MaskedStudent


@dataclass(frozen=True)
class Hyperparameters:
    """Numbers of the method; the command line's `TrainConfig` carries them with their help."""

    hidden: tuple[int, ...]
    iterations: int
    batch: int
    learning_rate: float
    data_weight: float
    value_weight: float
    gamma: float
    tau: float
    fine_tune_iterations: int
    fine_tune_learning_rate: float
    observation_noise: float


class BayesianTraining:
    """State of one training run: student, critics, optimisers and the random generator that drives both."""

    def __init__(self, sizes: tuple[int, ...], numbers: Hyperparameters, seed: int) -> None:
        self.numbers = numbers
        self.generator = torch.Generator().manual_seed(seed)
        self.student = BayesianStudent(sizes, self.generator)
        self.optimiser = torch.optim.Adam(self.student.parameters(), lr=numbers.learning_rate, fused=True)
        self.iteration = 0
        self.error = 0.0
        self.critic: TwinCritic | None = None
        if numbers.value_weight > 0.0:
            self.critic = TwinCritic(sizes[0] + sizes[-1], self.generator)
            self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=3e-4, fused=True)
            self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
            self.student_target = self.student.copy()

    def step(self, replay: Replay) -> None:
        """One iteration on one minibatch; `self.error` keeps the squared error of the student's newest step."""
        numbers = self.numbers
        batch = replay.sample(numbers.batch, self.generator, transitions=self.critic is not None)
        self.iteration += 1
        if self.critic is not None:
            loss = critic_loss(
                self.critic, self.critic_target, self.student_target, batch, self.generator, gamma=numbers.gamma
            )
            self.critic_optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own annotation
            self.critic_optimiser.step()
            if self.iteration % 2:  # TD3: the actor and the targets move every second step
                return
        self.error = student_step(
            self.student,
            blurred(batch, numbers.observation_noise, self.generator),
            self.generator,
            kl_weight=annealed(self.iteration, numbers.iterations) / numbers.data_weight,
            critic=self.critic,
            value_weight=numbers.value_weight,
        )
        self.optimiser.step()
        if self.critic is not None:
            follow(list(self.critic_target.parameters()), list(self.critic.parameters()), numbers.tau)
            follow(self.student_target.parameters(), self.student.parameters(), numbers.tau)


def blurred(batch: Batch, noise: float, generator: torch.Generator) -> Batch:
    """The batch with Gaussian noise on its observations, for the student only: critics see the states as they were.

    Training with input noise penalises the squared gain (Bishop 1995), and it is the gain that amplifies encoder noise
    and float32 rounding.
    """
    if noise == 0.0:
        return batch
    observations = batch.observations + noise * torch.randn(batch.observations.shape, generator=generator)
    return dataclasses.replace(batch, observations=observations)


def fine_tune(
    masked: MaskedStudent,
    replay: Replay,
    numbers: Hyperparameters,
    seed: int,
    refresh: Callable[[int], None] | None = None,
) -> None:
    """Train the surviving weights, deterministic, under the fixed mask; `refresh(iteration)` may grow the replay.

    The step size falls along a cosine to a hundredth, so that the last weights are an average and not a jump.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    optimiser = torch.optim.Adam(masked.parameters(), lr=numbers.fine_tune_learning_rate, fused=True)
    total = numbers.fine_tune_iterations
    for iteration in range(total):
        if refresh is not None:
            refresh(iteration)
        share = 0.505 + 0.495 * float(np.cos(np.pi * iteration / total))
        for group in optimiser.param_groups:
            group["lr"] = numbers.fine_tune_learning_rate * share
        batch = blurred(
            replay.sample(numbers.batch, generator, transitions=False), numbers.observation_noise, generator
        )
        loss = torch.mean((masked(batch.observations) - batch.teacher_actions) ** 2)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own annotation
        masked.keep_pruned()
        optimiser.step()
