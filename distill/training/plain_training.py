"""The rivals of Bayesian pruning: the same student, deterministic, trained by the same labels.

l1         Adam, then the proximal step of an L1 penalty eta / |D| * sum |w| in Adam's own metric (`SparseUpdate`),
           which, unlike a penalty in the loss, reaches exactly zero (Parikh and Boyd 2014, section 6.5.2)
magnitude  gradual magnitude pruning along a cubic schedule (Zhu and Gupta 2017)
dense      nothing is pruned: a small dense student, or a linear one
"""

from __future__ import annotations

from typing import Literal

import torch

from ..datasets.replay import Replay
from .adam import Tracked, corrections
from .annealing import annealed
from .bayesian_training import Hyperparameters
from .descent import Step, Streams
from .sparse_network import SparseNetwork
from .student import Form

Penalty = Literal["l1", "magnitude", "dense"]
_PRUNE_EVERY = 100  # iterations between two steps of the cubic schedule


def magnitude_density(progress: float, final: float) -> float:
    """Share of weights kept at `progress` in [0, 1]: from 1 at 10 % to `final` at 70 % of the run (Zhu and Gupta)."""
    share = min(max((progress - 0.1) / 0.6, 0.0), 1.0)
    return final + (1.0 - final) * (1.0 - share) ** 3


class PlainTraining:
    """State of one training run of a deterministic student."""

    def __init__(
        self, sizes: tuple[int, ...], numbers: Hyperparameters, seed: int, *, penalty: Penalty, final_density: float
    ) -> None:
        self.numbers = numbers
        self.penalty = penalty
        self.iteration = 0
        self._error = torch.zeros(())
        self._final_density = final_density
        self._streams = Streams(seed)
        form = Form(sizes)
        weight = torch.empty(form.weights)
        for matrix in form.matrices(weight):
            deviation = (2.0 / matrix.shape[1]) ** 0.5
            matrix.copy_(torch.randn(matrix.shape, generator=self._streams.generator) * deviation)
        self.network = SparseNetwork(form, weight, torch.zeros(form.units), torch.ones_like(weight))
        self._tracked = Tracked.start(self.network.values)
        self._step = Step(
            form, batch=numbers.batch, observation_noise=numbers.observation_noise, compiled=numbers.compiled
        )

    @property
    def error(self) -> float:
        """Squared error of the newest minibatch."""
        return float(self._error)

    def step(self, replay: Replay) -> None:
        """One iteration on one minibatch."""
        numbers = self.numbers
        self.iteration += 1
        threshold = 0.0
        if self.penalty == "l1":
            weight = annealed(self.iteration, numbers.iterations, numbers.annealing) / numbers.data_weight
            threshold = numbers.learning_rate * weight
        rates = (*corrections(self.iteration, numbers.learning_rate), threshold)
        self._error = self._step(self.network, self._tracked, replay, self._streams, rates=rates)
        due = self.iteration % _PRUNE_EVERY == 0 or self.iteration == numbers.iterations
        if self.penalty == "magnitude" and due:
            density = magnitude_density(self.iteration / numbers.iterations, self._final_density)
            self.network.prune(largest(self.network.weight, round(density * self.network.form.weights)))

    def mask(self) -> torch.Tensor:
        """What has survived so far (weights,): for l1 what is not zero, which may yet come back; else the mask."""
        return (self.network.weight != 0.0).float() if self.penalty == "l1" else self.network.mask

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that `restore` needs."""
        moments = {"first": self._tracked.first, "second": self._tracked.second}
        return {**self._streams.state(), **self.network.state(), **moments}

    def restore(self, state: dict[str, torch.Tensor], iteration: int, error: float) -> None:
        """Go back to a `state()` taken after `iteration` iterations, the newest with this `error`."""
        self.iteration, self._error = iteration, torch.tensor(error)
        self._streams.restore(state)
        self.network.restore(state)
        self._tracked.first.copy_(state["first"])
        self._tracked.second.copy_(state["second"])


def largest(weight: torch.Tensor, keep: int) -> torch.Tensor:
    """A mask (weights,) of the `keep` largest magnitudes; ties go to the lower index."""
    mask = torch.zeros_like(weight)
    mask[torch.argsort(weight.abs(), descending=True, stable=True)[:keep]] = 1.0
    return mask
