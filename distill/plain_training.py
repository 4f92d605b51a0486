"""The rivals of Bayesian pruning: the same student, deterministic, trained by the same labels.

l1         Adam, then the proximal step of an L1 penalty: w <- sign(w) max(|w| - step size * weight, 0), which,
           unlike a penalty in the loss, reaches exactly zero (Parikh and Boyd 2014, section 6.5.2)
magnitude  gradual magnitude pruning along a cubic schedule (Zhu and Gupta 2017)
dense      nothing is pruned: a small dense student, or a linear one
"""

from __future__ import annotations

from typing import Literal

import torch

from .annealing import annealed
from .optimiser_state import optimiser_state, restore_optimiser
from .replay import Replay
from .sparse_network import SparseNetwork
from .student import Form
from .train import Hyperparameters, blurred

Penalty = Literal["l1", "magnitude", "dense"]
_PRUNE_EVERY = 100  # iterations between two steps of the cubic schedule


def magnitude_density(progress: float, final: float) -> float:
    """Share of weights kept at `progress` in [0, 1]: from 1 at 10 % to `final` at 70 % of the run (Zhu and Gupta)."""
    share = min(max((progress - 0.1) / 0.6, 0.0), 1.0)
    return final + (1.0 - final) * (1.0 - share) ** 3


class PlainTraining:
    """State of one training run of a deterministic student."""

    def __init__(
        self, sizes: tuple[int, ...], numbers: Hyperparameters, seed: int, penalty: Penalty, final_density: float
    ) -> None:
        self.numbers = numbers
        self.penalty = penalty
        self.iteration = 0
        self.error = 0.0
        self.generator = torch.Generator().manual_seed(seed)
        self._final_density = final_density
        form = Form(sizes)
        weight = torch.empty(form.weights)
        for matrix in form.matrices(weight):
            matrix.copy_(torch.randn(matrix.shape, generator=self.generator) * (2.0 / matrix.shape[1]) ** 0.5)
        self.network = SparseNetwork(form, weight, torch.zeros(form.units), torch.ones_like(weight))
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=numbers.learning_rate, fused=True)

    def step(self, replay: Replay) -> None:
        """One iteration on one minibatch."""
        numbers = self.numbers
        self.iteration += 1
        batch = blurred(
            replay.sample(numbers.batch, self.generator, transitions=False), numbers.observation_noise, self.generator
        )
        difference = self.network.act(batch.observations) - batch.teacher_actions
        self.network.backward(difference * (2.0 / difference.numel()))
        self._optimiser.step()
        self.error = float(torch.dot(difference.view(-1), difference.view(-1))) / difference.numel()
        if self.penalty == "l1":
            weight = annealed(self.iteration, numbers.iterations, numbers.annealing) / numbers.data_weight
            with torch.no_grad():
                shrunk = (self.network.weight.abs() - numbers.learning_rate * weight).clamp_min_(0.0)
                self.network.weight.copy_(torch.copysign(shrunk, self.network.weight))
        elif self.penalty == "magnitude" and self.iteration % _PRUNE_EVERY == 0:
            density = magnitude_density(self.iteration / numbers.iterations, self._final_density)
            self.network.prune(largest(self.network.weight, round(density * self.network.form.weights)))

    def mask(self) -> torch.Tensor:
        """What has survived so far (weights,)."""
        return (self.network.weight != 0.0).float()

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that `restore` needs."""
        return {
            "generator": self.generator.get_state(),
            **{f"network.{name}": tensor for name, tensor in self.network.state().items()},
            **optimiser_state(self._optimiser),
        }

    def restore(self, state: dict[str, torch.Tensor], iteration: int) -> None:
        """Go back to a `state()` taken after `iteration` iterations."""
        self.iteration = iteration
        self.generator.set_state(state["generator"])
        self.network.restore({name: state[f"network.{name}"] for name in self.network.state()})
        restore_optimiser(self._optimiser, state)


def largest(weight: torch.Tensor, keep: int) -> torch.Tensor:
    """A mask (weights,) of the `keep` largest magnitudes; ties go to the lower index."""
    mask = torch.zeros_like(weight)
    mask[torch.argsort(weight.abs(), descending=True, stable=True)[:keep]] = 1.0
    return mask
