"""Rounding one row of weights to integers so that its sum, not each weight, comes out close."""

import numpy as np

from export.fixed_point.tanh import Integers
from export.squash import Float64


def rounded_row(weights: Float64, covariance: Float64, limit: int) -> tuple[Integers, float]:
    """Return integers (k,) near `weights` (k,) within +-limit, and the expected squared error of the row's sum.

    One weight after the other is rounded, and what that changes is made up by those still open, as the covariance
    (k, k) of the inputs asks for: optimal brain surgeon with rounding in place of pruning (Frantar et al. 2022, GPTQ).
    A constant error does not count: the bias takes it.
    """
    count = len(weights)
    damped = covariance + (1e-6 * np.trace(covariance) / count + 1e-12) * np.eye(count)
    inverse = np.linalg.inv(damped)
    wanted = weights.copy()
    chosen = np.zeros(count, np.int64)
    # The largest inputs first: their errors are the ones that the rest has to make up for.
    for index in np.argsort(-np.diag(covariance), kind="stable"):
        chosen[index] = int(np.clip(np.rint(wanted[index]), -limit, limit))
        error = (wanted[index] - chosen[index]) / inverse[index, index]
        wanted -= error * inverse[:, index]
        inverse -= np.outer(inverse[:, index], inverse[index]) / inverse[index, index]
        # Downdated exactly: what is decided takes no part in later corrections.
        inverse[index, :] = inverse[:, index] = 0
        inverse[index, index] = 1
    difference = chosen - weights
    return chosen, float(difference @ covariance @ difference)
