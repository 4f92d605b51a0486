"""Train a sparse network step by step: minibatches, noise and Adam around `SparseUpdate`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch

from ..datasets.replay import Replay
from .adam import Tracked, corrections
from .compiled import Compiled
from .noise import RandomBits
from .sparse_network import SparseNetwork, SparseUpdate
from .student import Form


class Streams:
    """The random streams of a training run: which rows are drawn, and the noise on them."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.bits = RandomBits(seed)

    def state(self) -> dict[str, torch.Tensor]:
        """Where they stand, uint8."""
        return {"generator": self.generator.get_state(), "bits": self.bits.state()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Continue where `state` was taken."""
        self.generator.set_state(state["generator"])
        self.bits.restore(state["bits"])


class TakesSteps(Protocol):
    """One step of training a network at its mask."""

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
        """One step on one minibatch of the `newest` rows (None: all), with Adam's rates and the L1 step; the squared
        error ()."""


class Step:
    """`SparseUpdate` for networks of one form and minibatches of one size; compiled at its first call, if at all."""

    def __init__(self, form: Form, *, batch: int, observation_noise: float, compiled: bool) -> None:
        self.batch = batch
        self._update = SparseUpdate(form, observation_noise)
        self._count = self._update.bits(batch)
        self._run: Callable[..., torch.Tensor] = Compiled(self._update) if compiled else self._update

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
        """One step on one minibatch of the `newest` rows (None: all); the squared error ()."""
        batch = replay.sample(self.batch, streams.generator, transitions=False, newest=newest)
        bits = streams.bits.draw(self._count)
        labelled = batch.observations, batch.teacher_actions, batch.error_weights
        return self._run(*tracked.tensors(), network.mask, *labelled, bits, torch.tensor(rates))


class Descent:
    """Deterministic training at a fixed mask, with a step size that falls along a cosine to a hundredth.

    The last steps are so small that the last weights are close to an average.
    """

    def __init__(
        self,
        network: SparseNetwork,
        step: TakesSteps,
        streams: Streams,
        *,
        iterations: int,
        learning_rate: float,
        newest: int | None = None,
    ) -> None:
        """Minibatches come from the `newest` rows of the replay (None: all); `streams` are the caller's."""
        self.network = network
        self.iterations = iterations
        self.iteration = 0
        self.error = 0.0
        self._step = step
        self._streams = streams
        self._learning_rate = learning_rate
        self._newest = newest
        self._tracked = Tracked.start(network.values)

    def step(self, replay: Replay) -> None:
        """One minibatch; `error` keeps a running mean of the squared error (shares of half the action range)."""
        share = 0.505 + 0.495 * math.cos(math.pi * self.iteration / self.iterations)
        rates = (*corrections(self.iteration + 1, self._learning_rate * share), 0.0)
        error = self._step(self.network, self._tracked, replay, self._streams, rates=rates, newest=self._newest)
        if self.iteration % 100 == 0:
            self.error = float(error) if self.error == 0.0 else 0.9 * self.error + 0.1 * float(error)
        self.iteration += 1

    def state(self) -> dict[str, torch.Tensor]:
        """The tensors that `restore` needs, except the streams, which are the caller's."""
        return {**self.network.state(), "first": self._tracked.first, "second": self._tracked.second}

    def restore(self, state: dict[str, torch.Tensor], iteration: int, error: float) -> None:
        """Go back to a `state()` of a descent with the same numbers, taken at this iteration with this error."""
        self.iteration, self.error = iteration, error
        self.network.restore(state)
        self._tracked.first.copy_(state["first"])
        self._tracked.second.copy_(state["second"])
