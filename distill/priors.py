"""Kullback-Leibler divergence of each weight's posterior from its prior."""

from __future__ import annotations

import torch

LOG_ALPHA_BOUND = 8.0
# Molchanov, Ashukha, Vetrov 2017, Eq. 14: a fit of the log-uniform KL, within 0.0094 on log alpha in [-8, 8].
_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695
_MEAN_SQUARE_FLOOR = 1e-16  # keeps the logarithm finite at mean = 0, where the clip takes over


def log_alpha(mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """log(sigma^2 / mean^2), elementwise, clipped to +-8 (no gradient beyond)."""
    return (2.0 * log_sigma - torch.log(mean * mean + _MEAN_SQUARE_FLOOR)).clamp(-LOG_ALPHA_BOUND, LOG_ALPHA_BOUND)


def log_uniform_kl(mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """Sum over weights of KL(N(mean, sigma^2) || log-uniform), up to its additive constant; scalar.

    Source: -KL ~= k1 sigmoid(k2 + k3 log alpha) - 0.5 log1p(1/alpha) - k1 (Molchanov 2017, Eq. 14).
    """
    value = log_alpha(mean, log_sigma)
    negative = _K1 * torch.sigmoid(_K2 + _K3 * value) - 0.5 * torch.nn.functional.softplus(-value) - _K1
    return -negative.sum()


def log_uniform_kl_gradient(mean: torch.Tensor, log_sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(dKL/dmean, dKL/dlog_sigma) of `log_uniform_kl`, elementwise, same shapes.

    With v = log alpha: dKL/dv = -k1 k3 s (1 - s) - sigmoid(-v) / 2, s = sigmoid(k2 + k3 v); zero where v is clipped.
    """
    square = mean * mean + _MEAN_SQUARE_FLOOR
    value = 2.0 * log_sigma - torch.log(square)
    inside = value.abs() <= LOG_ALPHA_BOUND
    share = torch.sigmoid(_K2 + _K3 * value)
    slope = (-_K1 * _K3 * share * (1.0 - share) - 0.5 * torch.sigmoid(-value)) * inside
    return slope * mean / square * -2.0, slope * 2.0
