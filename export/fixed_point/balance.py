"""The scale of every unit of a hidden relu layer: coarse rounding of what it is made of against that of what it feeds.

A unit's scale is free (what it feeds is divided by it). The larger it is, the finer its own row is rounded, and the
larger become the activations that the next layer's rounding errors are multiplied with.
"""

from dataclasses import dataclass

import numpy as np

from export.squash import Float64

_FACTORS = (0.5, 0.7, 0.84, 1.19, 1.41, 2.0)
_SWEEPS = 4
_ITERATIONS = 30
_SMALLEST = 1e-3  # of the largest scale
_DESCENT_LIMIT = 20_000  # weights of the next layer, zeros included


@dataclass(frozen=True)
class Balance:
    """What the scales of a layer's units are balanced by.

    made (out,): the squared sum of a row's inputs, expected; power (out,): a unit's expected squared activation, real;
    following (next, out): real weights of the next layer; gain (next,): what a squared error there does to the actions;
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
        return float(
            (own * self.made / scale**2).sum() + (self.gain * step**2 * (used @ (scale**2 * self.power))).sum()
        )

    def best(self) -> Float64:
        """Return (out,) scales: alternately the best ones for given steps of the next layer, and those steps."""
        square, used = self.following**2, (self.following != 0).astype(np.float64)
        own = (square.T @ self.gain) * self.made
        size = np.abs(self.following)
        scale = best = self.top
        lowest = self.cost(scale)
        for _ in range(_ITERATIONS):
            step = (size / scale).max(axis=1) / self.limit
            fed = self.power * (used.T @ (self.gain * step**2))
            # The minimum of own / scale^2 + fed scale^2; half the way there, because the steps move as well.
            wanted = np.where(fed > 0, (own / np.where(fed > 0, fed, 1)) ** 0.25, self.top)
            scale = np.minimum(np.sqrt(scale * np.maximum(wanted, self.top * _SMALLEST)), self.top)
            cost = self.cost(scale)
            if cost < lowest:
                lowest, best = cost, scale
        return self._descended(best.copy(), lowest) if self.following.size <= _DESCENT_LIMIT else best

    def _descended(self, scale: Float64, lowest: float) -> Float64:
        """Unit by unit: what the alternation misses is that one large unit may set the step for many."""
        for _ in range(_SWEEPS):
            before = lowest
            for unit in range(len(scale)):
                best = kept = scale[unit]
                for factor in _FACTORS:
                    scale[unit] = min(kept * factor, self.top[unit])
                    cost = self.cost(scale)
                    if cost < lowest:
                        lowest, best = cost, scale[unit]
                scale[unit] = best
            if lowest > 0.999 * before:
                break
        return scale
