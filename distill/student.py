"""The student: a perceptron of Bayesian layers with hand-written gradients, and the masked network it turns into.

Every weight is a Gaussian q(w) = N(mean, sigma^2); biases are plain numbers, neither noisy nor pruned. All means lie in
one flat tensor, all log sigmas in another: one call does the prior, one the optimiser. The gradients are written out
because autograd's bookkeeping costs more than the arithmetic at these sizes (tests hold them to autograd's).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from .priors import log_alpha, log_uniform_kl_gradient

_VARIANCE_FLOOR = 1e-8  # keeps the square root differentiable where a layer's inputs are all zero


class BayesianStudent:
    """ReLU hidden layers and a tanh at the end; inputs normalised, outputs in [-1, 1] (shares of half the range).

    `mean`, `log_sigma` (weights,) and `bias` (units,) are the trained tensors; `layer_mean[i]` and so on are views of
    shape (outputs, inputs) or (outputs,).
    """

    def __init__(self, sizes: Sequence[int], generator: torch.Generator, initial_log_sigma: float = -5.0) -> None:
        self.sizes = tuple(sizes)
        self._shapes = [(outputs, inputs) for inputs, outputs in pairwise(self.sizes)]
        weights = sum(outputs * inputs for outputs, inputs in self._shapes)
        self.mean = torch.empty(weights)
        self.log_sigma = torch.full((weights,), initial_log_sigma)
        self.bias = torch.zeros(sum(self.sizes[1:]))
        for tensor in self.parameters():
            tensor.grad = torch.zeros_like(tensor)
        self.layer_mean, self.layer_log_sigma = self._matrices(self.mean), self._matrices(self.log_sigma)
        self.layer_bias = self._units(self.bias)
        self._mean_gradient = self._matrices(_gradient(self.mean))
        self._log_sigma_gradient = self._matrices(_gradient(self.log_sigma))
        self._bias_gradient = self._units(_gradient(self.bias))
        for matrix in self.layer_mean:
            # He-style scale: the published N(0, 0.02) trains more slowly in narrow layers
            matrix.copy_(torch.randn(matrix.shape, generator=generator) * (2.0 / matrix.shape[1]) ** 0.5)
        self._tape: list[tuple[torch.Tensor, ...]] = []

    def _matrices(self, flat: torch.Tensor) -> list[torch.Tensor]:
        parts = torch.split(flat, [outputs * inputs for outputs, inputs in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _units(self, flat: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.split(flat, list(self.sizes[1:])))

    def parameters(self) -> list[torch.Tensor]:
        """The trained tensors, each with its gradient in `.grad`."""
        return [self.mean, self.log_sigma, self.bias]

    def copy(self) -> BayesianStudent:
        """A student with the same numbers."""
        other = BayesianStudent(self.sizes, torch.Generator())
        for target, source in zip(other.parameters(), self.parameters(), strict=True):
            target.copy_(source)
        return other

    @torch.no_grad()
    def act(self, observations: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Noisy actions (batch, actions) for normalised observations (batch, inputs); remembers for `backward`.

        Each layer's output is x mean + b + sqrt(x^2 sigma^2 + 1e-8) * N(0, 1): local reparameterisation (Kingma,
        Salimans, Welling 2015, Eq. 6).
        """
        self._tape = []
        variances = self._matrices(torch.exp(2.0 * self.log_sigma))
        hidden, last = observations, len(self._shapes) - 1
        for index, variance in enumerate(variances):
            squared = hidden * hidden
            deviation = torch.mm(squared, variance.T).add_(_VARIANCE_FLOOR).sqrt_()
            noise = torch.randn(deviation.shape, generator=generator)
            output = torch.addmm(self.layer_bias[index], hidden, self.layer_mean[index].T)
            output.addcmul_(deviation, noise)
            output = output.tanh_() if index == last else output.relu_()
            self._tape.append((hidden, squared, variance, deviation, noise, output))
            hidden = output
        return hidden

    @torch.no_grad()
    def backward(self, action_gradient: torch.Tensor, kl_weight: float) -> None:
        """Gradients of (loss of the last `act`) + kl_weight * KL; `action_gradient` is dloss/daction (batch, actions).

        Overwrites every `.grad`.
        """
        upstream = action_gradient
        last = len(self._tape) - 1
        for index in range(last, -1, -1):
            hidden, squared, variance, deviation, noise, output = self._tape[index]
            # through tanh: 1 - y^2; through ReLU: where the output is positive
            inner = upstream * (1.0 - output * output) if index == last else upstream * (output > 0.0)
            through_variance = inner * noise / deviation  # = 2 dloss/dvariance of the unit
            torch.sum(inner, dim=0, out=self._bias_gradient[index])
            torch.mm(inner.T, hidden, out=self._mean_gradient[index])
            # dvariance/dlog sigma = 2 sigma^2, and the 1/2 of the square root's derivative cancels the 2
            torch.mm(through_variance.T, squared, out=self._log_sigma_gradient[index])
            self._log_sigma_gradient[index].mul_(variance)
            if index > 0:
                upstream = torch.mm(inner, self.layer_mean[index])
                upstream.addcmul_(hidden, torch.mm(through_variance, variance))
        by_mean, by_log_sigma = log_uniform_kl_gradient(self.mean, self.log_sigma)
        _gradient(self.mean).add_(by_mean, alpha=kl_weight)
        _gradient(self.log_sigma).add_(by_log_sigma, alpha=kl_weight)

    def log_alphas(self) -> list[torch.Tensor]:
        """log(sigma^2 / mean^2) of every layer's weights, (outputs, inputs)."""
        return self._matrices(log_alpha(self.mean, self.log_sigma))

    def masked(self, threshold: float) -> MaskedStudent:
        """A deterministic copy without the weights whose log alpha is at or above the threshold."""
        masks = [(value < threshold).to(torch.float32) for value in self.log_alphas()]
        return MaskedStudent(self.layer_mean, self.layer_bias, masks)


def _gradient(tensor: torch.Tensor) -> torch.Tensor:
    assert tensor.grad is not None
    return tensor.grad


class MaskedStudent(torch.nn.Module):
    """Plain weights under a fixed mask; what fine-tuning trains and what is written to the student file."""

    def __init__(
        self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]
    ) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(weight * mask for weight, mask in zip(weights, masks, strict=True))
        self.biases = torch.nn.ParameterList(bias.clone() for bias in biases)
        self.masks = list(masks)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Actions (batch, actions) in [-1, 1] for normalised observations (batch, inputs)."""
        hidden = observations
        last = len(self.masks) - 1
        for index in range(last + 1):
            hidden = torch.nn.functional.linear(hidden, self.weights[index], self.biases[index])
            hidden = torch.tanh(hidden) if index == last else torch.relu(hidden)
        return hidden

    def keep_pruned(self) -> None:
        """Between `backward` and the optimiser's step: no gradient where a weight is pruned, so it stays exactly 0."""
        for weight, mask in zip(self.weights, self.masks, strict=True):
            if weight.grad is not None:
                weight.grad.mul_(mask)

    def chain(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(weight, bias) of each layer; weight exactly 0 where masked."""
        return [
            (weight.detach().clone(), bias.detach().clone())
            for weight, bias in zip(self.weights, self.biases, strict=True)
        ]
