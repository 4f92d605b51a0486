"""Bayesian Policy Distillation as one would write it first: modules, autograd, an optimiser per network.

The yardstick of training_speed.py. It computes what `BayesianTraining` computes (same losses, sizes, noise and
schedule), with nothing done for speed; initial means and the clipped KL are always the published ones.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import torch

from distill.datasets.replay import Replay
from distill.training.bayesian_training import Hyperparameters


class BayesianLinear(torch.nn.Module):
    """Gaussian weights, local reparameterisation, fitted log-uniform KL."""

    def __init__(self, inputs: int, outputs: int, official: bool) -> None:
        super().__init__()
        self.official = official
        self.theta = torch.nn.Parameter(torch.randn(outputs, inputs) * 0.02)
        self.log_sigma = torch.nn.Parameter(torch.full((outputs, inputs), -5.0))
        self.bias = torch.nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Noisy outputs (batch, outputs)."""
        mean = torch.nn.functional.linear(x, self.theta, self.bias)
        variance = torch.exp(self.log_sigma * 2.0)
        if self.official:
            deviation = torch.nn.functional.linear(torch.abs(x), variance)
        else:
            deviation = torch.sqrt(torch.nn.functional.linear(x**2, variance) + 1e-8)
        return mean + deviation * torch.randn_like(mean)

    def kl(self) -> torch.Tensor:
        """Scalar."""
        log_alpha = torch.clamp(self.log_sigma * 2.0 - torch.log(self.theta**2 + 1e-16), -8.0, 8.0)
        negative = 0.63576 * torch.sigmoid(1.87320 + 1.48695 * log_alpha) - 0.5 * torch.log1p(torch.exp(-log_alpha))
        return -(negative - 0.63576).sum()


class Student(torch.nn.Module):
    """Bayesian perceptron."""

    def __init__(self, sizes: tuple[int, ...], official: bool) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(BayesianLinear(a, b, official) for a, b in pairwise(sizes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Actions (batch, actions)."""
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return torch.tanh(self.layers[-1](x))

    def kl(self) -> Any:
        """Sum over layers."""
        return sum(layer.kl() for layer in self.layers)


class Critics(torch.nn.Module):
    """Two value networks."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.one, self.two = (
            torch.nn.Sequential(
                *(torch.nn.Linear(inputs, 256), torch.nn.ReLU()),
                *(torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1)),
            )
            for _ in range(2)
        )

    def forward(self, states: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both values (batch, 1)."""
        pair = torch.cat((states, actions), dim=1)
        return self.one(pair), self.two(pair)


class PlainTraining:
    """One run; actions are within +-1."""

    def __init__(self, sizes: tuple[int, ...], numbers: Hyperparameters) -> None:
        self.numbers = numbers
        self.iteration = 0
        self.generator = torch.Generator().manual_seed(0)
        self.student = Student(sizes, numbers.noise == "official")
        self.optimiser = torch.optim.Adam(self.student.parameters(), lr=numbers.learning_rate)
        self.critics: Critics | None = None
        if numbers.value_weight > 0.0:
            self.critics = Critics(sizes[0] + sizes[-1])
            self.critic_optimiser = torch.optim.Adam(self.critics.parameters(), lr=3e-4)
            self.critics_target = copy.deepcopy(self.critics)
            self.student_target = copy.deepcopy(self.student)

    def step(self, replay: Replay) -> None:
        """One iteration."""
        numbers = self.numbers
        batch = replay.sample(numbers.batch, self.generator, transitions=self.critics is not None)
        self.iteration += 1
        if self.critics is not None:
            with torch.no_grad():
                following = self.critics_target(batch.next_observations, self.student_target(batch.next_observations))
                lesser = torch.min(*following)
                goal = batch.rewards[:, None] + (1.0 - batch.terminated[:, None]) * numbers.gamma * lesser
            one, two = self.critics(batch.observations, batch.executed_actions)
            loss = torch.nn.functional.mse_loss(one, goal) + torch.nn.functional.mse_loss(two, goal)
            self.critic_optimiser.zero_grad()
            loss.backward()
            self.critic_optimiser.step()
            if self.iteration % 2:
                return
        observations = batch.observations
        if numbers.observation_noise:
            observations = observations + numbers.observation_noise * torch.randn_like(observations)
        actions = self.student(observations)
        weight = min(2.0, 4.0 * self.iteration / numbers.iterations) / numbers.data_weight
        loss = torch.nn.functional.mse_loss(actions, batch.teacher_actions) + weight * self.student.kl()
        if self.critics is not None:
            value = self.critics.one(torch.cat((observations, actions), dim=1))  # one critic, as published
            loss = loss - numbers.value_weight / value.abs().mean().detach() * value.mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        if self.critics is not None:
            for target, source in ((self.critics_target, self.critics), (self.student_target, self.student)):
                for old, new in zip(target.parameters(), source.parameters(), strict=True):
                    old.data.copy_(numbers.tau * new.data + (1.0 - numbers.tau) * old.data)
