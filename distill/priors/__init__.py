"""Kullback-Leibler divergence of the weights' posterior q(w) = N(mean, sigma^2) from a prior chosen by name.

Every prior is a value, summed over weights, and its gradient written by hand; `scale_free` holds those that depend on
log alpha = log(sigma^2 / mean^2) alone, `scaled` the others. Additive constants are left out only where stated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch

from ..config import PriorName
from ..errors import DistillError
from . import scale_free, scaled
from .scale_free import LOG_ALPHA_BOUND, log_alpha

__all__ = ["LOG_ALPHA_BOUND", "Prior", "log_alpha", "needs_scale", "prior"]

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Prior:
    """A prior as two functions of (mean, log_sigma), tensors of one shape."""

    value: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """KL(q || p) summed over all weights; scalar, nats."""
    gradient: Callable[[torch.Tensor, torch.Tensor], Pair]
    """(dKL/dmean, dKL/dlog_sigma), same shapes."""
    grouped: bool = False
    """The last axis holds the weights into one unit; otherwise any shape will do."""


def prior(name: PriorName, scale: float | None = None, *, clipped: bool = False) -> Prior:
    """The prior called `name`; `scale` is t of gaussian, b of laplace (scale-free without), a of uniform-truncated.

    `clipped`: scale-free priors leave weights below log alpha = -8 alone, as the published code does.

    Raises:
        DistillError: unknown name, or a scale that is missing, superfluous, or no positive number.
    """
    if name not in get_args(PriorName):
        raise DistillError(f"prior: got {name!r}, expected one of {', '.join(get_args(PriorName))}")
    if scale is not None and not (math.isfinite(scale) and scale > 0.0):
        raise DistillError(f"prior scale: got {scale}, expected a positive finite number or none")
    if name in _SCALED:
        if scale is None and needs_scale(name):
            raise DistillError(f"prior {name}: got no scale, expected a positive number, for example 0.1")
        if scale is not None:
            value, gradient = _SCALED[name]
            return Prior(partial(value, scale), partial(gradient, scale))
    elif scale is not None:
        raise DistillError(f"prior {name}: got scale {scale}, but it has none; only {', '.join(_SCALED)} have one")
    if name in _SCALE_FREE:
        kl, slope = _SCALE_FREE[name]
        return Prior(partial(scale_free.value, kl, clipped), partial(scale_free.gradient, slope, clipped))
    if name == "group-ard":
        return Prior(scaled.group_ard, scaled.group_ard_gradient, grouped=True)
    return Prior(scaled.flat, scaled.flat_gradient)


def needs_scale(name: PriorName) -> bool:
    """Whether `prior` refuses this name without a scale."""
    return name in _SCALED and name not in _SCALE_FREE


_SCALE_FREE: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]] = {
    "log-uniform": (scale_free.log_uniform_fit, scale_free.log_uniform_fit_slope),
    "log-uniform-exact": (scale_free.log_uniform, scale_free.log_uniform_slope),
    "ard": (scale_free.ard, scale_free.ard_slope),
    "laplace": (scale_free.laplace, scale_free.laplace_slope),
}
_SCALED: dict[
    str,
    tuple[
        Callable[[float, torch.Tensor, torch.Tensor], torch.Tensor],
        Callable[[float, torch.Tensor, torch.Tensor], Pair],
    ],
] = {
    "gaussian": (scaled.gaussian, scaled.gaussian_gradient),
    "laplace": (scaled.laplace, scaled.laplace_gradient),
    "uniform-truncated": (scaled.truncated, scaled.truncated_gradient),
}
