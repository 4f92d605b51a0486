"""Priors that know how large a weight may be, and the group prior; all functions of (mean, log_sigma)."""

from __future__ import annotations

import math

import torch

_HALF_LOG_2_PI_E = 0.5 * math.log(2.0 * math.pi * math.e)
_TINY = 1e-30  # keeps the group's second moment from being an exact zero
_FAR_OUTSIDE = 200.0  # standard deviations: beyond, the truncated normal is an exponential to 3e-5


def gaussian(scale: float, mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """N(0, t^2): sum of log(t / sigma) + (sigma^2 + mean^2) / (2 t^2) - 1/2."""
    moment = torch.exp(2.0 * log_sigma) + mean * mean
    return (math.log(scale) - log_sigma + moment / (2.0 * scale**2) - 0.5).sum()


def gaussian_gradient(scale: float, mean: torch.Tensor, log_sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(dKL/dmean, dKL/dlog_sigma) of `gaussian`."""
    return mean / scale**2, torch.exp(2.0 * log_sigma) / scale**2 - 1.0


def laplace(scale: float, mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """Laplace(0, b): sum of log 2b + E|w| / b - 0.5 log(2 pi e sigma^2)."""
    ratio = mean * torch.exp(-log_sigma)
    spread = torch.exp(log_sigma - 0.5 * ratio * ratio) * math.sqrt(2.0 / math.pi)
    size = spread + mean * torch.erf(ratio * math.sqrt(0.5))
    return (math.log(2.0 * scale) + size / scale - log_sigma - _HALF_LOG_2_PI_E).sum()


def laplace_gradient(scale: float, mean: torch.Tensor, log_sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(dKL/dmean, dKL/dlog_sigma) of `laplace`: dE/dmean = erf(r / sqrt 2), dE/dsigma = sqrt(2 / pi) exp(-r^2 / 2)."""
    ratio = mean * torch.exp(-log_sigma)
    spread = torch.exp(log_sigma - 0.5 * ratio * ratio) * math.sqrt(2.0 / math.pi)
    return torch.erf(ratio * math.sqrt(0.5)) / scale, spread / scale - 1.0


def flat(mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """A constant density everywhere (improper): minus the entropy, up to a constant; sum of -log sigma."""
    return -log_sigma.sum() + 0.0 * mean.sum()


def flat_gradient(mean: torch.Tensor, log_sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(dKL/dmean, dKL/dlog_sigma) of `flat`."""
    return torch.zeros_like(mean), torch.full_like(log_sigma, -1.0)


def group_ard(mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """One variance for the weights into a unit (last axis), at its optimum: 1/2 sum [log mean(m^2 + s^2) - log s^2]."""
    moment = (mean * mean + torch.exp(2.0 * log_sigma)).mean(dim=-1, keepdim=True) + _TINY
    return (0.5 * torch.log(moment) - log_sigma).sum()


def group_ard_gradient(mean: torch.Tensor, log_sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(dKL/dmean, dKL/dlog_sigma) of `group_ard`."""
    variance = torch.exp(2.0 * log_sigma)
    moment = (mean * mean + variance).mean(dim=-1, keepdim=True) + _TINY
    return mean / moment, variance / moment - 1.0


def truncated(scale: float, mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """Uniform(-a, a) with q cut off at +-a: sum of log 2a - H(TN(mean, sigma^2; -a, a)).

    H = log(sigma Z) + 0.5 log(2 pi) + 0.5 (1 + A p - B q), A, B = (-+a - mean) / sigma, p = phi(A) / Z, q = phi(B) / Z.
    Only the KL is that of the cut-off normal: the layers' noise stays Gaussian, which is the same while mean and sigma
    are well inside.
    """
    moments = _Truncated(scale, mean, log_sigma)
    inside = moments.log_mass + moments.log_sigma + 0.5 * math.log(2.0 * math.pi) + 0.5 * (1.0 + moments.edge)
    entropy = torch.where(moments.far, 1.0 + moments.log_sigma - torch.log(-moments.upper), inside)
    return (math.log(2.0 * scale) - entropy).sum().to(mean.dtype)


def truncated_gradient(scale: float, mean: torch.Tensor, log_sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(dKL/dmean, dKL/dlog_sigma) of `truncated`."""
    m = _Truncated(scale, mean, log_sigma)
    drift = m.at_lower - m.at_upper
    low = m.lower * m.at_lower
    high = m.upper * m.at_upper
    by_size = 0.5 * (drift + low * (m.lower - drift) - high * (m.upper - drift)) / m.sigma
    by_log_sigma = 1.0 + 0.5 * (m.edge + low * (m.lower**2 - m.edge) - high * (m.upper**2 - m.edge))
    by_size = torch.where(m.far, 1.0 / (m.upper * m.sigma), by_size)
    by_log_sigma = torch.where(m.far, torch.full_like(by_log_sigma, 2.0), by_log_sigma)
    return (-by_size * m.sign).to(mean.dtype), (-by_log_sigma).to(mean.dtype)


class _Truncated:
    """What both need, in float64, for |mean| (the interval is symmetric): no difference of nearly equal numbers."""

    def __init__(self, scale: float, mean: torch.Tensor, log_sigma: torch.Tensor) -> None:
        size = mean.double().abs()
        self.sign = torch.sign(mean.double())
        self.log_sigma = log_sigma.double()
        self.sigma = torch.exp(self.log_sigma)
        self.lower, self.upper = (-scale - size) / self.sigma, (scale - size) / self.sigma
        self.far = self.upper < -_FAR_OUTSIDE
        root = math.sqrt(0.5)
        # mean inside: the mass between two edges of opposite sign is a sum of two error functions
        mass = 0.5 * (torch.erf(self.upper * root) - torch.erf(self.lower * root))
        log_density = -0.5 * math.log(2.0 * math.pi)
        # mean outside: everything relative to the density at the near edge, with scaled tails (Mills' ratio)
        falloff = torch.exp(0.5 * (self.upper**2 - self.lower**2))
        tails = math.sqrt(math.pi / 2.0) * (
            torch.special.erfcx(-self.upper.clamp(max=0.0) * root) - falloff * torch.special.erfcx(-self.lower * root)
        )
        outside = self.upper < 0.0
        density = torch.exp(log_density - 0.5 * self.upper**2)
        self.at_upper = torch.where(outside, 1.0 / tails, density / mass)
        self.at_lower = torch.where(outside, falloff / tails, torch.exp(log_density - 0.5 * self.lower**2) / mass)
        self.log_mass = torch.where(outside, log_density - 0.5 * self.upper**2 + torch.log(tails), torch.log(mass))
        self.edge = self.lower * self.at_lower - self.upper * self.at_upper
