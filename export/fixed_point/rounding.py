"""Rounding a row of weights to integers so that its sum, not each weight, comes out close."""

import numpy as np

from export.fixed_point.tanh import Integers
from export.squash import Float64

FEEDBACK_LIMIT = 64
"""Longer rows are rounded weight by weight: their errors average out, and feedback takes cubic time."""


class Spread:
    """How the inputs of a layer vary together, over calibration inputs (n, in)."""

    def __init__(self, values: Integers) -> None:
        self._by_input = np.ascontiguousarray(values.T, dtype=np.float64)
        self._variances = self._by_input.var(axis=1)

    def of(self, used: Integers) -> Float64:
        """Return the covariance (k, k) of some inputs, or for more than FEEDBACK_LIMIT their variances (k,)."""
        if len(used) > FEEDBACK_LIMIT:
            chosen: Float64 = self._variances[used]
            return chosen
        return np.cov(self._by_input[used], bias=True).reshape(len(used), len(used))


def rounded_rows(weights: Float64, covariance: Float64, limit: int) -> tuple[Integers, Float64]:
    """Return integers (m, k) near `weights` (m, k) within +-limit, and (m,) the expected squared errors of their sums.

    Each row is one try at the same inputs. One weight after the other is rounded, and what that changes is made up by
    those still open, as the covariance (from `Spread`) of the inputs asks for: optimal brain surgeon with rounding in
    place of pruning (GPTQ, Frantar et al. 2022). A constant error does not count: the bias takes it.
    """
    count = weights.shape[1]
    if covariance.ndim == 1:
        nearest = np.clip(np.rint(weights), -limit, limit).astype(np.int64)
        return nearest, (nearest - weights) ** 2 @ covariance
    damped = covariance + (1e-6 * np.trace(covariance) / count + 1e-12) * np.eye(count)
    inverse = np.linalg.inv(damped)
    wanted = weights.copy()
    chosen = np.zeros(weights.shape, np.int64)
    # The largest inputs first: their errors are the ones that the rest has to make up for.
    for index in np.argsort(-np.diag(covariance), kind="stable"):
        chosen[:, index] = np.clip(np.rint(wanted[:, index]), -limit, limit)
        error = (wanted[:, index] - chosen[:, index]) / inverse[index, index]
        wanted -= error[:, None] * inverse[:, index]
        inverse -= np.outer(inverse[:, index], inverse[index]) / inverse[index, index]
        # Downdated exactly: what is decided takes no part in later corrections.
        inverse[index, :] = inverse[:, index] = 0
        inverse[index, index] = 1
    difference = chosen - weights
    return chosen, ((difference @ covariance) * difference).sum(axis=1)
