"""Twin critics as in TD3, evaluated in one batched matrix product, with hand-written gradients.

Two Q networks (observation + action -> 256 -> 256 -> 1) side by side on an axis of two; their numbers lie in one flat
tensor. Leading axes of students are optional.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch

from ..config import Precision
from .precision import affine, product
from .relu import through_relu


@dataclass(frozen=True)
class CriticForm:
    """What a pair of critics is, apart from its numbers."""

    sizes: tuple[int, ...]  # inputs, hidden widths, 1
    precision: Precision = "float32"

    def layers(self, values: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Flat numbers (..., count) as views: weight (..., 2, inputs, outputs), bias (..., 2, 1, outputs)."""
        shapes = [shape for a, b in pairwise(self.sizes) for shape in ((2, a, b), (2, 1, b))]
        parts = torch.split(values, [math.prod(shape) for shape in shapes], dim=-1)
        views = [part.view(*part.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)]
        return list(zip(views[::2], views[1::2], strict=True))

    def fresh(self, generator: torch.Generator) -> torch.Tensor:
        """Numbers of a new pair (count,): uniform weights within 1 / sqrt(inputs), biases zero."""
        values = torch.zeros(sum(2 * (a + 1) * b for a, b in pairwise(self.sizes)))
        for weight, _ in self.layers(values):
            uniform = torch.rand(weight.shape, generator=generator) * 2 - 1
            weight.copy_(uniform * weight.shape[-2] ** -0.5)
        return values


def critic_forward(form: CriticForm, values: torch.Tensor, pairs: torch.Tensor, which: slice) -> list[torch.Tensor]:
    """Every layer's input and, last, the values (..., critics, batch, 1) of observation-action `pairs` (..., batch, n).

    `which` picks critics: slice(0, 2) both, slice(0, 1) the first.
    """
    hidden = pairs.unsqueeze(-3)
    steps = [hidden]
    layers = form.layers(values)
    for index, (weight, bias) in enumerate(layers):
        hidden = affine(bias[..., which, :, :], hidden, weight[..., which, :, :], form.precision)
        if index < len(layers) - 1:
            hidden = hidden.relu_()
        steps.append(hidden)
    return steps


def critic_backward(
    form: CriticForm, values: torch.Tensor, steps: list[torch.Tensor], upstream: torch.Tensor
) -> torch.Tensor:
    """Gradient (..., count) of a loss whose gradient by both critics' values is `upstream` (..., 2, batch, 1)."""
    layers = form.layers(values)
    gradients: list[torch.Tensor] = []
    for index in range(len(layers) - 1, -1, -1):
        weight = product(steps[index].mT, upstream, form.precision).flatten(-3)
        gradients = [weight, upstream.sum(dim=-2).flatten(-2), *gradients]
        if index > 0:
            upstream = through_relu(product(upstream, layers[index][0].mT, form.precision), steps[index])
    return torch.cat(gradients, dim=-1)


def first_by_action(
    form: CriticForm, values: torch.Tensor, pairs: torch.Tensor, actions: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first critic's values (..., batch) and dvalue/daction (..., batch, actions), for the actor's step.

    No gradient of the critic's own weights is computed.
    """
    first = slice(0, 1)
    steps = critic_forward(form, values, pairs, first)
    layers = form.layers(values)
    upstream = through_relu(layers[-1][0][..., first, :, :].mT.expand_as(steps[-2]), steps[-2])
    for index in range(len(layers) - 2, 0, -1):
        weight = layers[index][0][..., first, :, :]
        upstream = through_relu(product(upstream, weight.mT, form.precision), steps[index])
    by_pair = product(upstream, layers[0][0][..., first, -actions:, :].mT, form.precision)
    return steps[-1].squeeze(-3).squeeze(-1), by_pair.squeeze(-3)
