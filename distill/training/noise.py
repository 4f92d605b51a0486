"""Normal numbers from random bits: half the cost of torch's, fused into a compiled step, the same on every device."""

from __future__ import annotations

import math

import numpy as np
import torch

_TO_SHARE = 2.0**-31


class RandomBits:
    """A stream of random 32-bit integers from one seed (SFC64: the fastest of numpy's generators)."""

    def __init__(self, seed: int) -> None:
        self._source = np.random.SFC64(seed)

    def draw(self, count: int) -> torch.Tensor:
        """The next `count` integers (count,), int32 over the whole range; `count` is even."""
        return torch.from_numpy(self._source.random_raw(count // 2).view(np.int32))

    def state(self) -> torch.Tensor:
        """Where the stream stands, uint8 (32,)."""
        return torch.from_numpy(self._source.state["state"]["state"].view(np.uint8).copy())

    def restore(self, state: torch.Tensor) -> None:
        """Continue where `state` was taken."""
        kept = self._source.state
        kept["state"]["state"] = state.numpy().view(np.uint64).copy()
        self._source.state = kept


def normals(bits: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers, float32, from int32 `bits` of the same shape, last axis even (Box and Muller 1958).

    |integer| has 31 bits, so the largest number is 6.7; half a step is added because log(0) is none.
    """
    one, other = bits.chunk(2, dim=-1)
    radius = one.to(torch.float32).abs_().add_(0.5).mul_(_TO_SHARE).log_().mul_(-2.0).sqrt_()
    angle = other.to(torch.float32).mul_(math.pi * _TO_SHARE)
    return torch.cat((torch.cos(angle).mul_(radius), angle.sin_().mul_(radius)), dim=-1)
