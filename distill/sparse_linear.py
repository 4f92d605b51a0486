"""One Bayesian linear layer: every weight a Gaussian, noise added to the output (local reparameterisation)."""

from __future__ import annotations

import torch

from .priors import log_alpha, log_uniform_kl


class SparseLinear(torch.nn.Module):
    """Weights q(w) = N(mean, sigma^2); biases are plain numbers: neither noisy nor pruned.

    Shapes: mean, log_sigma (outputs, inputs); bias (outputs,).
    """

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator, initial_log_sigma: float = -5.0) -> None:
        super().__init__()
        # He-style scale: the published N(0, 0.02) trains more slowly and ends in the same place for narrow layers
        scale = (2.0 / inputs) ** 0.5
        self.mean = torch.nn.Parameter(torch.randn(outputs, inputs, generator=generator) * scale)
        self.log_sigma = torch.nn.Parameter(torch.full((outputs, inputs), initial_log_sigma))
        self.bias = torch.nn.Parameter(torch.zeros(outputs))

    def forward(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Noisy output (batch, outputs): x theta + b + sqrt(x^2 sigma^2 + 1e-8) * N(0, 1) (Kingma 2015, Eq. 6)."""
        mean = torch.nn.functional.linear(inputs, self.mean, self.bias)
        variance = torch.nn.functional.linear(inputs * inputs, torch.exp(2.0 * self.log_sigma))
        noise = torch.randn(mean.shape, generator=generator)
        return mean + torch.sqrt(variance + 1e-8) * noise

    def kl(self) -> torch.Tensor:
        """KL of the layer from the log-uniform prior; scalar."""
        return log_uniform_kl(self.mean, self.log_sigma)

    def log_alpha(self) -> torch.Tensor:
        """log(sigma^2 / mean^2) of every weight, (outputs, inputs), detached."""
        return log_alpha(self.mean, self.log_sigma).detach()

    def mask(self, threshold: float) -> torch.Tensor:
        """1.0 where log alpha < threshold (kept), 0.0 where pruned; (outputs, inputs)."""
        return (self.log_alpha() < threshold).to(torch.float32)
