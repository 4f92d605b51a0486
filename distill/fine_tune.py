"""Train a sparse network at its fixed mask, deterministic, with a step size that falls along a cosine."""

from __future__ import annotations

import math

import torch

from .optimiser_state import optimiser_state, restore_optimiser
from .replay import Replay
from .sparse_network import SparseNetwork
from .train import blurred


class FineTuning:
    """One descent of `iterations` steps; the last weights are close to an average because the last steps are small."""

    def __init__(
        self,
        network: SparseNetwork,
        generator: torch.Generator,
        *,
        iterations: int,
        batch: int,
        learning_rate: float,
        observation_noise: float,
        newest: int | None = None,
    ) -> None:
        """Minibatches come from the `newest` rows of the replay (None: all); `generator` is the caller's."""
        self.network = network
        self.iterations = iterations
        self.iteration = 0
        self.error = 0.0
        self._generator = generator
        self._batch = batch
        self._learning_rate = learning_rate
        self._observation_noise = observation_noise
        self._newest = newest
        self._optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)

    def step(self, replay: Replay) -> None:
        """One minibatch; `error` keeps a running mean of the squared error (shares of half the action range)."""
        share = 0.505 + 0.495 * math.cos(math.pi * self.iteration / self.iterations)  # to a hundredth
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate * share
        rows = replay.sample(self._batch, self._generator, transitions=False, newest=self._newest)
        batch = blurred(rows, self._observation_noise, self._generator)
        difference = self.network.act(batch.observations) - batch.teacher_actions
        self.network.backward(difference * (2.0 / difference.numel()))
        self._optimiser.step()
        if self.iteration % 100 == 0:
            squared = float(torch.dot(difference.view(-1), difference.view(-1))) / difference.numel()
            self.error = squared if self.error == 0.0 else 0.9 * self.error + 0.1 * squared
        self.iteration += 1

    def state(self) -> dict[str, torch.Tensor]:
        """The tensors that `restore` needs, except the generator, which is the caller's."""
        return {
            **{f"network.{name}": tensor for name, tensor in self.network.state().items()},
            **optimiser_state(self._optimiser),
        }

    def restore(self, state: dict[str, torch.Tensor], iteration: int, error: float) -> None:
        """Go back to a `state()` of a descent with the same numbers, taken at this iteration with this error."""
        self.iteration, self.error = iteration, error
        self.network.restore({name: state[f"network.{name}"] for name in self.network.state()})
        restore_optimiser(self._optimiser, state)
