"""Priors whose KL depends on log alpha = log(sigma^2 / mean^2) alone: each is kl(log alpha) and its slope.

Above log alpha = 8 a weight is as good as gone and no prior pushes it further: without that clip Adam, blind to a
gradient's size, would raise sigma forever. Below -8 the published code clips too, which keeps the prior away from every
weight that starts out large; here the KL goes on as the straight line that it is there (slope -1/2).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch

LOG_ALPHA_BOUND = 8.0
_MEAN_SQUARE_FLOOR = 1e-16  # keeps the logarithm finite at mean = 0, where the clip takes over

Curve = Callable[[torch.Tensor], torch.Tensor]


def log_alpha(mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """log(sigma^2 / mean^2), elementwise, finite."""
    return 2.0 * log_sigma - torch.log(mean * mean + _MEAN_SQUARE_FLOOR)


def value(kl: Curve, clipped: bool, mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """Sum over weights of kl(log alpha); scalar. `clipped`: constant below -8 as well."""
    free = log_alpha(mean, log_sigma)
    total = kl(free.clamp(-LOG_ALPHA_BOUND, LOG_ALPHA_BOUND)).sum()
    return total if clipped else total - 0.5 * (free + LOG_ALPHA_BOUND).clamp_max(0.0).sum()


def gradient(
    slope: Curve, clipped: bool, mean: torch.Tensor, log_sigma: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(dKL/dmean, dKL/dlog_sigma), elementwise: slope is dkl/dlog alpha; zero where log alpha is clipped."""
    square = mean * mean + _MEAN_SQUARE_FLOOR
    free = 2.0 * log_sigma - torch.log(square)
    within = free.clamp(-LOG_ALPHA_BOUND, LOG_ALPHA_BOUND)
    by_log_alpha = slope(within) * (within == free)
    if not clipped:
        by_log_alpha = by_log_alpha - 0.5 * (free < -LOG_ALPHA_BOUND)
    by_log_sigma = by_log_alpha * 2.0
    return -by_log_sigma * mean / square, by_log_sigma


# Molchanov, Ashukha, Vetrov 2017, Eq. 14: a fit of the log-uniform KL, within 0.0094 on log alpha in [-8, 8].
_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695


def log_uniform_fit(x: torch.Tensor) -> torch.Tensor:
    """-KL ~= k1 sigmoid(k2 + k3 log alpha) - 0.5 log1p(1/alpha) - k1 (Molchanov 2017, Eq. 14); zero at alpha = inf."""
    return 0.5 * torch.nn.functional.softplus(-x) + _K1 - _K1 * torch.sigmoid(_K2 + _K3 * x)


def log_uniform_fit_slope(x: torch.Tensor) -> torch.Tensor:
    """Derivative of `log_uniform_fit`: -k1 k3 s (1 - s) - sigmoid(-x) / 2, s = sigmoid(k2 + k3 x)."""
    share = torch.sigmoid(_K2 + _K3 * x)
    return (share * share - share) * (_K1 * _K3) - 0.5 * torch.sigmoid(-x)


# D(t) / t with D Dawson's function, as a ratio of polynomials in t^2: a least-squares fit of the relative error in
# 6e-5 <= t^2 <= 2e5, where it is below 1.6e-6 in float32; all coefficients are positive, so nothing cancels.
_OVER = (1.00000007, 0.0937734977, 0.0425519967, 0.00620041254, 0.000941086036, 5.03177704e-05, 1.41146355e-05)
_UNDER = (1.0, 0.760449709, 0.28276107, 0.0684103637, 0.0116603489, 0.00181380395, 8.65386432e-05, 2.8229265e-05)


def _dawson_ratio(square: torch.Tensor) -> torch.Tensor:
    """D(t) / t for square = t^2 >= 0."""
    over, under = torch.full_like(square, _OVER[-1]), torch.full_like(square, _UNDER[-1])
    for coefficient in _OVER[-2::-1]:
        over = over * square + coefficient
    for coefficient in _UNDER[-2::-1]:
        under = under * square + coefficient
    return over / under


@functools.cache
def _quadrature() -> tuple[list[float], list[float]]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(48)
    return ((nodes + 1.0) / 2.0).tolist(), (weights / 2.0).tolist()


def log_uniform(x: torch.Tensor) -> torch.Tensor:
    """KL = 2 integral_0^sqrt(u) D(t) dt, u = 1 / (2 alpha): the log-uniform KL without a fit; zero at alpha = infinity.

    With t = sinh(z), which spreads the bend near 1 and the long tail evenly over the nodes.
    """
    end = torch.asinh(torch.exp(-0.5 * x) * math.sqrt(0.5))
    total = torch.zeros_like(x)
    for node, weight in zip(*_quadrature(), strict=True):
        at = torch.sinh(end * node)
        total = total + weight * at * _dawson_ratio(at * at) * torch.cosh(end * node)
    return 2.0 * end * total


def log_uniform_slope(x: torch.Tensor) -> torch.Tensor:
    """Derivative of `log_uniform`: dKL/du = D(sqrt u) / sqrt u and du/dx = -u."""
    u = 0.5 * torch.exp(-x)
    return -u * _dawson_ratio(u)


def ard(x: torch.Tensor) -> torch.Tensor:
    """Automatic relevance determination, one variance a weight at its optimum mean^2 + sigma^2: 0.5 log1p(1/alpha).

    Source: Kharitonov, Molchanov, Vetrov 2018 (arXiv 1811.00596).
    """
    return 0.5 * torch.nn.functional.softplus(-x)


def ard_slope(x: torch.Tensor) -> torch.Tensor:
    """Derivative of `ard`."""
    return -0.5 * torch.sigmoid(-x)


def laplace(x: torch.Tensor) -> torch.Tensor:
    """Laplace(0, b), b = E|w| the best scale of each weight: log(2 E|w| / sigma) + 1 - 0.5 log(2 pi e)."""
    ratio = torch.exp(-0.5 * x)
    return torch.log(2.0 * _folded(ratio)) + (1.0 - 0.5 * math.log(2.0 * math.pi * math.e))


def laplace_slope(x: torch.Tensor) -> torch.Tensor:
    """Derivative of `laplace`: with r = |mean| / sigma, dE/dr = erf(r / sqrt 2) and dr/dx = -r/2."""
    ratio = torch.exp(-0.5 * x)
    return -0.5 * ratio * torch.erf(ratio * math.sqrt(0.5)) / _folded(ratio)


def _folded(ratio: torch.Tensor) -> torch.Tensor:
    """E|w| / sigma of a Gaussian with |mean| / sigma = ratio."""
    return math.sqrt(2.0 / math.pi) * torch.exp(-0.5 * ratio * ratio) + ratio * torch.erf(ratio * math.sqrt(0.5))
