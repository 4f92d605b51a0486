"""The student while it is trained: a perceptron of Bayesian layers with hand-written gradients.

Every weight is a Gaussian q(w) = N(mean, sigma^2); biases are plain numbers, neither noisy nor pruned. All trained
numbers lie in one flat tensor: one call does the prior, one the optimiser. The gradients are written out because
autograd's bookkeeping costs more than the arithmetic at these sizes (tests hold them to autograd's). A leading axis of
students is optional everywhere: several students train as one, each on its own minibatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from ..config import NoiseName, Precision
from ..priors import Prior, log_alpha
from .precision import affine, product
from .relu import through_relu

_VARIANCE_FLOOR = 1e-8  # keeps the square root differentiable where a layer's inputs are all zero
_OFFICIAL_DEVIATION = 0.02  # of the published initial means


@dataclass(frozen=True)
class Form:
    """What a student is, apart from its numbers."""

    sizes: tuple[int, ...]
    noise: NoiseName = "correct"
    precision: Precision = "float32"

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(outputs, inputs) of every layer."""
        return [(outputs, inputs) for inputs, outputs in pairwise(self.sizes)]

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(outputs * inputs for outputs, inputs in self.shapes)

    @property
    def units(self) -> int:
        """Number of biases, which is also how many normal numbers a row of a minibatch takes."""
        return sum(self.sizes[1:])

    def matrices(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """(..., weights) as views (..., outputs, inputs)."""
        parts = torch.split(flat, [outputs * inputs for outputs, inputs in self.shapes], dim=-1)
        return [part.view(*part.shape[:-1], *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def rows(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """(..., units) as views (..., outputs)."""
        return list(torch.split(flat, list(self.sizes[1:]), dim=-1))

    def parts(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All numbers (..., 2 weights + units) as views: mean, log sigma, bias."""
        mean, log_sigma, bias = torch.split(values, [self.weights, self.weights, self.units], dim=-1)
        return mean, log_sigma, bias


@dataclass(frozen=True)
class Step:
    """What one layer's forward pass leaves for the backward pass."""

    hidden: torch.Tensor  # (..., batch, inputs)
    spread: torch.Tensor  # hidden^2, or |hidden| with official noise
    deviation: torch.Tensor  # (..., batch, outputs)
    noise: torch.Tensor
    output: torch.Tensor


def forward(form: Form, values: torch.Tensor, observations: torch.Tensor, noise: torch.Tensor) -> list[Step]:
    """One pass through all layers; the actions in [-1, 1] are the last step's output (..., batch, actions).

    A layer's output is x mean + b + sqrt(x^2 sigma^2 + 1e-8) * N(0, 1): local reparameterisation (Kingma, Salimans,
    Welling 2015, Eq. 6). With official noise the deviation is |x| sigma^2, as published. `noise` (..., batch * units)
    are standard normal numbers.
    """
    mean, log_sigma, bias = form.parts(values)
    batch = observations.shape[-2]
    parts = torch.split(noise, [batch * outputs for outputs in form.sizes[1:]], dim=-1)
    variances = form.matrices(torch.exp(2.0 * log_sigma))
    hidden = observations
    steps: list[Step] = []
    layers = zip(form.matrices(mean), form.rows(bias), variances, parts, strict=True)
    for index, (weight, offset, variance, part) in enumerate(layers):
        if form.noise == "official":
            spread = hidden.abs()
            deviation = product(spread, variance.mT, form.precision)
        else:
            spread = hidden * hidden
            deviation = product(spread, variance.mT, form.precision).add_(_VARIANCE_FLOOR).sqrt_()
        drawn = part.view(*part.shape[:-1], batch, weight.shape[-2])
        output = affine(offset.unsqueeze(-2), hidden, weight.mT, form.precision).addcmul_(deviation, drawn)
        output = output.tanh_() if index == len(variances) - 1 else output.relu_()
        steps.append(Step(hidden, spread, deviation, drawn, output))
        hidden = output
    return steps


def backward(form: Form, values: torch.Tensor, steps: Sequence[Step], upstream: torch.Tensor) -> list[torch.Tensor]:
    """Gradient of a loss whose gradient by the actions is `upstream` (..., batch, actions).

    By means (..., weights), by log sigmas (..., weights), by biases (..., units).
    """
    mean, log_sigma, _ = form.parts(values)
    weights = form.matrices(mean)
    doubled = torch.exp(2.0 * log_sigma)
    variances = form.matrices(doubled)
    official = form.noise == "official"
    by_mean: list[torch.Tensor] = []
    by_variance: list[torch.Tensor] = []
    by_bias: list[torch.Tensor] = []
    for index in range(len(steps) - 1, -1, -1):
        step = steps[index]
        # through tanh: 1 - y^2; through ReLU: where the output is positive
        last = index == len(steps) - 1
        inner = upstream * (1.0 - step.output * step.output) if last else through_relu(upstream, step.output)
        through = inner * step.noise
        if not official:
            through.div_(step.deviation)
        by_bias.insert(0, inner.sum(dim=-2))
        by_mean.insert(0, product(inner.mT, step.hidden, form.precision).flatten(-2))
        by_variance.insert(0, product(through.mT, step.spread, form.precision).flatten(-2))
        if index > 0:
            upstream = product(inner, weights[index], form.precision)
            pulled = product(through, variances[index], form.precision)
            # d|x|/dx = 1: hidden values are never negative, and where they are 0 the ReLU lets nothing through
            upstream = upstream.add_(pulled) if official else upstream.addcmul_(step.hidden, pulled)
    # dvariance/dlog sigma = 2 sigma^2; the 1/2 of the square root's derivative cancels the 2
    by_log_sigma = torch.cat(by_variance, dim=-1).mul_(doubled)
    if official:
        by_log_sigma.mul_(2.0)
    return [torch.cat(by_mean, dim=-1), by_log_sigma, torch.cat(by_bias, dim=-1)]


def prior_gradient(form: Form, prior: Prior, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient of the KL by means and by log sigmas, (..., weights) each."""
    mean, log_sigma, _ = form.parts(values)
    if not prior.grouped:
        return prior.gradient(mean, log_sigma)
    layers = zip(form.matrices(mean), form.matrices(log_sigma), strict=True)
    pairs = [prior.gradient(*layer) for layer in layers]
    by_mean, by_log_sigma = (torch.cat([pair[part].flatten(-2) for pair in pairs], dim=-1) for part in (0, 1))
    return by_mean, by_log_sigma


class BayesianStudent:
    """ReLU hidden layers and a tanh at the end; inputs normalised, outputs in [-1, 1] (shares of half the range).

    `values` holds every trained number; `mean`, `log_sigma` (..., weights) and `bias` (..., units) are views of it,
    and `layer_mean[i]` and so on views of those, (..., outputs, inputs) or (..., outputs).
    """

    def __init__(self, form: Form, values: torch.Tensor) -> None:
        self.form = form
        self.values = values
        self.mean, self.log_sigma, self.bias = form.parts(values)
        self.layer_mean, self.layer_log_sigma = form.matrices(self.mean), form.matrices(self.log_sigma)
        self.layer_bias = form.rows(self.bias)

    @staticmethod
    def fresh(form: Form, generator: torch.Generator, initial_log_sigma: float = -5.0) -> BayesianStudent:
        """One student with random means."""
        student = BayesianStudent(form, torch.zeros(2 * form.weights + form.units))
        student.log_sigma.fill_(initial_log_sigma)
        for matrix in student.layer_mean:
            # He-style scale: the published N(0, 0.02^2) trains more slowly in narrow layers
            deviation = _OFFICIAL_DEVIATION if form.noise == "official" else (2.0 / matrix.shape[1]) ** 0.5
            matrix.copy_(torch.randn(matrix.shape, generator=generator) * deviation)
        return student

    def pick(self, index: int) -> BayesianStudent:
        """One of several stacked students, sharing its numbers."""
        return BayesianStudent(self.form, self.values[index])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, hidden widths, actions."""
        return self.form.sizes

    def copy(self) -> BayesianStudent:
        """A student with the same numbers."""
        return BayesianStudent(self.form, self.values.clone())

    def log_alphas(self) -> list[torch.Tensor]:
        """log(sigma^2 / mean^2) of every layer's weights, (..., outputs, inputs)."""
        return self.form.matrices(log_alpha(self.mean, self.log_sigma))
