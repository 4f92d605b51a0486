"""Two ways to search for a larger return without its gradient, behind one face: ask for vectors, tell their returns."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from .variables import Float64

_COVARIANCE_LIMIT = 400  # variables; beyond, a full covariance learns too slowly and costs too much


class Strategy(Protocol):
    """A search; deterministic, so that asking and telling once more leads to the same place."""

    @property
    def mean(self) -> Float64:
        """Where it is (variables,)."""

    def ask(self) -> Float64:
        """The next generation (students, variables)."""

    def tell(self, values: Float64, returns: Float64) -> None:
        """What that generation reached, (students,)."""


class CovarianceMatrixAdaptation:
    """CMA-ES (Hansen 2016), its covariance diagonal (Ros and Hansen 2008) for more than 400 variables."""

    def __init__(self, start: Float64, scales: Float64, *, step: float, population: int, seed: int) -> None:
        """`step`: first standard deviation, as a share of `scales` (variables,)."""
        from cmaes import CMA, SepCMA

        kind = CMA if len(start) <= _COVARIANCE_LIMIT else SepCMA
        self._start, self._scales = start, scales
        self._search = kind(np.zeros(len(start)), step, seed=seed, population_size=population)

    @property
    def mean(self) -> Float64:
        """The distribution's mean."""
        mean: Float64 = self._start + self._scales * self._search.mean
        return mean

    def ask(self) -> Float64:
        """Samples of the distribution."""
        asked = [self._search.ask() for _ in range(self._search.population_size)]
        return np.asarray(self._start + self._scales * np.stack(asked))

    def tell(self, values: Float64, returns: Float64) -> None:
        """Move towards the better half; only their order counts."""
        steps = (values - self._start) / self._scales
        self._search.tell([(step, -float(each)) for step, each in zip(steps, returns, strict=True)])


class AugmentedRandomSearch:
    """ARS V1-t (Mania, Guy, Recht 2018): pairs of opposite steps, of which the better half counts.

    The student's own fixed normaliser stands for the running one of their V2.
    """

    _GAIN = 0.5  # length of a step for returns one standard deviation apart, in standard deviations of the noise

    def __init__(self, start: Float64, scales: Float64, *, step: float, population: int, seed: int) -> None:
        """`step`: standard deviation of the noise, as a share of `scales` (variables,)."""
        self._mean, self._scales, self._step = start.copy(), scales, step
        self._pairs = max(1, population // 2)
        self._generator = np.random.default_rng(seed)

    @property
    def mean(self) -> Float64:
        """The vector that steps are taken from."""
        return self._mean

    def ask(self) -> Float64:
        """Pairs: one side of each, then the other side of each."""
        noise = self._generator.standard_normal((self._pairs, len(self._mean))) * (self._step * self._scales)
        return np.concatenate((self._mean + noise, self._mean - noise))

    def tell(self, values: Float64, returns: Float64) -> None:
        """One step along the differences of the better half of the pairs."""
        one, other = returns[: self._pairs], returns[self._pairs :]
        best = np.argsort(-np.maximum(one, other), kind="stable")[: max(1, self._pairs // 2)]
        spread = float(np.concatenate((one[best], other[best])).std())
        if spread > 0.0:
            difference = (one[best] - other[best])[:, None] * (values[best] - self._mean)
            self._mean = self._mean + self._GAIN * difference.mean(axis=0) / spread
