"""A plain perceptron under a mask, with hand-written gradients: what fine-tuning trains and what is shipped.

All numbers lie in one flat tensor, weights before biases, as in the Bayesian student: one call trains all layers, and
one sort ranks all weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .adam import Tracked, adam_step, step_divisor
from .noise import normals
from .relu import through_relu
from .student import Form

Layers = list[tuple[torch.Tensor, torch.Tensor]]  # (weight (outputs, inputs), bias (outputs,)) of each layer


def forward(form: Form, values: torch.Tensor, observations: torch.Tensor) -> list[torch.Tensor]:
    """What enters each layer, then the actions in [-1, 1]; `observations` (batch, inputs) are normalised."""
    weight, bias = torch.split(values, [form.weights, form.units])
    hidden = [observations]
    for matrix, offset in zip(form.matrices(weight), form.rows(bias), strict=True):
        output = torch.addmm(offset, hidden[-1], matrix.mT)
        hidden.append(torch.tanh(output) if len(hidden) == len(form.shapes) else torch.relu(output))
    return hidden


def backward(
    form: Form, values: torch.Tensor, hidden: list[torch.Tensor], upstream: torch.Tensor
) -> Iterator[tuple[int, torch.Tensor]]:
    """From the last layer to the first: its index and dloss/d(its weighted sum), (batch, outputs).

    `upstream` is dloss/daction (batch, actions).
    """
    weights = form.matrices(values[: form.weights])
    for index in range(len(weights) - 1, -1, -1):
        output = hidden[index + 1]
        last = index == len(weights) - 1
        inner = upstream * (1.0 - output * output) if last else through_relu(upstream, output)
        yield index, inner
        if index > 0:
            upstream = torch.mm(inner, weights[index])


def masked_gradient(
    form: Form, values: torch.Tensor, hidden: list[torch.Tensor], upstream: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Gradient (weights + units,) of a loss whose gradient by the actions is `upstream`; 0 for pruned weights."""
    parts: list[torch.Tensor] = []
    sums: list[torch.Tensor] = []
    for index, inner in backward(form, values, hidden, upstream):
        parts.insert(0, torch.mm(inner.mT, hidden[index]).flatten())
        sums.insert(0, inner.sum(dim=0))
    return torch.cat((torch.cat(parts) * mask, *sums))


class SparseNetwork:
    """ReLU hidden layers and a tanh at the end; inputs normalised, outputs in [-1, 1].

    `values` (weights + units,) are trained, `weight` (weights,) and `bias` (units,) are views of them; `mask`
    (weights,) is 1 where a weight lives and 0 where it is pruned, and `weight` is exactly 0 there at all times.
    """

    def __init__(self, form: Form, weight: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor) -> None:
        self.form = form
        self.mask = mask.clone()
        self.values = torch.cat((weight * mask, bias))
        self.weight, self.bias = torch.split(self.values, [form.weights, form.units])

    @property
    def kept(self) -> int:
        """Weights that are not pruned; some may yet turn out to reach no output."""
        return int(self.mask.count_nonzero())

    def layers(self) -> Layers:
        """Copies of every layer's weight and bias."""
        pairs = zip(self.form.matrices(self.weight), self.form.rows(self.bias), strict=True)
        return [(weight.clone(), bias.clone()) for weight, bias in pairs]

    def act(self, observations: torch.Tensor) -> torch.Tensor:
        """Actions (batch, actions) for normalised observations (batch, inputs)."""
        return forward(self.form, self.values, observations)[-1]

    def curvature(self, observations: torch.Tensor, error_weights: torch.Tensor) -> torch.Tensor:
        """Diagonal of the Gauss-Newton matrix of the mean squared error: (weights,), mean of c_k (daction_k/dweight)^2.

        Observations (batch, inputs) normalised, `error_weights` c (batch, actions); the mean runs over the batch and
        the actions k.
        """
        hidden = forward(self.form, self.values, observations)
        squares = torch.zeros_like(self.weight)
        views = self.form.matrices(squares)
        for action in range(hidden[-1].shape[1]):
            one = torch.zeros_like(hidden[-1])
            one[:, action] = error_weights[:, action].sqrt()
            for index, inner in backward(self.form, self.values, hidden, one):
                views[index].addmm_((inner * inner).T, hidden[index] * hidden[index])
        return squares / hidden[-1].numel()

    def prune(self, mask: torch.Tensor) -> None:
        """Set a new mask (weights,)."""
        self.mask.copy_(mask)
        self.weight.mul_(self.mask)

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that `restore` needs."""
        return {"values": self.values, "mask": self.mask}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go back to a `state()`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


@dataclass(frozen=True)
class SparseUpdate:
    """One training step of a sparse network as a function of tensors alone, which it changes in place."""

    form: Form
    observation_noise: float
    """Standard deviation of noise on the normalised observations."""

    def bits(self, batch: int) -> int:
        """Random 32-bit integers for one step; even."""
        count = batch * self.form.sizes[0] if self.observation_noise else 0
        return count + count % 2

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Values and moments, mask, observations, teacher's actions, weights of errors, bits, rates (3,): Adam's, and
        the L1 step.

        The L1 step is the proximal one in the metric of the optimiser, w <- sign(w) max(|w| - step / (sqrt(v_hat) +
        eps), 0): Adam divides the gradient of the loss by that root, so the penalty's must be, too, or it weighs next
        to nothing (Yun, Lozano, Yang 2021, adaptive proximal gradient methods). Returns the squared error (), without
        its weights.
        """
        tracked, (mask, observations, teacher_actions, error_weights, bits, rates) = Tracked(*tensors[:3]), tensors[3:]
        form, values = self.form, tracked.values
        if self.observation_noise:
            blur = normals(bits)[: observations.numel()].view(observations.shape)
            # input noise penalises the squared gain (Bishop 1995), which amplifies sensor noise and rounding alike
            observations = observations + self.observation_noise * blur
        hidden = forward(form, values, observations)
        difference = hidden[-1] - teacher_actions
        gradient = masked_gradient(form, values, hidden, difference * error_weights * (2.0 / difference.numel()), mask)
        adam_step(tracked, gradient, rates[:2])
        weight = values[: form.weights]
        threshold = rates[2] / step_divisor(tracked.second[: form.weights], rates[1])
        # the mask: moments from before a weight was pruned would move it away from 0 again
        weight.copy_(torch.copysign((weight.abs() - threshold).clamp_min(0.0), weight).mul_(mask))
        return (difference * difference).mean()
