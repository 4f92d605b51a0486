"""The scale of every unit of a hidden relu layer: coarse rounding of what it is made of against that of what it feeds.

A unit's scale is free (what it feeds is divided by it). The larger it is, the finer its own row is rounded, and the
larger become the activations that the next layer's rounding errors are multiplied with.
"""

from dataclasses import dataclass

import numpy as np

from export.squash import Float64

_FACTORS = (0.5, 0.7, 0.84, 1.19, 1.41, 2.0)
_SWEEPS = 6


@dataclass(frozen=True)
class Balance:
    """What the scales of a layer's units are balanced by.

    made (out,): the squared sum of a row's inputs, expected; power (out,): a unit's expected squared activation, real;
    following (next, out): real weights of the next layer; gain (next,): what an error there does to the actions, squared;
    top (out,): the largest scale that the integers of the row allow; limit: the largest integer of the next layer.
    """

    made: Float64
    power: Float64
    following: Float64
    gain: Float64
    top: Float64
    limit: int

    def cost(self, scale: Float64) -> float:
        """Expected squared error of the actions, rounding taken as uniform noise (1/12 of a step squared)."""
        own = (self.following**2).T @ self.gain
        step = (np.abs(self.following) / scale).max(axis=1) / self.limit
        used = self.following != 0
        return float((own * self.made / scale**2).sum() + (self.gain * step**2 * (used @ (scale**2 * self.power))).sum())

    def best(self) -> Float64:
        """Return (out,) scales by coordinate descent from the largest ones."""
        scale = self.top.copy()
        lowest = self.cost(scale)
        for _ in range(_SWEEPS):
            before = lowest
            for unit in range(len(scale)):
                kept = scale[unit]
                best = kept
                for factor in _FACTORS:
                    scale[unit] = min(kept * factor, self.top[unit])
                    cost = self.cost(scale)
                    if cost < lowest:
                        lowest, best = cost, scale[unit]
                scale[unit] = best
            if lowest > 0.999 * before:
                break
        return scale
