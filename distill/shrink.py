"""Prune a trained network a little further: which weights go, and what that means in terms of log alpha.

The variational posterior of sparse variational dropout ranks weights by alpha = sigma^2 / mean^2. Once fine-tuning has
moved the means, that posterior is out of date; its Laplace approximation is not: sigma^2 is proportional to the inverse
of the curvature h, so alpha is proportional to 1 / (w^2 h), and ranking by alpha is ranking by the saliency w^2 h of
Optimal Brain Damage (LeCun, Denker, Solla 1990).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from export.student_file import Layer

from .config import Ranking
from .training.objective import Batch
from .training.sparse_network import SparseNetwork


@dataclass(frozen=True)
class Ranked:
    """What ranked the weights when they were last judged: (weights,) each; written into the student file.

    A weight lives where log_alpha < threshold. `mean` is the weight that was judged.
    """

    mean: torch.Tensor
    log_alpha: torch.Tensor


def importance(network: SparseNetwork, ranked: Ranked, ranking: Ranking, batch: Batch) -> torch.Tensor:
    """Larger is kept first, (weights,): natural logarithm of the saliency or magnitude squared, or minus log alpha.

    `batch` is where the saliency is taken.
    """
    if ranking == "posterior":
        return -ranked.log_alpha
    square = network.weight.double() ** 2
    if ranking == "saliency":
        square = square * network.curvature(batch.observations, batch.error_weights).double()
    return torch.log(square.clamp_min(1e-300)).float()


def shrink(network: SparseNetwork, ranked: Ranked, score: torch.Tensor, *, keep: int, threshold: float) -> Ranked:
    """Keep the `keep` living weights of the largest score; returns the new record, in which they lie below `threshold`.

    The scale of a Laplace approximation's noise is free: here it is the one that puts the cut at `threshold`.
    log alpha stays on its side of the threshold. Ties go to the lower index.
    """
    alive = network.mask > 0
    order = torch.argsort(torch.where(alive, score, -torch.inf), descending=True, stable=True)
    mask = torch.zeros_like(network.mask)
    mask[order[:keep]] = 1.0
    mask.mul_(alive)
    kept = mask > 0
    cut = score[order[keep]] if keep < len(order) and bool(alive[order[keep]]) else score[order[keep - 1]]
    estimate = threshold - (score - cut)
    below = float(torch.nextafter(torch.tensor(threshold), torch.tensor(-torch.inf)))
    estimate = torch.where(kept, estimate.clamp_max(below), estimate.clamp_min(threshold))
    record = Ranked(torch.where(alive, network.weight, ranked.mean), torch.where(alive, estimate, ranked.log_alpha))
    network.prune(mask)
    return record


def layers_of(network: SparseNetwork, ranked: Ranked | None) -> tuple[Layer, ...]:
    """The student file's layers: weights, biases, and what ranked them, where something did."""
    pairs, form = network.layers(), network.form
    means = form.matrices(ranked.mean) if ranked else [None] * len(pairs)
    alphas = form.matrices(ranked.log_alpha) if ranked else [None] * len(pairs)
    return tuple(
        Layer(
            weight=weight.numpy(),
            bias=bias.numpy(),
            activation="tanh" if index == len(pairs) - 1 else "relu",
            mean=None if mean is None else mean.numpy(),
            log_alpha=None if alpha is None else alpha.numpy(),
        )
        for index, ((weight, bias), mean, alpha) in enumerate(zip(pairs, means, alphas, strict=True))
    )
