"""Twin critics as in TD3: both evaluated in one batched matrix product."""

from __future__ import annotations

import itertools

import torch


class TwinCritic(torch.nn.Module):
    """Two Q networks (observation + action -> 256 -> 256 -> 1), their weights stacked on a leading axis of two."""

    def __init__(self, inputs: int, generator: torch.Generator, hidden: tuple[int, ...] = (256, 256)) -> None:
        super().__init__()
        sizes = (inputs, *hidden, 1)
        self.weights = torch.nn.ParameterList()
        self.biases = torch.nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            bound = fan_in**-0.5
            uniform = torch.rand(2, fan_in, fan_out, generator=generator) * 2 - 1
            self.weights.append(torch.nn.Parameter(uniform * bound))
            self.biases.append(torch.nn.Parameter(torch.zeros(2, 1, fan_out)))

    def forward(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Values (2, batch) of normalised observations and actions."""
        pair = torch.cat((observations, actions), dim=1)
        return self._chain(pair.expand(2, *pair.shape), slice(None))

    def first(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Values (batch,) of the first critic alone, without gradient to its weights: the actor's step."""
        pair = torch.cat((observations, actions), dim=1)
        return self._chain(pair[None], slice(0, 1), detach=True)[0]

    def _chain(self, hidden: torch.Tensor, which: slice, *, detach: bool = False) -> torch.Tensor:
        last = len(self.weights) - 1
        for index in range(last + 1):
            weight, bias = self.weights[index][which], self.biases[index][which]
            if detach:
                weight, bias = weight.detach(), bias.detach()
            hidden = torch.baddbmm(bias, hidden, weight)
            if index < last:
                hidden = torch.relu(hidden)
        return hidden[..., 0]


def follow(target: list[torch.Tensor], source: list[torch.Tensor], tau: float) -> None:
    """Polyak averaging: target += tau (source - target)."""
    with torch.no_grad():
        torch._foreach_lerp_(target, source, tau)
