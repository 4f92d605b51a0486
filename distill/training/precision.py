"""Matrix products in float32, or with their factors rounded to bfloat16: everything else stays float32."""

from __future__ import annotations

import torch

from ..config import Precision


def product(left: torch.Tensor, right: torch.Tensor, precision: Precision) -> torch.Tensor:
    """left @ right over any leading axes, float32."""
    if precision == "bfloat16":
        return torch.matmul(left.to(torch.bfloat16), right.to(torch.bfloat16)).to(torch.float32)
    return torch.matmul(left, right)


def affine(bias: torch.Tensor, left: torch.Tensor, right: torch.Tensor, precision: Precision) -> torch.Tensor:
    """bias + left @ right; bias (..., 1, columns); `left` may be spread over the leading axes of `right`."""
    if precision == "float32" and right.dim() == 2:
        return torch.addmm(bias, left, right)
    if precision == "float32" and right.dim() == 3:
        return torch.baddbmm(bias, left.expand(right.shape[0], -1, -1), right)
    return product(left, right, precision).add_(bias)
